//! How a record is found: by the index and the log's maps alone.
//!
//! Reading takes no lock and never waits: an index line, the record, and one step along `previous` for each newer version of
//! the key than the one asked for.
//!
//! Invariants:
//! * R1 (rule 10): a record's checksum is verified before its key or its version is believed; the index entry remembers that.
//! * R2: versions fall strictly along `previous`, so every walk ends.
//! * R3 (rule 9): a slot counts only if its record is not older than the account's last wipe at or before the version read.
//! * R4 (rule 10): nothing of a record is believed, not even that it is another key's, before it is known that none of its pages is lost
//!   (see `storage::is_lost`), which is asked after the last of its bytes was read.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    error::{Error, Result},
    index::{Candidate, Index, Pass},
    key::{AccountId, KeyHasher, RecordKey},
    log::{
        Damage,
        record::{self, Body, Record, StoredAccount},
        segment::SegmentTable,
    },
    probe,
    storage::{self, Storage},
};

/// All that reading needs.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) index: Index,
    pub(crate) table: SegmentTable,
    pub(crate) hasher: KeyHasher,
    pub(crate) wipes: WipeFilter,
    /// Whether some account id is salted (see `key`).
    pub(crate) salted: AtomicBool,
    pub(crate) verify_every_read: bool,
    pub(crate) storage: Arc<dyn Storage>,
}

/// A record that was found, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'s> {
    pub(crate) position: u64,
    pub(crate) record: Record<'s>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    pub(crate) version: u64,
    /// Its length with its padding.
    pub(crate) bytes: usize,
}

