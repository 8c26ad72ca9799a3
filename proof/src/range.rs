//! All that a trie holds between two paths.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use alloy_primitives::{B256, Bytes};

use crate::{
    build::{build, shared},
    error::ProofError,
    node::NodeError,
    paths::check_order,
    walk::{Found, Place, Wanted, walk},
};

/// Proves that the entries are all that the trie of the given root holds in a range of paths: none is missing, none is added, and
/// each has that value.
///
/// `entries` are paths with the values of their leaves, and ascend. `nodes` are the RLP nodes below which paths inside the range and
/// paths outside lie, in the order of [`AccountRange::nodes`](crate::AccountRange::nodes): all that lies inside is rebuilt from the entries.
///
/// # Errors
///
/// [`ProofError::RangeReversed`], [`ProofError::KeyOrder`], [`ProofError::EntryOutOfRange`] and [`ProofError::EntryEmpty`] where no trie
/// could hold that. Else whatever is not the honest proof of that root and range.
pub fn verify_range(
    root: B256,
    range: RangeInclusive<B256>,
    entries: &[(B256, impl AsRef<[u8]>)],
    nodes: &[Bytes],
) -> Result<(), ProofError> {
    check_entries(&range, entries)?;
    let found = walk(root, nodes, |prefix| {
        let (first, last) = (prefix.first_path(), prefix.last_path());
        match (range.contains(&first), range.contains(&last)) {
            (true, true) => Wanted::Whole,
            (false, false) if last < *range.start() || first > *range.end() => Wanted::Nothing,
            _ => Wanted::Part,
        }
    })?;
    let mut next = 0;
    for found in found {
        next = match found {
            Found::Leaf(path, leaf) if range.contains(&path) => {
                match entries.get(next) {
                    Some((claimed, value)) if *claimed == path => {
                        if value.as_ref() != leaf.value {
                            return Err(ProofError::EntryMismatch { index: next, node: leaf.index });
                        }
                    }
                    Some((claimed, _)) if *claimed < path => return Err(ProofError::EntryAdded { index: next }),
                    _ => return Err(ProofError::EntryMissing { path, node: leaf.index }),
                }
                next + 1
            }
            Found::Leaf(..) => next,
            Found::Subtree(place, hash) => check_subtree(place, hash, entries, next)?,
        };
    }
    if next == entries.len() { Ok(()) } else { Err(ProofError::EntryAdded { index: next }) }
}

/// What can be said of the entries without a trie.
fn check_entries(range: &RangeInclusive<B256>, entries: &[(B256, impl AsRef<[u8]>)]) -> Result<(), ProofError> {
    if range.is_empty() {
        return Err(ProofError::RangeReversed { from: *range.start(), to: *range.end() });
    }
    let paths: Vec<B256> = entries.iter().map(|(path, _)| *path).collect();
    check_order(&paths)?;
    for (index, (path, value)) in entries.iter().enumerate() {
        if !range.contains(path) {
            return Err(ProofError::EntryOutOfRange { index, path: *path });
        }
        if value.as_ref().is_empty() {
            return Err(ProofError::EntryEmpty { index });
        }
    }
    Ok(())
}

/// The entries from `next` on that are below a node must have its hash. Returns the index of the first one behind them.
fn check_subtree(
    Place { prefix, below_extension }: Place,
    expected: B256,
    entries: &[(B256, impl AsRef<[u8]>)],
    next: usize,
) -> Result<usize, ProofError> {
    let (first, last) = (prefix.first_path(), prefix.last_path());
    let behind = entries.partition_point(|(path, _)| *path <= last);
    let below = entries.get(next..behind).unwrap_or_default();
    let mismatch = ProofError::RangeMismatch { first, last, entries: below.len(), expected };
    let Some(((low, _), (high, _))) = below.first().zip(below.last()) else { return Err(mismatch) };
    if *low < first {
        return Err(ProofError::EntryAdded { index: next });
    }
    let depth = prefix.nibbles();
    if build(below, depth).hash() != Some(expected) {
        return Err(mismatch);
    }
    // The hash may fit all the same: then no honest trie has that root.
    if below_extension && shared(low, high) != depth {
        return Err(ProofError::Subtree { first, last, source: NodeError::ExtensionChild });
    }
    Ok(behind)
}
