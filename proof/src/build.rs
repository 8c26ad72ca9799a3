//! The top of a part of a trie, from the entries below it.

use alloc::vec::Vec;
use core::ops::Range;

use alloy_primitives::B256;

use crate::{
    node::PATH_NIBBLES,
    node_writer::{self, Reference},
    prefix::nibble,
};

/// A branch that may get more children.
#[derive(Debug)]
struct Open {
    /// Nibbles that lead to it.
    depth: usize,
    children: [Reference; 16],
}

/// The node that `depth` nibbles lead to, of entries that ascend and share these nibbles; the empty reference if there are none.
///
/// Goes over the entries once. A branch stands where two neighbours part, and is closed behind the last entry below it, so that
/// only branches on one path are open: at most 64.
pub(crate) fn build(entries: &[(B256, impl AsRef<[u8]>)], depth: usize) -> Reference {
    let mut open: Vec<Open> = Vec::new();
    let mut before = None;
    for (index, (path, value)) in entries.iter().enumerate() {
        let behind = entries.get(index + 1).map(|(next, _)| shared(path, next));
        // The node hangs on the branch where it parts from the nearer of its neighbours; the topmost one on none.
        let mut parting = before.max(behind);
        let start = parting.map_or(depth, |parting| parting + 1);
        let mut node = Reference::to(&node_writer::leaf(nibbles(path, start..PATH_NIBBLES), value.as_ref()));
        loop {
            let Some(at) = parting else { return node };
            if open.last().is_none_or(|top| top.depth < at) {
                open.push(Open { depth: at, children: [Reference::EMPTY; 16] });
            }
            if let Some(top) = open.last_mut() {
                top.children[usize::from(nibble(path, at))] = node;
            }
            if behind.is_some_and(|behind| behind >= at) {
                break;
            }
            let Some(closed) = open.pop() else { break };
            parting = open.last().map(|top| top.depth).max(behind);
            node = Reference::to(&node_writer::branch(&closed.children));
            let start = parting.map_or(depth, |parting| parting + 1);
            if start < at {
                node = Reference::to(&node_writer::extension(nibbles(path, start..at), &node));
            }
        }
        before = behind;
    }
    Reference::EMPTY
}

/// Some nibbles of a path.
fn nibbles(path: &B256, places: Range<usize>) -> impl ExactSizeIterator<Item = u8> {
    places.map(|index| nibble(path, index))
}

/// How many of their first nibbles two paths share.
pub(crate) fn shared(left: &B256, right: &B256) -> usize {
    (0..PATH_NIBBLES).take_while(|&index| nibble(left, index) == nibble(right, index)).count()
}
