//! A part of a trie in memory, as far as it was read.

use alloc::{boxed::Box, vec::Vec};
use core::array;

use alloy_primitives::{B256, keccak256};

use crate::{
    EMPTY_ROOT, NodeError,
    node::{Child, Nibbles, Node, PATH_NIBBLES},
    node_writer::{self, Reference},
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

    /// What a parent holds of it.
    fn reference(&self) -> Reference {
        match self {
            Self::Empty => Reference::EMPTY,
            Self::Unread(hash) => Reference::to_hash(hash),
            Self::Leaf(..) | Self::Extension(..) | Self::Branch(..) => Reference::to(&self.encode()),
        }
    }

    /// The node at the top; nothing where it is not in memory.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Empty | Self::Unread(_) => Vec::new(),
            Self::Leaf(rest, value) => node_writer::leaf(rest.iter().copied(), value),
            Self::Extension(prefix, child) => node_writer::extension(prefix.iter().copied(), &child.reference()),
            Self::Branch(children) => node_writer::branch(&children.each_ref().map(Self::reference)),
        }
    }
}

fn end(depth: usize, nibbles: Nibbles<'_>) -> usize {
    depth.saturating_add(nibbles.count())
}

/// A branch needs a nibble of its own.
fn check_branch_depth(nibbles: usize) -> Result<(), NodeError> {
    if nibbles < PATH_NIBBLES { Ok(()) } else { Err(NodeError::TooDeep { nibbles }) }
}
