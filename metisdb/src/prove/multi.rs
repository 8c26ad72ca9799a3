//! Proving many accounts and slots at once.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};

use super::{Collected, Prover, Subject};
use crate::{
    error::Result,
    proof::{AccountClaim, MultiProof, SlotClaim},
};

impl Prover<'_> {
    /// Proves accounts and slots, present or absent, given in any order, each of them as often as may be.
    pub(crate) fn multi(&self, keys: &[(Address, &[U256])]) -> Result<MultiProof> {
        let mut asked: BTreeMap<B256, (Address, BTreeSet<U256>)> = BTreeMap::new();
        for (address, slots) in keys {
            let (_, known) = asked.entry(self.path(address.as_slice())).or_insert((*address, BTreeSet::new()));
            known.extend(*slots);
        }
        let paths: Vec<B256> = asked.keys().copied().collect();
        let Collected { nodes, leaves } = self.on_paths(&self.accounts(), &paths)?;
        let mut accounts = Vec::with_capacity(asked.len());
        for (path, (address, slots)) in asked {
            let (account, storage) = self.found(&address, &path, &leaves)?;
            let storage_root = storage.root;
            let (slots, Collected { nodes, .. }) = self.slots(&storage, slots)?;
            accounts.push(AccountClaim { address, account, storage_root, slots, nodes });
        }
        Ok(MultiProof { accounts, nodes })
    }

    /// Slots in the order of their paths, and the nodes on these.
    fn slots(&self, storage: &Subject, slots: BTreeSet<U256>) -> Result<(Vec<SlotClaim>, Collected)> {
        let by_path: BTreeMap<B256, U256> =
            slots.into_iter().map(|slot| (self.path(&slot.to_be_bytes::<32>()), slot)).collect();
        let paths: Vec<B256> = by_path.keys().copied().collect();
        let claim = |slot| Ok(SlotClaim { slot, value: self.slot(storage, &slot)? });
        Ok((by_path.into_values().map(claim).collect::<Result<_>>()?, self.on_paths(storage, &paths)?))
    }
}
