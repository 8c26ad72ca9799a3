//! Changed proofs: refused, or proving the same; and never accepted where the oracle refuses.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};

use super::{
    super::{ProofError, verify_path},
    Random,
    oracle::proofs,
    tries::{Opinion, PathProof, opinion, oracle},
};

/// Changed proofs in the differential test.
const MUTATIONS: u64 = 250_000;

/// Every truncation, of the list and of every node, is refused.
#[test]
fn every_truncation_is_refused() {
    let (mut number, mut cuts) = (0, 0);
    for proof in proofs(5_000..5_040) {
        let PathProof { root, path, mut nodes, .. } = proof;
        number += 1;
        for count in 0..nodes.len() {
            assert!(verify_path(root, &path, &nodes[..count]).is_err(), "{count} nodes: {nodes:?}");
        }
        for index in 0..nodes.len() {
            let whole = nodes[index].clone();
            for length in 0..whole.len() {
                nodes[index] = whole.slice(..length);
                assert!(verify_path(root, &path, &nodes).is_err(), "node {index} cut to {length}: {whole:?}");
                cuts += 1;
            }
            nodes[index] = whole;
        }
    }
    println!("{number} proofs, {cuts} cuts");
    assert!(number > 300);
}

/// Every byte, set to a random other value, makes the proof void.
#[test]
fn every_changed_byte_is_refused() {
    let (mut number, mut changes) = (0, 0);
    for seed in 0..3 {
        let mut random = Random(seed);
        for proof in proofs(6_000 + 25 * seed..6_025 + 25 * seed) {
            let PathProof { root, path, mut nodes, .. } = proof;
            number += 1;
            for index in 0..nodes.len() {
                let sound = nodes[index].clone();
                for place in 0..sound.len() {
                    let mut bytes = sound.to_vec();
                    bytes[place] = random.other(bytes[place]);
                    nodes[index] = bytes.into();
                    let verdict = verify_path(root, &path, &nodes);
                    assert!(verdict.is_err(), "seed {seed}, byte {place} of node {index}: {nodes:?}");
                    changes += 1;
                }
                nodes[index] = sound;
            }
        }
    }
    println!("{number} proofs, {changes} changed bytes");
    assert!(number > 500);
}

/// Whatever is accepted, the oracle accepts with the same value. Where the oracle alone accepts, it is counted by reason.
#[test]
fn nothing_is_accepted_that_the_oracle_refuses() {
    let pool: Vec<PathProof> = proofs(7_000..7_400).into_iter().filter(|proof| !proof.nodes.is_empty()).collect();
    let (mut accepted, mut changed, mut panics) = (0, 0, 0);
    let (mut refused, mut stricter) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let PathProof { root, path, nodes, value, .. } = mutate(&pool, &mut random);
        match verify_path(root, &path, &nodes) {
            Ok(proven) => {
                assert!(oracle(root, &path, proven, &nodes), "seed {seed}: the oracle refuses {root} {path} {nodes:?}");
                accepted += 1;
                changed += u32::from(proven != value.as_deref());
            }
            Err(error) => {
                let reason = reason(&error);
                // Here the oracle may panic, which takes long.
                let is_long = ["LeafDepth", "TooDeep"].contains(&&reason[..]);
                match if is_long { Opinion::Refuses } else { opinion(root, &path, &nodes) } {
                    Opinion::Accepts => *stricter.entry(reason.clone()).or_default() += 1,
                    Opinion::Panics => panics += 1,
                    Opinion::Refuses => {}
                }
                *refused.entry(reason).or_default() += 1;
            }
        }
    }
    println!("{MUTATIONS} mutations of {} proofs: {accepted} accepted, {changed} of them of another value", pool.len());
    println!(
        "refused: {refused:#?}\nof these, accepted by the oracle: {stricter:#?}\nthe oracle panics {panics} times"
    );
    assert!(changed > 1_000, "too few changes got past the hashes");
    assert!(refused.len() > 20, "too few reasons were met");
}

/// The names of the error and of what it wraps, without what it tells.
fn reason(error: &ProofError) -> String {
    let text = match error {
        ProofError::Node { source, .. } => format!("{source:?}"),
        other => format!("{other:?}"),
    };
    text.split([' ', '{']).next().unwrap_or_default().to_string()
}

