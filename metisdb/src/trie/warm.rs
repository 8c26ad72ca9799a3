//! Bringing what an update will read into the cache: many paths are followed at once, a step each in turn, so that their waits for
//! memory overlap. Only a help: what is read here is not believed, and nothing depends on it.

use alloy_primitives::B256;

use super::{
    arena::{Arena, Place},
    nibbles::nibble,
    node::{Branch, Child, Leaf, Link, NodeRef},
    update::{AccountChange, Item, TrieChanges},
};
use crate::prefetch;

/// Slots of one account whose paths are followed at once.
const MOST_SLOTS: usize = 64;

/// One path on its way.
struct Walker<'t> {
    at: At<'t>,
    path: &'t B256,
    depth: usize,
    /// Where the path goes on in the storage of the account at its end.
    slot: Option<&'t B256>,
}

/// Where a walker stands; what it will read next was prefetched.
enum At<'t> {
    Branch(&'t Branch),
    Child(&'t Child),
    Arena(Place),
    End,
}

/// Follows the paths of accounts and of their slots below a child that `depth` nibbles lead to.
pub(super) fn warm(arena: &Arena, child: &Child, depth: usize, items: &[Item<AccountChange>], changes: &TrieChanges) {
    let mut walkers: Vec<Walker<'_>> = Vec::with_capacity(2 * items.len());
    for item in items {
        let slots = &changes.slots[item.change.slots.clone()];
        let mut add = |slot| walkers.push(Walker { at: At::Child(child), path: &item.path, depth, slot });
        match slots {
            [] => add(None),
            slots => slots.iter().take(MOST_SLOTS).for_each(|slot| add(Some(&slot.path))),
        }
    }
    while !walkers.is_empty() {
        for walker in &mut walkers {
            walker.step(arena);
        }
        walkers.retain(|walker| !matches!(walker.at, At::End));
    }
}

impl<'t> Walker<'t> {
    fn step(&mut self, arena: &Arena) {
        self.at = match self.at {
            At::Child(child) => self.follow(arena, &child.link),
            At::Branch(branch) => self.pass(branch).map_or(At::End, At::Child),
            At::Arena(place) => self.pass_arena(arena, place),
            At::End => At::End,
        };
    }

    /// Goes where a link leads.
    fn follow(&mut self, arena: &Arena, link: &'t Link) -> At<'t> {
        match link {
            Link::Branch(NodeRef::Memory(branch)) => {
                prefetch::line(std::ptr::from_ref::<Branch>(branch).cast());
                prefetch::line(std::ptr::from_ref::<Branch>(branch).cast::<u8>().wrapping_add(64));
                At::Branch(branch)
            }
            Link::Branch(NodeRef::Arena(place)) => {
                arena.prefetch(*place);
                At::Arena(*place)
            }
            Link::Leaf(Leaf { storage: Some(storage), .. }) => match self.slot.take() {
                Some(slot) => {
                    (self.path, self.depth) = (slot, 0);
                    prefetch::line(std::ptr::from_ref::<Child>(storage).cast());
                    At::Child(storage)
                }
                None => At::End,
            },
            Link::Leaf(_) => At::End,
        }
    }

    /// The child of a branch on the path.
    fn pass(&mut self, branch: &'t Branch) -> Option<&'t Child> {
        let branching = self.depth + branch.prefix.len();
        if branch.prefix.shared_with(self.path, self.depth) < branch.prefix.len() {
            return None;
        }
        let step = nibble(self.path, branching);
        let index = (branch.mask & ((1 << step) - 1)).count_ones() as usize;
        let child = (branch.mask & 1 << step != 0).then(|| branch.children.get(index)).flatten()?;
        self.depth = branching + 1;
        prefetch::line(std::ptr::from_ref(child).cast());
        Some(child)
    }

    /// The same in the arena, past a leaf's storage included.
    fn pass_arena(&mut self, arena: &Arena, place: Place) -> At<'t> {
        let Some((next, depth)) = arena.peek(place, self.path, self.depth, self.slot.is_some()) else { return At::End };
        match depth {
            Some(depth) => self.depth = depth,
            None => match self.slot.take() {
                Some(slot) => (self.path, self.depth) = (slot, 0),
                None => return At::End,
            },
        }
        arena.prefetch(next);
        At::Arena(next)
    }
}
