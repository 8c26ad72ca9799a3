//! Proofs of ranges: nothing inside is left out, added or changed, and the ends are the ends.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};

use super::{
    super::{
        Account, AccountProof, AccountRange, AccountRangeEntry, EMPTY_ROOT, NodeError, ProofError, SlotClaim,
        StorageRange, verify_range,
    },
    Random, branch,
    claims::{encode, hash_slot, number},
    extension, integer, leaf, path, proof,
    tries::{Entries, near, nth_key, prove, random_entries},
};
use crate::fuzzing::prove_range;

const FIRST: B256 = B256::ZERO;
const LAST: B256 = B256::repeat_byte(0xff);

type Listed = Vec<(B256, Vec<u8>)>;

/// A range of a trie, all that it holds, and the proof.
#[derive(Clone, Debug)]
struct Range {
    root: B256,
    range: RangeInclusive<B256>,
    entries: Listed,
    nodes: Vec<Bytes>,
}

impl Range {
    fn of(entries: &Entries, range: RangeInclusive<B256>) -> Self {
        let (root, nodes) = prove_range(entries, &range);
        let inside = entries.range(range.clone()).map(|(path, value)| (*path, value.clone())).collect();
        Self { root, range, entries: inside, nodes }
    }

    fn verify(&self) -> Result<(), ProofError> {
        verify_range(self.root, self.range.clone(), &self.entries, &self.nodes)
    }

    /// Why it is refused after a change.
    #[track_caller]
    fn refusal(&self, change: impl FnOnce(&mut Self)) -> ProofError {
        assert_eq!(self.verify(), Ok(()));
        let mut changed = self.clone();
        change(&mut changed);
        changed.verify().expect_err("a changed range is accepted")
    }
}

/// Keys whose first byte is each of these, with values that make hashed leaves.
fn keys(bytes: impl IntoIterator<Item = u8>) -> Entries {
    bytes.into_iter().map(|byte| (key(byte), vec![byte | 1; 40])).collect()
}

/// Neither the first nor the last path that begins with that byte.
fn key(byte: u8) -> B256 {
    B256::new(std::array::from_fn(|index| if index == 0 { byte } else { 0x55 }))
}

/// The keys 0x30 to 0xc0 of 256 in all.
fn middle() -> Range {
    Range::of(&keys(0..=255), key(0x30)..=key(0xc0))
}

/// For random tries and ranges, the proof of an independent implementation is accepted, and is the smallest.
#[test]
fn honest_ranges_are_accepted() {
    let mut seen = [0; 6];
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let entries = random_entries(&mut random);
        let range = Range::of(&entries, ends(&entries, &mut random));
        assert_eq!(range.verify(), Ok(()), "seed {seed}: {range:?}");
        let (whole, count) = (range.range == (FIRST..=LAST), range.entries.len());
        let kinds = [true, count == 0, count == entries.len(), whole, range.nodes.is_empty(), range.nodes.len() > 4];
        for (number, is_such) in seen.iter_mut().zip(kinds) {
            *number += u32::from(is_such);
        }
        for index in 0..range.nodes.len() {
            range.refusal(|range| drop(range.nodes.remove(index)));
            range.refusal(|range| {
                let mut bytes = range.nodes[index].to_vec();
                let place = random.below(bytes.len());
                bytes[place] = random.other(bytes[place]);
                range.nodes[index] = bytes.into();
            });
        }
    }
    println!("[ranges, empty ones, of all keys, without ends, without nodes, of 5 nodes or more]: {seen:?}");
    assert!(seen.iter().all(|&count| count > 20), "a kind of range is too rare: {seen:?}");
}

/// Ends of a range: keys, what is beside them, or none.
fn ends(entries: &Entries, random: &mut Random) -> RangeInclusive<B256> {
    let mut end = |none| match random.below(6) {
        0 => none,
        1 => random.hash(),
        _ if entries.is_empty() => none,
        2 => near(&nth_key(entries, random), random),
        3 => (U256::from_be_bytes(nth_key(entries, random).0).saturating_add(U256::ONE)).into(),
        4 => (U256::from_be_bytes(nth_key(entries, random).0).saturating_sub(U256::ONE)).into(),
        _ => nth_key(entries, random),
    };
    let (one, other) = (end(FIRST), end(LAST));
    one.min(other)..=one.max(other)
}

