//! From changes to a durable, visible version.
//!
//! ```text
//! resolve -> reserve -> append -> [sync] -> index -> publish
//! ```
//!
//! Invariants:
//! * C1 (rule 13): everything that can fail for want of space or memory happens before the append.
//! * C2: a version is published with one store, after all its index entries: a reader sees all of a commit or nothing.
//! * C3: in [`Durability::Durable`] the index changes only after the sync.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, KECCAK256_EMPTY, U256, keccak256};

use crate::{
    changes::Changes,
    error::{Error, Result},
    key::{AccountId, RecordKey},
    log::{
        frame::{FrameBuilder, FrameHeader, FrameKind},
        record::{Body, Record, StoredAccount, VERSION_LIMIT},
    },
    lookup::{Found, Lookup},
    probe,
    store::{Shared, Store, Writer},
    types::MAX_CODE_BYTES,
};

/// How many look-ups are under way at once while changes are resolved.
const BATCH: usize = 32;

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Synced before it becomes visible: what a reader sees survives a power cut.
    #[default]
    Durable,
    /// Visible at once; [`Commit::wait_durable`] acknowledges it later, many commits with one sync. After a crash a
    /// prefix of such commits is found.
    Pipelined,
}

/// A commit that is visible.
#[derive(Clone, Debug)]
pub struct Commit {
    store: Shared,
    version: u64,
    end: u64,
}

impl Commit {
    /// The version that the commit made.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the commit survives a power cut, as far as is known.
    pub fn is_durable(&self) -> bool {
        self.store.log.durable_upto() >= self.end
    }

    /// Returns once the commit, and with it every earlier one, is durable. Blocks on the device, or on another thread's
    /// sync, which then serves this commit too. Dropping the handle without waiting is allowed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the sync failed: the commit may or may not be found after reopening.
    pub fn wait_durable(&self) -> Result<()> {
        self.store.check_process()?;
        self.store.log.sync_upto(self.end)
    }
}

/// A record to be written, and what it supersedes.
#[derive(Debug)]
struct Planned<'c> {
    hash: u64,
    body: Body<'c>,
    previous: Option<Superseded>,
}

/// The record that is newest until now.
#[derive(Clone, Copy, Debug)]
struct Superseded {
    position: u64,
    bytes: usize,
}

impl From<&Found<'_>> for Superseded {
    fn from(found: &Found<'_>) -> Self {
        Self { position: found.position, bytes: found.record.body.padded_bytes() }
    }
}

/// What a commit does to one account, before and after.
#[derive(Clone, Copy, Debug)]
struct Touched {
    id: AccountId,
    salt: u8,
    before: Option<StoredAccount>,
    previous: Option<Superseded>,
    after: Option<crate::types::Account>,
    wiped: bool,
    slots_after: u64,
}

/// The records of a commit and its effect on the bookkeeping.
#[derive(Debug, Default)]
struct Plan<'c> {
    records: Vec<Planned<'c>>,
    /// Accounts whose slots are wiped.
    wiped: Vec<AccountId>,
    /// Slots that go from set to not set or the reverse.
    counted: Vec<(AccountId, bool, bool)>,
    salted: bool,
}

/// Commits changes on top of the newest version.
pub(crate) fn commit(store: &Shared, changes: &Changes, durability: Durability) -> Result<Commit> {
    store.check_writable()?;
    check_codes(changes)?;
    let started = std::time::Instant::now();
    let mut writer = store.writer.lock();
    // Again under the lock: the commit before may have left a frame that is not part of any version.
    store.log.check_poison()?;
    let version = store.pins.head() + 1;
    if version >= VERSION_LIMIT {
        return Err(Error::LimitReached { what: "the number of versions", limit: VERSION_LIMIT });
    }
    let plan = resolve(&store.lookup, &writer, changes)?;
    let inserts = plan.records.iter().filter(|planned| planned.previous.is_none()).count();
    store.lookup.index.reserve(inserts)?;
    let records_bytes: usize = plan.records.iter().map(|planned| planned.body.padded_bytes()).sum();
    let bytes = FrameHeader::BYTES + records_bytes;
    let position = store.log.reserve(&store.lookup.table, &mut writer.tail, bytes as u64)?;
    let (frame, positions) = build_frame(&plan, version, position, bytes);
    let end = store.log.append(&mut writer.tail, frame, FrameKind::Changes, version)?;
    let unsynced = end.saturating_sub(store.log.durable_upto());
    if durability == Durability::Durable || unsynced > store.options.max_unsynced_bytes {
        store.log.sync_upto(end)?;
    }
    apply(store, &mut writer, &plan, &positions, version);
    store.pins.publish(version);
    reclaim(store, &mut writer);
    let since_checkpoint = end - writer.checkpoint_position;
    drop(writer);
    metrics::counter!("metisdb.commits").increment(1);
    metrics::counter!("metisdb.committed_bytes").increment(bytes as u64);
    metrics::histogram!("metisdb.commit_seconds").record(started.elapsed());
    tracing::trace!(version, records = plan.records.len(), bytes, ?durability, "committed");
    store.counters.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    crate::checkpoint::start_if_due(store, since_checkpoint);
    Ok(Commit { store: store.clone(), version, end })
}

