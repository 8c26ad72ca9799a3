//! Reading a state that may not be committed yet: a version of the log, and over it the changes of a chain of proposals.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    error::Result,
    key::{AccountId, RecordKey},
    log::{
        Damage,
        record::{Body, StoredAccount},
    },
    lookup::{Found, Lookup},
    stage::Staged,
    trie::{
        commitment::{Commitment, Payload},
        nibbles::Nibbles,
        node::KeyTag,
        update::LeafSource,
    },
    types::Block,
};

/// A record that will be superseded: where it stands, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Superseded {
    pub(crate) position: u64,
    pub(crate) bytes: usize,
}

impl From<&Found<'_>> for Superseded {
    fn from(found: &Found<'_>) -> Self {
        Self { position: found.position, bytes: found.record.body.padded_bytes() }
    }
}

/// What is known of a key: its newest record's body, and its place if that is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) body: Body<'a>,
    pub(crate) superseded: Option<Superseded>,
}

/// See the module's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) lookup: &'a Lookup,
    pub(crate) commitment: &'a dyn Commitment,
    pub(crate) version: u64,
    /// Oldest first.
    pub(crate) staged: &'a [Arc<Staged>],
}

impl<'a> View<'a> {
    /// The newest record of a key.
    pub(crate) fn find(&self, hash: u64, is_key: impl Fn(&Body<'_>) -> bool) -> Result<Option<Known<'a>>> {
        for staged in self.staged.iter().rev() {
            if let Some(body) = staged.find(KeyTag::of(hash), &is_key) {
                return Ok(Some(Known { body, superseded: None }));
            }
        }
        let found = self.lookup.find(hash, self.version, is_key)?;
        Ok(found.map(|found| Known { body: found.record.body, superseded: Some(Superseded::from(&found)) }))
    }

    /// The newest record of an account, a tombstone included.
    pub(crate) fn find_account(&self, address: &Address) -> Result<Option<Known<'a>>> {
        self.find(self.lookup.hasher.account_id(address, 0).0, |body| {
            matches!(body, Body::Account { address: own, .. } | Body::AccountDeleted { address: own, .. } if own == address)
        })
    }

    /// The newest record of any key.
    pub(crate) fn find_key(&self, key: &RecordKey) -> Result<Option<Known<'a>>> {
        self.find(self.lookup.hasher.record(key), |body| body.key() == *key)
    }

    /// An account that exists.
    pub(crate) fn account(&self, address: &Address) -> Result<Option<StoredAccount>> {
        Ok(self.find_account(address)?.and_then(|known| match known.body {
            Body::Account { stored, .. } => Some(stored),
            _ => None,
        }))
    }

    /// The id of an account that is or was; `None` where the address has none.
    pub(crate) fn account_id(&self, address: &Address) -> Result<Option<AccountId>> {
        let salt = match self.find_account(address)?.map(|known| known.body) {
            Some(Body::Account { stored, .. }) => stored.salt,
            Some(Body::AccountDeleted { salt, .. }) => salt,
            _ => return Ok(None),
        };
        Ok(Some(self.lookup.hasher.account_id(address, salt)))
    }

    /// A slot's value, and the record that says so, a tombstone or a wiped one included.
    pub(crate) fn slot(&self, account: AccountId, slot: &U256) -> Result<(U256, Option<Superseded>)> {
        let hash = self.lookup.hasher.slot(account, slot);
        let is_key = |body: &Body<'_>| matches!(body, Body::Slot { account: own, slot: number, .. } if *own == account && number == slot);
        for staged in self.staged.iter().rev() {
            if let Some(Body::Slot { value, .. }) = staged.find(KeyTag::of(hash), is_key) {
                return Ok((value, None));
            }
            if staged.wiped.contains(&account) {
                return Ok((U256::ZERO, None));
            }
        }
        let Some(found) = self.lookup.find(hash, self.version, is_key)? else { return Ok((U256::ZERO, None)) };
        let Body::Slot { value, .. } = found.record.body else { return Ok((U256::ZERO, None)) };
        let hidden = self.lookup.wipes.may_contain(account)
            && self.lookup.is_wiped(account, found.record.version, self.version)?;
        Ok((if hidden { U256::ZERO } else { value }, Some(Superseded::from(&found))))
    }

    /// Code by its hash.
    pub(crate) fn code(&self, hash: &B256) -> Result<Option<Bytes>> {
        let staged = self.staged.iter().rev().flat_map(|staged| &staged.codes).find(|code| code.hash == *hash);
        match staged {
            Some(code) => Ok(Some(code.code.clone())),
            None => self.lookup.code_at(hash, self.version),
        }
    }