/// Whichever entry is left out: at the edges, behind them, or in the middle.
#[test]
fn an_entry_left_out() {
    let range = middle();
    for index in 0..range.entries.len() {
        let refusal = range.refusal(|range| drop(range.entries.remove(index)));
        let path = range.entries[index].0;
        match refusal {
            ProofError::EntryMissing { path: missing, .. } => assert_eq!(missing, path),
            ProofError::RangeMismatch { first, last, .. } => assert!(first <= path && path <= last),
            other => panic!("entry {index}: {other:?}"),
        }
    }
    assert!(matches!(range.refusal(|range| range.entries.clear()), ProofError::EntryMissing { .. }));
    assert!(matches!(range.refusal(|range| range.entries.truncate(20)), ProofError::RangeMismatch { .. }));
}

#[test]
fn an_entry_that_is_not_in_the_trie() {
    // One that would be last, alone below its branch, and between others.
    let few = Range::of(&keys([0x10, 0x31, 0x35, 0x80, 0xf0]), key(0x20)..=key(0xa0));
    for byte in [0x20, 0x30, 0x33, 0x37, 0x50, 0x90, 0xa0] {
        let refusal = few.refusal(|range| {
            let place = range.entries.partition_point(|(path, _)| *path < key(byte));
            range.entries.insert(place, (key(byte), vec![1; 40]));
        });
        let is_such = matches!(refusal, ProofError::EntryAdded { .. } | ProofError::RangeMismatch { .. });
        assert!(is_such, "{byte:#x}: {refusal:?}");
    }
    let nothing = Range { root: EMPTY_ROOT, range: FIRST..=LAST, entries: Vec::new(), nodes: Vec::new() };
    let refusal = nothing.refusal(|range| range.entries.push((key(1), vec![1])));
    assert_eq!(refusal, ProofError::EntryAdded { index: 0 });
}

#[test]
fn an_entry_that_was_changed_or_exchanged() {
    let range = middle();
    for index in 0..range.entries.len() {
        let refusal = range.refusal(|range| range.entries[index].1[7] ^= 1);
        let is_such = matches!(refusal, ProofError::EntryMismatch { .. } | ProofError::RangeMismatch { .. });
        assert!(is_such, "entry {index}: {refusal:?}");
    }
    let edge = range.refusal(|range| range.entries[0].1[7] ^= 1);
    assert!(matches!(edge, ProofError::EntryMismatch { index: 0, .. }));
    // The values of two keys, exchanged.
    for index in 1..range.entries.len() {
        range.refusal(|range| {
            let before = std::mem::take(&mut range.entries[index - 1].1);
            let own = std::mem::replace(&mut range.entries[index].1, before);
            range.entries[index - 1].1 = own;
            range.entries[index].1[39] ^= 1;
        });
    }
}

#[test]
fn entries_that_do_not_ascend() {
    let range = middle();
    assert_eq!(range.refusal(|range| range.entries.swap(4, 5)), ProofError::KeyOrder { index: 5 });
    let twice = range.refusal(|range| range.entries.insert(6, range.entries[5].clone()));
    assert_eq!(twice, ProofError::KeyOrder { index: 6 });
}

/// What lies just outside is neither taken in nor, by another end, left out.
#[test]
fn ends_that_are_not_the_ends() {
    let range = middle();
    let end = |byte| key(byte);
    // A wider range than that of the nodes would take in what is not listed.
    for (from, to) in [(0x2f, 0xc0), (0x30, 0xc1), (0x00, 0xc0), (0x30, 0xff)] {
        range.refusal(|range| range.range = end(from)..=end(to));
    }
    range.refusal(|range| range.range = FIRST..=LAST);
    // A narrower one leaves entries outside.
    let narrow = range.refusal(|range| range.range = end(0x31)..=end(0xc0));
    assert_eq!(narrow, ProofError::EntryOutOfRange { index: 0, path: key(0x30) });
    let narrow = range.refusal(|range| range.range = end(0x30)..=end(0xbf));
    assert_eq!(narrow, ProofError::EntryOutOfRange { index: range.entries.len() - 1, path: key(0xc0) });
    // Without these entries, the nodes at the old edge are too many, or others are missing.
    let narrow = range.refusal(|range| {
        range.range = end(0x30)..=end(0xbf);
        range.entries.pop();
    });
    assert!(matches!(narrow, ProofError::HashMismatch { .. } | ProofError::Unused { .. }), "{narrow:?}");
}

