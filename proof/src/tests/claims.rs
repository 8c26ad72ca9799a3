//! Proofs of accounts and slots: what is claimed must be what the leaves hold, in the storage of that account.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::TrieAccount;

use super::{
    super::{AccountProof, EMPTY_ROOT, ProofError, RlpError, SlotProof},
    Random, integer, leaf, list, nibbles, proof, string,
    tries::{Entries, prove},
};
use crate::Account;

/// The value of an account's leaf.
pub(super) fn encode(account: &Account, storage_root: B256) -> Vec<u8> {
    let (nonce, balance) = (integer(U256::from(account.nonce)), integer(account.balance));
    let bytes = list(&[nonce, balance, string(storage_root.as_slice()), string(account.code_hash.as_slice())]);
    let other =
        TrieAccount { nonce: account.nonce, balance: account.balance, storage_root, code_hash: account.code_hash };
    assert_eq!(keccak256(&bytes), other.trie_hash_slow(), "the oracle encodes an account otherwise");
    bytes
}

pub(super) fn hash_slot(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

/// Numbers of all widths.
pub(super) fn number(random: &mut Random) -> U256 {
    U256::from_be_bytes(random.hash().0) >> random.below(256)
}

/// The proof of an account and of some slots, of which `storage` holds those that are set.
fn prove_slots(storage: &BTreeMap<U256, U256>, random: &mut Random) -> (B256, Vec<SlotProof>) {
    let entries: Entries = storage.iter().map(|(&slot, &value)| (hash_slot(slot), integer(value))).collect();
    let mut slots: Vec<U256> = storage.keys().copied().take(3).collect();
    slots.push(number(random));
    let paths: Vec<B256> = slots.iter().copied().map(hash_slot).collect();
    let (root, proofs) = prove(&entries, &paths);
    let value = |slot| storage.get(&slot).copied().unwrap_or_default();
    let pairs = slots.into_iter().zip(proofs);
    (root, pairs.map(|(slot, proof)| SlotProof { slot, value: value(slot), nodes: proof.nodes }).collect())
}

/// A random state, and the proofs of all its accounts and of one that is absent.
pub(super) fn world(seed: u64) -> (B256, Vec<AccountProof>) {
    let mut random = Random(seed);
    let (mut state, mut proofs) = (Entries::new(), Vec::new());
    for index in 0..=random.below(40) as u64 {
        let address = Address::from_word(random.hash());
        let code_hash = if index % 2 == 0 { KECCAK256_EMPTY } else { random.hash() };
        let account = Account { nonce: random.next() >> random.below(64), balance: number(&mut random), code_hash };
        let set = [0, 1, 2, 20][random.below(4)];
        let storage = (0..set).map(|_| (number(&mut random), number(&mut random) | U256::ONE)).collect();
        let (storage_root, slots) = prove_slots(&storage, &mut random);
        state.insert(keccak256(address), encode(&account, storage_root));
        proofs.push(AccountProof { address, account: Some(account), storage_root, nodes: Vec::new(), slots });
    }
    let slots = vec![SlotProof { slot: number(&mut random), value: U256::ZERO, nodes: Vec::new() }];
    let address = Address::from_word(random.hash());
    proofs.push(AccountProof { address, account: None, storage_root: EMPTY_ROOT, nodes: Vec::new(), slots });
    let paths: Vec<B256> = proofs.iter().map(|proof| keccak256(proof.address)).collect();
    let (root, nodes) = prove(&state, &paths);
    for (proof, path) in proofs.iter_mut().zip(nodes) {
        proof.nodes = path.nodes;
    }
    (root, proofs)
}

/// A state of one account with one slot, whose leaves hold the bytes given.
pub(super) fn forged(account: &[u8], value: &[u8]) -> (B256, AccountProof) {
    let (address, slot) = (Address::repeat_byte(1), U256::from(2));
    let node = leaf(&nibbles(&hash_slot(slot)), value);
    let storage_root = keccak256(&node);
    let known = Account { nonce: 1, balance: U256::from(1_000), code_hash: KECCAK256_EMPTY };
    let account = if account.is_empty() { encode(&known, storage_root) } else { account.to_vec() };
    let root_node = leaf(&nibbles(&keccak256(address)), &account);
    let slots = vec![SlotProof { slot, value: U256::from(5), nodes: proof(&[&node]) }];
    let nodes = proof(&[&root_node]);
    (keccak256(root_node), AccountProof { address, account: Some(known), storage_root, nodes, slots })
}

/// Why the leaf of an account of these items is refused.
fn account_fault(items: &[Vec<u8>]) -> RlpError {
    leaf_fault(&list(items), &[5])
}

fn leaf_fault(account: &[u8], value: &[u8]) -> RlpError {
    let (root, proof) = forged(account, value);
    match proof.verify(root) {
        Err(ProofError::Leaf { source, .. }) => source,
        Err(ProofError::Slot { source, .. }) => match *source {
            ProofError::Leaf { source, .. } => source,
            other => panic!("{other:?} instead of a fault in the leaf"),
        },
        other => panic!("{other:?} instead of a fault in the leaf"),
    }
}

/// Makes a change to the honest proof of one account with one slot, and returns the refusal.
fn refusal(change: impl FnOnce(&mut AccountProof)) -> ProofError {
    let (root, mut proof) = forged(&[], &[5]);
    assert_eq!(proof.verify(root), Ok(()));
    change(&mut proof);
    proof.verify(root).expect_err("a changed claim is accepted")
}

/// What the proof of an account claims, other than what it proves.
fn mismatch(change: impl FnOnce(&mut AccountProof)) -> &'static str {
    match refusal(change) {
        ProofError::AccountMismatch { what, .. } => what,
        other => panic!("{other:?} instead of a mismatch"),
    }
}

