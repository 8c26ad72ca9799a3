//! From changes to records: what they supersede is looked up, what changes nothing is dropped, and what is left is told to the trie.

use std::{collections::HashMap, sync::OnceLock};

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
#[derive(Clone, Copy, Debug)]
struct Touched {
    address: Address,
    id: AccountId,
    salt: u8,
    before: Option<StoredAccount>,
    previous: Option<Superseded>,
    after: Option<Account>,
    wiped: bool,
}

/// A slot that changes.
#[derive(Clone, Copy, Debug)]
struct ChangedSlot {
    address: Address,
    slot: U256,
    value: U256,
    hash: u64,
    existed: bool,
}

/// Looks the changes up in the state that they are made on. `has_storage` tells of an account's path whether any of its slots is set;
/// `true` is a safe answer.
///
/// # Errors
/// Those of the changes, and corruption where a record to be superseded is damaged.
pub(crate) fn stage(view: &View<'_>, changes: &Changes, has_storage: &dyn Fn(&B256) -> Result<bool>) -> Result<Staged> {
    check_codes(changes)?;
    let mut staged = Staged::default();
    let touched = touch_accounts(view, changes, has_storage, &mut staged)?;
    let slots = stage_slots(view, changes, &touched, &mut staged)?;
    for account in &touched {
        stage_account(view, account, &mut staged)?;
    }
    stage_codes(view, changes, &mut staged)?;
    if let Some(block) = changes.block {
        staged.records.push(stage_block(view, block)?);
    }
    staged.trie = trie_changes(view, &touched, &slots);
    Ok(staged)
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

/// The accounts that the changes name, as they are and as they will be, by address.
fn touch_accounts(
    view: &View<'_>,
    changes: &Changes,
    has_storage: &dyn Fn(&B256) -> Result<bool>,
    staged: &mut Staged,
) -> Result<Vec<Touched>> {
    let mut addresses: Vec<Address> = changes.accounts.keys().chain(&changes.wiped).copied().collect();
    addresses.extend(changes.slots.keys().map(|(address, _)| *address));
    addresses.sort_unstable();
    addresses.dedup();
    let mut touched = Vec::with_capacity(addresses.len());
    let mut new_ids = HashMap::new();
    for batch in addresses.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|address| view.lookup.hasher.account_id(address, 0).0).collect();
        view.lookup.prefetch(&hashes);
        for address in batch {
            let account = touch_account(view, changes, *address, has_storage, &mut new_ids)?;
            if account.salt != 0 {
                staged.salted.push((account.id, *address));
            }
            touched.push(account);
        }
    }
    Ok(touched)
}

fn touch_account(
    view: &View<'_>,
    changes: &Changes,
    address: Address,
    has_storage: &dyn Fn(&B256) -> Result<bool>,
    new_ids: &mut HashMap<AccountId, Address>,
) -> Result<Touched> {
    let known = view.find_account(&address)?;
    let (before, salt) = match known.map(|known| known.body) {
        Some(Body::Account { stored, .. }) => (Some(stored), stored.salt),
        Some(Body::AccountDeleted { salt, .. }) => (None, salt),
        _ => (None, free_salt(view, &address, new_ids)?),
    };
    let after = match changes.accounts.get(&address) {
        Some(after) => *after,
        None => before.map(|stored| stored.account),
    };
    let wiped = before.is_some()
        && changes.wiped.contains(&address)
        && has_storage(&view.commitment.paths(&[address.as_slice()])[0])?;
    Ok(Touched {
        address,
        id: view.lookup.hasher.account_id(&address, salt),
        salt,
        before,
        previous: known.and_then(|known| known.superseded),
        after,
        wiped,
    })
}

/// The smallest salt under which a new account's id is not taken, by a known account or by one of the same changes.
fn free_salt(view: &View<'_>, address: &Address, new_ids: &mut HashMap<AccountId, Address>) -> Result<u8> {
    let hasher = &view.lookup.hasher;
    for salt in 0..=u8::MAX {
        let id = hasher.account_id(address, salt);
        let has_id = |body: &Body<'_>| match body {
            Body::Account { address, stored } => hasher.account_id(address, stored.salt) == id,
            Body::AccountDeleted { address, salt } => hasher.account_id(address, *salt) == id,
            _ => false,
        };
        let mut salted = view.staged.iter().flat_map(|staged| &staged.salted);
        let is_taken = salted.any(|(own, _)| *own == id) || view.find(id.0, has_id)?.is_some();
        if !is_taken && !new_ids.contains_key(&id) {
            new_ids.insert(id, *address);
            return Ok(salt);
        }
    }
    Err(Error::LimitReached { what: "the number of accounts with one keyed hash", limit: u64::from(u8::MAX) })
}

