//! Ethereum's scheme: Keccak-256 paths, RLP nodes, nodes of fewer than 32 bytes inside their parents.
//!
//! Source: Ethereum Yellow Paper, appendices B (RLP), C (hex-prefix encoding) and D (the trie).

use alloy_primitives::{B256, U256, b256};

use super::{BranchView, Commitment, LeafView, Payload, Reference};
use crate::{
    hash::keccak256_many,
    trie::{
        nibbles::{Nibbles, PATH_NIBBLES},
        node::Referred,
    },
};

/// Root of the empty trie: the Keccak-256 hash of the RLP of the empty string.
pub(crate) const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

/// What a string's first byte begins at; also the empty string.
const STRING: u8 = 0x80;
/// What a list's first byte begins at.
const LIST: u8 = 0xc0;
/// Strings and lists shorter than this have their length in the first byte.
const SHORT: usize = 56;
/// Sixteen hashes and an empty value.
const MOST_BRANCH_BYTES: usize = 16 * 33 + 1;
/// Longest prefix of fewer than 2^16 bytes.
const MOST_PREFIX_BYTES: usize = 3;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ethereum {
    /// Paths are the keys themselves, so that tests make deep tries of few keys.
    #[cfg(test)]
    pub(crate) plain_paths: bool,
}

impl Commitment for Ethereum {
    fn paths(&self, keys: &[&[u8]]) -> Vec<B256> {
        #[cfg(test)]
        if self.plain_paths {
            return keys.iter().map(|key| B256::left_padding_from(key)).collect();
        }
        let mut paths = Vec::with_capacity(keys.len());
        keccak256_many(keys, &mut paths);
        paths
    }