/// A proof with one to three changes. Most changed nodes get past the hashes: what names them is changed as well.
fn mutate(pool: &[PathProof], random: &mut Random) -> PathProof {
    let mut proof = pool[random.below(pool.len())].clone();
    for _ in 0..1 + random.below(3) {
        let other = &pool[random.below(pool.len())];
        match random.below(8) {
            0 => rearrange(&mut proof, other, random),
            1 => proof.path = [other.path, random.hash()][random.below(2)],
            _ => change_node(&mut proof, other, random),
        }
        if proof.nodes.is_empty() {
            break;
        }
    }
    proof
}

/// Drops, swaps, repeats and splices nodes.
fn rearrange(proof: &mut PathProof, other: &PathProof, random: &mut Random) {
    let count = proof.nodes.len();
    let (first, second) = (random.below(count), random.below(count));
    let spliced = other.nodes[random.below(other.nodes.len())].clone();
    match random.below(8) {
        0 => drop(proof.nodes.remove(first)),
        1 => proof.nodes.swap(first, second),
        2 => proof.nodes.insert(second, proof.nodes[first].clone()),
        3 => proof.nodes.insert(first, spliced),
        4 => proof.nodes[first] = spliced,
        5 => proof.nodes.truncate(first),
        6 => proof.nodes.extend_from_slice(&other.nodes),
        _ => proof.root = other.root,
    }
}

/// Changes the bytes of one node.
fn change_node(proof: &mut PathProof, other: &PathProof, random: &mut Random) {
    let index = random.below(proof.nodes.len());
    let mut bytes = proof.nodes[index].to_vec();
    if bytes.is_empty() {
        return;
    }
    // What tells the structure is at the start of a node, where a change does more than to a hash.
    let limit = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(6) };
    let place = random.below(limit);
    match random.below(8) {
        0..3 => bytes[place] ^= 1 << random.below(8),
        3 => bytes[place] = random.other(bytes[place]),
        4 => bytes[place] = [0x00, 0x20, 0x7f, 0x80, 0x81, 0xa0, 0xb8, 0xc0, 0xf8][random.below(9)],
        5 => replace_item(&mut bytes, other, random),
        6 => bytes.truncate(place),
        _ => bytes.insert(place, random.byte()),
    }
    let honest = std::mem::replace(&mut proof.nodes[index], bytes.into());
    if random.below(4) > 0 {
        name_anew(proof, index, keccak256(honest));
    }
}

/// Puts another item in the place of one of the node's, and makes the list's head fit.
fn replace_item(bytes: &mut Vec<u8>, other: &PathProof, random: &mut Random) {
    let Some(mut items) = split(bytes) else { return };
    let index = random.below(items.len());
    let donor = split(&other.nodes[random.below(other.nodes.len())]).unwrap_or_default();
    match random.below(8) {
        0 => drop(items.remove(index)),
        1 => items.insert(index, items[index].clone()),
        2 => items[index] = vec![0x80],
        3 => items[index] = vec![random.below(0x80) as u8],
        4 => items[index] = super::leaf(&[], &[random.byte()]),
        5 => items[index] = super::extension(&vec![0; random.below(4)], &super::leaf(&[], &[1])),
        6 => items[index] = super::branch(&[(0, &super::leaf(&[], &[1])), (random.below(16), &super::leaf(&[], &[2]))]),
        _ if donor.is_empty() => {}
        _ => items[index] = donor[random.below(donor.len())].clone(),
    }
    *bytes = super::list(&items);
}

/// The encoded items of a node, if it has any.
fn split(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = super::super::rlp::Item::only(bytes).ok()?.list().ok()?;
    let mut items = Vec::new();
    while !list.is_finished() {
        items.push(list.item().ok()?.encoded.to_vec());
    }
    (!items.is_empty()).then_some(items)
}

/// Lets the parent of a changed node name it by its new hash, and so on up to the root.
fn name_anew(proof: &mut PathProof, changed: usize, mut old: B256) {
    for index in (0..changed).rev() {
        let new = keccak256(&proof.nodes[index + 1]);
        let mut parent = proof.nodes[index].to_vec();
        let Some(place) = parent.windows(32).position(|bytes| bytes == old) else { return };
        parent[place..place + 32].copy_from_slice(new.as_slice());
        old = keccak256(std::mem::replace(&mut proof.nodes[index], Bytes::from(parent)));
    }
    proof.root = keccak256(&proof.nodes[0]);
}