/// Why the slot of a changed proof is refused.
fn slot_refusal(change: impl FnOnce(&mut AccountProof)) -> ProofError {
    match refusal(change) {
        ProofError::Slot { source, .. } => *source,
        other => panic!("{other:?} instead of a refused slot"),
    }
}

#[test]
fn honest_claims_are_accepted() {
    let (mut accounts, mut slots) = (0, 0);
    for seed in 0..100 {
        let (root, proofs) = world(seed);
        for proof in &proofs {
            assert_eq!(proof.verify(root), Ok(()), "seed {seed}: {proof:?}");
            (accounts, slots) = (accounts + 1, slots + proof.slots.len());
        }
    }
    println!("{accounts} accounts, {slots} slots");
}

#[test]
fn an_account_that_is_not_the_proven_one() {
    let claimed = |proof: &mut AccountProof| *proof.account.as_mut().expect("it exists");
    assert_eq!(mismatch(|proof| proof.account = Some(Account { nonce: 2, ..claimed(proof) })), "nonce");
    assert_eq!(mismatch(|proof| proof.account = Some(Account { balance: U256::ZERO, ..claimed(proof) })), "balance");
    let code_hash = B256::ZERO;
    assert_eq!(mismatch(|proof| proof.account = Some(Account { code_hash, ..claimed(proof) })), "code hash");
    assert_eq!(mismatch(|proof| proof.account = None), "existence");
    assert_eq!(mismatch(|proof| proof.address = Address::ZERO), "existence");
}

#[test]
fn a_storage_root_that_is_not_the_proven_one() {
    assert_eq!(mismatch(|proof| proof.storage_root = EMPTY_ROOT), "storage root");
    assert_eq!(mismatch(|proof| proof.storage_root = B256::ZERO), "storage root");
}

