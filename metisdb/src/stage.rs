//! From changes to records: what they supersede is looked up, what changes nothing is dropped, and what is left is told to the trie.

use std::{
    collections::{HashSet, btree_map},
    iter::Peekable,
    ops::Range,
    panic::resume_unwind,
    sync::OnceLock,
    thread,
};

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};

use crate::{
    changes::Changes,
    error::{Error, Result},
    key::{AccountId, RecordKey},
    log::record::{Body, StoredAccount},
    lookup::Lookup,
    trie::{
        node::KeyTag,
        update::{AccountChange, Item, TrieChanges, slot_payload},
    },
    types::{Account, Block, MAX_CODE_BYTES},
    view::{Superseded, View},
};

/// How many look-ups are under way at once.
const BATCH: usize = 32;

/// Changes from which on threads are worth it.
const PARALLEL: usize = if cfg!(test) { 6 } else { 2_000 };

/// Whether any slot of an account is set, by the account's path.
type HasStorage<'a> = dyn Fn(&B256) -> Result<bool> + Sync + 'a;

/// A record to be written, and what it supersedes as far as that is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedRecord {
    pub(crate) hash: u64,
    /// Not code, which is kept apart.
    pub(crate) body: Body<'static>,
    pub(crate) previous: Option<Superseded>,
}

/// Code to be written.
#[derive(Clone, Debug)]
pub(crate) struct StagedCode {
    pub(crate) hash: B256,
    pub(crate) code: Bytes,
}

/// Changes that were looked up against the state that they are made on.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) records: Vec<StagedRecord>,
    pub(crate) codes: Vec<StagedCode>,
    /// Accounts whose slots are wiped.
    pub(crate) wiped: Vec<AccountId>,
    /// Accounts that are new and have a salted id.
    pub(crate) salted: Vec<(AccountId, Address)>,
    pub(crate) trie: TrieChanges,
    /// The block's metadata where it came after all else.
    pub(crate) sealed: OnceLock<StagedRecord>,
    /// Numbers of the records by the tags of their keys, sorted.
    by_tag: OnceLock<Vec<(u64, u32)>>,
}

impl Staged {
    /// All records, in the order in which they are written.
    pub(crate) fn all_records(&self) -> impl Iterator<Item = &StagedRecord> + Clone {
        self.records.iter().chain(self.sealed.get())
    }

    /// The block's metadata, if they are known.
    pub(crate) fn block(&self) -> Option<Block> {
        // The last record, where they came with the changes.
        self.all_records().last().and_then(|record| match record.body {
            Body::Block(block) => Some(block),
            _ => None,
        })
    }