fn check_codes(changes: &Changes) -> Result<()> {
    for (code_hash, code) in &changes.codes {
        if code.len() > MAX_CODE_BYTES {
            return Err(Error::CodeTooLong { code_hash: *code_hash, bytes: code.len(), limit: MAX_CODE_BYTES });
        }
        let actual = keccak256(code);
        if actual != *code_hash {
            return Err(Error::CodeHashMismatch { code_hash: *code_hash, actual });
        }
    }
    Ok(())
}

/// Looks up what the changes supersede and drops those that change nothing.
fn resolve<'c>(lookup: &Lookup, writer: &Writer, changes: &'c Changes) -> Result<Plan<'c>> {
    let mut plan = Plan::default();
    let mut touched = touch_accounts(lookup, writer, changes, &mut plan)?;
    let slots = resolve_slots(lookup, writer, changes, &mut touched, &mut plan)?;
    for (address, account) in &touched {
        resolve_account(lookup, *address, account, &mut plan)?;
    }
    plan.records.extend(slots);
    for (hash, code) in &changes.codes {
        let key = RecordKey::Code(*hash);
        if *hash != KECCAK256_EMPTY && lookup.find_key(&key, u64::MAX)?.is_none() {
            let body = Body::Code { hash: *hash, code };
            plan.records.push(Planned { hash: lookup.hasher.record(&key), body, previous: None });
        }
    }
    if let Some(block) = changes.block {
        let key = RecordKey::Block(block.number);
        let previous = lookup.find_key(&key, u64::MAX)?;
        plan.records.push(Planned {
            hash: lookup.hasher.record(&key),
            body: Body::Block(block),
            previous: previous.as_ref().map(Superseded::from),
        });
    }
    Ok(plan)
}

/// The accounts that the changes name, as they are and as they will be.
fn touch_accounts(
    lookup: &Lookup,
    writer: &Writer,
    changes: &Changes,
    plan: &mut Plan<'_>,
) -> Result<BTreeMap<Address, Touched>> {
    let mut addresses: Vec<Address> = changes.accounts.keys().chain(&changes.wiped).copied().collect();
    addresses.extend(changes.slots.keys().map(|(address, _)| *address));
    addresses.sort_unstable();
    addresses.dedup();
    let mut touched = BTreeMap::new();
    let mut new_ids = HashMap::new();
    for batch in addresses.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|address| lookup.hasher.account_id(address, 0).0).collect();
        lookup.prefetch(&hashes);
        for address in batch {
            let account = touch_account(lookup, writer, changes, *address, &mut new_ids)?;
            plan.salted |= account.salt != 0;
            touched.insert(*address, account);
        }
    }
    Ok(touched)
}

fn touch_account(
    lookup: &Lookup,
    writer: &Writer,
    changes: &Changes,
    address: Address,
    new_ids: &mut HashMap<AccountId, Address>,
) -> Result<Touched> {
    let found = lookup.find_account(&address, u64::MAX)?;
    let (before, salt) = match found.as_ref().map(|found| found.record.body) {
        Some(Body::Account { stored, .. }) => (Some(stored), stored.salt),
        Some(Body::AccountDeleted { salt, .. }) => (None, salt),
        _ => (None, free_salt(lookup, &address, new_ids)?),
    };
    let id = lookup.hasher.account_id(&address, salt);
    let slots_before = writer.ledger.slot_count(id);
    debug_assert!(before.is_none_or(|stored| stored.has_storage == (slots_before > 0)));
    let after = match changes.accounts.get(&address) {
        Some(after) => *after,
        None => before.map(|stored| stored.account),
    };
    let wiped = slots_before > 0 && changes.wiped.contains(&address);
    Ok(Touched {
        id,
        salt,
        before,
        previous: found.as_ref().map(Superseded::from),
        after,
        wiped,
        slots_after: if wiped { 0 } else { slots_before },
    })
}

/// The smallest salt under which a new account's id is not taken, by a stored account or by one of the same commit.
fn free_salt(lookup: &Lookup, address: &Address, new_ids: &mut HashMap<AccountId, Address>) -> Result<u8> {
    for salt in 0..=u8::MAX {
        let id = lookup.hasher.account_id(address, salt);
        let taken = lookup.find(id.0, u64::MAX, |body| match body {
            Body::Account { address, stored } => lookup.hasher.account_id(address, stored.salt) == id,
            Body::AccountDeleted { address, salt } => lookup.hasher.account_id(address, *salt) == id,
            _ => false,
        })?;
        if taken.is_none() && !new_ids.contains_key(&id) {
            new_ids.insert(id, *address);
            return Ok(salt);
        }
    }
    Err(Error::LimitReached { what: "the number of accounts with one keyed hash", limit: u64::from(u8::MAX) })
}

