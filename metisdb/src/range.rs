//! Going through accounts and slots in the order of their hashed keys.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};

use crate::{
    error::{Error, Result},
    key::AccountId,
    snapshot::Snapshot,
    trie::{arena::Arena, walk::Leaves},
    tries::HeldTrie,
    types::Account,
    view::View,
};

/// The accounts of a snapshot by the Keccak-256 hash of their address: [`Snapshot::accounts`].
#[derive(Debug)]
pub struct Accounts<'s> {
    snapshot: &'s Snapshot,
    leaves: Leaves<'s>,
    view: View<'s>,
    from: B256,
    has_expired: bool,
    /// Keeps the nodes where they are.
    _trie: Arc<HeldTrie>,
}

impl<'s> Accounts<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, from: B256) -> Result<Self> {
        let trie = snapshot.trie()?;
        let arena: &'s Arena = &snapshot.store().tries.arena;
        let leaves = Leaves::new(arena, trie.trie.top.as_ref(), u32::MAX, from);
        Ok(Self { snapshot, leaves, view: snapshot.view(), from, has_expired: false, _trie: trie })
    }

    fn advance(&mut self) -> Result<Option<(B256, Address, Account)>> {
        let _reading = self.snapshot.begin_read()?;
        while let Some(met) = self.leaves.next().transpose()? {
            let (path, address, stored) = self.view.account_of_leaf(met.leaf.key, &met.prefix)?;
            if path >= self.from {
                return Ok(Some((path, address, stored.account)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Accounts<'_> {
    type Item = Result<(B256, Address, Account)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_expired {
            return None;
        }
        let item = self.advance().transpose();
        self.has_expired = matches!(item, Some(Err(Error::SnapshotExpired { .. })));
        item
    }
}

/// The slots of an account by the Keccak-256 hash of their number: [`Snapshot::slots`].
#[derive(Debug)]
pub struct Slots<'s> {
    snapshot: &'s Snapshot,
    leaves: Leaves<'s>,
    view: View<'s>,
    account: Option<AccountId>,
    from: B256,
    has_expired: bool,
    _trie: Arc<HeldTrie>,
}

impl<'s> Slots<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, address: &Address, from: B256) -> Result<Self> {
        let trie = snapshot.trie()?;
        let view = snapshot.view();
        let top = snapshot.store().storage_top(&trie.trie, &view, address)?;
        let (top, birth) = top.map_or((None, 0), |(top, birth)| (Some(top), birth));
        let arena: &'s Arena = &snapshot.store().tries.arena;
        let leaves = Leaves::new(arena, top.as_deref(), birth, from);
        Ok(Self { snapshot, leaves, account: view.account_id(address)?, view, from, has_expired: false, _trie: trie })
    }

    fn advance(&mut self) -> Result<Option<(B256, U256, U256)>> {
        let _reading = self.snapshot.begin_read()?;
        let Some(account) = self.account else { return Ok(None) };
        while let Some(met) = self.leaves.next().transpose()? {
            let (path, slot, value) = self.view.slot_of_leaf(account, met.leaf.key, &met.prefix)?;
            if path >= self.from {
                return Ok(Some((path, slot, value)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Slots<'_> {
    type Item = Result<(B256, U256, U256)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_expired {
            return None;
        }
        let item = self.advance().transpose();
        self.has_expired = matches!(item, Some(Err(Error::SnapshotExpired { .. })));
        item
    }
}