    /// The body of a record by its key's tag.
    pub(crate) fn find(&self, key: KeyTag, is_key: impl Fn(&Body<'_>) -> bool) -> Option<Body<'static>> {
        let sealed = || self.sealed.get().filter(|record| KeyTag::of(record.hash) == key).map(|record| record.body);
        self.with_tag(key).chain(sealed()).find(|body| is_key(body))
    }

    /// The bodies of all records whose keys have a tag.
    pub(crate) fn with_tag(&self, key: KeyTag) -> impl Iterator<Item = Body<'static>> {
        let by_tag = self.by_tag.get_or_init(|| {
            let tags = self.records.iter().zip(0..).map(|(record, number)| (KeyTag::of(record.hash).get(), number));
            let mut tags: Vec<(u64, u32)> = tags.collect();
            tags.sort_unstable();
            tags
        });
        let first = by_tag.partition_point(|(tag, _)| *tag < key.get());
        let same = by_tag[first..].iter().take_while(move |(tag, _)| *tag == key.get());
        same.map(|(_, number)| self.records[*number as usize].body)
    }

    /// Adds the changes of accounts that come behind these.
    fn append(&mut self, other: Self) {
        let behind = self.trie.slots.len();
        self.records.extend(other.records);
        self.wiped.extend(other.wiped);
        self.salted.extend(other.salted);
        self.trie.slots.extend(other.trie.slots);
        self.trie.accounts.extend(other.trie.accounts.into_iter().map(|mut item| {
            let Range { start, end } = item.change.slots;
            item.change.slots = start + behind..end + behind;
            item
        }));
    }

    /// The same changes, with what is superseded as the index has it now.
    pub(crate) fn settled(&self, lookup: &Lookup) -> Result<Self> {
        let mut records: Vec<StagedRecord> = self.all_records().copied().collect();
        for batch in records.chunks_mut(BATCH) {
            let hashes: Vec<u64> = batch.iter().map(|record| record.hash).collect();
            lookup.prefetch(&hashes);
            for record in batch {
                let found = lookup.find(record.hash, u64::MAX, |body| body.key() == record.body.key())?;
                record.previous = found.as_ref().map(Superseded::from);
            }
        }
        let (wiped, salted, trie) = (self.wiped.clone(), self.salted.clone(), self.trie.clone());
        let codes = self.codes.clone();
        Ok(Self { records, codes, wiped, salted, trie, sealed: OnceLock::new(), by_tag: OnceLock::new() })
    }
}

/// What the changes do to one account, before and after.
#[derive(Clone, Debug)]
struct Touched {
    address: Address,
    id: AccountId,
    salt: u8,
    before: Option<StoredAccount>,
    previous: Option<Superseded>,
    after: Option<Account>,
    wiped: bool,
    /// Its changed slots, in [`TrieChanges::slots`].
    slots: Range<usize>,
}

/// A slot that is set or cleared; it may be so already.
#[derive(Clone, Copy, Debug)]
struct GivenSlot {
    /// Of its account, among those touched.
    account: usize,
    slot: U256,
    value: U256,
    hash: u64,
}

/// Looks the changes up in the state that they are made on, on at most so many threads. `has_storage` tells of an account's path whether any of
/// its slots is set; `true` is a safe answer.
///
/// # Errors
/// Those of the changes, and corruption where a record to be superseded is damaged.
pub(crate) fn stage(
    view: &View<'_>,
    changes: &Changes,
    has_storage: &HasStorage<'_>,
    threads: usize,
) -> Result<Staged> {
    check_codes(changes)?;
    let addresses = addresses(changes);
    let parts = if changes.len() < PARALLEL { 1 } else { threads.clamp(1, addresses.len().max(1)) };
    let mut staged = match stage_parts(view, changes, has_storage, &addresses, parts)? {
        Some(staged) => staged,
        None => stage_parts(view, changes, has_storage, &addresses, 1)?.unwrap_or_default(),
    };
    staged.trie.accounts.sort_unstable_by_key(|item| item.path);
    stage_codes(view, changes, &mut staged)?;
    if let Some(block) = changes.block {
        staged.records.push(stage_block(view, block)?);
    }
    Ok(staged)
}

/// Stages accounts and slots, each part of the accounts on a thread. `None` where new accounts of several parts take the same id, which
/// one part alone would have told apart.
fn stage_parts(
    view: &View<'_>,
    changes: &Changes,
    has_storage: &HasStorage<'_>,
    addresses: &[Address],
    parts: usize,
) -> Result<Option<Staged>> {
    // Whole batches: records come in the same order whatever the number of threads.
    let mut parts = addresses.chunks(addresses.len().div_ceil(parts).max(1).next_multiple_of(BATCH));
    let stage = |part: &[Address]| Stage::new(view, changes, has_storage, part).accounts(part);
    let own = parts.next().unwrap_or_default();
    let (own, others) = thread::scope(|scope| {
        let spawn = |part| (part, thread::Builder::new().spawn_scoped(scope, move || stage(part)));
        let others: Vec<_> = parts.map(spawn).collect();
        let own = stage(own);
        let others = others.into_iter().map(|(part, other)| match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Without a thread it takes longer, nothing else.
            Err(_) => stage(part),
        });
        (own, others.collect::<Vec<_>>())
    });
    let (mut staged, mut new_ids) = own?;
    for other in others {
        let (other, ids) = other?;
        if !ids.is_disjoint(&new_ids) {
            return Ok(None);
        }
        new_ids.extend(ids);
        staged.append(other);
    }
    Ok(Some(staged))
}

