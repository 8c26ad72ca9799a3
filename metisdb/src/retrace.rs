//! From the trie of one version to that of another: the records that changed in between tell which leaves differ, and the log still
//! has both values.
//!
//! Recovery goes forwards, from the checkpoint's trie to the newest version, in one update. A snapshot of an older version, whose trie
//! nobody kept, goes backwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use alloy_primitives::{Address, U256};

use crate::{
    error::Result,
    key::AccountId,
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        segment::{Segment, SegmentHeader},
    },
    lookup::Lookup,
    roots,
    store::Store,
    trie::{
        node::KeyTag,
        update::{AccountChange, Item, TrieChanges, slot_payload},
    },
    tries::HeldTrie,
    types::Block,
    view::View,
};

/// Keys of the state with records in some range of versions.
#[derive(Debug, Default)]
pub(crate) struct ChangedKeys {
    accounts: BTreeSet<Address>,
    slots: BTreeMap<AccountId, BTreeSet<U256>>,
    /// With the version of the first wipe.
    wiped: BTreeMap<AccountId, u64>,
}

impl ChangedKeys {
    /// A record lies in the range.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        match record.body {
            Body::Account { address, .. } | Body::AccountDeleted { address, .. } => {
                self.accounts.insert(address);
            }
            Body::Slot { account, slot, .. } => {
                self.slots.entry(account).or_default().insert(slot);
            }
            Body::Wipe { account } => {
                let first = self.wiped.entry(account).or_insert(record.version);
                *first = record.version.min(*first);
            }
            Body::Code { .. } | Body::Block(_) | Body::Root { .. } => {}
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.slots.is_empty() && self.wiped.is_empty()
    }
}

/// What has to change in the trie of `from` to make it that of `to`. Where an account was wiped in between, `keys` names all slots that it
/// has in `to`. Keys that changed only later than both do no harm.
pub(crate) fn changes_between(
    from: &View<'_>,
    to: &View<'_>,
    keys: &ChangedKeys,
    salted: &HashMap<AccountId, Address>,
) -> Result<TrieChanges> {
    let none = BTreeSet::new();
    let mut changes = TrieChanges::default();
    for (id, address) in accounts(from.lookup, keys, salted)? {
        let before = from.account(&address)?.map(|stored| stored.account);
        let account = to.account(&address)?.map(|stored| stored.account);
        if before.is_none() && account.is_none() {
            continue;
        }
        let wiped = keys.wiped.get(&id).is_some_and(|first| *first <= from.version.max(to.version));
        let first = changes.slots.len();
        for slot in keys.slots.get(&id).unwrap_or(&none).iter().filter(|_| account.is_some()) {
            let old = if wiped { U256::ZERO } else { from.slot(id, slot)?.0 };
            let (value, _) = to.slot(id, slot)?;
            if old != value {
                let path = from.commitment.paths(&[&slot.to_be_bytes::<32>()])[0];
                let key = KeyTag::of(from.lookup.hasher.slot(id, slot));
                changes.slots.push(Item { path, key, existed: !old.is_zero(), change: slot_payload(value) });
            }
        }
        let slots = first..changes.slots.len();
        if before == account && slots.is_empty() && !wiped {
            continue;
        }
        changes.slots[slots.clone()].sort_unstable_by_key(|item| item.path);
        let path = from.commitment.paths(&[address.as_slice()])[0];
        let key = KeyTag::of(from.lookup.hasher.account_id(&address, 0).0);
        let change = AccountChange { id, account, wiped, slots };
        changes.accounts.push(Item { path, key, existed: before.is_some(), change });
    }
    changes.accounts.sort_unstable_by_key(|item| item.path);
    Ok(changes)
}

/// The accounts that the keys belong to.
fn accounts(
    lookup: &Lookup,
    keys: &ChangedKeys,
    salted: &HashMap<AccountId, Address>,
) -> Result<BTreeMap<AccountId, Address>> {
    let mut accounts = BTreeMap::new();
    for address in &keys.accounts {
        if let Some(id) = lookup.known_account_id(address)? {
            accounts.insert(id, *address);
        }
    }
    for id in keys.slots.keys().chain(keys.wiped.keys()) {
        if accounts.contains_key(id) {
            continue;
        }
        let address = match salted.get(id) {
            Some(address) => Some(*address),
            None => lookup.address_of_plain_id(*id)?,
        };
        let address = address.ok_or_else(|| {
            let expected = format!("an account with id {:016x}", id.0);
            Damage::new(expected, "none").at("log", lookup.storage.path(), 0)
        })?;
        accounts.insert(*id, address);
    }
    Ok(accounts)
}