/// Stages a record for each slot that changes.
fn stage_slots(
    view: &View<'_>,
    changes: &Changes,
    touched: &[Touched],
    staged: &mut Staged,
) -> Result<Vec<ChangedSlot>> {
    let mut slots = Vec::with_capacity(changes.slots.len());
    let mut accounts = touched.iter().peekable();
    for ((address, slot), value) in &changes.slots {
        // Both are in the order of addresses, and every slot's account is there.
        while accounts.next_if(|account| account.address < *address).is_some() {}
        let Some(account) = accounts.peek().copied() else { continue };
        if account.after.is_none() && !value.is_zero() {
            return Err(Error::SlotWithoutAccount { address: *address });
        }
        slots.push((account, *slot, *value, view.lookup.hasher.slot(account.id, slot)));
    }
    let mut changed = Vec::with_capacity(slots.len());
    staged.records.reserve(slots.len());
    for batch in slots.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|slot| slot.3).collect();
        view.lookup.prefetch(&hashes);
        for (account, slot, value, hash) in batch {
            let (known, previous) = view.slot(account.id, slot)?;
            let old = if account.wiped { U256::ZERO } else { known };
            if old == *value {
                continue;
            }
            changed.push(ChangedSlot {
                address: account.address,
                slot: *slot,
                value: *value,
                hash: *hash,
                existed: !old.is_zero(),
            });
            let body = Body::Slot { account: account.id, slot: *slot, value: *value };
            staged.records.push(StagedRecord { hash: *hash, body, previous });
        }
    }
    Ok(changed)
}

/// Stages the account's own record and its wipe mark, where they are needed.
fn stage_account(view: &View<'_>, account: &Touched, staged: &mut Staged) -> Result<()> {
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

fn stage_codes(view: &View<'_>, changes: &Changes, staged: &mut Staged) -> Result<()> {
    for (hash, code) in &changes.codes {
        if *hash != KECCAK256_EMPTY && view.code(hash)?.is_none() {
            staged.codes.push(StagedCode { hash: *hash, code: code.clone() });
        }
    }
    Ok(())
}

/// What the trie has to know: every account that changes or any of whose slots does, by path.
fn trie_changes(view: &View<'_>, touched: &[Touched], slots: &[ChangedSlot]) -> TrieChanges {
    let keys: Vec<[u8; 32]> = slots.iter().map(|slot| slot.slot.to_be_bytes::<32>()).collect();
    let slot_paths = view.commitment.paths(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>());
    let addresses: Vec<&[u8]> = touched.iter().map(|account| account.address.as_slice()).collect();
    let paths = view.commitment.paths(&addresses);
    let mut changes = TrieChanges::default();
    let item = |(slot, path): (&ChangedSlot, B256)| {
        let (key, change) = (KeyTag::of(slot.hash), slot_payload(slot.value));
        Item { path, key, existed: slot.existed, change }
    };
    changes.slots = slots.iter().zip(slot_paths).map(item).collect();
    let mut first = 0;
    for (account, path) in touched.iter().zip(paths) {
        let count = slots[first..].iter().take_while(|slot| slot.address == account.address).count();
        let range = first..first + count;
        first += count;
        changes.slots[range.clone()].sort_unstable_by_key(|item| item.path);
        let before = account.before.map(|stored| stored.account);
        if before == account.after && range.is_empty() && !account.wiped {
            continue;
        }
        let key = KeyTag::of(view.lookup.hasher.account_id(&account.address, 0).0);
        let change = AccountChange { id: account.id, account: account.after, wiped: account.wiped, slots: range };
        changes.accounts.push(Item { path, key, existed: before.is_some(), change });
    }
    changes.accounts.sort_unstable_by_key(|item| item.path);
    changes
}
