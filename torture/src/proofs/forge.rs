//! Changes to a proof: to its nodes, most of which get past the hashes, and to what it claims.

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::Header;

use super::trie::{Claim, Entries, Proof, near_some};
use crate::{naive_trie, random::Random};

/// A proof with one to three changes; `donor` gives parts, `entries` keys to be near of.
pub(super) fn forge(proof: &mut Proof, donor: &Proof, entries: &Entries, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        match random.below(8) {
            0 => rearrange(proof, donor, random),
            1..4 => change_claim(&mut proof.claim, donor, entries, random),
            _ => change_node(proof, donor, random),
        }
    }
}

/// Some place in a list.
fn some<T>(list: &[T], random: &mut Random) -> Option<usize> {
    (!list.is_empty()).then(|| random.below(list.len() as u64) as usize)
}

/// Drops, swaps, repeats and splices nodes.
fn rearrange(proof: &mut Proof, donor: &Proof, random: &mut Random) {
    let spliced = some(&donor.nodes, random).map(|index| donor.nodes[index].clone());
    let (Some(first), Some(second)) = (some(&proof.nodes, random), some(&proof.nodes, random)) else {
        proof.nodes.extend(spliced);
        return;
    };
    match (random.below(8), spliced) {
        (0, _) => drop(proof.nodes.remove(first)),
        (1, _) => proof.nodes.swap(first, second),
        (2, _) => proof.nodes.insert(second, proof.nodes[first].clone()),
        (3, Some(node)) => proof.nodes.insert(first, node),
        (4, Some(node)) => proof.nodes[first] = node,
        (5, _) => proof.nodes.truncate(first),
        (6, _) => proof.nodes.extend_from_slice(&donor.nodes),
        _ => proof.root = donor.root,
    }
}

/// Says something else: another value, another key, one more or one less, other ends.
fn change_claim(claim: &mut Claim, donor: &Proof, entries: &Entries, random: &mut Random) {
    let path = near_some(entries, random);
    match claim {
        Claim::Paths(claimed) => {
            let Some(index) = some(claimed, random) else { return };
            match random.below(6) {
                0 => claimed[index].1 = other_value(claimed[index].1.take(), random),
                1 => claimed[index].0 = path,
                2 => drop(claimed.remove(index)),
                3 => claimed.insert(index, (path, entries.get(&path).cloned())),
                4 => claimed.swap(0, index),
                _ => claimed.insert(index, claimed[index].clone()),
            }
        }
        Claim::Range { from, to, entries: claimed } => match (random.below(9), some(claimed, random)) {
            (0, Some(index)) => {
                claimed[index].1 = other_value(Some(claimed[index].1.clone()), random).unwrap_or_default();
            }
            (1, Some(index)) => drop(claimed.remove(index)),
            (2, Some(index)) => claimed[index].0 = path,
            (3, Some(index)) => claimed.swap(0, index),
            (4, _) => {
                let place = claimed.partition_point(|(own, _)| *own < path);
                claimed.insert(place, (path, entries.get(&path).cloned().unwrap_or_else(|| vec![1])));
            }
            (5, _) => *from = other_end(*from, path, random),
            (6, _) => *to = other_end(*to, path, random),
            (7, _) => {
                if let Claim::Range { entries, .. } = &donor.claim {
                    claimed.clone_from(entries);
                }
            }
            _ => {
                let half = claimed.len() / 2;
                claimed.truncate(half);
            }
        },
    }
}

fn other_value(value: Option<Vec<u8>>, random: &mut Random) -> Option<Vec<u8>> {
    match (value, random.below(3)) {
        (Some(mut value), 0..2) => {
            let index = some(&value, random)?;
            value[index] ^= 1 << random.below(8);
            Some(value)
        }
        (Some(_), _) => None,
        (None, _) => Some(vec![1]),
    }
}

