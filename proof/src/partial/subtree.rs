//! A part of a trie in memory, as far as it was read.

use alloc::{boxed::Box, vec::Vec};
use core::array;

use alloy_primitives::{B256, keccak256};

use crate::{
    EMPTY_ROOT, NodeError, encode,
    node::{Child, HASHED_BYTES, Nibbles, Node, PATH_NIBBLES},
};

/// What stands behind some nibbles. No deeper than paths are long, so that following it down may recurse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subtree {
    /// No key begins with these nibbles.
    Empty,
    /// A node of which only the hash is known.
    Unread(B256),
    /// One key: the rest of its path in nibbles, and its value.
    Leaf(Vec<u8>, Vec<u8>),
    /// The nibbles that all keys share, at least one, and a branch.
    Extension(Vec<u8>, Box<Self>),
    /// Two keys or more that differ in the next nibble.
    Branch(Box<[Self; 16]>),
}

impl Subtree {
    /// What has this root.
    pub(crate) fn of_root(root: B256) -> Self {
        if root == EMPTY_ROOT { Self::Empty } else { Self::Unread(root) }
    }

    /// Decodes a node and what is embedded in it. `depth` nibbles lead to it; the parent may be an extension.
    pub(crate) fn decode(bytes: &[u8], depth: usize, below_extension: bool) -> Result<Self, NodeError> {
        match Node::decode(bytes)? {
            Node::Branch(children) => {
                check_branch_depth(depth)?;
                let mut subtrees = array::from_fn(|_| Self::Empty);
                for (subtree, child) in subtrees.iter_mut().zip(*children) {
                    *subtree = Self::of_child(child, depth + 1, false)?;
                }
                Ok(Self::Branch(Box::new(subtrees)))
            }
            Node::Extension(..) | Node::Leaf(..) if below_extension => Err(NodeError::ExtensionChild),
            Node::Extension(prefix, child) => {
                let end = end(depth, prefix);
                check_branch_depth(end)?;
                Ok(Self::Extension(prefix.iter().collect(), Box::new(Self::of_child(child, end, true)?)))
            }
            Node::Leaf(rest, value) => match end(depth, rest) {
                PATH_NIBBLES => Ok(Self::Leaf(rest.iter().collect(), value.to_vec())),
                nibbles => Err(NodeError::LeafDepth { nibbles }),
            },
        }
    }

    /// An embedded node is shorter than the one that it stands in, and that one than 32 bytes unless it is listed: so this ends soon.
    fn of_child(child: Child<'_>, depth: usize, below_extension: bool) -> Result<Self, NodeError> {
        match child {
            Child::Empty => Ok(Self::Empty),
            Child::Hash(hash) => Ok(Self::Unread(hash)),
            Child::Embedded(bytes) => Self::decode(bytes, depth, below_extension),
        }
    }

    /// The root of a trie of which this is all.
    pub(crate) fn root(&self) -> B256 {
        match self {
            Self::Empty => EMPTY_ROOT,
            Self::Unread(hash) => *hash,
            Self::Leaf(..) | Self::Extension(..) | Self::Branch(..) => keccak256(self.encode()),
        }
    }

    /// Appends what a parent holds of it.
    fn refer(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => encode::string(&[], out),
            Self::Unread(hash) => encode::string(hash.as_slice(), out),
            Self::Leaf(..) | Self::Extension(..) | Self::Branch(..) => {
                let node = self.encode();
                if node.len() < HASHED_BYTES {
                    out.extend_from_slice(&node);
                } else {
                    encode::string(keccak256(&node).as_slice(), out);
                }
            }
        }
    }

    /// The node at the top.
    fn encode(&self) -> Vec<u8> {
        let mut items = Vec::new();
        match self {
            Self::Empty | Self::Unread(_) => {}
            Self::Leaf(rest, value) => {
                encode::string(&hex_prefix(rest, 2), &mut items);
                encode::string(value, &mut items);
            }
            Self::Extension(prefix, child) => {
                encode::string(&hex_prefix(prefix, 0), &mut items);
                child.refer(&mut items);
            }
            Self::Branch(children) => {
                children.iter().for_each(|child| child.refer(&mut items));
                encode::string(&[], &mut items);
            }
        }
        let mut node = Vec::with_capacity(items.len() + 3);
        encode::list(&items, &mut node);
        node
    }
}

/// Nibbles with the prefix that tells a leaf (`flag` 2) from an extension (0), and odd from even.
fn hex_prefix(nibbles: &[u8], flag: u8) -> Vec<u8> {
    let (odd, pairs) = nibbles.split_at(nibbles.len() % 2);
    let first = odd.first().map_or(flag << 4, |nibble| (flag + 1) << 4 | nibble);
    let pairs = pairs.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble));
    core::iter::once(first).chain(pairs).collect()
}

fn end(depth: usize, nibbles: Nibbles<'_>) -> usize {
    depth.saturating_add(nibbles.count())
}

/// A branch needs a nibble of its own.
fn check_branch_depth(nibbles: usize) -> Result<(), NodeError> {
    if nibbles < PATH_NIBBLES { Ok(()) } else { Err(NodeError::TooDeep { nibbles }) }
}
