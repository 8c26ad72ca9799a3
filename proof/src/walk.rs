//! Goes through the nodes of a proof in the order of their paths, and tells what they say of the part that is asked for.
//!
//! Proofs of one path, of many, and of a range differ in what they ask for, and in nothing else. A node is listed if and only if
//! a part, but not all, of what lies below it is asked for: so for one question there is one list.

use alloc::{vec, vec::Vec};

use alloy_primitives::{B256, Bytes, keccak256};

use crate::{
    EMPTY_ROOT,
    error::ProofError,
    node::{Child, Node, NodeError, PATH_NIBBLES, check_hashed},
    prefix::Prefix,
};

/// How much is asked for of the paths that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None of them.
    Nothing,
    /// Some of them: the node is listed.
    Part,
    /// All of them: the node is not listed, since its hash follows from what is claimed of them.
    Whole,
}

/// What the nodes say, in the order of the paths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// A leaf, in a listed node or embedded in one; its path begins like one that is asked for.
    Leaf(B256, Leaf<'a>),
    /// All paths that begin so are asked for, and this is the hash of the node above them.
    Subtree(Place, B256),
}

/// A leaf that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) value: &'a [u8],
    /// The listed node that is the leaf, or in which it is embedded.
    pub(crate) index: usize,
}

/// Where a node stands in the trie, as far as it restricts what the node may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) prefix: Prefix,
    /// Whether the parent is an extension, so that this is a branch.
    pub(crate) below_extension: bool,
}

/// A node that comes later.
#[derive(Clone, Copy, Debug)]
enum Pending<'a> {
    /// Behind a hash.
    Hashed(B256),
    /// Inside the listed node of that index.
    Embedded(&'a [u8], usize),
}

/// Goes through the nodes of the trie of that root.
///
/// # Errors
/// Whatever is not the list of exactly those nodes below which a part is wanted, each once, in the order of their paths.
pub(crate) fn walk<'a>(
    root: B256,
    nodes: &'a [Bytes],
    wanted: impl Fn(&Prefix) -> Wanted,
) -> Result<Vec<Found<'a>>, ProofError> {
    if root == EMPTY_ROOT {
        let refusal = ProofError::NodesOfEmptyTrie { nodes: nodes.len() };
        return if nodes.is_empty() { Ok(Vec::new()) } else { Err(refusal) };
    }
    let top = Place { prefix: Prefix::EMPTY, below_extension: false };
    // What is pushed is a part of what was popped, or stands in a listed node: so this ends, and there are no more entries than
    // the proof has bytes.
    let (mut pending, mut found, mut used) = (vec![(Pending::Hashed(root), top)], Vec::new(), 0);
    while let Some((node, place)) = pending.pop() {
        let (index, bytes) = match (node, wanted(&place.prefix)) {
            (Pending::Embedded(bytes, index), _) => (index, bytes),
            (Pending::Hashed(_), Wanted::Nothing) => continue,
            (Pending::Hashed(hash), Wanted::Whole) => {
                found.push(Found::Subtree(place, hash));
                continue;
            }
            (Pending::Hashed(hash), Wanted::Part) => {
                used += 1;
                (used - 1, listed(nodes, used - 1, hash)?)
            }
        };
        let leaf = enter(bytes, place, index, &mut pending).map_err(|source| ProofError::Node { index, source })?;
        // An embedded leaf may be on no path that is wanted: it had to be sound, and says nothing.
        if let Some((path, leaf)) = leaf.filter(|_| wanted(&place.prefix) != Wanted::Nothing) {
            found.push(Found::Leaf(path, leaf));
        }
    }
    if used == nodes.len() { Ok(found) } else { Err(ProofError::Unused { index: used }) }
}

/// The listed node of that index, which must be the one that its parent, or the root, names.
fn listed(nodes: &[Bytes], index: usize, expected: B256) -> Result<&[u8], ProofError> {
    let Some(node) = nodes.get(index) else {
        let is_first = index == 0;
        return Err(if is_first {
            ProofError::NoNodes { root: expected }
        } else {
            ProofError::Incomplete { index, expected }
        });
    };
    check_hashed(node).map_err(|source| ProofError::Node { index, source })?;
    let got = keccak256(node);
    if got == expected { Ok(node) } else { Err(ProofError::HashMismatch { index, expected, got }) }
}

/// Decodes a node. What is below it is left for later, the first of it on top; a leaf is returned with its path.
fn enter<'a>(
    bytes: &'a [u8],
    place: Place,
    index: usize,
    pending: &mut Vec<(Pending<'a>, Place)>,
) -> Result<Option<(B256, Leaf<'a>)>, NodeError> {
    let Place { prefix, below_extension } = place;
    let depth = prefix.nibbles();
    let mut leave = |child: Child<'a>, place: Place| match child {
        Child::Empty => {}
        Child::Hash(hash) => pending.push((Pending::Hashed(hash), place)),
        Child::Embedded(bytes) => pending.push((Pending::Embedded(bytes, index), place)),
    };
    match Node::decode(bytes)? {
        Node::Branch(children) => {
            check_branch_depth(depth)?;
            for (nibble, child) in (0..16).zip(*children).rev() {
                leave(child, Place { prefix: prefix.joined([nibble]), below_extension: false });
            }
        }
        Node::Extension(..) | Node::Leaf(..) if below_extension => return Err(NodeError::ExtensionChild),
        Node::Extension(nibbles, child) => {
            check_branch_depth(depth.saturating_add(nibbles.count()))?;
            leave(child, Place { prefix: prefix.joined(nibbles.iter()), below_extension: true });
        }
        Node::Leaf(rest, value) => {
            let nibbles = depth.saturating_add(rest.count());
            if nibbles != PATH_NIBBLES {
                return Err(NodeError::LeafDepth { nibbles });
            }
            return Ok(Some((prefix.joined(rest.iter()).first_path(), Leaf { value, index })));
        }
    }
    Ok(None)
}

/// A branch needs a nibble of its own.
fn check_branch_depth(nibbles: usize) -> Result<(), NodeError> {
    if nibbles < PATH_NIBBLES { Ok(()) } else { Err(NodeError::TooDeep { nibbles }) }
}
