//! Proofs of many paths and of ranges: honest ones with changes, and nodes of a stranger's making.

use std::{collections::BTreeMap, ops::RangeInclusive};

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{HashBuilder, Nibbles, proof::ProofRetainer};
use arbitrary::{Result, Unstructured};

use super::{EMBEDDED_BELOW, MOST, change, near_one, some_entries};
use crate::{verify_paths, verify_range};

type Entries = BTreeMap<B256, Vec<u8>>;

/// Some entries, and a proof of some paths or of a range; whatever is made of it, what is accepted is that, or as true.
pub fn proofs(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let _ = match input.int_in_range(0..=1) {
        Ok(0) => changed_paths(&mut input),
        _ => changed_range(&mut input),
    };
}

fn changed_paths(input: &mut Unstructured<'_>) -> Result<()> {
    let entries = some_entries(input)?;
    let mut paths: Vec<B256> =
        (0..input.int_in_range(0..=MOST)?).map(|_| near_one(input, &entries)).collect::<Result<_>>()?;
    paths.sort_unstable();
    paths.dedup();
    let is_wanted = |first: &B256, last: &B256| paths.iter().any(|path| first <= path && path <= last);
    let (root, honest) = listed(&entries, is_wanted);
    let values: Vec<Option<&[u8]>> = paths.iter().map(|path| entries.get(path).map(Vec::as_slice)).collect();
    assert_eq!(verify_paths(root, &paths, &honest), Ok(values), "{paths:?} under {root}: {honest:?}");
    let (mut nodes, mut named) = (honest.clone(), root);
    for _ in 0..input.int_in_range(1..=MOST)? {
        change(input, &mut nodes, &mut named)?;
    }
    let verdict = verify_paths(named, &paths, &nodes);
    assert!(named != root || verdict.is_err() || nodes == honest, "two proofs of {paths:?} under {root}: {nodes:?}");
    Ok(())
}

fn changed_range(input: &mut Unstructured<'_>) -> Result<()> {
    let entries = some_entries(input)?;
    let (one, other) = (near_one(input, &entries)?, near_one(input, &entries)?);
    let mut range = one.min(other)..=one.max(other);
    let inside = |range: &RangeInclusive<B256>| -> Vec<(B256, Vec<u8>)> {
        entries.range(range.clone()).map(|(path, value)| (*path, value.clone())).collect()
    };
    let (root, mut nodes) = prove_range(&entries, &range);
    let (mut claimed, mut named) = (inside(&range), root);
    assert_eq!(verify_range(root, range.clone(), &claimed, &nodes), Ok(()), "{range:?} under {root}: {nodes:?}");
    for _ in 0..input.int_in_range(1..=MOST)? {
        let index = input.choose_index(claimed.len().max(1))?;
        match (input.int_in_range(0..=7)?, claimed.get_mut(index)) {
            (0, Some(_)) => drop(claimed.remove(index)),
            (1, Some((_, value))) => *value = input.arbitrary()?,
            (2, Some((path, _))) => *path = near_one(input, &entries)?,
            (3, _) => claimed.insert(index.min(claimed.len()), (near_one(input, &entries)?, input.arbitrary()?)),
            (4, _) => range = near_one(input, &entries)?..=*range.end(),
            (5, _) => range = *range.start()..=near_one(input, &entries)?,
            _ => change(input, &mut nodes, &mut named)?,
        }
    }
    if verify_range(named, range.clone(), &claimed, &nodes).is_err() || named != root {
        return Ok(());
    }
    assert!(!range.is_empty() && claimed == inside(&range), "not all of {range:?} under {root}: {claimed:?}");
    assert_eq!(nodes, prove_range(&entries, &range).1, "two proofs of {range:?} under {root}");
    Ok(())
}

/// The root of a trie, and the nodes below which paths inside a range and paths outside begin.
pub(crate) fn prove_range(entries: &Entries, range: &RangeInclusive<B256>) -> (B256, Vec<Bytes>) {
    listed(entries, |first, last| {
        let is_inside = range.contains(first) && range.contains(last);
        first <= range.end() && range.start() <= last && !is_inside
    })
}

/// The root of a trie, and of all its nodes those that are wanted by the first and the last path that begin like those below it.
pub(super) fn listed(entries: &Entries, is_wanted: impl Fn(&B256, &B256) -> bool) -> (B256, Vec<Bytes>) {
    let targets = entries.keys().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (path, value) in entries {
        builder.add_leaf(Nibbles::unpack(path), value);
    }
    let root = builder.root();
    let end = |prefix: &Nibbles, filler| {
        let all: Vec<u8> = prefix.iter().chain(std::iter::repeat(filler)).take(64).collect();
        B256::from_slice(&all.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>())
    };
    let all = builder.take_proof_nodes().into_nodes_sorted().into_iter();
    let wanted =
        all.filter(|(prefix, node)| node.len() >= EMBEDDED_BELOW && is_wanted(&end(prefix, 0), &end(prefix, 15)));
    (root, wanted.map(|(_, node)| node).collect())
}

/// Nodes of any bytes do not bring the verifier down, whatever is asked of them.
pub(super) fn made_up(paths: &[B256; 2], nodes: &[Bytes]) {
    let root = keccak256(&nodes[0]);
    let mut ascending = *paths;
    ascending.sort_unstable();
    let [from, to] = ascending;
    let _ = verify_paths(root, &ascending, nodes);
    let _ = verify_range(root, from..=to, &[(from, [1])], nodes);
}
