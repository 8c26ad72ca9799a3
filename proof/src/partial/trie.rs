//! One trie, read from a source as far as it is needed: looking up a path, and applying changes.
//!
//! All changes are applied at once, branch by branch from the bottom up, so that a branch is merged with its last child only if it
//! keeps a single one after all of them: that is what inserting before deleting comes to. What is read on the way is what any such
//! replay needs, and nothing else. Each step down consumes a nibble of a path, so recursion ends after 64.

use alloc::{boxed::Box, vec, vec::Vec};
use core::{array, mem};

use alloy_primitives::{Address, B256, keccak256};

use super::{NodePath, Source, WitnessError, subtree::Subtree};
use crate::{
    node::{PATH_NIBBLES, check_hashed},
    prefix::nibble,
};

/// What becomes of a key: its new value, or `None` where it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: B256,
    pub(crate) value: Option<Vec<u8>>,
}

impl Change {
    /// The change of a plain key.
    pub(crate) fn of(key: &[u8], value: Option<Vec<u8>>) -> Self {
        Self { path: keccak256(key), value }
    }
}

/// The trie of the accounts, or of one account's storage.
#[derive(Debug)]
pub(crate) struct PartialTrie<'s, S> {
    pub(crate) source: &'s S,
    pub(crate) account: Option<Address>,
    pub(crate) root: B256,
}

impl<S: Source> PartialTrie<'_, S> {
    /// The value at a path; `None` only where nodes prove that there is none.
    pub(crate) fn get(&self, path: &B256) -> Result<Option<Vec<u8>>, S::Error> {
        let (mut subtree, mut depth, mut below_extension) = (Subtree::of_root(self.root), 0, false);
        loop {
            subtree = match subtree {
                Subtree::Empty => return Ok(None),
                Subtree::Unread(hash) => self.read(&hash, path, depth, below_extension)?,
                Subtree::Leaf(rest, value) => return Ok(goes_on(path, depth, &rest).then_some(value)),
                Subtree::Extension(prefix, _) if !goes_on(path, depth, &prefix) => return Ok(None),
                Subtree::Extension(prefix, child) => {
                    (depth, below_extension) = (depth + prefix.len(), true);
                    *child
                }
                Subtree::Branch(mut children) => {
                    let turn = usize::from(nibble(path, depth));
                    (depth, below_extension) = (depth + 1, false);
                    children.get_mut(turn).map_or(Subtree::Empty, |child| mem::replace(child, Subtree::Empty))
                }
            };
        }
    }

    /// The root after the changes, no two of which are of one path.
    pub(crate) fn root_after(&self, mut changes: Vec<Change>) -> Result<B256, S::Error> {
        changes.sort_unstable_by_key(|change| change.path);
        Ok(self.apply(Subtree::of_root(self.root), 0, false, &changes)?.root())
    }

    /// The node of a hash behind the first `depth` nibbles of a path.
    fn read(&self, hash: &B256, path: &B256, depth: usize, below_extension: bool) -> Result<Subtree, S::Error> {
        let path = NodePath { account: self.account, path: *path, nibbles: depth };
        let bytes = self.source.node(hash, &path)?;
        let decoded = check_hashed(&bytes).and_then(|()| Subtree::decode(&bytes, depth, below_extension));
        decoded.map_err(|source| WitnessError::Node { hash: *hash, path, source }.into())
    }

    /// What the changes make of a subtree behind `depth` nibbles, which all their paths share. They are sorted.
    fn apply(
        &self,
        subtree: Subtree,
        depth: usize,
        below_extension: bool,
        changes: &[Change],
    ) -> Result<Subtree, S::Error> {
        let [first, ..] = changes else { return Ok(subtree) };
        match subtree {
            Subtree::Empty => Ok(grow(entries(changes), depth)),
            Subtree::Unread(hash) => {
                let subtree = self.read(&hash, &first.path, depth, below_extension)?;
                self.apply(subtree, depth, below_extension, changes)
            }
            Subtree::Leaf(rest, value) => {
                let own = joined(&first.path, depth, &rest);
                let mut entries = entries(changes);
                if let Err(place) = changes.binary_search_by_key(&own, |change| change.path) {
                    let place = changes.iter().take(place).filter(|change| change.value.is_some()).count();
                    entries.insert(place, (own, value));
                }
                Ok(grow(entries, depth))
            }
            Subtree::Extension(prefix, child) => self.apply_to_extension((prefix, *child), depth, changes),
            Subtree::Branch(children) => self.apply_to_branch(children, depth, changes),
        }
    }

    fn apply_to_extension(
        &self,
        (prefix, child): (Vec<u8>, Subtree),
        depth: usize,
        changes: &[Change],
    ) -> Result<Subtree, S::Error> {
        let shared = |change: &Change| {
            (0..).zip(&prefix).take_while(|(at, own)| nibble(&change.path, depth + at) == **own).count()
        };
        let set = changes.iter().filter(|change| change.value.is_some());
        let parting = set.map(shared).min().unwrap_or(prefix.len());
        let end = depth + parting;
        if parting == prefix.len() {
            // What is removed elsewhere is not there.
            let below = changes.partition_point(|change| ordering(&change.path, depth, &prefix).is_lt());
            let below = changes.get(below..).unwrap_or_default();
            let count = below.partition_point(|change| ordering(&change.path, depth, &prefix).is_eq());
            let child = self.apply(child, end, true, below.get(..count).unwrap_or_default())?;
            return Ok(lengthened(prefix, child));
        }
        // Some key is set that parts from the nibbles: a branch comes to stand there.
        let mut children = Box::new(array::from_fn(|_| Subtree::Empty));
        let (before, rest) = prefix.split_at(parting);
        let (turn, after) = rest.split_first().map_or((0, rest), |(turn, after)| (usize::from(*turn), after));
        if let Some(place) = children.get_mut(turn) {
            *place = lengthened(after.to_vec(), child);
        }
        let is_below = |change: &&Change| goes_on(&change.path, depth, before);
        let below: Vec<Change> = changes.iter().filter(is_below).cloned().collect();
        Ok(lengthened(before.to_vec(), self.apply_to_branch(children, end, &below)?))
    }

    fn apply_to_branch(
        &self,
        mut children: Box<[Subtree; 16]>,
        depth: usize,
        mut changes: &[Change],
    ) -> Result<Subtree, S::Error> {
        let Some(path) = changes.first().map(|change| change.path) else { return Ok(Subtree::Branch(children)) };
        for (turn, child) in (0..).zip(children.iter_mut()) {
            let count = changes.partition_point(|change| nibble(&change.path, depth) <= turn);
            let (own, others) = changes.split_at_checked(count).unwrap_or((changes, &[]));
            *child = self.apply(mem::replace(child, Subtree::Empty), depth + 1, false, own)?;
            changes = others;
        }
        let mut left = (0..).zip(children.iter_mut()).filter(|(_, child)| **child != Subtree::Empty);
        match (left.next(), left.next()) {
            (None, _) => Ok(Subtree::Empty),
            (Some((turn, child)), None) => {
                // The branch goes. What takes its place depends on what kind of node the child is.
                let child = match mem::replace(child, Subtree::Empty) {
                    Subtree::Unread(hash) => self.read(&hash, &joined(&path, depth, &[turn]), depth + 1, false)?,
                    child => child,
                };
                Ok(lengthened(vec![turn], child))
            }
            (Some(_), Some(_)) => Ok(Subtree::Branch(children)),
        }
    }
}

