//! Bringing what an update will read into the cache: many paths are followed at once, a step each in turn, so that their waits for
//! memory overlap. Only a help: what is read here is not believed, and nothing depends on it.

use alloy_primitives::B256;

use super::{
    arena::{Arena, Place},
    nibbles::nibble,
    node::{Branch, Child, Link, NodeRef, Way},
    update::{AccountChange, Item, TrieChanges},
};

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
    Arena(Place),
    End,
}

/// Follows the paths of accounts and of their slots below a child that `depth` nibbles lead to.
pub(super) fn warm(arena: &Arena, child: &Child, depth: usize, items: &[Item<AccountChange>], changes: &TrieChanges) {
    let mut walkers: Vec<Walker<'_>> = Vec::with_capacity(2 * items.len());
    for item in items {
        let slots = &changes.slots[item.change.slots.clone()];
        let mut add = |slot| walkers.push(Walker { at: At::End, path: &item.path, depth, slot });
        match slots {
            [] => add(None),
            slots => slots.iter().take(MOST_SLOTS).for_each(|slot| add(Some(&slot.path))),
        }
    }
    walkers.iter_mut().for_each(|walker| walker.enter(arena, child));
    while !walkers.is_empty() {
        for walker in &mut walkers {
            walker.step(arena);
        }
        walkers.retain(|walker| !matches!(walker.at, At::End));
    }
}

impl<'t> Walker<'t> {
    /// Begins below a child.
    fn enter(&mut self, arena: &Arena, child: &'t Child) {
        self.at = match &child.link {
            Link::Branch(NodeRef::Memory(branch)) => go_to(arena, Way::Memory(branch)),
            Link::Branch(NodeRef::Arena(place)) => go_to(arena, Way::Arena(*place)),
            Link::Leaf(leaf) => match leaf.storage.as_deref().zip(self.slot.take()) {
                Some((storage, slot)) => {
                    (self.path, self.depth) = (slot, 0);
                    return self.enter(arena, storage);
                }
                None => At::End,
            },
        };
    }

    fn step(&mut self, arena: &Arena) {
        self.at = match self.at {
            At::Branch(branch) => self.pass(branch).map_or(At::End, |way| go_to(arena, way)),
            At::Arena(place) => self.pass_arena(arena, place),
            At::End => At::End,
        };
    }

    /// Where the path goes on from a branch, past a leaf's storage included.
    fn pass(&mut self, branch: &'t Branch) -> Option<Way<'t>> {
        let branching = self.depth + branch.prefix().len();
        if branch.prefix().shared_with(self.path, self.depth) < branch.prefix().len() {
            return None;
        }
        let step = nibble(self.path, branching);
        match branch.children().way(step, false)? {
            Way::Leaf => {
                let way = branch.children().way(step, true)?;
                (self.path, self.depth) = (self.slot.take()?, 0);
                Some(way)
            }
            way => {
                self.depth = branching + 1;
                Some(way)
            }
        }
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

fn go_to<'t>(arena: &Arena, way: Way<'t>) -> At<'t> {
    match way {
        Way::Leaf => At::End,
        Way::Arena(place) => {
            arena.prefetch(place);
            At::Arena(place)
        }
        Way::Memory(branch) => {
            branch.prefetch_whole();
            At::Branch(branch)
        }
    }
}
