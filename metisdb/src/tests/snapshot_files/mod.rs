//! Snapshot files: written, read by a naive reader, imported, damaged, stopped.

mod damage;
mod naive;
mod round_trips;
mod stopping;

use std::{ops::ControlFlow, path::Path};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use self::naive::Content;
use super::{
    Random, mix,
    naive_trie::{self, NaiveAccount},
    small, wide,
};
use crate::{Account, Block, Changes, Db, Durability, Snapshot, SnapshotFile, SnapshotTally};

/// A database with a random state that has a history, and the state.
fn random_state(db: &Db, random: &mut Random, accounts: u64) -> Content {
    let mut content = Content::default();
    for _ in 0..3 {
        commit_random(db, random, accounts, &mut content);
    }
    content
}

/// One more commit: some accounts go, some come or change; few different codes, one account with more slots than a chunk has records.
fn commit_random(db: &Db, random: &mut Random, accounts: u64, content: &mut Content) {
    let mut changes = Changes::new();
    for number in 0..accounts {
        let address = Address::from_slice(&keccak256(number.to_le_bytes())[..20]);
        let is_large = number == 1;
        if random.one_in(4) && !is_large {
            changes.delete_account(address);
            content.accounts.remove(&address);
            content.slots.retain(|(own, _), _| *own != address);
        }
        if random.one_in(3) && !is_large {
            continue;
        }
        let mut account = Account { nonce: random.below(3), balance: wide(random.next() >> 1), ..Account::default() };
        if random.one_in(3) {
            account.balance = U256::ZERO;
        }
        if random.one_in(2) {
            let code: Bytes = vec![random.below(20) as u8; 1 + random.below(40) as usize / 13].into();
            account.code_hash = keccak256(&code);
            changes.set_code(account.code_hash, code.clone());
            content.codes.insert(account.code_hash, code);
        }
        changes.set_account(address, account);
        content.accounts.insert(address, account);
        let slots = if is_large { 60 } else { random.below(6).saturating_sub(3) };
        for _ in 0..slots {
            let slot = if random.one_in(2) { U256::from(random.below(9)) } else { U256::from(mix(random.below(999))) };
            let value = if random.one_in(4) { U256::ZERO } else { wide(random.next() >> 1) >> random.below(256) };
            changes.set_storage(address, slot, value);
            content.slots.insert((address, slot), value);
        }
    }
    content.slots.retain(|_, value| !value.is_zero());
    db.commit(&changes, Durability::Pipelined).unwrap();
}

impl Content {
    /// By the naive trie.
    fn root(&self) -> B256 {
        let storage = |address: &Address| {
            let range = (*address, U256::ZERO)..=(*address, U256::MAX);
            self.slots.range(range).map(|((_, slot), value)| (*slot, *value)).collect()
        };
        let storages: Vec<_> = self.accounts.keys().map(storage).collect();
        let accounts = self.accounts.iter().zip(&storages).map(|((address, account), slots)| {
            let Account { nonce, balance, code_hash } = *account;
            (*address, NaiveAccount { nonce, balance, code_hash, slots })
        });
        naive_trie::state_root(accounts, naive_trie::hashed)
    }

    /// Without the codes that no account has any more.
    fn reachable(mut self) -> Self {
        let is_used = |hash: &B256| self.accounts.values().any(|account| account.code_hash == *hash);
        self.codes.retain(|hash, _| is_used(hash));
        self
    }

    /// Everything that a snapshot has, as it says itself.
    fn of(snapshot: &Snapshot) -> Self {
        let mut content = Self::default();
        for item in snapshot.accounts(B256::ZERO).unwrap() {
            let (_, address, account) = item.unwrap();
            content.accounts.insert(address, account);
            if let Some(code) = snapshot.code(&account.code_hash).unwrap() {
                content.codes.insert(account.code_hash, code);
            }
            for item in snapshot.slots(&address, B256::ZERO).unwrap() {
                let (_, slot, value) = item.unwrap();
                content.slots.insert((address, slot), value);
            }
        }
        content
    }
}

fn go_on(_: &SnapshotTally) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Goes on until this many chunks are done.
fn stop_at(chunks: u64) -> impl FnMut(&SnapshotTally) -> ControlFlow<()> {
    move |tally| if tally.chunks >= chunks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn exported(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let tally = snapshot.export_to(&mut bytes, go_on).unwrap();
    assert_eq!(tally.bytes, bytes.len() as u64);
    bytes
}

fn import(bytes: &[u8], target: &Path) -> crate::Result<SnapshotTally> {
    SnapshotFile::from_stream(bytes)?.import(target, small(), go_on)
}

fn verify(bytes: &[u8]) -> crate::Result<SnapshotTally> {
    SnapshotFile::from_stream(bytes)?.verify(go_on)
}

fn block(number: u64) -> Block {
    let hash = |number: u64| keccak256(number.to_le_bytes());
    Block { number, hash: hash(number), parent_hash: hash(number.wrapping_sub(1)), timestamp: number * 12 }
}

fn block_changes(number: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_block(block(number));
    changes
}
