//! The whole trie from the log's newest records, for want of another.

use std::collections::{BTreeMap, HashSet};

use alloy_primitives::{Address, B256, U256};

use super::{Known, State};
use crate::{
    error::{Error, Result},
    key::AccountId,
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        scan::{self, Cursor},
    },
    lookup::Found,
    trie::{
        Trie,
        arena::{
            Arena,
            bytes::node_bytes,
            pages::Page,
            writer::{self, Throttle},
        },
        commitment::{Commitment, Payload},
        nibbles::Nibbles,
        node::KeyTag,
        update::{self, AccountChange, Item, LeafSource, TrieChanges, slot_payload},
    },
    view::View,
};

/// Accounts and slots that are entered in one update; few in tests, so that there are several.
const CHUNK: usize = if cfg!(test) { 40 } else { 200_000 };

/// Makes the trie of the newest version from its records alone.
///
/// Returns the memory of those of its nodes that are not in the arena, too.
pub(super) fn from_log(
    known: &Known,
    state: State<'_>,
    arena: &Arena,
    commitment: &dyn Commitment,
) -> Result<(Trie, u64)> {
    // Both superblocks may refer to any page that was there when they were written.
    let sequence = known.superblock.trie.sequence + 1;
    let unknown = Page { live_bytes: 0, died: sequence };
    arena.set_pages(arena.unknown_pages(known.superblock.generation, unknown))?;
    let view = View { lookup: state.lookup, commitment, version: known.version, staged: &[] };
    let empty = Trie { top: None, root: commitment.root(None) };
    let mut made = FromLog {
        known,
        state,
        arena,
        view,
        trie: empty,
        entered: HashSet::new(),
        chunk: Chunk::default(),
        memory_bytes: 0,
        spill_at: 0,
    };
    if let Some(first) = known.segments.first() {
        let start = Cursor::at_start_of(&first.header);
        scan::frames(&known.segments, start, |header, bytes| made.frame(header, bytes))?;
    }
    made.enter()?;
    let FromLog { trie, memory_bytes, .. } = made;
    known.expect_root(state.lookup, &trie)?;
    Ok((trie, memory_bytes))
}

/// Keys whose newest records were read, not entered yet.
#[derive(Default)]
struct Chunk {
    /// Position of the first frame.
    start: u64,
    accounts: BTreeMap<AccountId, Address>,
    slots: Vec<(AccountId, U256)>,
}

struct FromLog<'a> {
    known: &'a Known,
    state: State<'a>,
    arena: &'a Arena,
    view: View<'a>,
    trie: Trie,
    /// Accounts that are in the trie.
    entered: HashSet<AccountId>,
    chunk: Chunk,
    memory_bytes: u64,
    /// Memory from which on it is worth writing once more, where the disk was full before.
    spill_at: u64,
}

/// The leaves of the trie so far: others of the same tag may come that have the same prefix as long as it is short.
struct Entered<'a> {
    view: View<'a>,
    accounts: &'a HashSet<AccountId>,
    /// Slots whose newest record stands below are in the trie.
    slots_below: u64,
}

impl LeafSource for Entered<'_> {
    fn leaf(&self, account: Option<AccountId>, key: KeyTag, prefix: &Nibbles) -> Result<(B256, Payload)> {
        let Self { view, accounts, slots_below } = self;
        if let Some(account) = account {
            let is_in = |found: &Found<'_>| found.position < *slots_below;
            let (path, _, value) = view.slot_of_leaf_among(account, key, prefix, is_in)?;
            return Ok((path, Payload::Slot(value)));
        }
        let is_in = |found: &Found<'_>| match found.record.body {
            Body::Account { address, stored } => {
                accounts.contains(&view.lookup.hasher.account_id(&address, stored.salt))
            }
            _ => false,
        };
        let (path, _, stored) = view.account_of_leaf_among(key, prefix, is_in)?;
        Ok((path, Payload::Account(stored.account)))
    }
}