/// The trie of a version that the caller has pinned: kept, or made from the newest one.
pub(crate) fn trie_at(store: &Store, version: u64) -> Result<Arc<HeldTrie>> {
    roots::settle(store, version)?;
    if let Some(kept) = store.tries.kept(version) {
        return Ok(kept);
    }
    let (newest, base) = store.tries.newest();
    trie_from(store, newest, &base, version)
}

/// The trie of `version` made from that of a later one. The caller has pinned both.
pub(crate) fn trie_from(store: &Store, newest: u64, base: &HeldTrie, version: u64) -> Result<Arc<HeldTrie>> {
    let positions = store.history.positions(version, newest);
    let mut keys = ChangedKeys::default();
    // A segment is dropped while a version of it can be read only if that version changed nothing.
    for position in positions.into_iter().filter(|position| store.lookup.table.segment_of(*position).is_some()) {
        let (header, bytes) = read_frame(&store.lookup, position)?;
        add_records(&store.lookup, &header, &bytes, &mut keys, |_| true)?;
    }
    if !keys.wiped.is_empty() {
        // Behind it stands a frame that is being written, or one that found no space.
        add_wiped_slots(&store.lookup, &mut keys, store.log.appended_upto())?;
    }
    let salted = store.writer.lock().ledger.salted.clone();
    let from = store.view(newest, &[]);
    let changes = changes_between(&from, &store.view(version, &[]), &keys, &salted)?;
    let new = store.tries.update(&base.trie, &changes, &from)?;
    Ok(base.derive_for(version, new.trie))
}

/// The block that was committed with a version that the caller has pinned.
pub(crate) fn block_of(store: &Store, version: u64) -> Result<Option<Block>> {
    let row = store.history.row(version).filter(|row| row.version > 0);
    // A segment is dropped while a version of it can be read only if that version changed nothing.
    let Some(row) = row.filter(|row| store.lookup.table.segment_of(row.position).is_some()) else { return Ok(None) };
    let (header, bytes) = read_frame(&store.lookup, row.position)?;
    let mut block = None;
    let visit = |_, record: Record<'_>, _| -> Result<(), Damage> {
        if let Body::Block(own) = record.body {
            block = Some(own);
        }
        Ok(())
    };
    frame::records(&header, &bytes, visit).map_err(|damage| store.lookup.damage(damage, row.position))?;
    Ok(block)
}

fn add_records(
    lookup: &Lookup,
    header: &FrameHeader,
    frame: &[u8],
    keys: &mut ChangedKeys,
    wanted: impl Fn(&Body<'_>) -> bool,
) -> Result<()> {
    let visit = |_, record: Record<'_>, _| -> Result<(), Damage> {
        if wanted(&record.body) {
            keys.add(&record);
        }
        Ok(())
    };
    frame::records(header, frame, visit).map_err(|damage| lookup.damage(damage, header.position))
}

/// The frame at a position, read from its file.
fn read_frame(lookup: &Lookup, position: u64) -> Result<(FrameHeader, Vec<u8>)> {
    let missing = || lookup.damage(Damage::new("a frame", "no segment"), position);
    let segment = lookup.table.segment_of(position).ok_or_else(missing)?;
    let header = read_header(&segment, position)?.map_err(|damage| lookup.damage(damage, position))?;
    let mut bytes = vec![0; header.frame_bytes()];
    segment.file.read_exact_at(&mut bytes, position - segment.start)?;
    Ok((header, bytes))
}

fn read_header(segment: &Segment, position: u64) -> Result<Result<FrameHeader, Damage>> {
    let mut bytes = [0; FrameHeader::BYTES];
    let room = segment.end - position;
    if room < FrameHeader::BYTES as u64 {
        return Ok(Err(Damage::new("a frame", "the end of the segment")));
    }
    segment.file.read_exact_at(&mut bytes, position - segment.start)?;
    Ok(frame::header(&bytes, position, room))
}

/// All slots of the wiped accounts that any record in the log names: reads the whole log up to a position.
fn add_wiped_slots(lookup: &Lookup, keys: &mut ChangedKeys, end: u64) -> Result<()> {
    let wiped = keys.wiped.clone();
    for segment in lookup.table.all() {
        let mut position = segment.start + SegmentHeader::BYTES as u64;
        while position < end
            && let Ok(header) = read_header(&segment, position)?
        {
            if header.known_kind() == Ok(FrameKind::Changes) {
                let (header, bytes) = read_frame(lookup, position)?;
                let wanted =
                    |body: &Body<'_>| matches!(body, Body::Slot { account, .. } if wiped.contains_key(account));
                add_records(lookup, &header, &bytes, keys, wanted)?;
            }
            position += header.frame_bytes() as u64;
        }
    }
    Ok(())
}
