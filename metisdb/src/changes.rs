//! The changes of one commit.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    proof::{Fields, StateChanges},
    types::{Account, Block},
};

/// Everything that one commit changes: sorted and free of duplicates whatever the order of the calls.
///
/// Later calls win over earlier ones. Zero storage values mean "absent". Whether an empty account
/// stays is the caller's word: what is set is stored, what is deleted is gone.
///
/// ```
/// use alloy_primitives::{Address, U256};
/// use metisdb::{Account, Changes};
///
/// let address = Address::repeat_byte(1);
/// let mut changes = Changes::new();
/// changes.set_account(address, Account { nonce: 1, ..Account::default() });
/// changes.set_storage(address, U256::from(7), U256::from(42));
/// assert_eq!(changes.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub(crate) accounts: BTreeMap<Address, Option<Account>>,
    /// Accounts whose slots of earlier commits are cleared.
    pub(crate) wiped: std::collections::BTreeSet<Address>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
    pub(crate) codes: BTreeMap<B256, Bytes>,
    pub(crate) block: Option<Block>,
}

impl Changes {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the account or overwrites its nonce, balance and code hash; its storage stays.
    pub fn set_account(&mut self, address: Address, account: Account) -> &mut Self {
        self.accounts.insert(address, Some(account));
        self
    }

    /// Deletes the account with all its storage, slots set earlier in these changes included.
    /// A later [`Changes::set_account`] creates it anew, with empty storage.
    pub fn delete_account(&mut self, address: Address) -> &mut Self {
        self.wipe_storage(address);
        self.accounts.insert(address, None);
        self
    }

    /// Clears all slots of the account, those set earlier in these changes included; the account stays.
    pub fn wipe_storage(&mut self, address: Address) -> &mut Self {
        let range = (address, U256::ZERO)..=(address, U256::MAX);
        let staged: Vec<_> = self.slots.range(range).map(|(key, _)| *key).collect();
        for key in staged {
            self.slots.remove(&key);
        }
        self.wiped.insert(address);
        self
    }

    /// Sets a slot; zero clears it. The account must exist after the commit.
    pub fn set_storage(&mut self, address: Address, slot: U256, value: U256) -> &mut Self {
        self.slots.insert((address, slot), value);
        self
    }

    /// Stores code under its Keccak-256 hash, which the commit verifies. Code is never deleted.
    pub fn set_code(&mut self, code_hash: B256, code: Bytes) -> &mut Self {
        self.codes.insert(code_hash, code);
        self
    }

    /// Sets the metadata of the block that this commit makes.
    pub fn set_block(&mut self, block: Block) -> &mut Self {
        self.block = Some(block);
        self
    }

    /// The accounts that are set, and those that are deleted (`None`), by address.
    pub fn accounts(&self) -> impl Iterator<Item = (&Address, Option<&Account>)> {
        self.accounts.iter().map(|(address, account)| (address, account.as_ref()))
    }

    /// The accounts whose slots of earlier commits are cleared, by address; all that are deleted are among them.
    pub fn wiped(&self) -> impl Iterator<Item = &Address> {
        self.wiped.iter()
    }

    /// The slots that are set, or cleared by a zero, by address and number.
    pub fn slots(&self) -> impl Iterator<Item = (&(Address, U256), &U256)> {
        self.slots.iter()
    }

    /// The codes that are stored, by hash.
    pub fn codes(&self) -> impl Iterator<Item = (&B256, &Bytes)> {
        self.codes.iter()
    }

    /// The metadata of the block that this commit makes.
    pub fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// The changes of the state account by account, as [`PartialState::root_after`](crate::proof::PartialState::root_after) takes them.
    pub fn by_account(&self) -> StateChanges {
        let mut changes = StateChanges::new();
        for (address, account) in &self.accounts {
            changes.entry(*address).or_default().fields = account.map_or(Fields::Deleted, Fields::Set);
        }
        for address in &self.wiped {
            changes.entry(*address).or_default().wiped = true;
        }
        for ((address, slot), value) in &self.slots {
            changes.entry(*address).or_default().slots.insert(*slot, *value);
        }
        changes
    }

    /// Number of single changes.
    pub fn len(&self) -> usize {
        self.accounts.len() + self.wiped.len() + self.slots.len() + self.codes.len() + usize::from(self.block.is_some())
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