/// The accounts that the changes name, in order.
fn addresses(changes: &Changes) -> Vec<Address> {
    let mut addresses: Vec<Address> = changes.accounts.keys().chain(&changes.wiped).copied().collect();
    for (address, _) in changes.slots.keys() {
        if addresses.last() != Some(address) {
            addresses.push(*address);
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Looks a block's metadata up in the state that they are to be written on.
pub(crate) fn stage_block(view: &View<'_>, block: Block) -> Result<StagedRecord> {
    let key = RecordKey::Block(block.number);
    let previous = view.find_key(&key)?.and_then(|known| known.superseded);
    Ok(StagedRecord { hash: view.lookup.hasher.record(&key), body: Body::Block(block), previous })
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

/// Staging of a part under way.
struct Stage<'a> {
    view: &'a View<'a>,
    changes: &'a Changes,
    has_storage: &'a HasStorage<'a>,
    /// Those of accounts that are still to come.
    slots: Peekable<btree_map::Range<'a, (Address, U256), U256>>,
    /// Ids that new accounts take.
    new_ids: HashSet<AccountId>,
    staged: Staged,
}

impl<'a> Stage<'a> {
    fn new(view: &'a View<'a>, changes: &'a Changes, has_storage: &'a HasStorage<'a>, addresses: &[Address]) -> Self {
        let first = addresses.first().copied().unwrap_or_default();
        let slots = changes.slots.range((first, U256::ZERO)..).peekable();
        Self { view, changes, has_storage, slots, new_ids: HashSet::new(), staged: Staged::default() }
    }

    /// Stages accounts, given in order, with their slots. Returns the ids that new ones take, too.
    fn accounts(mut self, addresses: &[Address]) -> Result<(Staged, HashSet<AccountId>)> {
        // A few accounts at a time with all their slots: what is known of them meanwhile stays in the processor's cache.
        for batch in addresses.chunks(BATCH) {
            self.batch(batch)?;
        }
        Ok((self.staged, self.new_ids))
    }

    /// Stages some accounts, the next ones in order, and their slots.
    fn batch(&mut self, addresses: &[Address]) -> Result<()> {
        let hashes: Vec<u64> =
            addresses.iter().map(|address| self.view.lookup.hasher.account_id(address, 0).0).collect();
        self.view.lookup.prefetch(&hashes);
        let mut touched = addresses.iter().map(|address| self.touch(*address)).collect::<Result<Vec<_>>>()?;
        while self.slots(&mut touched)? {}
        for account in &touched {
            self.account(account)?;
        }
        self.tell_trie(touched);
        Ok(())
    }

    /// An account as it is and as it will be.
    fn touch(&mut self, address: Address) -> Result<Touched> {
        let Self { view, changes, .. } = *self;
        let known = view.find_account(&address)?;
        let (before, salt) = match known.map(|known| known.body) {
            Some(Body::Account { stored, .. }) => (Some(stored), stored.salt),
            Some(Body::AccountDeleted { salt, .. }) => (None, salt),
            _ => (None, self.free_salt(&address)?),
        };
        let id = view.lookup.hasher.account_id(&address, salt);
        if salt != 0 {
            self.staged.salted.push((id, address));
        }
        let after = match changes.accounts.get(&address) {
            Some(after) => *after,
            None => before.map(|stored| stored.account),
        };
        let wiped = before.is_some()
            && changes.wiped.contains(&address)
            && (self.has_storage)(&view.commitment.paths(&[address.as_slice()])[0])?;
        let previous = known.and_then(|known| known.superseded);
        Ok(Touched { address, id, salt, before, previous, after, wiped, slots: 0..0 })
    }

    /// The smallest salt under which a new account's id is not taken, by a known account or by one of the same changes.
    fn free_salt(&mut self, address: &Address) -> Result<u8> {
        let hasher = &self.view.lookup.hasher;
        for salt in 0..=u8::MAX {
            let id = hasher.account_id(address, salt);
            let has_id = |body: &Body<'_>| match body {
                Body::Account { address, stored } => hasher.account_id(address, stored.salt) == id,
                Body::AccountDeleted { address, salt } => hasher.account_id(address, *salt) == id,
                _ => false,
            };
            let mut salted = self.view.staged.iter().flat_map(|staged| &staged.salted);
            let is_taken = salted.any(|(own, _)| *own == id) || self.view.find(id.0, has_id)?.is_some();
            if !is_taken && self.new_ids.insert(id) {
                return Ok(salt);
            }
        }
        Err(Error::LimitReached { what: "the number of accounts with one keyed hash", limit: u64::from(u8::MAX) })
    }

    /// Stages the next slots of these accounts, records and trie; whether there were any.
    fn slots(&mut self, touched: &mut [Touched]) -> Result<bool> {
        let batch = self.given_slots(touched)?;
        let hashes: Vec<u64> = batch.iter().map(|given| given.hash).collect();
        self.view.lookup.prefetch(&hashes);
        let first = self.staged.trie.slots.len();
        let mut keys = Vec::with_capacity(batch.len());
        for GivenSlot { account, slot, value, hash } in &batch {
            let account = &mut touched[*account];
            let (known, previous) = self.view.slot(account.id, slot)?;
            let old = if account.wiped { U256::ZERO } else { known };
            if old == *value {
                continue;
            }
            let body = Body::Slot { account: account.id, slot: *slot, value: *value };
            self.staged.records.push(StagedRecord { hash: *hash, body, previous });
            keys.push(slot.to_be_bytes::<32>());
            let items = &mut self.staged.trie.slots;
            if account.slots.is_empty() {
                account.slots = items.len()..items.len();
            }
            account.slots.end += 1;
            let (key, change) = (KeyTag::of(*hash), slot_payload(*value));
            items.push(Item { path: B256::ZERO, key, existed: !old.is_zero(), change });
        }
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let paths = self.view.commitment.paths(&keys);
        self.staged.trie.slots[first..].iter_mut().zip(paths).for_each(|(item, path)| item.path = path);
        Ok(!batch.is_empty())
    }

    /// The next slots of these accounts, as they are given.
    fn given_slots(&mut self, touched: &[Touched]) -> Result<Vec<GivenSlot>> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            // Both are in the order of addresses, and every slot's account is there.
            let is_theirs = |address: &Address| touched.last().is_some_and(|last| *address <= last.address);
            let Some(((address, slot), value)) = self.slots.next_if(|((address, _), _)| is_theirs(address)) else {
                break;
            };
            let account = touched.partition_point(|account| account.address < *address);
            let Touched { id, after, .. } = touched[account];
            if after.is_none() && !value.is_zero() {
                return Err(Error::SlotWithoutAccount { address: *address });
            }
            let hash = self.view.lookup.hasher.slot(id, slot);
            batch.push(GivenSlot { account, slot: *slot, value: *value, hash });
        }
        Ok(batch)
    }

    /// Stages the account's own record and its wipe mark, where they are needed.
    fn account(&mut self, account: &Touched) -> Result<()> {
        let Self { view, staged, .. } = self;
        let address = account.address;
        let hash = view.lookup.hasher.account_id(&address, 0).0;
        let after = account.after.map(|own| StoredAccount { account: own, salt: account.salt });
        if after != account.before {
            let body = match after {
                Some(stored) => Body::Account { address, stored },
                None => Body::AccountDeleted { address, salt: account.salt },
            };
            staged.records.push(StagedRecord { hash, body, previous: account.previous });
        }
        if account.wiped {
            let key = RecordKey::Wipe(account.id);
            let previous = view.find_key(&key)?.and_then(|known| known.superseded);
            let hash = view.lookup.hasher.record(&key);
            staged.wiped.push(account.id);
            staged.records.push(StagedRecord { hash, body: Body::Wipe { account: account.id }, previous });
        }
        Ok(())
    }

    /// What the trie has to know of accounts that change or any of whose slots does.
    fn tell_trie(&mut self, touched: Vec<Touched>) {
        let addresses: Vec<&[u8]> = touched.iter().map(|account| account.address.as_slice()).collect();
        let paths = self.view.commitment.paths(&addresses);
        let TrieChanges { accounts, slots } = &mut self.staged.trie;
        for (account, path) in touched.into_iter().zip(paths) {
            let Touched { address, id, before, after, wiped, slots: range, .. } = account;
            slots[range.clone()].sort_unstable_by_key(|item| item.path);
            if before.map(|stored| stored.account) == after && range.is_empty() && !wiped {
                continue;
            }
            let key = KeyTag::of(self.view.lookup.hasher.account_id(&address, 0).0);
            let change = AccountChange { id, account: after, wiped, slots: range };
            accounts.push(Item { path, key, existed: before.is_some(), change });
        }
    }
}

fn stage_codes(view: &View<'_>, changes: &Changes, staged: &mut Staged) -> Result<()> {
    for (hash, code) in &changes.codes {
        if *hash != KECCAK256_EMPTY && view.code(hash)?.is_none() {
            staged.codes.push(StagedCode { hash: *hash, code: code.clone() });
        }
    }
    Ok(())
}
