//! Proving all accounts, or all slots of one account, between two hashes.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Bytes};

use super::{Prover, Subject, Wanted, storage_root};
use crate::{
    error::{Error, Result},
    proof::{AccountRange, AccountRangeEntry, SlotClaim, StorageRange},
    trie::walk::{Leaves, Met},
};

impl Prover<'_> {
    /// Proves all accounts in a range, or the first `limit` of them: then the range ends with the last of these.
    pub(crate) fn account_range(&self, range: RangeInclusive<B256>, limit: usize) -> Result<AccountRange> {
        let entry = |met: &Met| {
            let (path, address, stored) = self.view.account_of_leaf(met.leaf.key, &met.prefix)?;
            let storage_root = storage_root(met.leaf.storage.as_ref());
            Ok((path, AccountRangeEntry { address, account: stored.account, storage_root }))
        };
        let subject = self.accounts();
        let (accounts, range) = self.entries(&subject, range, limit, entry)?;
        let nodes = self.at_edges(&subject, &range)?;
        let (from, to) = range.into_inner();
        Ok(AccountRange { from, to, accounts, nodes })
    }

    /// The same for the slots of an account.
    pub(crate) fn storage_range(
        &self,
        address: &Address,
        range: RangeInclusive<B256>,
        limit: usize,
    ) -> Result<StorageRange> {
        let (account, subject) = self.account_alone(address)?;
        let (slots, range) = match subject.owner {
            Some(owner) => self.entries(&subject, range, limit, |met| {
                let (path, slot, value) = self.view.slot_of_leaf(owner, met.leaf.key, &met.prefix)?;
                Ok((path, SlotClaim { slot, value }))
            })?,
            None => (Vec::new(), range),
        };
        let nodes = self.at_edges(&subject, &range)?;
        let (from, to) = range.into_inner();
        Ok(StorageRange { account, from, to, slots, nodes })
    }

    /// What a trie holds in a range, up to a limit of entries, and the range that this is all of.
    fn entries<T>(
        &self,
        subject: &Subject,
        range: RangeInclusive<B256>,
        limit: usize,
        entry: impl Fn(&Met) -> Result<(B256, T)>,
    ) -> Result<(Vec<T>, RangeInclusive<B256>)> {
        let (from, to) = range.into_inner();
        let (mut entries, mut last) = (Vec::new(), from);
        for met in Leaves::new(&self.tries.arena, subject.top.as_ref(), subject.birth, from) {
            let (path, found) = entry(&met?)?;
            if path > to {
                break;
            }
            if path < from {
                continue;
            }
            // Without any entry a range would say nothing of where to go on.
            if entries.len() >= limit.max(1) {
                return Ok((entries, from..=last));
            }
            entries.push(found);
            last = path;
        }
        Ok((entries, from..=to))
    }

    /// The nodes below which paths inside a range and paths outside lie.
    fn at_edges(&self, subject: &Subject, range: &RangeInclusive<B256>) -> Result<Vec<Bytes>> {
        let (from, to) = (range.start(), range.end());
        if from > to {
            return Err(Error::EmptyRange { from: *from, to: *to });
        }
        let collected = self.collect(subject, &|prefix| {
            let (first, last) = (prefix.first_path(), prefix.last_path());
            if last < *from || *to < first {
                Wanted::Nothing
            } else if *from <= first && last <= *to {
                Wanted::Whole
            } else {
                Wanted::Part
            }
        })?;
        Ok(collected.nodes)
    }
}