/// The keys that are set.
fn entries(changes: &[Change]) -> Vec<(B256, Vec<u8>)> {
    changes.iter().filter_map(|change| Some((change.path, change.value.clone()?))).collect()
}

/// A subtree of these keys alone, which are sorted and share `depth` nibbles.
fn grow(mut entries: Vec<(B256, Vec<u8>)>, depth: usize) -> Subtree {
    let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return Subtree::Empty };
    let end = (depth..PATH_NIBBLES).find(|at| nibble(first, *at) != nibble(last, *at)).unwrap_or(PATH_NIBBLES);
    let shared = (depth..end).map(|at| nibble(first, at)).collect();
    if end == PATH_NIBBLES {
        return entries.pop().map_or(Subtree::Empty, |(_, value)| Subtree::Leaf(shared, value));
    }
    let mut children = Box::new(array::from_fn(|_| Subtree::Empty));
    for (turn, child) in (0..).zip(children.iter_mut()) {
        let others = entries.split_off(entries.partition_point(|(path, _)| nibble(path, end) <= turn));
        *child = grow(mem::replace(&mut entries, others), end + 1);
    }
    lengthened(shared, Subtree::Branch(children))
}

/// The subtree with nibbles in front. One that was not read is a branch: it stood behind an extension.
fn lengthened(mut front: Vec<u8>, subtree: Subtree) -> Subtree {
    match subtree {
        subtree if front.is_empty() => subtree,
        Subtree::Empty => Subtree::Empty,
        Subtree::Leaf(rest, value) => {
            front.extend(rest);
            Subtree::Leaf(front, value)
        }
        Subtree::Extension(prefix, child) => {
            front.extend(prefix);
            Subtree::Extension(front, child)
        }
        branch @ (Subtree::Unread(_) | Subtree::Branch(_)) => Subtree::Extension(front, Box::new(branch)),
    }
}

/// The first `depth` nibbles of a path, then others, then zeros.
fn joined(path: &B256, depth: usize, nibbles: &[u8]) -> B256 {
    let mut all = (0..depth).map(|at| nibble(path, at)).chain(nibbles.iter().copied());
    B256::new(array::from_fn(|_| all.next().unwrap_or(0) << 4 | all.next().unwrap_or(0)))
}

/// Whether a path has these nibbles from `depth` on.
fn goes_on(path: &B256, depth: usize, nibbles: &[u8]) -> bool {
    ordering(path, depth, nibbles).is_eq()
}

/// How a path, from `depth` on, compares with these nibbles.
fn ordering(path: &B256, depth: usize, nibbles: &[u8]) -> core::cmp::Ordering {
    (depth..depth + nibbles.len()).map(|at| nibble(path, at)).cmp(nibbles.iter().copied())
}
