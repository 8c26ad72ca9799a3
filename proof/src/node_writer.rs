//! The encoding of nodes: what an honest trie would have written, and what `node` reads.

use alloc::vec::Vec;

use alloy_primitives::{B256, keccak256};

use crate::{encode, node::HASHED_BYTES};

/// The empty string; what a string's first byte begins at.
const EMPTY_STRING: u8 = 0x80;
/// A hash as a string.
const REFERENCE_BYTES: usize = 1 + 32;

/// How a node stands in its parent: the string of its hash, or itself where it is short. The empty string where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    bytes: [u8; REFERENCE_BYTES],
    length: usize,
}

impl Reference {
    /// To no node.
    pub(crate) const EMPTY: Self = Self { bytes: [EMPTY_STRING; REFERENCE_BYTES], length: 1 };

    /// To a node.
    pub(crate) fn to(node: &[u8]) -> Self {
        let mut reference = Self { length: node.len(), ..Self::EMPTY };
        match reference.bytes.get_mut(..node.len()) {
            Some(own) if node.len() < HASHED_BYTES => {
                own.copy_from_slice(node);
                reference
            }
            _ => Self::to_hash(&keccak256(node)),
        }
    }

    /// To the node of a hash.
    pub(crate) fn to_hash(hash: &B256) -> Self {
        let mut bytes = [EMPTY_STRING + 32; REFERENCE_BYTES];
        bytes[1..].copy_from_slice(hash.as_slice());
        Self { bytes, length: REFERENCE_BYTES }
    }

    /// The node's hash, unless it stands there itself.
    pub(crate) fn hash(&self) -> Option<B256> {
        (self.length == REFERENCE_BYTES).then(|| B256::from_slice(&self.bytes[1..]))
    }

    /// As an item of the parent.
    fn item(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A leaf, with the rest of its path in nibbles.
pub(crate) fn leaf(rest: impl ExactSizeIterator<Item = u8>, value: &[u8]) -> Vec<u8> {
    let mut items = hex_prefix(rest, 2);
    encode::string(value, &mut items);
    list(&items)
}

/// An extension by some nibbles.
pub(crate) fn extension(prefix: impl ExactSizeIterator<Item = u8>, child: &Reference) -> Vec<u8> {
    let mut items = hex_prefix(prefix, 0);
    items.extend_from_slice(child.item());
    list(&items)
}

/// A branch.
pub(crate) fn branch(children: &[Reference; 16]) -> Vec<u8> {
    let mut items = Vec::with_capacity(children.len() * REFERENCE_BYTES + 1);
    for child in children {
        items.extend_from_slice(child.item());
    }
    items.push(EMPTY_STRING);
    list(&items)
}

/// Nibbles with the prefix that tells a leaf (`flag` 2) from an extension (0), and odd from even, as a string.
fn hex_prefix(mut nibbles: impl ExactSizeIterator<Item = u8>, flag: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(REFERENCE_BYTES);
    let is_even = nibbles.len().is_multiple_of(2);
    bytes.push(if is_even { flag << 4 } else { (flag + 1) << 4 | nibbles.next().unwrap_or_default() });
    while let Some(upper) = nibbles.next() {
        bytes.push(upper << 4 | nibbles.next().unwrap_or_default());
    }
    let mut item = Vec::with_capacity(REFERENCE_BYTES + 1);
    encode::string(&bytes, &mut item);
    item
}

fn list(items: &[u8]) -> Vec<u8> {
    let mut node = Vec::with_capacity(items.len() + 3);
    encode::list(items, &mut node);
    node
}
