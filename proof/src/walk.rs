//! Follows one path through the nodes of a proof.

use alloc::vec;

use alloy_primitives::{B256, Bytes, keccak256};

use crate::{
    EMPTY_ROOT, ProofError,
    node::{Child, HASHED_BYTES, Node, NodeError, PATH_NIBBLES},
};

/// Where a node stands in the trie, as far as it restricts what the node may be.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Nibbles from the root.
    depth: usize,
    /// Whether the parent is an extension, so that this is a branch.
    below_extension: bool,
}

/// What the nodes seen so far say about the path.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// No key has that path.
    Absent,
    /// The value at its end.
    Value(&'a [u8]),
    /// The path goes on in the node of that hash.
    Follow(B256, Place),
}

/// A node to be looked at: a listed one, or one embedded in it.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    bytes: &'a [u8],
    place: Place,
    /// Whether the path leads through it; the others must be sound, too.
    on_path: bool,
}

/// Proves what the trie of the given root holds at `path`: the value of the leaf there, or `None` where there is no leaf.
///
/// `nodes` are the RLP nodes from the root to the last one on the path, each once and without those that stand inside their
/// parent; no nodes for the empty trie ([`EMPTY_ROOT`]).
///
/// # Errors
///
/// Whatever the nodes are, they prove nothing unless they are the honest proof of that root and path.
pub fn verify_path<'a>(root: B256, path: &B256, nodes: &'a [Bytes]) -> Result<Option<&'a [u8]>, ProofError> {
    match (root == EMPTY_ROOT, nodes.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return Err(ProofError::NodesOfEmptyTrie { nodes: nodes.len() }),
        (false, true) => return Err(ProofError::NoNodes { root }),
        (false, false) => {}
    }
    let (mut expected, mut place) = (root, Place { depth: 0, below_extension: false });
    for (index, node) in nodes.iter().enumerate() {
        check_hash(index, node, expected)?;
        let verdict = match step(node, place, path).map_err(|source| ProofError::Node { index, source })? {
            Step::Absent => None,
            Step::Value(value) => Some(value),
            Step::Follow(hash, below) => {
                (expected, place) = (hash, below);
                continue;
            }
        };
        let used = index + 1;
        return if used == nodes.len() { Ok(verdict) } else { Err(ProofError::Unused { index: used }) };
    }
    Err(ProofError::Incomplete { index: nodes.len(), expected })
}

/// A listed node must be the one that its parent, or the root, names.
fn check_hash(index: usize, node: &[u8], expected: B256) -> Result<(), ProofError> {
    // In a state trie even the root is never that short: 64 nibbles have to stand somewhere below it.
    if node.len() < HASHED_BYTES {
        return Err(ProofError::TooShort { index, bytes: node.len() });
    }
    let got = keccak256(node);
    if got == expected { Ok(()) } else { Err(ProofError::HashMismatch { index, expected, got }) }
}

/// Decodes a listed node and all that is embedded in it, and tells where the path leads.
fn step<'a>(listed: &'a [u8], place: Place, path: &B256) -> Result<Step<'a>, NodeError> {
    let mut step = Step::Absent;
    // Every node pushed is a part of the one popped, so this ends, and holds no more entries than the node has bytes.
    let mut pending = vec![Seen { bytes: listed, place, on_path: true }];
    while let Some(Seen { bytes, place, on_path }) = pending.pop() {
        let mut visit = |child: Child<'a>, place: Place, on_path: bool| match child {
            Child::Embedded(bytes) => pending.push(Seen { bytes, place, on_path }),
            Child::Hash(hash) if on_path => step = Step::Follow(hash, place),
            Child::Hash(_) | Child::Empty => {}
        };
        let Place { depth, below_extension } = place;
        match Node::decode(bytes)? {
            Node::Branch(children) => {
                check_branch_depth(depth)?;
                let place = Place { depth: depth + 1, below_extension: false };
                let turn = nibbles(path).nth(depth);
                for (nibble, child) in (0..).zip(*children) {
                    visit(child, place, on_path && turn == Some(nibble));
                }
            }
            Node::Extension(..) | Node::Leaf(..) if below_extension => return Err(NodeError::ExtensionChild),
            Node::Extension(extension, child) => {
                let end = depth.saturating_add(extension.count());
                check_branch_depth(end)?;
                let on_path = on_path && extension.iter().eq(nibbles(path).skip(depth).take(extension.count()));
                visit(child, Place { depth: end, below_extension: true }, on_path);
            }
            Node::Leaf(rest, value) => {
                let nibbles_to_end = depth.saturating_add(rest.count());
                if nibbles_to_end != PATH_NIBBLES {
                    return Err(NodeError::LeafDepth { nibbles: nibbles_to_end });
                }
                if on_path && rest.iter().eq(nibbles(path).skip(depth)) {
                    step = Step::Value(value);
                }
            }
        }
    }
    Ok(step)
}

/// A branch needs a nibble of its own.
fn check_branch_depth(nibbles: usize) -> Result<(), NodeError> {
    if nibbles < PATH_NIBBLES { Ok(()) } else { Err(NodeError::TooDeep { nibbles }) }
}

/// The nibbles of a path, from the root on.
fn nibbles(path: &B256) -> impl Iterator<Item = u8> {
    path.iter().flat_map(|&byte| [byte >> 4, byte & 0xf])
}
