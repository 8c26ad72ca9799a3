//! What nodes say under a root, whoever made them: read in the plainest way, by another reader of RLP, and without asking whether
//! an honest trie could look like that.

use std::collections::HashMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Header;

use super::trie::{Claim, Proof};
use crate::naive_trie;

/// Nodes that are read at most: changed ones may lead to each other.
const MOST_NODES: usize = 4_096;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading<'p> {
    /// Nibbles and values.
    leaves: Vec<(Vec<u8>, &'p [u8])>,
    /// What the nodes only name: the nibbles that lead there, and its hash.
    hidden: Vec<(Vec<u8>, B256)>,
    /// The nibbles that lead to the nodes given.
    given: Vec<(Vec<u8>, &'p Bytes)>,
}

impl<'p> Reading<'p> {
    /// Reads what can be reached from the root; `None` where something cannot be read.
    pub(super) fn of(proof: &'p Proof) -> Option<Self> {
        let by_hash: HashMap<B256, &'p Bytes> = proof.nodes.iter().map(|node| (keccak256(node), node)).collect();
        let mut reading = Self::default();
        let is_empty = proof.root == naive_trie::root([] as [(B256, Vec<u8>); 0]);
        let mut waiting = if is_empty { Vec::new() } else { vec![(Vec::new(), Reference::Hash(proof.root))] };
        for _ in 0..MOST_NODES {
            let Some((prefix, reference)) = waiting.pop() else { return Some(reading) };
            let node: &'p [u8] = match reference {
                Reference::Node(node) => node,
                Reference::Hash(hash) => match by_hash.get(&hash) {
                    Some(node) => {
                        reading.given.push((prefix.clone(), node));
                        node
                    }
                    None => {
                        reading.hidden.push((prefix, hash));
                        continue;
                    }
                },
            };
            reading.node(prefix, node, &mut waiting)?;
        }
        None
    }

    fn node(&mut self, prefix: Vec<u8>, node: &'p [u8], waiting: &mut Vec<(Vec<u8>, Reference<'p>)>) -> Option<()> {
        let items = items(node)?;
        match items[..] {
            [path, end] => {
                let (flag, nibbles) = nibbles(string(path)?)?;
                let prefix = [prefix, nibbles].concat();
                if flag >= 2 {
                    self.leaves.push((prefix, string(end)?));
                } else {
                    waiting.extend(reference(end)?.map(|end| (prefix, end)));
                }
            }
            _ if items.len() == 17 => {
                for (nibble, child) in (0..16).zip(items) {
                    waiting.extend(reference(child)?.map(|child| ([&prefix[..], &[nibble]].concat(), child)));
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether all that is claimed follows.
    pub(super) fn says(&self, claim: &Claim) -> bool {
        match claim {
            Claim::Paths(claimed) => claimed.iter().all(|(path, value)| {
                let path = unpacked(path);
                let held = self.leaves.iter().find(|(own, _)| *own == path).map(|(_, value)| *value);
                held == value.as_deref() && !self.hidden.iter().any(|(prefix, _)| path.starts_with(prefix))
            }),
            Claim::Range { from, to, entries } => self.says_range(&unpacked(from), &unpacked(to), entries),
        }
    }

    fn says_range(&self, from: &[u8], to: &[u8], entries: &[(B256, Vec<u8>)]) -> bool {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            entries.iter().map(|(path, value)| (unpacked(path), value.clone())).collect();
        if from > to || !entries.is_sorted_by(|one, other| one.0 < other.0) {
            return false;
        }
        let mut explained = 0;
        for (path, value) in self.leaves.iter().filter(|(path, _)| from <= &path[..] && &path[..] <= to) {
            if !entries.iter().any(|(own, held)| own == path && held == value) {
                return false;
            }
            explained += 1;
        }
        for (prefix, hash) in &self.hidden {
            let end =
                |filler| -> Vec<u8> { prefix.iter().copied().chain(std::iter::repeat(filler)).take(64).collect() };
            let (first, last) = (end(0), end(15));
            if &last[..] < from || &first[..] > to {
                continue;
            }
            let below: Vec<_> = entries.iter().filter(|(path, _)| path.starts_with(prefix)).cloned().collect();
            let is_inside = from <= &first[..] && &last[..] <= to;
            if !is_inside || below.is_empty() || keccak256(naive_trie::structure(&below, prefix.len())) != *hash {
                return false;
            }
            explained += below.len();
        }
        explained == entries.len()
    }

    /// The nodes given that are on a path, from the root on.
    pub(super) fn on_path(&self, path: &B256) -> Vec<Bytes> {
        let path = unpacked(path);
        let mut on_path: Vec<_> = self.given.iter().filter(|(prefix, _)| path.starts_with(prefix)).collect();
        on_path.sort_by_key(|(prefix, _)| prefix.len());
        on_path.into_iter().map(|(_, node)| Bytes::clone(node)).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Reference<'p> {
    Hash(B256),
    Node(&'p [u8]),
}

/// What an item refers to, if anything; `None` if that cannot be told.
fn reference(item: &[u8]) -> Option<Option<Reference<'_>>> {
    match item {
        [0x80] => Some(None),
        [0xc0..=0xff, ..] => Some(Some(Reference::Node(item))),
        [0xa0, hash @ ..] => Some(Some(Reference::Hash(B256::try_from(hash).ok()?))),
        _ => None,
    }
}

fn unpacked(path: &B256) -> Vec<u8> {
    path.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

/// The flag and the nibbles of a path in hex-prefix.
fn nibbles(bytes: &[u8]) -> Option<(u8, Vec<u8>)> {
    let all: Vec<u8> = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let (&flag, rest) = all.split_first()?;
    Some((flag, rest.get(usize::from(flag % 2 == 0)..)?.to_vec()))
}

/// The bytes of a string.
fn string(mut item: &[u8]) -> Option<&[u8]> {
    Header::decode_bytes(&mut item, false).ok()
}

/// The items of a list, each with its head.
fn items(mut node: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = Header::decode_bytes(&mut node, true).ok()?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let mut behind = rest;
        let header = Header::decode(&mut behind).ok()?;
        let end = rest.len() - behind.get(header.payload_length..)?.len();
        let (item, others) = rest.split_at(end);
        items.push(item);
        rest = others;
    }
    Some(items)
}
