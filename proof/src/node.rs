//! Strict decoding of one trie node.
//!
//! All paths of a state trie have 64 nibbles, so a branch has no value, and what a node may hold is narrower than in tries at
//! large. Children are told apart, not followed.

use alloc::boxed::Box;

use alloy_primitives::B256;

use crate::rlp::{Item, RlpError};

/// Nibbles of every path: keys are hashes.
pub(crate) const PATH_NIBBLES: usize = 64;

/// A node whose encoding has at least that many bytes stands in its parent as a hash; a shorter one stands there itself.
pub(crate) const HASHED_BYTES: usize = 32;

/// Why a node cannot stand in a state trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node is not canonical RLP.
    #[error(transparent)]
    Rlp(#[from] RlpError),
    /// A node is a list of 17 items (branch) or of two (extension, leaf).
    #[error("the node is a list of {items} items; a branch has 17, an extension or a leaf has 2")]
    ItemCount {
        /// The items found, counted up to 18.
        items: usize,
    },
    /// The path of an extension or leaf lacks even the byte that tells which it is.
    #[error("the node's path is empty, not even a hex prefix stands there")]
    PrefixMissing,
    /// The hex prefix is none of the four that exist.
    #[error("the hex prefix {flag:#x} does not exist; 0 and 1 are extensions, 2 and 3 are leaves")]
    PrefixFlag {
        /// The upper nibble of the path's first byte.
        flag: u8,
    },
    /// The padding nibble of a path of even length is not zero.
    #[error("the padding nibble of an even path is {padding:#x} instead of zero")]
    PrefixPadding {
        /// The nibble found.
        padding: u8,
    },
    /// An extension has no nibbles, so it extends nothing.
    #[error("an extension has an empty path")]
    ExtensionEmpty,
    /// An extension leads nowhere.
    #[error("an extension has no child")]
    ExtensionChildMissing,
    /// An extension leads to an extension or a leaf, with which an honest trie merges it.
    #[error("an extension leads to an extension or a leaf; only a branch may follow")]
    ExtensionChild,
    /// A child is a string, but neither empty nor a hash.
    #[error("a child is a string of {bytes} bytes; a child is empty, a hash of 32 bytes, or an embedded node")]
    ChildLength {
        /// Length of the string.
        bytes: usize,
    },
    /// A node behind a hash, or at the root, is so short that it stands inside its parent.
    #[error("the node has {bytes} bytes; a node shorter than 32 stands inside its parent, never behind a hash")]
    TooShort {
        /// Length of the node.
        bytes: usize,
    },
    /// An embedded node is so long that it must be hashed.
    #[error("an embedded node has {bytes} bytes; from 32 bytes on a node stands in its parent as a hash")]
    EmbeddedTooLong {
        /// Length of the embedded node.
        bytes: usize,
    },
    /// A branch has fewer than two children, so it parts nothing.
    #[error("a branch has {children} children; it needs two at least")]
    BranchChildren {
        /// Its children.
        children: usize,
    },
    /// A branch has a value, though no path of a state trie ends at one.
    #[error("a branch has a value; no path of a state trie ends at a branch")]
    BranchValue,
    /// A leaf has no value, which is how a trie removes a key.
    #[error("a leaf has an empty value; a trie holds no such leaf")]
    LeafEmpty,
    /// A leaf ends before or beyond the end of a path.
    #[error("a leaf ends a path at {nibbles} nibbles; all paths have 64")]
    LeafDepth {
        /// Nibbles from the root to the leaf's end.
        nibbles: usize,
    },
    /// A branch or extension leaves no nibble for what must follow.
    #[error("{nibbles} nibbles lead to a branch; a path has 64, and a branch needs one of them")]
    TooDeep {
        /// Nibbles from the root to the branch.
        nibbles: usize,
    },
}

