//! The trie when a database is opened: that of the checkpoint with the changes since as one update; or all of it, from the log.
//!
//! Whatever is wrong with the arena costs time, not data: the trie is derived, and its root must be the one in the log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, U256};

use crate::{
    difference::{ChangedKeys, changes_between},
    error::{Error, Result},
    key::AccountId,
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        scan::{self, Cursor, SegmentFile},
    },
    lookup::{Found, Lookup},
    probe,
    superblock::{Superblock, TopReference, TrieReference},
    trie::{
        Loaded, Trie,
        arena::{
            Arena,
            bytes::node_bytes,
            pages::{PAGE_BYTES, Page, Pages},
            writer::{self, Throttle},
        },
        commitment::{Commitment, Payload, Reference, ethereum::Ethereum},
        nibbles::Nibbles,
        node::{Child, KeyTag, Leaf, Link, NodeRef},
        update::{self, AccountChange, Item, LeafSource, TrieChanges, slot_payload},
    },
    tries::Tries,
    view::View,
};

/// Accounts and slots that are entered in one update when the trie is made from the log; few in tests, so that there are several.
const CHUNK: usize = if cfg!(test) { 40 } else { 200_000 };

/// What is known before the trie is.
pub(crate) struct Known<'a> {
    pub(crate) lookup: &'a Lookup,
    pub(crate) superblock: &'a Superblock,
    pub(crate) segments: &'a [SegmentFile],
    /// Addresses of accounts with salted ids.
    pub(crate) salted: &'a HashMap<AccountId, Address>,
    /// The newest version.
    pub(crate) version: u64,
    /// Its root, if the log says so.
    pub(crate) root: Option<alloy_primitives::B256>,
    /// Memory that nodes may take before they are written to the arena; `None`: nothing is written.
    pub(crate) spill_bytes: Option<u64>,
}

/// The trie of the newest version. `keys` are those with records behind the checkpoint; `pages` are those of the image, if it was loaded.
pub(crate) fn regrow(
    known: &Known<'_>,
    keys: ChangedKeys,
    arena: Arena,
    scheme: Ethereum,
    pages: Option<Pages>,
) -> Result<Tries> {
    let sequence = known.superblock.trie.sequence;
    match from_checkpoint(known, keys, &arena, (&scheme, pages)) {
        Ok((trie, retired)) => {
            let base = Tries::new(arena, Box::new(scheme), known.version, sequence, trie.0);
            if let Some(trie) = trie.1 {
                base.replace_newest(trie, retired.0, retired.1 as u64);
            }
            Ok(base)
        }
        Err(error) if error.is_corruption() => {
            tracing::warn!(%error, "the trie of the checkpoint is not usable; making it anew from the log");
            from_log(known, arena, scheme)
        }
        Err(error) => Err(error),
    }
}

type Grown = ((Trie, Option<Trie>), (Vec<update::Retired>, usize));

/// The trie of the checkpoint, and that of the newest version if it is another.
fn from_checkpoint(
    known: &Known<'_>,
    keys: ChangedKeys,
    arena: &Arena,
    (scheme, pages): (&Ethereum, Option<Pages>),
) -> Result<Grown> {
    let superblock = known.superblock;
    if superblock.trie.top == TopReference::Absent {
        return Err(Damage::new("a trie in the arena", "none, for want of space").at("trie", arena.path(), 0));
    }
    let base = trie_of(&superblock.trie);
    check_top(arena, scheme, &base, superblock)?;
    let pages = match pages {
        Some(pages) => pages,
        None => count_pages(arena, &base, superblock.trie.sequence)?,
    };
    arena.set_pages(pages)?;
    if keys.is_empty() {
        expect_root(known, &base)?;
        return Ok(((base, None), (Vec::new(), 0)));
    }
    let view = |version| View { lookup: known.lookup, commitment: scheme as &dyn Commitment, version, staged: &[] };
    let from = view(superblock.checkpoint_version);
    let changes = changes_between(&from, &view(known.version), keys, known.salted)?;
    let updated = update::update(arena, scheme, &base, &changes, &from)?;
    expect_root(known, &updated.trie)?;
    Ok(((base, Some(updated.trie)), (updated.retired, updated.memory_bytes)))
}

