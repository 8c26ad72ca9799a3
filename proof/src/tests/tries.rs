//! Tries and proofs made by an independent implementation (`alloy-trie`), and its verdict on proofs.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{
    HashBuilder, Nibbles,
    proof::{ProofRetainer, verify_proof},
};

use super::{Random, nibbles};

/// The keys of a trie, and their values.
pub(super) type Entries = BTreeMap<B256, Vec<u8>>;

/// A proof of one path, and what it proves.
#[derive(Clone, Debug)]
pub(super) struct PathProof {
    pub(super) root: B256,
    pub(super) path: B256,
    pub(super) nodes: Vec<Bytes>,
    /// The value that the trie holds there.
    pub(super) value: Option<Vec<u8>>,
    /// Whether a node on the path stands inside its parent.
    pub(super) is_embedded: bool,
}

/// The root of a trie, and the proofs of the paths given.
pub(super) fn prove(entries: &Entries, paths: &[B256]) -> (B256, Vec<PathProof>) {
    let targets = paths.iter().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (path, value) in entries {
        builder.add_leaf(Nibbles::unpack(path), value);
    }
    let root = builder.root();
    let retained = builder.take_proof_nodes();
    let prove = |path: &B256| {
        let all = retained.matching_nodes_sorted(&Nibbles::unpack(path));
        let nodes: Vec<Bytes> = all.iter().map(|(_, node)| node.clone()).filter(|node| node.len() >= 32).collect();
        let is_embedded = !entries.is_empty() && nodes.len() < all.len();
        PathProof { root, path: *path, nodes, value: entries.get(path).cloned(), is_embedded }
    };
    (root, paths.iter().map(prove).collect())
}

/// Whether the oracle accepts the nodes as a proof of that value, or of absence.
pub(super) fn oracle(root: B256, path: &B256, value: Option<&[u8]>, nodes: &[Bytes]) -> bool {
    verify_proof(root, Nibbles::unpack(path), value.map(<[u8]>::to_vec), nodes).is_ok()
}

/// Random keys and values, in a number and of a structure that depend on the seed alone.
pub(super) fn random_entries(random: &mut Random) -> Entries {
    let count = [0, 1, 2, 3, 8, 40, 300][random.below(7)];
    let structured = random.below(3) > 0;
    let mut entries = Entries::new();
    for _ in 0..count {
        let neighbour = (!entries.is_empty() && structured).then(|| nth_key(&entries, random));
        let path = match neighbour {
            Some(neighbour) => near(&neighbour, random),
            None => random.hash(),
        };
        entries.insert(path, random_value(random));
    }
    entries
}

/// Keys of the trie, and keys that part from it at all kinds of places.
pub(super) fn random_paths(entries: &Entries, random: &mut Random) -> Vec<B256> {
    let mut paths: Vec<B256> = (0..2).map(|_| random.hash()).collect();
    for _ in 0..entries.len().min(6) {
        let key = nth_key(entries, random);
        paths.extend([key, near(&key, random)]);
    }
    paths
}

pub(super) fn nth_key(entries: &Entries, random: &mut Random) -> B256 {
    entries.keys().copied().nth(random.below(entries.len())).expect("an index below their number")
}

/// A key that shares a prefix with the one given, often all but the last nibbles, and sometimes the rest but for one nibble.
pub(super) fn near(key: &B256, random: &mut Random) -> B256 {
    let place = [random.below(64), 64 - 1 - random.below(4), random.below(4)][random.below(3)];
    let mut all = nibbles(key);
    let end = if random.below(2) == 0 { place + 1 } else { 64 };
    for nibble in &mut all[place..end] {
        *nibble = random.below(16) as u8;
    }
    B256::from_slice(&all.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>())
}

/// Values from one byte to an account's length; short ones make embedded nodes.
pub(super) fn random_value(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => vec![1 + random.below(255) as u8],
        1 => (0..1 + random.below(8)).map(|_| random.byte()).collect(),
        2 => (0..1 + random.below(110)).map(|_| random.byte()).collect(),
        _ => keccak256(random.next().to_be_bytes()).to_vec(),
    }
}
