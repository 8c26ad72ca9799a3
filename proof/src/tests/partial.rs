//! Changes of tries of which only a part is at hand, against an independent trie and a naive one that
//! changes one key at a time. A failing test prints its seed last, on which alone the case depends.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{HashBuilder, Nibbles, proof::ProofRetainer};

use super::{
    Random,
    naive::{Naive, Nodes},
    nibbles,
    tries::{Entries, near, nth_key, random_entries, random_value},
};
use crate::{
    NodePath, Source, WitnessError,
    partial::trie::{Change, PartialTrie},
};

const CASES: u64 = 3_000;
/// Up to so many changes all orders are tried.
const FEW: usize = 4;
/// Of more changes, so many orders.
const ORDERS: usize = 6;

pub(super) type Known = BTreeMap<B256, Bytes>;
type Changes = BTreeMap<B256, Option<Vec<u8>>>;

/// The root of a trie and all its nodes that do not stand inside others, by the oracle.
pub(super) fn all_nodes(entries: &Entries) -> (B256, Known) {
    let targets = entries.keys().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (path, value) in entries {
        builder.add_leaf(Nibbles::unpack(path), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    let long = nodes.into_iter().map(|(_, node)| node).filter(|node| node.len() >= 32);
    (root, long.map(|node| (keccak256(&node), node)).collect())
}

/// Nodes, and which of them were asked for.
struct Asked<'n> {
    known: &'n Known,
    asked: RefCell<BTreeSet<B256>>,
}

impl Source for Asked<'_> {
    type Error = WitnessError;

    fn node(&self, hash: &B256, path: &NodePath) -> Result<Bytes, WitnessError> {
        self.asked.borrow_mut().insert(*hash);
        self.known.get(hash).cloned().ok_or(WitnessError::MissingNode { hash: *hash, path: *path })
    }

    fn code(&self, _hash: &B256) -> Result<Option<Bytes>, WitnessError> {
        Ok(None)
    }
}

/// The root after changes, and the nodes that were asked for.
fn change(known: &Known, root: B256, changes: &Changes) -> Result<(B256, BTreeSet<B256>), WitnessError> {
    let source = Asked { known, asked: RefCell::default() };
    let changes = changes.iter().map(|(path, value)| Change { path: *path, value: value.clone() }).collect();
    let root = PartialTrie { source: &source, account: None, root }.root_after(changes)?;
    Ok((root, source.asked.into_inner()))
}

/// The same one by one, in some order, by the naive trie.
fn change_in_order(
    known: &Known,
    root: B256,
    order: &[(&B256, &Option<Vec<u8>>)],
) -> Result<(B256, BTreeSet<B256>), B256> {
    let (mut trie, mut nodes) = (Naive::of_root(root), Nodes::new(known));
    for (path, value) in order {
        trie = trie.change(&nibbles(path), value.as_deref(), &mut nodes)?;
    }
    Ok((trie.root(), nodes.opened))
}

/// Changes that empty parts of a trie, and set keys beside what is removed.
fn random_changes(entries: &Entries, random: &mut Random) -> Changes {
    let mut changes = Changes::new();
    let most = [1, 2, 3, FEW, 12, 60][random.below(6)];
    if !entries.is_empty() {
        // Of the keys that share some nibbles with one of them, all but a few go.
        let (key, shared) = (nth_key(entries, random), random.below(6));
        let alike = entries.keys().filter(|other| nibbles(other)[..shared] == nibbles(&key)[..shared]);
        let spared = random.below(3);
        changes.extend(alike.skip(spared).take(most).map(|key| (*key, None)));
    }
    for _ in 0..random.below(most + 1) {
        // Often beside what is removed: so that a branch keeps its place, but only if it comes before that.
        let path = match (changes.is_empty(), entries.is_empty()) {
            (false, _) if random.below(2) == 0 => near(&nth_key_of(&changes, random), random),
            (_, false) => near(&nth_key(entries, random), random),
            (_, true) => random.hash(),
        };
        let value = (random.below(3) > 0).then(|| random_value(random));
        changes.insert(path, value);
    }
    if random.below(3) == 0 {
        // Fewer, so that all their orders can be tried.
        while changes.len() > FEW {
            changes.remove(&nth_key_of(&changes, random));
        }
    }
    changes
}