/// Plans a record for each slot that changes, and counts what that does to its account.
fn resolve_slots<'c>(
    lookup: &Lookup,
    writer: &Writer,
    changes: &'c Changes,
    touched: &mut BTreeMap<Address, Touched>,
    plan: &mut Plan<'c>,
) -> Result<Vec<Planned<'c>>> {
    let slots: Vec<_> = changes
        .slots
        .iter()
        .map(|((address, slot), value)| {
            let id = touched[address].id;
            (address, *slot, *value, lookup.hasher.slot(id, slot))
        })
        .collect();
    let mut planned = Vec::with_capacity(slots.len());
    for batch in slots.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|slot| slot.3).collect();
        lookup.prefetch(&hashes);
        for (address, slot, value, hash) in batch {
            let account = touched.get_mut(*address).expect("every slot's account is touched");
            if account.after.is_none() && !value.is_zero() {
                return Err(Error::SlotWithoutAccount { address: **address });
            }
            let found = lookup.find_slot(account.id, slot, u64::MAX)?;
            let hidden = |version| account.wiped || writer.ledger.is_wiped(account.id, version);
            let old = match found.as_ref().map(|found| (found.record.version, found.record.body)) {
                Some((version, Body::Slot { value, .. })) if !hidden(version) => value,
                _ => U256::ZERO,
            };
            if old == *value {
                continue;
            }
            account.slots_after += u64::from(!value.is_zero());
            account.slots_after = account.slots_after.saturating_sub(u64::from(!old.is_zero()));
            plan.counted.push((account.id, !old.is_zero(), !value.is_zero()));
            planned.push(Planned {
                hash: *hash,
                body: Body::Slot { account: account.id, slot: *slot, value: *value },
                previous: found.as_ref().map(Superseded::from),
            });
        }
    }
    Ok(planned)
}

/// Plans the account's own record and its wipe mark, where they are needed.
fn resolve_account(lookup: &Lookup, address: Address, account: &Touched, plan: &mut Plan<'_>) -> Result<()> {
    let hash = lookup.hasher.account_id(&address, 0).0;
    let has_storage = account.slots_after > 0;
    let after = account.after.map(|own| StoredAccount { account: own, salt: account.salt, has_storage });
    debug_assert!(after.is_some() || !has_storage, "deleting an account wipes it");
    if after != account.before {
        let body = match after {
            Some(stored) => Body::Account { address, stored },
            None => Body::AccountDeleted { address, salt: account.salt },
        };
        plan.records.push(Planned { hash, body, previous: account.previous });
    }
    if account.wiped {
        let key = RecordKey::Wipe(account.id);
        let previous = lookup.find_key(&key, u64::MAX)?;
        plan.wiped.push(account.id);
        plan.records.push(Planned {
            hash: lookup.hasher.record(&key),
            body: Body::Wipe { account: account.id },
            previous: previous.as_ref().map(Superseded::from),
        });
    }
    Ok(())
}

fn build_frame(plan: &Plan<'_>, version: u64, position: u64, bytes: usize) -> (FrameBuilder, Vec<u64>) {
    let mut frame = FrameBuilder::new(position, bytes);
    let positions = plan
        .records
        .iter()
        .map(|planned| {
            let previous = planned.previous.map(|superseded| superseded.position);
            frame.push(&Record { version, previous, body: planned.body })
        })
        .collect();
    (frame, positions)
}

/// Enters the records in the index and the books. Cannot fail (C1).
fn apply(store: &Store, writer: &mut Writer, plan: &Plan<'_>, positions: &[u64], version: u64) {
    let ledger = &mut writer.ledger;
    let segment = writer.tail.segment.number;
    if plan.salted {
        ledger.salted = true;
        store.lookup.salted.store(true, std::sync::atomic::Ordering::Release);
    }
    for account in &plan.wiped {
        ledger.wipe(*account, version);
        store.lookup.wipes.insert(*account);
    }
    for (account, was_set, is_set) in &plan.counted {
        ledger.count_slot(*account, *was_set, *is_set);
    }
    if probe::skip("publish-after-index") {
        store.pins.publish(version);
    }
    for (index, planned) in plan.records.iter().enumerate() {
        if let Some(ahead) = plan.records.get(index + 16) {
            store.lookup.index.prefetch(ahead.hash);
        }
        ledger.add(segment, planned.body.padded_bytes());
        match planned.previous {
            Some(previous) => {
                let replaced = store.lookup.index.replace(planned.hash, previous.position, positions[index]);
                debug_assert!(replaced, "the superseded record was found through the index");
                if let Some(old) = store.lookup.table.segment_of(previous.position) {
                    ledger.retire(version, old.number, previous.bytes);
                }
            }
            None => store.lookup.index.insert(planned.hash, positions[index]),
        }
        probe::pause("commit-index");
    }
}

/// Moves the horizon and buries what is out of everyone's reach.
fn reclaim(store: &Store, writer: &mut Writer) {
    let horizon = store.pins.head().saturating_sub(store.options.retain_versions);
    let floor = store.pins.raise_horizon(horizon.max(store.pins.horizon()));
    writer.ledger.bury(floor);
}
