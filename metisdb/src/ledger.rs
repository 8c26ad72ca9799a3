//! The writer's bookkeeping: what each segment still holds that someone can read, which accounts were wiped. Derived from the log; commit, replay and rebuild go through the same functions.
//!
//! A record's life: *newest* of its key; *superseded* by a newer one at version v; *dead* once every readable or pinned
//! version is v or later. A segment whose records are all dead is dropped by the checkpoint (rules 1 and 6).
//!
//! Invariant D1: the newest record of a key is never dead, tombstones and wipe marks included (rule 5): so a
//! rebuild never resurrects what they hide.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy_primitives::Address;

use crate::key::AccountId;

/// Bytes of one segment that died with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retired {
    /// The version that superseded them.
    pub(crate) version: u64,
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Bytes of records in each segment that are not dead.
    pub(crate) live: BTreeMap<u64, u64>,
    /// Superseded records that some version may still read, oldest first.
    retired: VecDeque<Retired>,
    /// Of all of them.
    retired_bytes: u64,
    /// Version of the newest wipe, for accounts that were ever wiped.
    pub(crate) wiped: HashMap<AccountId, u64>,
    /// Addresses of the accounts whose id is salted: it does not tell them.
    pub(crate) salted: HashMap<AccountId, Address>,
    /// Bytes that died since the database was opened.
    pub(crate) reclaimed_bytes: u64,
}

impl Ledger {
    /// A record of `bytes` came to stand in `segment`.
    pub(crate) fn add(&mut self, segment: u64, bytes: usize) {
        *self.live.entry(segment).or_default() += bytes as u64;
    }

    /// The record of `bytes` in `segment` was superseded at `version`.
    pub(crate) fn retire(&mut self, version: u64, segment: u64, bytes: usize) {
        debug_assert!(
            self.retired.back().is_none_or(|last| last.version <= version),
            "D1: retired in order of versions"
        );
        let bytes = bytes as u64;
        self.retired_bytes = self.retired_bytes.saturating_add(bytes);
        // The rows of a version are in the order of the segments.
        match self.retired.binary_search_by_key(&(version, segment), |row| (row.version, row.segment)) {
            Ok(at) => self.retired[at].bytes += bytes,
            Err(at) => self.retired.insert(at, Retired { version, segment, bytes }),
        }
    }

    /// What was superseded and some version may still read, oldest first.
    pub(crate) fn retired(&self) -> impl ExactSizeIterator<Item = &Retired> {
        self.retired.iter()
    }

    /// Bytes of all of that.
    pub(crate) fn retired_bytes(&self) -> u64 {
        self.retired_bytes
    }

    /// Takes over rows, in the order of their versions.
    pub(crate) fn set_retired(&mut self, rows: VecDeque<Retired>) {
        self.retired_bytes = rows.iter().fold(0, |sum, row| sum.saturating_add(row.bytes));
        self.retired = rows;
    }

    /// Everything superseded at or before `floor` is dead.
    pub(crate) fn bury(&mut self, floor: u64) {
        while let Some(row) = self.retired.front()
            && row.version <= floor
        {
            if let Some(live) = self.live.get_mut(&row.segment) {
                *live = live.saturating_sub(row.bytes);
            }
            self.reclaimed_bytes += row.bytes;
            self.retired_bytes = self.retired_bytes.saturating_sub(row.bytes);
            self.retired.pop_front();
        }
    }

    /// Bytes of superseded records that only open snapshots can reach: versions from `horizon` on cannot.
    pub(crate) fn held_back(&self, horizon: u64) -> u64 {
        let retained = self.retired.iter().rev().take_while(|row| row.version > horizon);
        self.retired_bytes.saturating_sub(retained.map(|row| row.bytes).sum())
    }

    /// An account's storage was wiped at `version`.
    pub(crate) fn wipe(&mut self, account: AccountId, version: u64) {
        self.wiped.insert(account, version);
    }
}