fn nth_key_of(changes: &Changes, random: &mut Random) -> B256 {
    *changes.keys().nth(random.below(changes.len())).expect("an index below their number")
}

/// All orders, or some.
fn orders(changes: &Changes, random: &mut Random) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..changes.len()).collect();
    if all.len() <= FEW {
        return permutations(&all);
    }
    let shuffled = |random: &mut Random| {
        let mut order = all.clone();
        (1..order.len()).rev().for_each(|at| order.swap(at, random.below(at + 1)));
        order
    };
    (0..ORDERS).map(|_| shuffled(random)).collect()
}

fn permutations(all: &[usize]) -> Vec<Vec<usize>> {
    if all.is_empty() {
        return vec![Vec::new()];
    }
    let behind = |first: usize| {
        let others: Vec<usize> = all.iter().copied().filter(|other| *other != first).collect();
        permutations(&others).into_iter().map(move |rest| [vec![first], rest].concat())
    };
    all.iter().flat_map(|first| behind(*first)).collect()
}

fn after(entries: &Entries, changes: &Changes) -> Entries {
    let mut after = entries.clone();
    for (path, value) in changes {
        match value {
            Some(value) => after.insert(*path, value.clone()),
            None => after.remove(path),
        };
    }
    after
}

fn only(known: &Known, hashes: &BTreeSet<B256>) -> Known {
    hashes.iter().map(|hash| (*hash, known[hash].clone())).collect()
}

/// One case; tells which kinds it is of.
fn check(seed: u64) -> [bool; 5] {
    let mut random = Random(seed);
    let entries = random_entries(&mut random);
    let changes = random_changes(&entries, &mut random);
    let (root, known) = all_nodes(&entries);
    let (root_after, _) = all_nodes(&after(&entries, &changes));

    let (got, canonical) = change(&known, root, &changes).expect("all nodes are known");
    assert_eq!(got, root_after, "seed {seed}");
    let listed: Vec<_> = changes.iter().collect();
    let mut inserts_first = listed.clone();
    inserts_first.sort_by_key(|(_, value)| value.is_none());
    let naive = change_in_order(&known, root, &inserts_first);
    assert_eq!(naive, Ok((root_after, canonical.clone())), "seed {seed}: inserts before deletes");

    let mut part = only(&known, &canonical);
    assert_eq!(change(&part, root, &changes).map(|(root, _)| root), Ok(root_after), "seed {seed}");
    for hash in &canonical {
        let node = part.remove(hash).expect("a node of the part");
        match change(&part, root, &changes) {
            Err(WitnessError::MissingNode { hash: missing, .. }) => assert_eq!(missing, *hash, "seed {seed}"),
            other => panic!("seed {seed}: without {hash}: {other:?}"),
        }
        part.insert(*hash, node);
    }

    let removals = changes.iter().filter(|(_, value)| value.is_none()).map(|(path, _)| (*path, None)).collect();
    let (_, removed) = change(&known, root, &removals).expect("all nodes are known");
    let superset: BTreeSet<B256> = canonical.union(&removed).copied().collect();
    let part = only(&known, &superset);
    let mut needed = BTreeSet::new();
    for order in orders(&changes, &mut random) {
        let order: Vec<_> = order.into_iter().map(|index| listed[index]).collect();
        let (got, opened) = change_in_order(&part, root, &order)
            .unwrap_or_else(|hash| panic!("seed {seed}: the superset lacks {hash} in the order {order:?}"));
        assert_eq!(got, root_after, "seed {seed}: {order:?}");
        needed.extend(opened);
    }
    let is_exhaustive = changes.len() <= FEW;
    assert!(!is_exhaustive || needed == superset, "seed {seed}: a node of the superset is needed in no order");
    let is_missed = |hash: &B256| !canonical.contains(hash);
    let proofs: BTreeSet<B256> = changes.keys().flat_map(|path| on_path(&known, root, path)).collect();
    [
        canonical.iter().any(|hash| !proofs.contains(hash)),
        superset.iter().any(is_missed),
        is_exhaustive && superset.iter().any(is_missed),
        after(&entries, &changes).is_empty() && !entries.is_empty(),
        entries.is_empty() && !changes.is_empty(),
    ]
}

