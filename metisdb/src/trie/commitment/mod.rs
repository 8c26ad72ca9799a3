//! What a scheme of commitment adds to the trie: how paths are made of keys, and how leaves and branches are hashed.
//!
//! The trie itself knows no hash function. It hands over whole levels at once, so that a scheme hashes many nodes in
//! lanes. The rules of each scheme are owned by `spec/commitment.md`.

pub(crate) mod ethereum;

use std::fmt::Debug;

use alloy_primitives::{B256, U256};

use super::{nibbles::Nibbles, node::ChildrenView};
use crate::types::Account;

/// How a node is referred to by its parent: its hash or, where the scheme says so, its own few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Zero behind the length.
    bytes: [u8; 32],
    length: u8,
}

impl Reference {
    /// A hash.
    pub(crate) fn hash(hash: B256) -> Self {
        Self { bytes: hash.0, length: 32 }
    }

    /// A node of fewer than 32 bytes that stands inside its parent.
    pub(crate) fn embedded(node: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..node.len()].copy_from_slice(node);
        debug_assert!(node.len() < 32);
        Self { bytes, length: node.len() as u8 }
    }

    /// The embedded node that stands in front of zeros; `None` where none can be.
    pub(crate) fn embedded_bytes(padded: &[u8; 32]) -> Option<&[u8]> {
        // A list of fewer than 32 bytes: its first byte tells its length.
        let length = usize::from(padded[0].checked_sub(0xc0)?) + 1;
        padded.get(..length).filter(|node| node.len() < padded.len())
    }

    /// The hash, or `None` for an embedded node.
    #[inline]
    pub(crate) fn as_hash(&self) -> Option<&[u8; 32]> {
        (self.length == 32).then_some(&self.bytes)
    }

    /// The hash or the embedded node.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// All 32 bytes, zero behind an embedded node.
    pub(crate) fn padded(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// What a leaf holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// A slot's value, not zero.
    Slot(U256),
    /// An account; its storage root is told apart.
    Account(Account),
    /// Any bytes, for tests of the structure alone.
    #[cfg(test)]
    Raw(Vec<u8>),
}

/// A leaf to be hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafView<'a> {
    /// The whole path.
    pub(crate) path: &'a B256,
    /// How many nibbles of it lead to the leaf; the rest stands in the leaf.
    pub(crate) depth: usize,
    pub(crate) payload: &'a Payload,
    /// Root of the account's storage; of no meaning in other leaves.
    pub(crate) storage_root: B256,
}

/// A branch to be hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchView<'a> {
    /// Nibbles between the parent and the branch.
    pub(crate) prefix: &'a Nibbles,
    pub(crate) children: ChildrenView<'a>,
}

/// A scheme of commitment.
pub(crate) trait Commitment: Debug + Send + Sync {
    /// The paths of keys: addresses (20 bytes) or slots (32 bytes).
    fn paths(&self, keys: &[&[u8]]) -> Vec<B256>;

    /// How parents refer to these leaves.
    fn leaves(&self, leaves: &[LeafView<'_>]) -> Vec<Reference>;

    /// How parents refer to these branches.
    fn branches(&self, branches: &[BranchView<'_>]) -> Vec<Reference>;

    /// The root of a trie whose topmost node has this reference; of the empty trie, if there is none.
    fn root(&self, top: Option<&Reference>) -> B256;
}
