//! The children of a branch, packed as they stand in the arena (`spec/format.md`, "Nodes").
//!
//! So a branch is read, copied and written as one run of bytes, whatever it leads to. A branch that is in memory only has no place that
//! an entry could name: it stands apart, and the entry names its number there. No place is as low as such a number.

mod buffers;

use std::{mem, sync::Arc};

use super::{Branch, Child, KeyTag, Leaf, Link, NodeRef, nibbles_of};
use crate::trie::{arena::Place, commitment::Reference};

pub(crate) const REFERENCE_BYTES: usize = 32;
/// Bytes of a key tag or a place.
pub(crate) const LINK_BYTES: usize = 6;
pub(crate) const ENTRY_BYTES: usize = REFERENCE_BYTES + LINK_BYTES;

/// A reference, and where it leads: a leaf's key tag, a branch's place or its number.
pub(super) type Entry = [u8; ENTRY_BYTES];

/// Which kinds of children a branch has: a bit for each nibble.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kinds {
    pub(crate) children: u16,
    pub(crate) leaves: u16,
    /// Referred to by their own bytes.
    pub(crate) embedded: u16,
    /// Leaves of accounts that have storage: a second entry, of its topmost node, follows theirs.
    pub(crate) storage: u16,
    /// The topmost node of the storage is a leaf.
    pub(crate) storage_leaves: u16,
}

impl Kinds {
    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        (self.children.count_ones() + self.storage.count_ones()) as usize
    }

    /// How many stand before those of a nibble; of 16: all.
    pub(crate) fn entries_before(&self, nibble: u8) -> usize {
        let before = (1_u32 << nibble) - 1;
        ((u32::from(self.children) & before).count_ones() + (u32::from(self.storage) & before).count_ones()) as usize
    }

    /// Says what stands at a nibble.
    fn set(&mut self, nibble: u8, child: Option<&Child>) {
        let (mut is_leaf, mut is_embedded, mut has_storage, mut is_storage_leaf) = (false, false, false, false);
        if let Some(child) = child {
            is_embedded = child.reference.as_hash().is_none();
            if let Link::Leaf(leaf) = &child.link {
                is_leaf = true;
                has_storage = leaf.storage.is_some();
                is_storage_leaf = leaf.storage.as_ref().is_some_and(|top| matches!(top.link, Link::Leaf(_)));
            }
        }
        let masks = [
            (&mut self.children, child.is_some()),
            (&mut self.leaves, is_leaf),
            (&mut self.embedded, is_embedded),
            (&mut self.storage, has_storage),
            (&mut self.storage_leaves, is_storage_leaf),
        ];
        for (mask, is_set) in masks {
            *mask = *mask & !(1 << nibble) | u16::from(is_set) << nibble;
        }
    }
}

/// Children on their way into a branch. See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    kinds: Kinds,
    /// In the order of their nibbles.
    entries: Vec<Entry>,
    /// Those that are in memory, in no order.
    branches: Vec<Branch>,
}

/// Children to look at, wherever they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildrenView<'a> {
    pub(super) kinds: Kinds,
    pub(super) entries: &'a [Entry],
    pub(super) branches: &'a [Branch],
}

/// Where a child leads, without what refers to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    Leaf,
    Arena(Place),
    Memory(&'a Branch),
}