#[test]
fn a_value_that_is_not_the_proven_one() {
    let (claimed, proven) = (U256::from(6), U256::from(5));
    let expected = ProofError::ValueMismatch { claimed, proven, nodes: 1 };
    assert_eq!(slot_refusal(|proof| proof.slots[0].value = claimed), expected);
    let expected = ProofError::ValueMismatch { claimed: U256::ZERO, proven, nodes: 1 };
    assert_eq!(slot_refusal(|proof| proof.slots[0].value = U256::ZERO), expected);
    let expected = ProofError::ValueMismatch { claimed: proven, proven: U256::ZERO, nodes: 1 };
    assert_eq!(slot_refusal(|proof| proof.slots[0].slot = U256::from(3)), expected);
}

#[test]
fn a_slot_without_nodes() {
    let root = refusal(|proof| proof.storage_root = B256::ZERO);
    assert!(matches!(root, ProofError::AccountMismatch { .. }));
    assert!(matches!(slot_refusal(|proof| proof.slots[0].nodes.clear()), ProofError::NoNodes { .. }));
}

/// A slot's proof counts under the storage root in the leaf of its account alone.
#[test]
fn a_slot_of_another_account() {
    let mut splices = 0;
    for seed in 0..20 {
        let (root, proofs) = world(seed);
        for (index, proof) in proofs.iter().enumerate() {
            let donor = &proofs[(index + 1) % proofs.len()];
            if donor.storage_root == proof.storage_root {
                continue;
            }
            let spliced = AccountProof { slots: donor.slots.clone(), ..proof.clone() };
            assert!(matches!(spliced.verify(root), Err(ProofError::Slot { .. })), "seed {seed}, account {index}");
            let spliced = AccountProof { storage_root: donor.storage_root, ..spliced };
            assert!(
                matches!(spliced.verify(root), Err(ProofError::AccountMismatch { .. })),
                "seed {seed}, account {index}"
            );
            splices += 1;
        }
    }
    assert!(splices > 100, "only {splices} splices");
}

#[test]
fn a_slot_of_an_account_without_storage() {
    for seed in 0..20 {
        let (root, proofs) = world(seed);
        let nodes: Vec<Bytes> = proofs.iter().flat_map(|proof| proof.slots[0].nodes.clone()).take(1).collect();
        for proof in proofs.iter().filter(|proof| proof.storage_root == EMPTY_ROOT) {
            let mut claimed = proof.clone();
            claimed.slots[0].value = U256::ONE;
            let refusal = claimed.verify(root).expect_err("a value in an empty storage");
            assert!(
                matches!(refusal, ProofError::Slot { source, .. } if matches!(*source, ProofError::ValueMismatch { .. }))
            );
            let mut filled = proof.clone();
            filled.slots[0].nodes = vec![Bytes::from_static(&[0x80])];
            filled.slots[0].nodes.extend_from_slice(&nodes);
            let refusal = filled.verify(root).expect_err("nodes of an empty storage");
            assert!(
                matches!(refusal, ProofError::Slot { source, .. } if matches!(*source, ProofError::NodesOfEmptyTrie { .. }))
            );
        }
    }
}

#[test]
fn an_absent_account_with_storage() {
    let (root, proofs) = world(1);
    let absent = proofs.last().expect("the absent one");
    let claimed = AccountProof { storage_root: B256::ZERO, ..absent.clone() };
    assert!(matches!(claimed.verify(root), Err(ProofError::AccountMismatch { what: "storage root", .. })));
    let claimed = AccountProof { account: Some(Account::default()), ..absent.clone() };
    assert!(matches!(claimed.verify(root), Err(ProofError::AccountMismatch { what: "existence", .. })));
}

