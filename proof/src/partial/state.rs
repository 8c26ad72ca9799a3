//! The accounts and their storage, as far as a source has their nodes.

use alloc::vec::Vec;

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{
    AccountChange, Fields, NodePath, Source, StateChanges, WitnessError,
    trie::{Change, PartialTrie},
};
use crate::{
    Account, EMPTY_ROOT,
    account::{decode_account, encode_account, encode_value},
    node::PATH_NIBBLES,
    rlp::{Item, RlpError},
};

/// The state of a root, whose nodes a source gives as they are needed.
#[derive(Debug)]
pub(crate) struct State<'s, S> {
    pub(crate) source: &'s S,
    pub(crate) root: B256,
}

impl<S: Source> State<'_, S> {
    /// An account and the root of its storage.
    pub(crate) fn account(&self, address: &Address) -> Result<Option<(Account, B256)>, S::Error> {
        let path = keccak256(address);
        let Some(leaf) = self.accounts().get(&path)? else { return Ok(None) };
        let decoded = decode_account(&leaf);
        decoded.map(Some).map_err(|source| leaf_error(None, path, "an account", source).into())
    }

    /// A slot; zero where it is not set.
    pub(crate) fn slot(&self, address: &Address, slot: &U256) -> Result<U256, S::Error> {
        let Some((_, root)) = self.account(address)? else { return Ok(U256::ZERO) };
        let path = keccak256(slot.to_be_bytes::<32>());
        let Some(leaf) = self.storage(address, root).get(&path)? else { return Ok(U256::ZERO) };
        let value = Item::only(&leaf).and_then(Item::u256);
        let value = value.map_err(|source| leaf_error(Some(*address), path, "a slot's value", source))?;
        if value.is_zero() {
            let path = NodePath { account: Some(*address), path, nibbles: PATH_NIBBLES };
            return Err(WitnessError::ZeroLeaf { path }.into());
        }
        Ok(value)
    }

    /// The root after the changes.
    pub(crate) fn root_after(&self, changes: &StateChanges) -> Result<B256, S::Error> {
        let mut accounts = Vec::with_capacity(changes.len());
        for (address, change) in changes {
            if let Some(value) = self.leaf_after(address, change)? {
                accounts.push(Change::of(address.as_slice(), value));
            }
        }
        self.accounts().root_after(accounts)
    }

    /// Reads what is needed to remove what the changes remove before anything else is done, account by account and slot by slot.
    pub(crate) fn read_removals(&self, changes: &StateChanges) -> Result<(), S::Error> {
        let mut removed = Vec::new();
        for (address, AccountChange { fields, wiped, slots }) in changes {
            // Who creates an account anew may have deleted it first.
            if *wiped || *fields == Fields::Deleted {
                removed.push(Change::of(address.as_slice(), None));
            } else if let Some((_, root)) = self.account(address)? {
                let cleared = slots.iter().filter(|(_, value)| value.is_zero());
                self.storage(address, root).root_after(slot_changes(cleared))?;
            }
        }
        self.accounts().root_after(removed).map(|_| ())
    }

    /// The root of an account's storage after a change of it.
    pub(crate) fn storage_root_after(&self, address: &Address, change: &AccountChange) -> Result<B256, S::Error> {
        Ok(self.account_after(address, change)?.map_or(EMPTY_ROOT, |(_, root)| root))
    }

    /// The new value of an account's leaf, `Some(None)` where there is none any more; `None` if nothing becomes of it.
    fn leaf_after(&self, address: &Address, change: &AccountChange) -> Result<Option<Option<Vec<u8>>>, S::Error> {
        let account = self.account_after(address, change)?;
        let is_absent = account.is_none() && change.fields != Fields::Deleted;
        Ok((!is_absent).then(|| account.map(|(account, root)| encode_account(&account, root))))
    }

    /// The account and the root of its storage after a change of it.
    fn account_after(&self, address: &Address, change: &AccountChange) -> Result<Option<(Account, B256)>, S::Error> {
        let AccountChange { fields, wiped, slots } = change;
        let before = match fields {
            Fields::Deleted => None,
            Fields::Kept | Fields::Set(_) => self.account(address)?,
        };
        let account = match fields {
            Fields::Deleted => None,
            Fields::Set(account) => Some(*account),
            Fields::Kept => before.map(|(account, _)| account),
        };
        let Some(account) = account else {
            if slots.values().any(|value| !value.is_zero()) {
                return Err(WitnessError::SlotWithoutAccount { address: *address }.into());
            }
            return Ok(None);
        };
        let storage_root = before.filter(|_| !wiped).map_or(EMPTY_ROOT, |(_, root)| root);
        let storage_root = self.storage(address, storage_root).root_after(slot_changes(slots.iter()))?;
        Ok(Some((account, storage_root)))
    }

    fn accounts(&self) -> PartialTrie<'_, S> {
        PartialTrie { source: self.source, account: None, root: self.root }
    }

    fn storage(&self, address: &Address, root: B256) -> PartialTrie<'_, S> {
        PartialTrie { source: self.source, account: Some(*address), root }
    }
}

fn slot_changes<'c>(slots: impl Iterator<Item = (&'c U256, &'c U256)>) -> Vec<Change> {
    let change = |(slot, value): (&U256, &U256)| {
        Change::of(&slot.to_be_bytes::<32>(), (!value.is_zero()).then(|| encode_value(*value)))
    };
    slots.map(change).collect()
}

fn leaf_error(account: Option<Address>, path: B256, what: &'static str, source: RlpError) -> WitnessError {
    WitnessError::Leaf { path: NodePath { account, path, nibbles: PATH_NIBBLES }, what, source }
}