/// A node, as its bytes alone show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node<'a> {
    /// Parts paths by one nibble.
    Branch(Box<[Child<'a>; 16]>),
    /// Stands for the nibbles that all paths below have in common.
    Extension(Nibbles<'a>, Child<'a>),
    /// Ends a path with a value.
    Leaf(Nibbles<'a>, &'a [u8]),
}

/// What a branch or extension holds in the place of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child<'a> {
    /// No child.
    Empty,
    /// The hash of a node of at least 32 bytes.
    Hash(B256),
    /// A shorter node itself, not decoded yet.
    Embedded(&'a [u8]),
}

impl<'a> Child<'a> {
    fn new(item: Item<'a>) -> Result<Self, NodeError> {
        let bytes = item.encoded.len();
        if item.is_list {
            return if bytes < HASHED_BYTES {
                Ok(Self::Embedded(item.encoded))
            } else {
                Err(NodeError::EmbeddedTooLong { bytes })
            };
        }
        match item.payload.len() {
            0 => Ok(Self::Empty),
            32 => Ok(Self::Hash(item.hash()?)),
            bytes => Err(NodeError::ChildLength { bytes }),
        }
    }
}

/// Checks the length of a node behind a hash. In a state trie even the root is never shorter: 64 nibbles have to stand somewhere
/// below it.
pub(crate) fn check_hashed(node: &[u8]) -> Result<(), NodeError> {
    if node.len() < HASHED_BYTES { Err(NodeError::TooShort { bytes: node.len() }) } else { Ok(()) }
}

impl<'a> Node<'a> {
    /// Decodes a node that takes up all of `bytes`.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, NodeError> {
        let mut list = Item::only(bytes)?.list()?;
        let mut items = [None; 17];
        let mut count = 0;
        while !list.is_finished() {
            let item = list.item()?;
            if let Some(place) = items.get_mut(count) {
                *place = Some(item);
            }
            count += 1;
            if count > items.len() {
                break;
            }
        }
        match items {
            [Some(path), Some(end), None, ..] => Self::short(path, end),
            [children @ .., Some(value)] if count == items.len() => Self::branch(children, value),
            _ => Err(NodeError::ItemCount { items: count }),
        }
    }

    /// A branch of sixteen children.
    fn branch(items: [Option<Item<'a>>; 16], value: Item<'a>) -> Result<Self, NodeError> {
        let mut children = Box::new([Child::Empty; 16]);
        for (child, item) in children.iter_mut().zip(items.into_iter().flatten()) {
            *child = Child::new(item)?;
        }
        if !value.string()?.is_empty() {
            return Err(NodeError::BranchValue);
        }
        match children.iter().filter(|&child| *child != Child::Empty).count() {
            count @ 0..2 => Err(NodeError::BranchChildren { children: count }),
            _ => Ok(Self::Branch(children)),
        }
    }

    /// An extension or a leaf: a path and what is at its end.
    fn short(path: Item<'a>, end: Item<'a>) -> Result<Self, NodeError> {
        let (is_leaf, path) = Nibbles::decode(path.string()?)?;
        if is_leaf {
            let value = end.string()?;
            return if value.is_empty() { Err(NodeError::LeafEmpty) } else { Ok(Self::Leaf(path, value)) };
        }
        if path.count() == 0 {
            return Err(NodeError::ExtensionEmpty);
        }
        match Child::new(end)? {
            Child::Empty => Err(NodeError::ExtensionChildMissing),
            child => Ok(Self::Extension(path, child)),
        }
    }
}

/// The path of an extension or leaf: the nibbles behind the hex prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nibbles<'a> {
    /// The first nibble, where their number is odd.
    odd: Option<u8>,
    /// The others, two in a byte.
    pairs: &'a [u8],
}

impl<'a> Nibbles<'a> {
    /// Decodes a path with its hex prefix, and whether it is a leaf's.
    fn decode(bytes: &'a [u8]) -> Result<(bool, Self), NodeError> {
        let (&prefix, pairs) = bytes.split_first().ok_or(NodeError::PrefixMissing)?;
        let (flag, low) = (prefix >> 4, prefix & 0xf);
        let odd = match flag {
            1 | 3 => Some(low),
            0 | 2 if low == 0 => None,
            0 | 2 => return Err(NodeError::PrefixPadding { padding: low }),
            _ => return Err(NodeError::PrefixFlag { flag }),
        };
        Ok((flag >= 2, Self { odd, pairs }))
    }

    /// How many they are.
    pub(crate) fn count(self) -> usize {
        // A slice has at most isize::MAX bytes, so this does not overflow.
        usize::from(self.odd.is_some()) + 2 * self.pairs.len()
    }

    /// The nibbles in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        self.odd.into_iter().chain(self.pairs.iter().flat_map(|&byte| [byte >> 4, byte & 0xf]))
    }
}