#[test]
fn a_range_that_ends_before_it_begins() {
    let refusal = middle().refusal(|range| range.range = key(0xc0)..=key(0x30));
    assert_eq!(refusal, ProofError::RangeReversed { from: key(0xc0), to: key(0x30) });
}

/// An empty range is proven by its edges; the nodes of an empty range elsewhere, or none, do not prove it.
#[test]
fn an_empty_range_that_is_not_empty() {
    let range = middle();
    let refusal = verify_range(range.root, key(0x41)..=key(0x4f), &Listed::new(), &range.nodes);
    assert!(refusal.is_err());
    let empty = Range::of(&keys([0x10, 0x31, 0x80]), key(0x40)..=key(0x7f));
    assert!(empty.entries.is_empty());
    assert!(!empty.nodes.is_empty());
    let filled = empty.refusal(|range| range.range = key(0x30)..=key(0x7f));
    assert!(
        matches!(
            filled,
            ProofError::RangeMismatch { entries: 0, .. }
                | ProofError::EntryMissing { .. }
                | ProofError::Incomplete { .. }
        ),
        "{filled:?}"
    );
    let filled = empty.refusal(|range| range.range = key(0x40)..=key(0x80));
    assert!(
        matches!(filled, ProofError::RangeMismatch { entries: 0, .. } | ProofError::Incomplete { .. }),
        "{filled:?}"
    );
    assert!(matches!(empty.refusal(|range| range.nodes.clear()), ProofError::NoNodes { .. }));
    let whole = empty.refusal(|range| (range.range, range.nodes) = (FIRST..=LAST, Vec::new()));
    assert!(matches!(whole, ProofError::RangeMismatch { entries: 0, .. }));
    // The last leaf of all, and a range behind it.
    let behind = Range::of(&keys([0x10, 0x31, 0x80]), key(0x81)..=LAST);
    assert!(behind.entries.is_empty());
    assert!(matches!(
        behind.refusal(|range| range.range = key(0x80)..=LAST),
        ProofError::RangeMismatch { entries: 0, .. } | ProofError::EntryMissing { .. } | ProofError::Incomplete { .. }
    ));
}

#[test]
fn an_entry_without_a_value() {
    let range = middle();
    for index in [0, 9] {
        assert_eq!(range.refusal(|range| range.entries[index].1.clear()), ProofError::EntryEmpty { index });
    }
    // Deletions that stand for keys that the trie never held.
    let few = Range::of(&keys([0x10, 0x31, 0x80]), key(0x20)..=key(0x70));
    let refusal = few.refusal(|range| range.entries.push((key(0x50), Vec::new())));
    assert_eq!(refusal, ProofError::EntryEmpty { index: 1 });
}

#[test]
fn nodes_that_a_range_does_not_need() {
    let all = keys(0..=255);
    let whole = Range::of(&all, FIRST..=LAST);
    assert!(whole.nodes.is_empty());
    let range = middle();
    let refusal = whole.refusal(|whole| whole.nodes.clone_from(&range.nodes));
    assert_eq!(refusal, ProofError::Unused { index: 0 });
    let count = range.nodes.len();
    let refusal = range.refusal(|range| range.nodes.push(range.nodes[1].clone()));
    assert_eq!(refusal, ProofError::Unused { index: count });
    // The nodes of a key inside the range.
    let (_, mut inside) = prove(&all, &[key(0x77)]);
    let inside = inside.remove(0).nodes;
    for (index, node) in inside.iter().enumerate().skip(1) {
        let refusal = range.refusal(|range| range.nodes.insert(index, node.clone()));
        assert!(matches!(refusal, ProofError::HashMismatch { .. }));
    }
    let nothing = Range { root: EMPTY_ROOT, range: FIRST..=LAST, entries: Vec::new(), nodes: Vec::new() };
    let refusal = nothing.refusal(|range| range.nodes.push(Bytes::from_static(&[0x80])));
    assert_eq!(refusal, ProofError::NodesOfEmptyTrie { nodes: 1 });
}