fn other_end(end: B256, path: B256, random: &mut Random) -> B256 {
    let number = U256::from_be_bytes(end.0);
    match random.below(4) {
        0 => number.saturating_add(U256::ONE).into(),
        1 => number.saturating_sub(U256::ONE).into(),
        2 => path,
        _ => [B256::ZERO, B256::repeat_byte(0xff)][random.below(2) as usize],
    }
}

/// Changes the bytes of one node; mostly those above name it anew, up to the root.
fn change_node(proof: &mut Proof, donor: &Proof, random: &mut Random) {
    let Some(index) = some(&proof.nodes, random) else { return };
    let mut bytes = proof.nodes[index].to_vec();
    // What tells the structure is at the start of a node, where a change does more than to a hash.
    let limit = if random.one_in(2) { bytes.len() } else { bytes.len().min(6) };
    let Some(place) = some(&bytes[..limit], random) else { return };
    match random.below(8) {
        0..3 => bytes[place] ^= 1 << random.below(8),
        3 => bytes[place] ^= 1 + random.below(255) as u8,
        4 => bytes[place] = [0x00, 0x20, 0x7f, 0x80, 0x81, 0xa0, 0xb8, 0xc0, 0xf8][random.below(9) as usize],
        5 => replace_item(&mut bytes, donor, random),
        6 => bytes.truncate(place),
        _ => bytes.insert(place, random.next() as u8),
    }
    let old = keccak256(std::mem::replace(&mut proof.nodes[index], bytes.into()));
    if !random.one_in(4) {
        name_anew(proof, index, old);
    }
}

/// Puts another item in the place of one of the node's, and makes the list's head fit.
fn replace_item(bytes: &mut Vec<u8>, donor: &Proof, random: &mut Random) {
    let mut items = split(bytes);
    let Some(index) = some(&items, random) else { return };
    let others = some(&donor.nodes, random).map(|node| split(&donor.nodes[node])).unwrap_or_default();
    let leaf = |byte| naive_trie::list(&[vec![0x20], vec![byte]]);
    match (random.below(7), some(&others, random)) {
        (0, _) => drop(items.remove(index)),
        (1, _) => items.insert(index, items[index].clone()),
        (2, _) => items[index] = vec![0x80],
        (3, _) => items[index] = vec![random.below(0x80) as u8],
        (4, _) => items[index] = leaf(random.next() as u8 & 0x7f),
        (5, _) => items[index] = naive_trie::list(&[vec![0x10 | random.below(16) as u8], leaf(1)]),
        (_, Some(other)) => items[index].clone_from(&others[other]),
        (_, None) => {}
    }
    *bytes = naive_trie::list(&items);
}

/// The encoded items of a node, as far as there are any.
fn split(node: &[u8]) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut rest = node;
    let Ok(mut rest) = Header::decode_bytes(&mut rest, true) else { return items };
    while !rest.is_empty() {
        let mut behind = rest;
        let Ok(header) = Header::decode(&mut behind) else { return items };
        let (item, others) = rest.split_at(rest.len() - behind.len() + header.payload_length);
        items.push(item.to_vec());
        rest = others;
    }
    items
}

/// Lets whatever named the changed node by its old hash name it by its new one, and so on up to the root.
fn name_anew(proof: &mut Proof, mut changed: usize, mut old: B256) {
    while old != proof.root {
        let new = keccak256(&proof.nodes[changed]);
        let names = |node: &[u8]| node.windows(32).position(|bytes| bytes == old);
        let Some((parent, place)) = (0..changed).rev().find_map(|at| Some((at, names(&proof.nodes[at])?))) else {
            return;
        };
        let mut bytes = proof.nodes[parent].to_vec();
        bytes[place..place + 32].copy_from_slice(new.as_slice());
        old = keccak256(std::mem::replace(&mut proof.nodes[parent], bytes.into()));
        changed = parent;
    }
    proof.root = keccak256(&proof.nodes[changed]);
}