    fn leaves(&self, leaves: &[LeafView<'_>]) -> Vec<Reference> {
        let mut nodes = Nodes::with_capacity(leaves.len(), 128);
        for leaf in leaves {
            nodes.push(|out| encode_leaf(leaf, out));
        }
        nodes.references()
    }

    fn branches(&self, branches: &[BranchView<'_>]) -> Vec<Reference> {
        let mut nodes = Nodes::with_capacity(branches.len(), 300);
        for branch in branches {
            nodes.push(|out| encode_branch(branch, out));
        }
        let mut references = nodes.references();
        let extended: Vec<usize> = (0..branches.len()).filter(|index| !branches[*index].prefix.is_empty()).collect();
        let mut nodes = Nodes::with_capacity(extended.len(), 70);
        for index in &extended {
            nodes.push(|out| encode_extension(branches[*index].prefix, &references[*index], out));
        }
        for (index, reference) in extended.iter().zip(nodes.references()) {
            references[*index] = reference;
        }
        references
    }

    fn root(&self, top: Option<&Reference>) -> B256 {
        match top {
            None => EMPTY_ROOT,
            Some(reference) => match reference.as_hash() {
                Some(hash) => B256::new(*hash),
                None => alloy_primitives::keccak256(reference.as_bytes()),
            },
        }
    }
}

/// Encoded nodes, one behind the other.
struct Nodes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Nodes {
    fn with_capacity(count: usize, bytes_each: usize) -> Self {
        Self { bytes: Vec::with_capacity(count * bytes_each), ends: Vec::with_capacity(count) }
    }

    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Hashes those that are not embedded, all at once.
    fn references(&self) -> Vec<Reference> {
        let mut start = 0;
        let nodes: Vec<&[u8]> = self
            .ends
            .iter()
            .map(|end| {
                let node = &self.bytes[start..*end];
                start = *end;
                node
            })
            .collect();
        let mut hashes = Vec::with_capacity(nodes.len());
        keccak256_many(&nodes, &mut hashes);
        let reference = |(node, hash): (&&[u8], B256)| {
            if node.len() < 32 { Reference::embedded(node) } else { Reference::hash(hash) }
        };
        nodes.iter().zip(hashes).map(reference).collect()
    }
}

/// Appends a leaf: `[hex-prefix of the rest of the path, value]`.
pub(crate) fn encode_leaf(leaf: &LeafView<'_>, out: &mut Vec<u8>) {
    framed(LIST, out, |out| {
        hex_prefix(&Nibbles::of(leaf.path, leaf.depth, PATH_NIBBLES), true, out);
        framed(STRING, out, |out| match leaf.payload {
            Payload::Slot(number) => integer(number, out),
            Payload::Account(account) => framed(LIST, out, |out| {
                integer(&U256::from(account.nonce), out);
                integer(&account.balance, out);
                string(leaf.storage_root.as_slice(), out);
                string(account.code_hash.as_slice(), out);
            }),
            #[cfg(test)]
            Payload::Raw(bytes) => out.extend_from_slice(bytes),
        });
    });
}

/// Appends a branch: sixteen children and an empty value.
pub(crate) fn encode_branch(branch: &BranchView<'_>, out: &mut Vec<u8>) {
    let mut content = [STRING; MOST_BRANCH_BYTES];
    let mut length = 0;
    for reference in branch.children.references() {
        let rest = &mut content[length..];
        length += match reference {
            Referred::Nothing => 1,
            Referred::Hash(hash) => {
                rest[0] = STRING + 32;
                rest[1..33].copy_from_slice(hash);
                33
            }
            Referred::Node(node) => {
                rest[..node.len()].copy_from_slice(node);
                node.len()
            }
        };
    }
    // Behind the children stands an empty value.
    length += 1;
    list_prefix(length, out);
    out.extend_from_slice(&content[..length]);
}

/// Appends what stands before a list whose contents take so many bytes.
fn list_prefix(length: usize, out: &mut Vec<u8>) {
    match length {
        0..SHORT => out.push(LIST + length as u8),
        SHORT..=0xff => out.extend_from_slice(&[LIST + 0x38, length as u8]),
        _ => {
            debug_assert!(length < 1 << 16, "no node is longer");
            out.extend_from_slice(&[LIST + 0x39, (length >> 8) as u8, length as u8]);
        }
    }
}

/// Appends an extension: `[hex-prefix of the nibbles, reference]`.
pub(crate) fn encode_extension(prefix: &Nibbles, child: &Reference, out: &mut Vec<u8>) {
    framed(LIST, out, |out| {
        hex_prefix(prefix, false, out);
        match child.as_hash() {
            Some(hash) => string(hash, out),
            None => out.extend_from_slice(child.as_bytes()),
        }
    });
}

/// Appends a list, or a string, of what `fill` appends.
fn framed(kind: u8, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; MOST_PREFIX_BYTES]);
    fill(out);
    let content = start + MOST_PREFIX_BYTES;
    let length = out.len() - content;
    let mut prefix = [0; MOST_PREFIX_BYTES];
    let used = match length {
        1 if kind == STRING && out[content] < STRING => 0,
        0..SHORT => {
            prefix[0] = kind + length as u8;
            1
        }
        SHORT..=0xff => {
            prefix[..2].copy_from_slice(&[kind + 0x38, length as u8]);
            2
        }
        _ => {
            debug_assert!(length < 1 << 16, "no node is longer");
            prefix = [kind + 0x39, (length >> 8) as u8, length as u8];
            3
        }
    };
    out[start..start + used].copy_from_slice(&prefix[..used]);
    out.copy_within(content.., start + used);
    out.truncate(start + used + length);
}

/// Appends a string.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        [byte @ 0..STRING] => out.push(*byte),
        _ if bytes.len() < SHORT => {
            out.push(STRING + bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
        _ => framed(STRING, out, |out| out.extend_from_slice(bytes)),
    }
}

/// Appends a number as its bytes without leading zeros.
fn integer(number: &U256, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes::<32>();
    string(&bytes[32 - number.byte_len()..], out);
}

/// Appends nibbles in hex-prefix encoding.
fn hex_prefix(nibbles: &Nibbles, is_leaf: bool, out: &mut Vec<u8>) {
    let mut bytes = [0; 33];
    let odd = nibbles.len() % 2;
    bytes[0] = if is_leaf { 0x20 } else { 0 };
    if odd == 1 {
        bytes[0] |= 0x10 | nibbles.get(0);
    }
    let pairs = nibbles.without_first(odd);
    let length = 1 + pairs.len() / 2;
    bytes[1..length].copy_from_slice(pairs.packed());
    string(&bytes[..length], out);
}