#[test]
fn nodes_of_a_range_in_another_order() {
    let range = middle();
    for first in 0..range.nodes.len() {
        for second in first + 1..range.nodes.len() {
            let refusal = range.refusal(|range| range.nodes.swap(first, second));
            assert!(matches!(refusal, ProofError::HashMismatch { index, .. } if index == first));
        }
        let twice = range.refusal(|range| range.nodes.insert(first, range.nodes[first].clone()));
        assert!(matches!(twice, ProofError::HashMismatch { .. } | ProofError::Unused { .. }));
    }
}

/// A root under which an extension leads to a leaf or to an extension is no root of a trie, though all hashes fit.
#[test]
fn a_subtree_that_cannot_stand_below_an_extension() {
    let inner = leaf(&[0; 62], &[7; 40]);
    let long = extension(&[1], &inner);
    let other = leaf(&[0; 63], &[8; 40]);
    let root = branch(&[(1, &long), (2, &other)]);
    let (root, nodes) = (keccak256(&root), proof(&[&root, &long]));
    let entries = vec![(path(&[1, 1]), vec![7; 40])];
    // From the first path behind the extension on: the leaf is known by its hash alone.
    let refusal = verify_range(root, path(&[1, 1])..=path(&[1, 2]), &entries, &nodes);
    let (first, last) = (path(&[1, 1]), B256::new(std::array::from_fn(|index| if index == 0 { 0x11 } else { 0xff })));
    let source = NodeError::ExtensionChild;
    assert_eq!(refusal, Err(ProofError::Subtree { first, last, source }));
}

#[test]
fn a_node_in_a_range_that_is_embedded() {
    // Keys that differ in the last nibble, with values so short that their leaves stand inside the branch.
    let entries: Entries =
        (0..16).step_by(3).map(|last| (path(&[&[0; 63][..], &[last]].concat()), vec![last + 1])).collect();
    let paths: Vec<B256> = entries.keys().copied().collect();
    let range = Range::of(&entries, paths[1]..=paths[3]);
    let (low, high) = (range.entries[0].0, range.entries[2].0);
    assert!(matches!(range.refusal(|range| drop(range.entries.remove(1))), ProofError::EntryMissing { .. }));
    assert!(matches!(range.refusal(|range| range.entries[1].1[0] ^= 8), ProofError::EntryMismatch { index: 1, .. }));
    let between: B256 = (U256::from_be_bytes(low.0) + U256::ONE).into();
    let refusal = range.refusal(|range| range.entries.insert(1, (between, vec![1])));
    assert_eq!(refusal, ProofError::EntryAdded { index: 1 });
    let wider: B256 = (U256::from_be_bytes(high.0) + U256::from(3)).into();
    assert!(matches!(range.refusal(|range| range.range = low..=wider), ProofError::EntryMissing { .. }));
}