impl FromLog<'_> {
    fn frame(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<()> {
        if header.known_kind() != Ok(FrameKind::Changes) {
            return Ok(());
        }
        if self.chunk.accounts.is_empty() && self.chunk.slots.is_empty() {
            self.chunk.start = header.position;
        }
        let mut outcome = Ok(());
        frame::records(header, bytes, |position, record, _| -> Result<(), Damage> {
            if outcome.is_ok() {
                outcome = self.record(position, &record);
            }
            Ok(())
        })
        .map_err(|damage| self.state.lookup.damage(damage, header.position))?;
        outcome?;
        if self.chunk.slots.len() + self.chunk.accounts.len() >= CHUNK { self.enter() } else { Ok(()) }
    }

    /// Takes a record that is the newest of its key.
    fn record(&mut self, position: u64, record: &Record<'_>) -> Result<()> {
        let lookup = self.state.lookup;
        let is_newest = |found: Option<Found<'_>>| found.is_some_and(|found| found.position == position);
        match record.body {
            Body::Account { address, stored } if is_newest(lookup.find_account(&address, self.known.version)?) => {
                self.chunk.accounts.insert(lookup.hasher.account_id(&address, stored.salt), address);
            }
            Body::Slot { account, slot, value } if !value.is_zero() => {
                let found = lookup.find_slot(account, &slot, self.known.version)?;
                let hidden = lookup.wipes.may_contain(account)
                    && lookup.is_wiped(account, record.version, self.known.version)?;
                if is_newest(found) && !hidden {
                    self.chunk.slots.push((account, slot));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Enters the chunk in the trie.
    fn enter(&mut self) -> Result<()> {
        let Chunk { start, mut accounts, mut slots } = std::mem::take(&mut self.chunk);
        let lookup = self.state.lookup;
        slots.sort_unstable();
        for (id, _) in &slots {
            if let std::collections::btree_map::Entry::Vacant(vacant) = accounts.entry(*id) {
                let address = match self.state.salted.get(id) {
                    Some(address) => Some(*address),
                    None => lookup.address_of_plain_id(*id)?,
                };
                let missing = || Damage::new(format!("an account with id {:016x}", id.0), "none");
                vacant.insert(address.ok_or_else(|| missing().at("log", lookup.storage.path(), 0))?);
            }
        }
        let changes = self.changes(&accounts, &slots)?;
        let source = Entered { view: self.view, accounts: &self.entered, slots_below: start };
        let updated =
            update::update(self.arena, self.view.commitment, &self.trie, &changes, &source, self.known.threads)?;
        self.entered.extend(changes.accounts.iter().map(|item| item.change.id));
        self.trie = updated.trie;
        self.memory_bytes += updated.memory_bytes as u64;
        for retired in updated.retired {
            match retired {
                update::Retired::Unwritten(branch) => match branch.written().place() {
                    None => self.memory_bytes = self.memory_bytes.saturating_sub(branch.memory_bytes() as u64),
                    Some(place) => {
                        let bytes = node_bytes(branch.view());
                        self.arena.pages.lock().retire(place, bytes, 0);
                    }
                },
                update::Retired::Written(place, bytes) => self.arena.pages.lock().retire(place, bytes, 0),
            }
        }
        self.spill()
    }

    fn changes(&self, accounts: &BTreeMap<AccountId, Address>, slots: &[(AccountId, U256)]) -> Result<TrieChanges> {
        let view = self.view;
        let mut changes = TrieChanges::default();
        let mut rest = slots;
        let keys: Vec<[u8; 32]> = slots.iter().map(|(_, slot)| slot.to_be_bytes::<32>()).collect();
        let mut paths = view.commitment.paths(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>()).into_iter();
        for (id, address) in accounts {
            let count = rest.partition_point(|(own, _)| own <= id);
            let (own, behind) = rest.split_at(count);
            rest = behind;
            let first = changes.slots.len();
            for ((_, slot), path) in own.iter().zip(paths.by_ref()) {
                let key = KeyTag::of(view.lookup.hasher.slot(*id, slot));
                let change = slot_payload(view.slot(*id, slot)?.0);
                changes.slots.push(Item { path, key, existed: false, change });
            }
            let range = first..changes.slots.len();
            changes.slots[range.clone()].sort_unstable_by_key(|item| item.path);
            let Some(stored) = view.account(address)? else { continue };
            let path = view.commitment.paths(&[address.as_slice()])[0];
            let key = KeyTag::of(view.lookup.hasher.account_id(address, 0).0);
            let change = AccountChange { id: *id, account: Some(stored.account), wiped: false, slots: range };
            changes.accounts.push(Item { path, key, existed: self.entered.contains(id), change });
        }
        changes.accounts.sort_unstable_by_key(|item| item.path);
        Ok(changes)
    }

    /// Writes the nodes to the arena once they take too much memory. No superblock refers to them yet.
    fn spill(&mut self) -> Result<()> {
        let (Some(limit), Some(top)) = (self.known.spill_bytes, &self.trie.top) else { return Ok(()) };
        if self.memory_bytes < limit.max(self.spill_at) {
            return Ok(());
        }
        let generation = u32::try_from(self.known.superblock.generation + 1)
            .map_err(|_| Error::LimitReached { what: "the number of checkpoints", limit: u64::from(u32::MAX) })?;
        let floor = self.known.superblock.trie.sequence;
        let written = match writer::write(self.arena, top, generation, floor, &mut Throttle::new(u64::MAX)) {
            Err(error) if error.is_out_of_space() => {
                tracing::warn!(%error, "no space for the trie: it stays in memory");
                // The next attempt writes all of it once more.
                self.spill_at = 2 * self.memory_bytes;
                return Ok(());
            }
            other => other?,
        };
        writer::sync(self.arena, &written)?;
        for (place, bytes) in written.places() {
            self.arena.pages.lock().add(place, bytes);
        }
        written.settle();
        (self.memory_bytes, self.spill_at) = (0, 0);
        Ok(())
    }
}
