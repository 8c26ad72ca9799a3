//! The encoding of what leaves hold, and of nodes: what an honest trie would have written.

use alloc::vec::Vec;

use alloy_primitives::{B256, U256, keccak256};

use crate::{
    account::Account,
    node::{HASHED_BYTES, PATH_NIBBLES},
};

/// What a string's first byte begins at; also the empty string.
const STRING: u8 = 0x80;
/// What a list's first byte begins at.
const LIST: u8 = 0xc0;
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
    pub(crate) const EMPTY: Self = Self { bytes: [STRING; REFERENCE_BYTES], length: 1 };

    /// To a node.
    fn to(node: &[u8]) -> Self {
        let mut reference = Self { bytes: [STRING + 32; REFERENCE_BYTES], length: node.len() };
        if node.len() < HASHED_BYTES {
            reference.bytes[..node.len()].copy_from_slice(node);
        } else {
            reference.length = REFERENCE_BYTES;
            reference.bytes[1..].copy_from_slice(keccak256(node).as_slice());
        }
        reference
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

/// A leaf, `depth` nibbles of whose path lead to it.
pub(crate) fn leaf(path: &B256, depth: usize, value: &[u8]) -> Reference {
    let mut payload = hex_prefix(path, depth, PATH_NIBBLES, true);
    string(value, &mut payload);
    Reference::to(&list(&payload))
}

/// An extension by the nibbles of a path between `from` and `to`.
pub(crate) fn extension(path: &B256, from: usize, to: usize, child: &Reference) -> Reference {
    let mut payload = hex_prefix(path, from, to, false);
    payload.extend_from_slice(child.item());
    Reference::to(&list(&payload))
}

/// A branch.
pub(crate) fn branch(children: &[Reference; 16]) -> Reference {
    let mut payload = Vec::with_capacity(16 * REFERENCE_BYTES + 1);
    for child in children {
        payload.extend_from_slice(child.item());
    }
    payload.push(STRING);
    Reference::to(&list(&payload))
}

/// The value of an account's leaf.
pub(crate) fn account(account: &Account, storage_root: B256) -> Vec<u8> {
    let mut payload = integer(U256::from(account.nonce));
    payload.extend(integer(account.balance));
    string(storage_root.as_slice(), &mut payload);
    string(account.code_hash.as_slice(), &mut payload);
    list(&payload)
}

/// An integer; the value of a slot's leaf.
pub(crate) fn integer(number: U256) -> Vec<u8> {
    let bytes = number.to_be_bytes::<32>();
    let mut item = Vec::with_capacity(REFERENCE_BYTES);
    string(&bytes[number.leading_zeros() / 8..], &mut item);
    item
}

/// The nibble of a path at an index below 64.
pub(crate) fn nibble(path: &B256, index: usize) -> u8 {
    let byte = path[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf }
}

/// Nibbles of a path behind their hex prefix, as a string.
fn hex_prefix(path: &B256, from: usize, to: usize, is_leaf: bool) -> Vec<u8> {
    let is_odd = !(to - from).is_multiple_of(2);
    let flag = if is_leaf { 0x20 } else { 0 };
    let first = if is_odd { 0x10 | nibble(path, from) } else { 0 };
    let mut bytes = Vec::with_capacity(REFERENCE_BYTES);
    bytes.push(flag | first);
    let start = from + usize::from(is_odd);
    bytes.extend((start..to).step_by(2).map(|index| nibble(path, index) << 4 | nibble(path, index + 1)));
    let mut item = Vec::with_capacity(REFERENCE_BYTES + 1);
    string(&bytes, &mut item);
    item
}

/// Appends a string.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    if !matches!(bytes, [0..STRING]) {
        head(STRING, bytes.len(), out);
    }
    out.extend_from_slice(bytes);
}

/// A list of items that are encoded already.
fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 3);
    head(LIST, payload.len(), &mut out);
    out.extend_from_slice(payload);
    out
}

/// Appends what stands before the bytes of a string or the items of a list.
fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    if length <= 55 {
        return out.push(kind + length as u8);
    }
    let bytes = length.to_be_bytes();
    let bytes = &bytes[length.leading_zeros() as usize / 8..];
    out.push(kind + 55 + bytes.len() as u8);
    out.extend_from_slice(bytes);
}
