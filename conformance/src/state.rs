//! States, as fixtures and genesis files write them, and the changes that lead from one to another.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use metisdb::{Account, Changes};
use serde::Deserialize;

use crate::{
    hex,
    naive_trie::{self, NaiveAccount, hashed},
};

/// An account as JSON has it.
#[derive(Debug, Deserialize)]
pub struct Written<'t> {
    #[serde(borrow)]
    balance: Option<&'t str>,
    nonce: Option<&'t str>,
    code: Option<&'t str>,
    storage: Option<BTreeMap<&'t str, &'t str>>,
}

/// An account with its code and its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The account.
    pub account: Account,
    /// Its code; empty where there is none.
    pub code: Bytes,
    /// Its slots that are not zero.
    pub slots: BTreeMap<U256, U256>,
}

/// A whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub BTreeMap<Address, Whole>);

impl From<&Written<'_>> for Whole {
    fn from(written: &Written<'_>) -> Self {
        let code = written.code.map(hex::bytes).unwrap_or_default();
        let account = Account {
            nonce: written.nonce.map_or(0, hex::small),
            balance: written.balance.map_or(U256::ZERO, hex::number),
            code_hash: if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) },
        };
        let slots = written.storage.iter().flatten().map(|(slot, value)| (hex::number(slot), hex::number(value)));
        Self { account, code, slots: slots.filter(|(_, value)| !value.is_zero()).collect() }
    }
}

impl Whole {
    /// The root of the storage trie, by the naive trie.
    pub fn storage_root(&self) -> B256 {
        naive_trie::storage_root(&self.slots, &hashed)
    }

    fn leaf(&self) -> NaiveAccount<'_> {
        let Account { nonce, balance, code_hash } = self.account;
        NaiveAccount { nonce, balance, code_hash, slots: &self.slots }
    }

    fn set_code(&self, changes: &mut Changes) {
        if !self.code.is_empty() {
            changes.set_code(self.account.code_hash, self.code.clone());
        }
    }

    fn create(&self, address: Address, changes: &mut Changes) {
        changes.set_account(address, self.account);
        self.set_code(changes);
        for (slot, value) in &self.slots {
            changes.set_storage(address, *slot, *value);
        }
    }

    /// Whether this can be `old` only by a deletion and a creation: a nonce never falls and code never changes. (A delegation
    /// of EIP-7702 changes; to delete such an account and create it anew comes to the same state.)
    fn is_new_after(&self, old: &Self) -> bool {
        self.account.nonce < old.account.nonce || (!old.code.is_empty() && self.code != old.code)
    }

    fn update(&self, old: &Self, address: Address, changes: &mut Changes) {
        if self.is_new_after(old) {
            changes.delete_account(address);
            self.create(address, changes);
            return;
        }
        if self.account != old.account {
            changes.set_account(address, self.account);
        }
        if self.code != old.code {
            self.set_code(changes);
        }
        if self.slots.is_empty() && !old.slots.is_empty() {
            changes.wipe_storage(address);
            return;
        }
        for slot in old.slots.keys().filter(|slot| !self.slots.contains_key(*slot)) {
            changes.set_storage(address, *slot, U256::ZERO);
        }
        for (slot, value) in self.slots.iter().filter(|(slot, value)| old.slots.get(*slot) != Some(*value)) {
            changes.set_storage(address, *slot, *value);
        }
    }
}

impl State {
    /// The state of JSON accounts by their addresses.
    pub fn new(written: &BTreeMap<&str, Written<'_>>) -> Self {
        Self(written.iter().map(|(address, account)| (hex::address(address), account.into())).collect())
    }

    /// Whether an account has storage, but neither code nor a nonce: so a contract could be created at its address.
    pub fn has_storage_without_code(&self) -> bool {
        let is_bare = |whole: &Whole| whole.account.nonce == 0 && whole.code.is_empty();
        self.0.values().any(|whole| is_bare(whole) && !whole.slots.is_empty())
    }

    /// The root, by the naive trie.
    pub fn root(&self) -> B256 {
        naive_trie::state_root(self.0.iter().map(|(address, whole)| (*address, whole.leaf())), hashed)
    }

    /// What makes this state out of `old`.
    pub fn changes_since(&self, old: &Self) -> Changes {
        let mut changes = Changes::new();
        for address in old.0.keys().filter(|address| !self.0.contains_key(*address)) {
            changes.delete_account(*address);
        }
        for (address, whole) in &self.0 {
            match old.0.get(address) {
                None => whole.create(*address, &mut changes),
                Some(old) => whole.update(old, *address, &mut changes),
            }
        }
        changes
    }
    /// What makes this state out of `old` the long way: every account is deleted, and those of this state created anew.
    pub fn changes_instead_of(&self, old: &Self) -> Changes {
        let mut changes = Changes::new();
        for address in old.0.keys() {
            changes.delete_account(*address);
        }
        for (address, whole) in &self.0 {
            whole.create(*address, &mut changes);
        }
        changes
    }
}