fn expect_root(known: &Known<'_>, trie: &Trie) -> Result<()> {
    match known.root {
        Some(root) if root != trie.root && !probe::skip("root-compare") => {
            let damage = Damage::new(format!("the root {root} of version {}", known.version), format!("{}", trie.root));
            Err(damage.at("trie", known.lookup.storage.path(), 0))
        }
        _ => Ok(()),
    }
}

/// The trie that a superblock refers to.
pub(crate) fn trie_of(reference: &TrieReference) -> Trie {
    let link = |top: TopReference, storage: Option<Arc<Child>>| match top {
        TopReference::Nothing | TopReference::Absent => None,
        TopReference::Leaf(key) => Some(Link::Leaf(Leaf { key, storage })),
        TopReference::Branch(place) => Some(Link::Branch(NodeRef::Arena(place))),
    };
    let storage = reference
        .storage
        .and_then(|(root, top)| Some(Arc::new(Child { reference: Reference::hash(root), link: link(top, None)? })));
    let top = link(reference.top, storage).map(|link| Child { reference: Reference::hash(reference.root), link });
    Trie { top, root: reference.root }
}

/// The topmost branch is sound and has the hash that the superblock names.
fn check_top(arena: &Arena, scheme: &Ethereum, trie: &Trie, superblock: &Superblock) -> Result<()> {
    let Some(Child { link: Link::Branch(node), .. }) = &trie.top else { return Ok(()) };
    let loaded = Loaded::read(arena, node, superblock.trie.generation, 0)?;
    let references = scheme.branches(&[loaded.view()]);
    let root = scheme.root(references.first());
    if root != trie.root {
        let damage = Damage::new(format!("the root {}", trie.root), format!("{root}"));
        return Err(damage.at("node", arena.path(), 0));
    }
    Ok(())
}

/// Counts the live bytes of all pages by going through the trie. What it does not reach may be needed by the older superblock.
///
/// # Errors
/// Corruption where a node is damaged, or more nodes lead into a page than fit.
pub(crate) fn count_pages(arena: &Arena, trie: &Trie, sequence: u64) -> Result<Pages> {
    let mut pages = arena.empty_pages(Page { live_bytes: 0, died: sequence });
    let mut waiting: Vec<(Child, u32, usize)> = trie.top.iter().map(|child| (child.clone(), u32::MAX, 0)).collect();
    while let Some((child, birth, depth)) = waiting.pop() {
        match child.link {
            Link::Leaf(leaf) => waiting.extend(leaf.storage.map(|storage| (Child::clone(&storage), birth, 0))),
            Link::Branch(node) => {
                let loaded = Loaded::read(arena, &node, birth, depth)?;
                if let NodeRef::Arena(place) = node {
                    if pages.live_bytes_beside(place) + loaded.bytes as u64 > PAGE_BYTES {
                        let damage = Damage::new("a page of nodes each with one parent", "a node that two lead to");
                        return Err(arena.damage(damage, place));
                    }
                    pages.add(place, loaded.bytes);
                }
                let below = depth + loaded.prefix.len() + 1;
                waiting.extend(loaded.children.into_iter().map(|child| (child, loaded.birth, below)));
            }
        }
    }
    Ok(pages)
}