/// How a branch refers to what stands at a nibble.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Referred<'a> {
    Nothing,
    Hash(&'a [u8; REFERENCE_BYTES]),
    /// The node itself, of fewer bytes.
    Node(&'a [u8]),
}

impl Children {
    /// Those of a node in the arena. `None` where an entry leads to a place where no node can be, or is embedded and too long.
    pub(crate) fn decode(kinds: Kinds, entries: &[u8]) -> Option<Self> {
        let (entries, []) = entries.as_chunks() else { return None };
        if entries.len() != kinds.entries() {
            return None;
        }
        let children = Self::with_entries(kinds, entries);
        let view = children.view();
        let is_sound = view.leading_to_branches().all(|index| Place::new(link(&entries[index])).is_some())
            && nibbles_of(kinds.embedded).all(|nibble| view.reference(nibble).is_some());
        is_sound.then_some(children)
    }

    /// So far without branches in memory.
    fn with_entries(kinds: Kinds, given: &[Entry]) -> Self {
        let (mut entries, branches) = buffers::take();
        entries.extend_from_slice(given);
        Self { kinds, entries, branches }
    }

    /// To look at.
    #[inline]
    pub(crate) fn view(&self) -> ChildrenView<'_> {
        ChildrenView { kinds: self.kinds, entries: &self.entries, branches: &self.branches }
    }

    /// Says what stands at a nibble.
    pub(crate) fn set(&mut self, nibble: u8, child: Option<Child>) {
        let free = self.view().number_at(nibble);
        let start = self.kinds.entries_before(nibble);
        let before = self.kinds.entries_before(nibble + 1) - start;
        self.kinds.set(nibble, child.as_ref());
        let after = self.kinds.entries_before(nibble + 1) - start;
        if before != after {
            self.entries.reserve_exact(after.saturating_sub(before));
            self.entries.splice(start..start + before, std::iter::repeat_n([0; ENTRY_BYTES], after));
        }
        let branch = child.and_then(|child| {
            let storage = match &child.link {
                Link::Leaf(Leaf { storage: Some(storage), .. }) => self.put(start + 1, Child::clone(storage), free),
                _ => None,
            };
            self.put(start, child, free).or(storage)
        });
        match (branch, free) {
            (Some(branch), Some(number)) => self.branches[number] = branch,
            (Some(branch), None) => self.branches.push(branch),
            (None, Some(number)) => self.forget(number),
            (None, None) => {}
        }
    }

    /// The branches in memory, for whoever moves them into a branch.
    pub(super) fn branches_mut(&mut self) -> &mut Vec<Branch> {
        &mut self.branches
    }

    /// Fills an entry. Returns the branch in memory that it leads to; its number will be `free`, or the next one.
    fn put(&mut self, index: usize, child: Child, free: Option<usize>) -> Option<Branch> {
        let (link, branch) = match child.link {
            Link::Leaf(leaf) => (leaf.key.get(), None),
            Link::Branch(NodeRef::Arena(place)) => (place.get(), None),
            Link::Branch(NodeRef::Memory(branch)) => (free.unwrap_or(self.branches.len()) as u64, Some(branch)),
        };
        let entry = &mut self.entries[index];
        entry[..REFERENCE_BYTES].copy_from_slice(child.reference.padded());
        set_link(entry, link);
        branch
    }

    /// Forgets a branch in memory that no entry leads to any more.
    fn forget(&mut self, number: usize) {
        let last = self.branches.len() as u64 - 1;
        self.branches.swap_remove(number);
        let moved = self.view().leading_to_branches().find(|index| link(&self.entries[*index]) == last);
        if let Some(index) = moved {
            set_link(&mut self.entries[index], number as u64);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        buffers::give_back(mem::take(&mut self.entries), mem::take(&mut self.branches));
    }
}

impl<'a> ChildrenView<'a> {
    pub(crate) fn kinds(self) -> Kinds {
        self.kinds
    }

    /// Which there are.
    pub(crate) fn mask(self) -> u16 {
        self.kinds.children
    }

    /// The child at a nibble.
    pub(crate) fn get(self, nibble: u8) -> Option<Child> {
        let reference = self.reference(nibble)?;
        let (index, bit) = (self.kinds.entries_before(nibble), 1 << nibble);
        if self.kinds.leaves & bit == 0 {
            return Some(Child { reference, link: Link::Branch(self.node(index)) });
        }
        let storage = (self.kinds.storage & bit != 0).then(|| {
            let (root, _) = self.entries[index + 1].split_first_chunk().expect("an entry is longer");
            let link = match self.kinds.storage_leaves & bit {
                0 => Link::Branch(self.node(index + 1)),
                _ => Link::Leaf(Leaf { key: self.key(index + 1), storage: None }),
            };
            Arc::new(Child { reference: Reference::hash((*root).into()), link })
        });
        Some(Child { reference, link: Link::Leaf(Leaf { key: self.key(index), storage }) })
    }

    /// All of them, with their nibbles, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u8, Child)> + use<'a> {
        nibbles_of(self.kinds.children).filter_map(move |nibble| Some((nibble, self.get(nibble)?)))
    }

    /// How a branch refers to the child at a nibble.
    pub(crate) fn reference(self, nibble: u8) -> Option<Reference> {
        let bit = 1 << nibble;
        if self.kinds.children & bit == 0 {
            return None;
        }
        let (reference, _) = self.entries[self.kinds.entries_before(nibble)].split_first_chunk()?;
        if self.kinds.embedded & bit == 0 {
            Some(Reference::hash((*reference).into()))
        } else {
            Reference::embedded_bytes(reference).map(Reference::embedded)
        }
    }

    /// How a branch refers to its children, for each of the sixteen nibbles.
    #[inline]
    pub(crate) fn references(self) -> impl Iterator<Item = Referred<'a>> {
        let Kinds { children, embedded, storage, .. } = self.kinds;
        let mut entries = self.entries.iter();
        (0..16).map(move |nibble| {
            let bit = 1 << nibble;
            if children & bit == 0 {
                return Referred::Nothing;
            }
            let reference = entries.next().and_then(|entry| entry.first_chunk());
            if storage & bit != 0 {
                entries.next();
            }
            match reference {
                Some(reference) if embedded & bit == 0 => Referred::Hash(reference),
                Some(reference) => Referred::Node(Reference::embedded_bytes(reference).unwrap_or_default()),
                None => Referred::Nothing,
            }
        })
    }

    /// Where the child at a nibble leads; with `into_storage`, where the storage of a leaf does.
    pub(crate) fn way(self, nibble: u8, into_storage: bool) -> Option<Way<'a>> {
        let bit = 1 << nibble;
        let Kinds { children, leaves, storage, storage_leaves, .. } = self.kinds;
        let (there, is_leaf) = if into_storage { (storage, storage_leaves) } else { (children, leaves) };
        if there & bit == 0 {
            return None;
        }
        if is_leaf & bit != 0 {
            return Some(Way::Leaf);
        }
        let link = link(&self.entries[self.kinds.entries_before(nibble) + usize::from(into_storage)]);
        match self.branches.get(link as usize) {
            Some(branch) => Some(Way::Memory(branch)),
            None => Place::new(link).map(Way::Arena),
        }
    }

    /// The same children; those that a checkpoint has written meanwhile by their places, so that memory is given back.
    pub(crate) fn settled(self) -> Children {
        let mut settled = Children::with_entries(self.kinds, self.entries);
        if self.branches.is_empty() {
            return settled;
        }
        self.branches.iter().for_each(Branch::prefetch);
        for index in self.leading_to_branches() {
            if let Some(branch) = self.branches.get(link(&self.entries[index]) as usize) {
                let place = branch.written().place();
                set_link(&mut settled.entries[index], place.map_or(settled.branches.len() as u64, Place::get));
                if place.is_none() {
                    settled.branches.push(branch.clone());
                }
            }
        }
        settled
    }

    /// The branches in memory that they are or lead to, in the order of their nibbles.
    pub(crate) fn in_memory(self) -> impl DoubleEndedIterator<Item = &'a Branch> {
        let links: Vec<u64> = self.leading_to_branches().map(|index| link(&self.entries[index])).collect();
        links.into_iter().filter_map(|link| self.branches.get(link as usize))
    }

    /// Appends the entries as they will stand in the arena. `place_of` tells where what is in memory will be.
    pub(crate) fn encode(self, out: &mut Vec<u8>, place_of: impl Fn(&Branch) -> Place) {
        let start = out.len();
        out.extend_from_slice(self.entries.as_flattened());
        if self.branches.is_empty() {
            return;
        }
        let (entries, _) = out[start..].as_chunks_mut();
        for index in self.leading_to_branches() {
            if let Some(branch) = self.branches.get(link(&self.entries[index]) as usize) {
                set_link(&mut entries[index], place_of(branch).get());
            }
        }
    }

    /// The number of the branch in memory that what stands at a nibble is or, as a leaf, has as its storage's topmost node.
    fn number_at(self, nibble: u8) -> Option<usize> {
        let into_storage = matches!(self.way(nibble, false)?, Way::Leaf);
        match self.way(nibble, into_storage)? {
            Way::Memory(_) => {
                let index = self.kinds.entries_before(nibble) + usize::from(into_storage);
                Some(link(&self.entries[index]) as usize)
            }
            _ => None,
        }
    }

    /// Which entries lead to branches.
    fn leading_to_branches(self) -> impl Iterator<Item = usize> + use<> {
        let Kinds { children, leaves, storage, storage_leaves, .. } = self.kinds;
        let mut index = 0;
        nibbles_of(children).flat_map(move |nibble| {
            let bit = 1 << nibble;
            let own = (leaves & bit == 0).then_some(index);
            let storage_top = (storage & !storage_leaves & bit != 0).then_some(index + 1);
            index += 1 + usize::from(storage & bit != 0);
            own.into_iter().chain(storage_top)
        })
    }

    fn key(self, index: usize) -> KeyTag {
        KeyTag::of(link(&self.entries[index]))
    }

    fn node(self, index: usize) -> NodeRef {
        let link = link(&self.entries[index]);
        match self.branches.get(link as usize) {
            Some(branch) => NodeRef::Memory(branch.clone()),
            None => NodeRef::Arena(Place::new(link).expect("it was a place when the entry was made")),
        }
    }
}

/// Where an entry leads.
fn link(entry: &Entry) -> u64 {
    let mut wide = [0; 8];
    wide[..LINK_BYTES].copy_from_slice(&entry[REFERENCE_BYTES..]);
    u64::from_le_bytes(wide)
}

fn set_link(entry: &mut Entry, link: u64) {
    entry[REFERENCE_BYTES..].copy_from_slice(&link.to_le_bytes()[..LINK_BYTES]);
}

#[cfg(test)]
mod tests;