    /// A block's metadata.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>> {
        Ok(self.find_key(&RecordKey::Block(number))?.and_then(|known| match known.body {
            Body::Block(block) => Some(block),
            _ => None,
        }))
    }

    /// The address of an account that has a leaf in the trie. Of all accounts with the leaf's tag and prefix it is the only one that exists.
    pub(crate) fn account_of_leaf(&self, key: KeyTag, prefix: &Nibbles) -> Result<(B256, Address, StoredAccount)> {
        self.account_of_leaf_among(key, prefix, |_| true)
    }

    /// The same for a trie that is not whole yet, of the accounts that are in it.
    pub(crate) fn account_of_leaf_among(
        &self,
        key: KeyTag,
        prefix: &Nibbles,
        is_in: impl Fn(&Found<'_>) -> bool,
    ) -> Result<(B256, Address, StoredAccount)> {
        let path_of = |address: &Address| self.path_under(prefix, address.as_slice());
        // Those that some proposal deletes: what is older of them does not count.
        let mut gone: Vec<Address> = Vec::new();
        for body in self.staged.iter().rev().flat_map(|staged| staged.with_tag(key)) {
            match body {
                Body::Account { address, stored } if !gone.contains(&address) => {
                    if let Some(path) = path_of(&address) {
                        return Ok((path, address, stored));
                    }
                }
                Body::AccountDeleted { address, .. } => gone.push(address),
                _ => {}
            }
        }
        let is_key = |body: &Body<'_>| match body {
            Body::Account { address, .. } | Body::AccountDeleted { address, .. } => {
                KeyTag::of(self.lookup.hasher.account_id(address, 0).0) == key && !gone.contains(address)
            }
            _ => false,
        };
        let found = self.lookup.find_map(key.get(), self.version, is_key, |found| {
            Ok(match found.record.body {
                Body::Account { address, stored } if is_in(found) => {
                    path_of(&address).map(|path| (path, address, stored))
                }
                _ => None,
            })
        })?;
        found.ok_or_else(|| self.no_leaf(key, prefix))
    }

    /// A slot that has a leaf in the trie: path, number and value.
    pub(crate) fn slot_of_leaf(&self, account: AccountId, key: KeyTag, prefix: &Nibbles) -> Result<(B256, U256, U256)> {
        self.slot_of_leaf_among(account, key, prefix, |_| true)
    }

    /// The same for a trie that is not whole yet, of the slots that are in it.
    pub(crate) fn slot_of_leaf_among(
        &self,
        account: AccountId,
        key: KeyTag,
        prefix: &Nibbles,
        is_in: impl Fn(&Found<'_>) -> bool,
    ) -> Result<(B256, U256, U256)> {
        let path_of = |slot: &U256| self.path_under(prefix, &slot.to_be_bytes::<32>());
        // As above.
        let mut gone: Vec<U256> = Vec::new();
        for staged in self.staged.iter().rev() {
            for body in staged.with_tag(key) {
                match body {
                    Body::Slot { account: own, slot, value } if own == account && !gone.contains(&slot) => {
                        if value.is_zero() {
                            gone.push(slot);
                        } else if let Some(path) = path_of(&slot) {
                            return Ok((path, slot, value));
                        }
                    }
                    _ => {}
                }
            }
            if staged.wiped.contains(&account) {
                return Err(self.no_leaf(key, prefix));
            }
        }
        let is_key = |body: &Body<'_>| match body {
            Body::Slot { account: own, slot, .. } => {
                *own == account && KeyTag::of(self.lookup.hasher.slot(account, slot)) == key && !gone.contains(slot)
            }
            _ => false,
        };
        let found = self.lookup.find_map(key.get(), self.version, is_key, |found| {
            let Body::Slot { slot, value, .. } = found.record.body else { return Ok(None) };
            let hidden = self.lookup.wipes.may_contain(account)
                && self.lookup.is_wiped(account, found.record.version, self.version)?;
            let has_leaf = !value.is_zero() && !hidden && is_in(found);
            Ok(if has_leaf { path_of(&slot).map(|path| (path, slot, value)) } else { None })
        })?;
        found.ok_or_else(|| self.no_leaf(key, prefix))
    }

    /// The path of a key, if it begins so.
    fn path_under(&self, prefix: &Nibbles, key: &[u8]) -> Option<B256> {
        let path = self.commitment.paths(&[key])[0];
        (prefix.shared_with(&path, 0) == prefix.len()).then_some(path)
    }

    #[cold]
    fn no_leaf(&self, key: KeyTag, prefix: &Nibbles) -> crate::Error {
        let expected = format!("a record for the leaf {:012x} under {:02x?}", key.get(), prefix.packed());
        Damage::new(expected, "none").at("trie", self.lookup.storage.path(), 0)
    }
}

impl LeafSource for View<'_> {
    fn leaf(&self, account: Option<AccountId>, key: KeyTag, prefix: &Nibbles) -> Result<(B256, Payload)> {
        match account {
            Some(account) => {
                let (path, _, value) = self.slot_of_leaf(account, key, prefix)?;
                Ok((path, Payload::Slot(value)))
            }
            None => {
                let (path, _, stored) = self.account_of_leaf(key, prefix)?;
                Ok((path, Payload::Account(stored.account)))
            }
        }
    }
}
