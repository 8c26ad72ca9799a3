//! The root of the state that goes by, record after record.

use alloy_primitives::B256;

use super::chunk::Entry;
use crate::{
    trie::{
        commitment::{Commitment, Payload},
        sorted::SortedTrie,
    },
    types::Account,
};

/// Takes records in the order of a file.
#[derive(Debug)]
pub(super) struct StateRoot<'c> {
    accounts: SortedTrie<'c>,
    /// Of the last account.
    storage: SortedTrie<'c>,
    account: Option<(B256, Account)>,
}

impl<'c> StateRoot<'c> {
    /// In front of all records.
    pub(super) fn new(scheme: &'c dyn Commitment) -> Self {
        Self { accounts: SortedTrie::new(scheme), storage: SortedTrie::new(scheme), account: None }
    }

    /// Takes a record, with the path of its key.
    pub(super) fn push(&mut self, entry: &Entry<'_>, path: B256) {
        match *entry {
            Entry::Account(_, account) => {
                self.end_account();
                self.account = Some((path, account));
            }
            Entry::Slot(_, value) => self.storage.push(path, Payload::Slot(value), B256::ZERO),
            Entry::Code(_) | Entry::Continued(_) => {}
        }
    }

    /// The root, behind all records.
    pub(super) fn finish(mut self) -> B256 {
        self.end_account();
        self.accounts.finish()
    }

    fn end_account(&mut self) {
        if let Some((path, account)) = self.account.take() {
            self.accounts.push(path, Payload::Account(account), self.storage.finish());
        }
    }
}
