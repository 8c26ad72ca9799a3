//! A trie whose keys, root and nodes are all known, and what is claimed of it.
//!
//! The root is computed twice, by `alloy-trie` and by a naive trie; the nodes are those of `alloy-trie`.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};
use alloy_trie::{HashBuilder, Nibbles, proof::ProofRetainer};
use metisdb::proof::{ProofError, verify_paths, verify_range};

use crate::{naive_trie, random::Random};

/// Nodes shorter than this stand inside their parents.
const EMBEDDED_BELOW: usize = 32;

/// The keys of a trie, and their values.
pub(super) type Entries = BTreeMap<B256, Vec<u8>>;

/// A trie, with every node.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    pub(super) entries: Entries,
    pub(super) root: B256,
    /// The first and last path that begin like those below a node, and the node, in the order of a proof.
    nodes: Vec<(B256, B256, Bytes)>,
}

/// What is said of a trie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// What it holds at some paths.
    Paths(Vec<(B256, Option<Vec<u8>>)>),
    /// All that it holds in a range.
    Range { from: B256, to: B256, entries: Vec<(B256, Vec<u8>)> },
}

/// A claim, and what is to prove it.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) root: B256,
    pub(super) claim: Claim,
    pub(super) nodes: Vec<Bytes>,
}

impl Trie {
    /// The trie of these entries.
    pub(super) fn new(entries: Entries) -> Self {
        let targets = entries.keys().map(Nibbles::unpack).collect();
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
        for (path, value) in &entries {
            builder.add_leaf(Nibbles::unpack(path), value);
        }
        let root = builder.root();
        assert_eq!(root, naive_trie::root(&entries), "two tries of the same keys");
        let all = builder.take_proof_nodes().into_nodes_sorted().into_iter();
        let hashed = all.filter(|(_, node)| node.len() >= EMBEDDED_BELOW);
        let nodes = hashed.map(|(prefix, node)| {
            let prefix: Vec<u8> = prefix.iter().collect();
            (filled(&prefix, 0), filled(&prefix, 15), node)
        });
        Self { nodes: nodes.collect(), root, entries }
    }

    /// Some keys, most of them near each other, so that few make long prefixes and nodes inside their parents.
    pub(super) fn random(random: &mut Random) -> Self {
        let count = [1, 2, 3, 6, 12, 40][random.below(6) as usize];
        let is_clustered = random.below(3) > 0;
        let mut entries = Entries::new();
        for _ in 0..count {
            let path = if is_clustered { near_some(&entries, random) } else { B256::from(random.wide()) };
            entries.insert(path, value(random));
        }
        Self::new(entries)
    }

    /// What is so, and its proof: at some paths.
    pub(super) fn prove_paths(&self, mut paths: Vec<B256>) -> Proof {
        paths.sort_unstable();
        paths.dedup();
        let nodes = self.listed(|first, last| {
            let next = paths.partition_point(|path| *path < first);
            paths.get(next).is_some_and(|path| *path <= last)
        });
        let claim = Claim::Paths(paths.into_iter().map(|path| (path, self.entries.get(&path).cloned())).collect());
        Proof { root: self.root, claim, nodes }
    }

    /// The same in a range.
    pub(super) fn prove_range(&self, from: B256, to: B256) -> Proof {
        let entries = self.entries.range(from..=to).map(|(path, value)| (*path, value.clone())).collect();
        let nodes = self.listed(|first, last| {
            let is_inside = from <= first && last <= to;
            first <= to && from <= last && !is_inside
        });
        Proof { root: self.root, claim: Claim::Range { from, to, entries }, nodes }
    }

    fn listed(&self, is_wanted: impl Fn(B256, B256) -> bool) -> Vec<Bytes> {
        self.nodes.iter().filter(|(first, last, _)| is_wanted(*first, *last)).map(|(.., node)| node.clone()).collect()
    }

    /// Whether a proof is the one that there is of a claim that is true.
    pub(super) fn is_honest(&self, proof: &Proof) -> bool {
        let own = match &proof.claim {
            Claim::Paths(claimed) => {
                let paths: Vec<B256> = claimed.iter().map(|(path, _)| *path).collect();
                self.prove_paths(paths)
            }
            Claim::Range { from, to, .. } if from > to => return false,
            Claim::Range { from, to, .. } => self.prove_range(*from, *to),
        };
        proof.root == self.root && own.claim == proof.claim && own.nodes == proof.nodes
    }
}

impl Proof {
    /// What the product says of it.
    pub(super) fn verify(&self) -> Result<(), Refusal> {
        match &self.claim {
            Claim::Range { from, to, entries } => {
                verify_range(self.root, *from..=*to, entries, &self.nodes).map_err(Refusal::Proof)
            }
            Claim::Paths(claimed) => {
                let paths: Vec<B256> = claimed.iter().map(|(path, _)| *path).collect();
                let proven = verify_paths(self.root, &paths, &self.nodes).map_err(Refusal::Proof)?;
                let is_so = proven.iter().zip(claimed).all(|(proven, (_, claimed))| *proven == claimed.as_deref());
                if is_so { Ok(()) } else { Err(Refusal::Value) }
            }
        }
    }
}

/// Why a proof is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    Proof(ProofError),
    /// The nodes prove another value.
    Value,
}

/// A path with such a beginning.
fn filled(prefix: &[u8], filler: u8) -> B256 {
    B256::new(std::array::from_fn(|index| {
        let nibble = |at: usize| prefix.get(at).copied().unwrap_or(filler);
        nibble(2 * index) << 4 | nibble(2 * index + 1)
    }))
}

/// A key that shares a beginning with one that there is, often all but the last nibbles.
pub(super) fn near_some(entries: &Entries, random: &mut Random) -> B256 {
    let Some(some) = entries.keys().nth(random.below(entries.len().max(1) as u64) as usize) else {
        return B256::from(random.wide());
    };
    let mut path = *some;
    let place = [random.below(32), 31 - random.below(2), random.below(2)][random.below(3) as usize] as usize;
    path[place] ^= [random.next() as u8, 1 << random.below(8), 0][random.below(3) as usize];
    if random.one_in(4) {
        let rest = random.wide().to_be_bytes::<32>();
        path[place..].copy_from_slice(&rest[place..]);
    }
    path
}

/// From one byte to an account's length.
fn value(random: &mut Random) -> Vec<u8> {
    let length = [1, 1 + random.below(8), 32, 1 + random.below(110)][random.below(4) as usize];
    let byte = random.next() as u8 | 1;
    (0..length).map(|index| byte.wrapping_add((index as u8).wrapping_mul(3))).collect()
}