impl Lookup {
    /// The record of a key that is newest at or before `version`; tombstones are found too.
    #[inline]
    pub(crate) fn find<'s>(
        &'s self,
        hash: u64,
        version: u64,
        is_key: impl Fn(&Body<'_>) -> bool,
    ) -> Result<Option<Found<'s>>> {
        let found = self.index.find(hash, |candidate| {
            let record = self.load_candidate(&candidate)?;
            if !is_key(&record.body) {
                return Ok(None);
            }
            let found = Found { position: candidate.position, record };
            if record.version <= version {
                return Ok(Some(Some(found)));
            }
            self.walk_back(found, version).map(Some)
        })?;
        Ok(found.flatten())
    }

    /// What `take` makes of the first record, newest at or before `version`, of a key that is `candidate`, and for which it makes anything. Only the
    /// lower bits of the hash have to be known (see [`KeyTag`](crate::trie::node::KeyTag)).
    pub(crate) fn find_map<T>(
        &self,
        hash: u64,
        version: u64,
        candidate: impl Fn(&Body<'_>) -> bool,
        take: impl Fn(&Found<'_>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.index.find(hash, |entry| {
            let record = self.load_candidate(&entry)?;
            if !candidate(&record.body) {
                return Ok(None);
            }
            match self.walk_back(Found { position: entry.position, record }, version)? {
                Some(found) => take(&found),
                None => Ok(None),
            }
        })
    }

    /// Like [`Lookup::find`] for any key.
    pub(crate) fn find_key(&self, key: &RecordKey, version: u64) -> Result<Option<Found<'_>>> {
        self.find(self.hasher.record(key), version, |body| body.key() == *key)
    }

    /// Where the newest record of a key stands. It is compared in place; that it was verified is not noted, for whoever asks is about to
    /// replace it.
    pub(crate) fn newest(&self, hash: u64, key: &RecordKey) -> Result<Option<Placed>> {
        self.index.find(hash, |candidate| {
            let position = candidate.position;
            let bytes = self.verified_bytes(position, candidate.verified)?;
            let is_key = record::is_of_key(bytes, key).map_err(|damage| self.unsound(damage, position, bytes))?;
            let placed = Placed { position, version: record::version(bytes), bytes: record::padded(bytes) };
            if storage::is_lost(bytes) { Err(self.unreadable(position)) } else { Ok(is_key.then_some(placed)) }
        })
    }

    /// What stands at a position that a live record names.
    pub(crate) fn placed(&self, position: u64) -> Result<Placed> {
        let bytes = self.verified_bytes(position, false)?;
        let placed = Placed { position, version: record::version(bytes), bytes: record::padded(bytes) };
        if storage::is_lost(bytes) { Err(self.unreadable(position)) } else { Ok(placed) }
    }

    fn walk_back<'s>(&'s self, mut found: Found<'s>, version: u64) -> Result<Option<Found<'s>>> {
        while found.record.version > version {
            let Some(previous) = found.record.previous else { return Ok(None) };
            let record = self.load(previous, false)?;
            if record.version >= found.record.version {
                let expected = format!("a version below {}", found.record.version);
                return Err(self.damage(Damage::new(expected, format!("{}", record.version)), previous));
            }
            found = Found { position: previous, record };
        }
        Ok(Some(found))
    }

    #[inline]
    fn load_candidate(&self, candidate: &Candidate<'_>) -> Result<Record<'_>> {
        let record = self.load(candidate.position, candidate.verified)?;
        if !candidate.verified {
            candidate.mark_verified();
        }
        Ok(record)
    }

    /// The record at a position that the index or a live record names, verified unless it was before (R1).
    #[inline]
    pub(crate) fn load(&self, position: u64, verified: bool) -> Result<Record<'_>> {
        let bytes = self.verified_bytes(position, verified)?;
        let record = record::decode(bytes).map_err(|damage| self.unsound(damage, position, bytes))?;
        if storage::is_lost(bytes) { Err(self.unreadable(position)) } else { Ok(record) }
    }

    /// The bytes of a record without its padding. Whether one of their pages is lost is for the caller to ask (R4).
    #[inline(always)]
    fn verified_bytes(&self, position: u64, verified: bool) -> Result<&[u8]> {
        let head = self.bytes(position, record::LEAST_BYTES)?;
        let prefix = self.bytes(position, record::prefix_bytes(head))?;
        let length = record::length(prefix).map_err(|damage| self.unsound(damage, position, prefix))?;
        let bytes = self.bytes(position, length)?;
        if (!verified || self.verify_every_read) && !probe::skip("record-verify") {
            record::verify(bytes, position).map_err(|damage| self.unsound(damage, position, bytes))?;
        }
        Ok(bytes)
    }

    #[inline]
    fn bytes(&self, position: u64, length: usize) -> Result<&[u8]> {
        // SAFETY: positions come from index entries and `previous` pointers reached under a pin or the
        // commit lock, which keep the record's segment (invariants L1 and P1). Lengths are those that the record states
        // itself; only if it is damaged can they reach behind it, to bytes that are mapped all the same, and then the checksum fails.
        match unsafe { self.table.bytes(position, length) } {
            Some(bytes) => Ok(bytes),
            None => Err(self
                .damage(Damage::new("a record inside the log", format!("{length} bytes from {position}")), position)),
        }
    }

    /// What the log keeps of an account at a version.
    pub(crate) fn account_at(&self, address: &Address, version: u64) -> Result<Option<StoredAccount>> {
        let found = self.find_account(address, version)?;
        Ok(found.and_then(|found| match found.record.body {
            Body::Account { stored, .. } => Some(stored),
            _ => None,
        }))
    }

    /// The account's record, a tombstone included.
    pub(crate) fn find_account(&self, address: &Address, version: u64) -> Result<Option<Found<'_>>> {
        self.find(self.hasher.account_id(address, 0).0, version, |body| {
            matches!(body, Body::Account { address: own, .. } | Body::AccountDeleted { address: own, .. } if own == address)
        })
    }

    /// The id under which the account's slots stand; `None` where it surely has none.
    #[inline(always)]
    pub(crate) fn account_id(&self, address: &Address) -> Result<Option<AccountId>> {
        if self.salted.load(Ordering::Acquire) {
            return self.salted_account_id(address);
        }
        Ok(Some(self.hasher.account_id(address, 0)))
    }

    /// The id of an account that is or was, as its newest record says.
    pub(crate) fn known_account_id(&self, address: &Address) -> Result<Option<AccountId>> {
        self.salted_account_id(address)
    }

    /// The address of an account whose id is not salted.
    pub(crate) fn address_of_plain_id(&self, id: AccountId) -> Result<Option<Address>> {
        let has_id = |body: &Body<'_>| match body {
            Body::Account { address, stored: StoredAccount { salt: 0, .. } }
            | Body::AccountDeleted { address, salt: 0 } => self.hasher.account_id(address, 0) == id,
            _ => false,
        };
        let found = self.find(id.0, u64::MAX, has_id)?;
        Ok(found.and_then(|found| match found.record.body {
            Body::Account { address, .. } | Body::AccountDeleted { address, .. } => Some(address),
            _ => None,
        }))
    }

    #[cold]
    fn salted_account_id(&self, address: &Address) -> Result<Option<AccountId>> {
        let salt = match self.find_account(address, u64::MAX)?.map(|found| found.record.body) {
            Some(Body::Account { stored, .. }) => stored.salt,
            Some(Body::AccountDeleted { salt, .. }) => salt,
            _ => return Ok(None),
        };
        Ok(Some(self.hasher.account_id(address, salt)))
    }

    /// The record of a slot, a tombstone or a wiped one included.
    #[inline]
    pub(crate) fn find_slot(&self, account: AccountId, slot: &U256, version: u64) -> Result<Option<Found<'_>>> {
        self.find(
            self.hasher.slot(account, slot),
            version,
            |body| matches!(body, Body::Slot { account: own, slot: number, .. } if *own == account && number == slot),
        )
    }

    /// The value of an account's slot at a version.
    pub(crate) fn storage(&self, address: &Address, slot: &U256, version: u64) -> Result<U256> {
        match self.account_id(address)? {
            Some(account) => self.slot_at(account, slot, version),
            None => Ok(U256::ZERO),
        }
    }

    /// The value of a slot at a version. The path that matters most, and each instruction of it counts: the processor begins the next read
    /// earlier. Where the index's first candidate serves, and was verified before, it is compared and copied in place; else
    /// [`Lookup::slot_at_length`] does all.
    #[inline]
    pub(crate) fn slot_at(&self, account: AccountId, slot: &U256, version: u64) -> Result<U256> {
        match self.index.first(self.hasher.slot(account, slot)) {
            Pass::Absent => return Ok(U256::ZERO),
            Pass::Found(candidate) if !self.wipes.may_contain(account) => {
                if let Some(value) = self.peek_slot(&candidate, account, slot, version) {
                    return Ok(value);
                }
            }
            Pass::Found(_) | Pass::Overtaken => {}
        }
        self.slot_at_length(account, slot, version)
    }

    /// The value of a slot if this candidate tells it without walking back; `None` where there is more to say, be it that the record is another
    /// key's, damaged or lost.
    #[inline(always)]
    fn peek_slot(&self, candidate: &Candidate<'_>, account: AccountId, slot: &U256, version: u64) -> Option<U256> {
        if !candidate.verified {
            return None;
        }
        // SAFETY: as in `Lookup::bytes`.
        let start = unsafe { self.table.start(candidate.position, record::SLOT_MOST_BYTES) }?;
        // SAFETY: no record is shorter, and this one was published.
        let head = unsafe { std::slice::from_raw_parts(start, record::LEAST_BYTES) };
        let length = record::length_of_slot(head, account)?;
        // SAFETY: the record has that length, which is at most the room asked for.
        let bytes = unsafe { std::slice::from_raw_parts(start, length) };
        if self.verify_every_read && record::verify(bytes, candidate.position).is_err() {
            return None;
        }
        if !record::is_of_slot(bytes, slot) || record::version(bytes) > version {
            return None;
        }
        let value = record::slot_value(bytes);
        (!storage::is_lost(bytes)).then_some(value)
    }

    /// [`Lookup::slot_at`] by the general way.
    #[cold]
    fn slot_at_length(&self, account: AccountId, slot: &U256, version: u64) -> Result<U256> {
        let Some(found) = self.find_slot(account, slot, version)? else { return Ok(U256::ZERO) };
        let Body::Slot { value, .. } = found.record.body else { return Ok(U256::ZERO) };
        let is_hidden = self.wipes.may_contain(account) && self.is_wiped(account, found.record.version, version)?;
        Ok(if is_hidden { U256::ZERO } else { value })
    }

    /// R3: whether a slot record of version `own` is hidden by a wipe at or before `version`.
    #[cold]
    pub(crate) fn is_wiped(&self, account: AccountId, own: u64, version: u64) -> Result<bool> {
        let wipe = self.find_key(&RecordKey::Wipe(account), version)?;
        Ok(wipe.is_some_and(|wipe| own < wipe.record.version) && !probe::skip("wipe-check"))
    }

    /// Code by its hash, if it was stored at or before the version.
    pub(crate) fn code_at(&self, hash: &B256, version: u64) -> Result<Option<Bytes>> {
        let Some(found) = self.find_key(&RecordKey::Code(*hash), version)? else { return Ok(None) };
        let Body::Code { code, .. } = found.record.body else { return Ok(None) };
        let copy = Bytes::copy_from_slice(code);
        if storage::is_lost(code) { Err(self.unreadable(found.position)) } else { Ok(Some(copy)) }
    }

    /// Makes the records of these keys' hashes come closer, lines first, then records.
    pub(crate) fn prefetch(&self, hashes: &[u64]) {
        for hash in hashes {
            self.index.prefetch(*hash);
        }
        for hash in hashes {
            let first: Result<_, Infallible> = self.index.find(*hash, |candidate| Ok(Some(candidate.position)));
            if let Ok(Some(position)) = first {
                self.table.prefetch(position);
            }
        }
    }

    /// The error for a record whose bytes are not what was written: because a page of them is lost, or damaged.
    #[cold]
    fn unsound(&self, damage: Damage, position: u64, bytes: &[u8]) -> Error {
        if storage::is_lost(bytes) { self.unreadable(position) } else { self.damage(damage, position) }
    }

    /// The error for a record on a lost page.
    #[cold]
    fn unreadable(&self, position: u64) -> Error {
        let (path, offset) = self.table.place(&*self.storage, position);
        storage::unreadable(&path, offset)
    }

    /// The error for damage at a position in the log.
    #[cold]
    pub(crate) fn damage(&self, damage: Damage, position: u64) -> Error {
        let (path, offset) = self.table.place(&*self.storage, position);
        metrics::counter!("metisdb.corruption").increment(1);
        damage.at("record", path, offset)
    }
}

/// Which accounts may ever have been wiped: false positives cost a look-up, false negatives do not occur.
///
/// Bits are only ever set, by the writer, before the wipe is published.
#[derive(Debug)]
pub(crate) struct WipeFilter {
    /// Whether a bit is set: most databases never see a wipe.
    any: AtomicBool,
    bits: Box<[AtomicU64]>,
}

impl WipeFilter {
    /// Miri looks at all of them whenever they are borrowed.
    const BITS: u64 = if cfg!(miri) { 1 << 10 } else { 1 << 20 };

    pub(crate) fn new() -> Self {
        Self { any: AtomicBool::new(false), bits: (0..Self::BITS / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn insert(&self, account: AccountId) {
        let bit = account.0 % Self::BITS;
        self.bits[(bit / 64) as usize].fetch_or(1 << (bit % 64), Ordering::Release);
        self.any.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn may_contain(&self, account: AccountId) -> bool {
        self.any.load(Ordering::Relaxed) && self.has_bit(account)
    }

    #[inline]
    fn has_bit(&self, account: AccountId) -> bool {
        let bit = account.0 % Self::BITS;
        self.bits[(bit / 64) as usize].load(Ordering::Relaxed) & 1 << (bit % 64) != 0
    }
}
