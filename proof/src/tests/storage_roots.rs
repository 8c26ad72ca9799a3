//! The root of one account's storage after changes, against an independent trie.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::TrieAccount;

use super::{Random, integer, partial::all_nodes, tries::Entries};
use crate::{Account, AccountChange, EMPTY_ROOT, Fields, PartialState, StateChanges, Witness};

fn entry(slot: u64, value: U256) -> (B256, Vec<u8>) {
    (keccak256(B256::from(U256::from(slot))), integer(value))
}

/// An account with storage beside another without, all nodes of both, and what changes make of the storage.
fn check(seed: u64) -> [bool; 4] {
    let mut random = Random(seed);
    let (owner, other) = (Address::from_word(random.hash()), Address::from_word(random.hash()));
    let slots: Vec<u64> = (0..random.below(12) as u64).collect();
    let before: Entries = slots.iter().map(|slot| entry(*slot, U256::from(1 + random.next() % 1_000))).collect();
    let (storage_root, mut nodes) = all_nodes(&before);
    let leaf = |storage_root| alloy_rlp::encode(TrieAccount { storage_root, ..TrieAccount::default() });
    let accounts = [(owner, storage_root), (other, EMPTY_ROOT)].map(|(who, root)| (keccak256(who), leaf(root)));
    let (root, of_accounts) = all_nodes(&Entries::from(accounts));
    nodes.extend(of_accounts);
    let witness = Witness { state: nodes.into_values().collect(), ..Witness::default() };
    let state = PartialState::of_root(&witness, root);

    let account = Account { nonce: 1, balance: U256::ZERO, code_hash: KECCAK256_EMPTY };
    let fields = [Fields::Kept, Fields::Set(account), Fields::Deleted][random.below(3)];
    let mut change = AccountChange { fields, wiped: random.below(4) == 0, ..AccountChange::default() };
    let mut after = if change.wiped || fields == Fields::Deleted { Entries::new() } else { before };
    for slot in 0..14 {
        let value = U256::from(random.next() % 3);
        if fields == Fields::Deleted || random.below(2) == 0 {
            continue;
        }
        change.slots.insert(U256::from(slot), value);
        let (path, value_in_leaf) = entry(slot, value);
        if value.is_zero() {
            after.remove(&path)
        } else {
            after.insert(path, value_in_leaf)
        };
    }
    let expected = all_nodes(&after).0;
    let is_wiped = change.wiped;
    let changes = StateChanges::from([(owner, change)]);
    assert_eq!(state.storage_root_after(&owner, &changes), Ok(expected), "seed {seed}");
    assert_eq!(state.storage_root_after(&other, &changes), Ok(EMPTY_ROOT), "seed {seed}");
    assert_eq!(state.storage_root_after(&owner, &StateChanges::new()), Ok(storage_root), "seed {seed}");
    [is_wiped, fields == Fields::Deleted, expected == EMPTY_ROOT, expected == storage_root]
}

#[test]
fn the_storage_root_that_changes_lead_to() {
    let mut seen = [0; 4];
    for seed in 0..2_000 {
        for (count, is_such) in seen.iter_mut().zip(check(seed)) {
            *count += u32::from(is_such);
        }
    }
    println!("[wiped, deleted, empty after, as before]: {seen:?}");
    assert!(seen.iter().all(|&count| count > 20), "a kind of case is too rare: {seen:?}");
}