/// The nodes on a path, by the naive trie: removing what is not there opens nothing else.
fn on_path(known: &Known, root: B256, path: &B256) -> BTreeSet<B256> {
    let source = Asked { known, asked: RefCell::default() };
    PartialTrie { source: &source, account: None, root }.get(path).expect("all nodes are known");
    source.asked.into_inner()
}

/// Canonical: exactly what inserting before deleting opens. Superset: exactly what some order opens. The root is the oracle's.
#[test]
fn deletions_that_collapse_branches() {
    let mut seen = [0; 5];
    for seed in 0..CASES {
        println!("seed {seed}");
        for (count, is_such) in seen.iter_mut().zip(check(seed)) {
            *count += u32::from(is_such);
        }
    }
    println!("[sibling off all paths, superset larger, the same in all orders, emptied, begun anew]: {seen:?}");
    assert!(seen.iter().all(|&count| count > 50), "a kind of case is too rare: {seen:?}");
}

/// What is read of a part is what the oracle's trie holds, present or absent.
#[test]
fn what_a_part_holds_is_read() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let entries = random_entries(&mut random);
        let (root, known) = all_nodes(&entries);
        let source = Asked { known: &known, asked: RefCell::default() };
        let trie = PartialTrie { source: &source, account: None, root };
        for path in super::tries::random_paths(&entries, &mut random) {
            assert_eq!(trie.get(&path), Ok(entries.get(&path).cloned()), "seed {seed}: {path}");
        }
    }
}

/// Gives any node for any hash: nodes of honest tries, most with changed bytes.
struct Stranger {
    nodes: Vec<Bytes>,
    random: RefCell<Random>,
}

impl Source for Stranger {
    type Error = WitnessError;

    fn node(&self, _hash: &B256, _path: &NodePath) -> Result<Bytes, WitnessError> {
        let random = &mut *self.random.borrow_mut();
        let mut node = self.nodes[random.below(self.nodes.len())].to_vec();
        for _ in 0..random.below(3) {
            let place = random.below(node.len());
            node[place] = random.byte();
        }
        Ok(node.into())
    }

    fn code(&self, _hash: &B256) -> Result<Option<Bytes>, WitnessError> {
        Ok(None)
    }
}

/// Whatever the nodes are, reading and changing them comes to an end, in an answer or an error.
#[test]
fn nodes_of_a_stranger_lead_to_an_end() {
    let mut seen = [0; 4];
    for seed in 0..CASES {
        println!("seed {seed}");
        let mut random = Random(seed);
        let entries = random_entries(&mut random);
        let (_, known) = all_nodes(&entries);
        if known.is_empty() {
            continue;
        }
        let changes = random_changes(&entries, &mut random);
        let source = Stranger { nodes: known.into_values().collect(), random: RefCell::new(random) };
        let trie = PartialTrie { source: &source, account: None, root: B256::repeat_byte(1) };
        for path in changes.keys() {
            seen[usize::from(trie.get(path).is_ok())] += 1;
        }
        let changes = changes.into_iter().map(|(path, value)| Change { path, value }).collect();
        seen[2 + usize::from(trie.root_after(changes).is_ok())] += 1;
    }
    println!("[reads refused, answered, changes refused, made]: {seen:?}");
    assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
}