/// Some accounts, one with slots; all accounts as a range, and the slots of the one.
fn state(seed: u64) -> (B256, AccountRange, StorageRange) {
    let mut random = Random(seed);
    let mut slots: Vec<SlotClaim> =
        (0..30).map(|_| SlotClaim { slot: number(&mut random), value: number(&mut random) | U256::ONE }).collect();
    slots.sort_by_key(|claim| hash_slot(claim.slot));
    slots.dedup();
    let stored: Entries = slots.iter().map(|claim| (hash_slot(claim.slot), integer(claim.value))).collect();
    let (storage_root, _) = prove(&stored, &[]);
    let mut accounts: Vec<AccountRangeEntry> = (0..40)
        .map(|index| {
            let account = Account { nonce: index, balance: number(&mut random), code_hash: KECCAK256_EMPTY };
            let storage_root = if index == 7 { storage_root } else { EMPTY_ROOT };
            AccountRangeEntry { address: Address::from_word(random.hash()), account, storage_root }
        })
        .collect();
    let (owner, account) = (accounts[7].address, accounts[7].account);
    accounts.sort_by_key(|entry| keccak256(entry.address));
    let entries: Entries =
        accounts.iter().map(|entry| (keccak256(entry.address), encode(&entry.account, entry.storage_root))).collect();
    let (root, mut single) = prove(&entries, &[keccak256(owner)]);
    let (from, to) = (hash_slot(slots[3].slot), hash_slot(slots[20].slot));
    let (_, nodes) = prove_range(&stored, &(from..=to));
    let nodes_of_owner = single.remove(0).nodes;
    let account =
        AccountProof { address: owner, account: Some(account), storage_root, nodes: nodes_of_owner, slots: Vec::new() };
    let storage = StorageRange { account, from, to, slots: slots[3..=20].to_vec(), nodes };
    let (from, to) = (keccak256(accounts[5].address), keccak256(accounts[30].address));
    let (_, nodes) = prove_range(&entries, &(from..=to));
    (root, AccountRange { from, to, accounts: accounts[5..=30].to_vec(), nodes }, storage)
}

#[test]
fn a_range_of_accounts_that_claims_something_else() {
    let (root, range, _) = state(1);
    assert_eq!(range.verify(root), Ok(()));
    for index in 0..range.accounts.len() {
        let changes: [fn(&mut AccountRangeEntry); 5] = [
            |entry| entry.account.nonce += 1,
            |entry| entry.account.balance ^= U256::ONE,
            |entry| entry.account.code_hash = B256::ZERO,
            |entry| entry.storage_root = B256::ZERO,
            |entry| entry.address[3] ^= 1,
        ];
        for change in changes {
            let mut other = range.clone();
            change(&mut other.accounts[index]);
            assert!(other.verify(root).is_err(), "account {index}");
        }
    }
    assert!(matches!(range.verify(B256::ZERO), Err(ProofError::HashMismatch { index: 0, .. })));
}

#[test]
fn a_range_of_slots_that_claims_something_else() {
    let (root, _, range) = state(2);
    assert_eq!(range.verify(root), Ok(()));
    let refusal = |change: &dyn Fn(&mut StorageRange)| {
        let mut other = range.clone();
        change(&mut other);
        other.verify(root).expect_err("a changed range is accepted")
    };
    let inside = |refusal: ProofError| match refusal {
        ProofError::Storage { source, .. } => *source,
        other => panic!("{other:?}"),
    };
    for (index, slot) in range.slots.iter().enumerate() {
        inside(refusal(&|range| range.slots[index].value += U256::ONE));
        inside(refusal(&|range| range.slots[index].slot ^= U256::ONE));
        inside(refusal(&|range| range.slots.retain(|claim| claim != slot)));
        let zero = inside(refusal(&|range| range.slots[index].value = U256::ZERO));
        assert_eq!(zero, ProofError::EntryEmpty { index });
    }
    let zero = SlotClaim { slot: U256::from(5), value: U256::ZERO };
    assert_eq!(inside(refusal(&|range| range.slots.push(zero))), ProofError::EntryEmpty { index: range.slots.len() });
}

/// A range counts under the storage root in the leaf of its account alone.
#[test]
fn a_range_of_slots_of_another_account() {
    let (root, _, range) = state(3);
    let (other_root, _, other) = state(4);
    let spliced = StorageRange { account: range.account.clone(), ..other.clone() };
    assert!(matches!(spliced.verify(root), Err(ProofError::Storage { .. })));
    let spliced = StorageRange { account: other.account.clone(), ..range.clone() };
    assert!(matches!(spliced.verify(root), Err(ProofError::HashMismatch { .. })));
    assert!(matches!(spliced.verify(other_root), Err(ProofError::Storage { .. })));
    let mut empty = range.clone();
    empty.account.storage_root = EMPTY_ROOT;
    (empty.slots, empty.nodes) = (Vec::new(), Vec::new());
    assert!(matches!(empty.verify(root), Err(ProofError::AccountMismatch { what: "storage root", .. })));
    let mut absent = range;
    absent.account.account = None;
    assert!(matches!(absent.verify(root), Err(ProofError::AccountMismatch { what: "existence", .. })));
}