#[test]
fn an_account_leaf_of_another_form() {
    let hash = string(&[7; 32]);
    let sound = [vec![1], vec![2], hash.clone(), hash.clone()];
    let with = |index: usize, item: Vec<u8>| {
        let mut items = sound.to_vec();
        items[index] = item;
        account_fault(&items)
    };
    assert_eq!(account_fault(&sound[..3]), RlpError::Truncated, "three fields");
    assert_eq!(account_fault(&[&sound[..], &[vec![1]]].concat()), RlpError::TrailingBytes { bytes: 1 }, "five fields");
    assert_eq!(with(0, vec![0]), RlpError::LeadingZero);
    assert_eq!(with(0, vec![0x81, 1]), RlpError::ByteNotMinimal);
    assert_eq!(with(0, string(&[1; 9])), RlpError::IntegerTooWide { bytes: 9, limit: 8 });
    assert_eq!(with(0, vec![0xc0]), RlpError::NotAString);
    assert_eq!(with(1, string(&[0, 1])), RlpError::LeadingZero);
    assert_eq!(with(1, string(&[1; 33])), RlpError::IntegerTooWide { bytes: 33, limit: 32 });
    for index in [2, 3] {
        assert_eq!(with(index, string(&[7; 31])), RlpError::HashLength { bytes: 31 });
        assert_eq!(with(index, string(&[7; 33])), RlpError::HashLength { bytes: 33 });
        assert_eq!(with(index, string(&[])), RlpError::HashLength { bytes: 0 });
    }
    let trailing = [list(&sound), vec![0]].concat();
    assert_eq!(leaf_fault(&trailing, &[5]), RlpError::TrailingBytes { bytes: 1 });
    assert_eq!(leaf_fault(&hash, &[5]), RlpError::NotAList);
}

#[test]
fn a_slot_leaf_of_another_form() {
    let fault = |value: &[u8]| leaf_fault(&[], value);
    assert_eq!(fault(&[0]), RlpError::LeadingZero);
    assert_eq!(fault(&string(&[0, 5])), RlpError::LeadingZero);
    assert_eq!(fault(&[0x81, 5]), RlpError::ByteNotMinimal);
    assert_eq!(fault(&[5, 5]), RlpError::TrailingBytes { bytes: 1 });
    assert_eq!(fault(&string(&[5; 33])), RlpError::IntegerTooWide { bytes: 33, limit: 32 });
    assert_eq!(fault(&[0xc1, 5]), RlpError::NotAString);
    assert_eq!(fault(&[0xa0, 5]), RlpError::Truncated);
}

#[test]
fn a_slot_leaf_that_holds_zero() {
    let (root, mut proof) = forged(&[], &[0x80]);
    proof.slots[0].value = U256::ZERO;
    let refusal = proof.verify(root).expect_err("a leaf of zero");
    assert!(matches!(refusal, ProofError::Slot { source, .. } if *source == ProofError::ZeroLeaf { index: 0 }));
}

/// No byte of an account's proof is without meaning.
#[test]
fn every_changed_byte_of_a_claim_is_refused() {
    let mut changes = 0;
    for seed in 0..4 {
        let mut random = Random(seed);
        let (root, proofs) = world(seed);
        for mut proof in proofs.into_iter().take(12) {
            for place in 0.. {
                let Some(byte) = nth_byte(&mut proof, place, &mut |byte| random.other(byte)) else { break };
                assert!(proof.verify(root).is_err(), "seed {seed}, byte {place}: {proof:?}");
                nth_byte(&mut proof, place, &mut |_| byte);
                changes += 1;
            }
            assert_eq!(proof.verify(root), Ok(()), "seed {seed}");
        }
    }
    println!("{changes} changed bytes");
    assert!(changes > 10_000);
}

/// Changes one byte of all the nodes of a proof, and returns what it was; `None` behind the last one.
fn nth_byte(proof: &mut AccountProof, mut place: usize, change: &mut dyn FnMut(u8) -> u8) -> Option<u8> {
    let slots = proof.slots.iter_mut().flat_map(|slot| &mut slot.nodes);
    for node in proof.nodes.iter_mut().chain(slots) {
        if let Some(&byte) = node.get(place) {
            let mut bytes = node.to_vec();
            bytes[place] = change(byte);
            *node = bytes.into();
            return Some(byte);
        }
        place -= node.len();
    }
    None
}