/// Makes the trie of the newest version from its records alone.
pub(crate) fn from_log(known: &Known<'_>, arena: Arena, scheme: Ethereum) -> Result<Tries> {
    // Both superblocks may refer to any page that was there when they were written.
    let sequence = known.superblock.trie.sequence + 1;
    let unknown = Page { live_bytes: 0, died: sequence };
    arena.set_pages(arena.unknown_pages(known.superblock.generation, unknown))?;
    let view = View { lookup: known.lookup, commitment: &scheme, version: known.version, staged: &[] };
    let empty = Trie { top: None, root: scheme.root(None) };
    let mut regrowth = Regrowth {
        known,
        arena: &arena,
        view,
        trie: empty,
        entered: HashSet::new(),
        chunk: Chunk::default(),
        memory_bytes: 0,
    };
    if let Some(first) = known.segments.first() {
        let start = Cursor::at_start_of(&first.header);
        scan::frames(known.segments, start, |header, bytes| regrowth.frame(header, bytes))?;
    }
    regrowth.enter()?;
    let Regrowth { trie, memory_bytes, .. } = regrowth;
    expect_root(known, &trie)?;
    let tries = Tries::new(arena, Box::new(scheme), known.version, sequence, trie);
    tries.add_unwritten(memory_bytes);
    Ok(tries)
}

/// Keys whose newest records were read, not entered yet.
#[derive(Default)]
struct Chunk {
    /// Position of the first frame.
    start: u64,
    accounts: BTreeMap<AccountId, Address>,
    slots: Vec<(AccountId, U256)>,
}

struct Regrowth<'a> {
    known: &'a Known<'a>,
    arena: &'a Arena,
    view: View<'a>,
    trie: Trie,
    /// Accounts that are in the trie.
    entered: HashSet<AccountId>,
    chunk: Chunk,
    memory_bytes: u64,
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

impl Regrowth<'_> {
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
        .map_err(|damage| self.known.lookup.damage(damage, header.position))?;
        outcome?;
        if self.chunk.slots.len() + self.chunk.accounts.len() >= CHUNK { self.enter() } else { Ok(()) }
    }

    /// Takes a record that is the newest of its key.
    fn record(&mut self, position: u64, record: &Record<'_>) -> Result<()> {
        let lookup = self.known.lookup;
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
        let lookup = self.known.lookup;
        slots.sort_unstable();
        for (id, _) in &slots {
            if let std::collections::btree_map::Entry::Vacant(vacant) = accounts.entry(*id) {
                let address = match self.known.salted.get(id) {
                    Some(address) => Some(*address),
                    None => lookup.address_of_plain_id(*id)?,
                };
                let missing = || Damage::new(format!("an account with id {:016x}", id.0), "none");
                vacant.insert(address.ok_or_else(|| missing().at("log", lookup.storage.path(), 0))?);
            }
        }
        let changes = self.changes(&accounts, &slots)?;
        let source = Entered { view: self.view, accounts: &self.entered, slots_below: start };
        let updated = update::update(self.arena, self.view.commitment, &self.trie, &changes, &source)?;
        self.entered.extend(changes.accounts.iter().map(|item| item.change.id));
        self.trie = updated.trie;
        self.memory_bytes += updated.memory_bytes as u64;
        for retired in updated.retired {
            match retired {
                update::Retired::Unwritten(branch) => match branch.written.place() {
                    None => self.memory_bytes = self.memory_bytes.saturating_sub(branch.memory_bytes() as u64),
                    Some(place) => {
                        let bytes = node_bytes(&branch.prefix, branch.mask, &branch.children);
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
        if self.memory_bytes < limit {
            return Ok(());
        }
        let generation = u32::try_from(self.known.superblock.generation + 1)
            .map_err(|_| Error::LimitReached { what: "the number of checkpoints", limit: u64::from(u32::MAX) })?;
        let floor = self.known.superblock.trie.sequence;
        let written = match writer::write(self.arena, top, generation, floor, &mut Throttle::new(u64::MAX)) {
            Err(error) if error.is_out_of_space() => {
                tracing::warn!(%error, "no space for the trie: it stays in memory");
                return Ok(());
            }
            other => other?,
        };
        writer::sync(self.arena, &written)?;
        for (place, bytes) in written.places() {
            self.arena.pages.lock().add(place, bytes);
        }
        written.settle();
        self.memory_bytes = 0;
        Ok(())
    }
}
