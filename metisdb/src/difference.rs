//! Which leaves differ between two versions: of the keys that have records in between, those whose values are not the same.
//!
//! Everything is looked up and hashed some at a time, so that the waits for memory overlap: recovery does this with all keys behind the
//! checkpoint.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use alloy_primitives::{Address, B256, U256};

use crate::{
    error::Result,
    key::AccountId,
    log::{
        Damage,
        record::{Body, Record},
    },
    lookup::Lookup,
    trie::{
        commitment::Payload,
        node::KeyTag,
        update::{AccountChange, Item, TrieChanges, slot_payload},
    },
    types::Account,
    view::View,
};

/// How many look-ups are under way at once.
const BATCH: usize = 32;

/// Keys of the state with records in some range of versions.
#[derive(Debug, Default)]
pub(crate) struct ChangedKeys {
    accounts: Vec<Address>,
    slots: Vec<(AccountId, U256)>,
    /// With the version of the first wipe.
    pub(crate) wiped: BTreeMap<AccountId, u64>,
}

impl ChangedKeys {
    /// A record lies in the range.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        match record.body {
            Body::Account { address, .. } | Body::AccountDeleted { address, .. } => self.accounts.push(address),
            Body::Slot { account, slot, .. } => self.slots.push((account, slot)),
            Body::Wipe { account } => {
                let first = self.wiped.entry(account).or_insert(record.version);
                *first = record.version.min(*first);
            }
            Body::Code { .. } | Body::Block(_) | Body::Root { .. } => {}
        }
    }

    /// In order, each once.
    fn sort(&mut self) {
        self.accounts.sort_unstable();
        self.accounts.dedup();
        self.slots.sort_unstable();
        self.slots.dedup();
    }
}

/// An account that is there before or after.
struct Touched {
    id: AccountId,
    address: Address,
    before: Option<Account>,
    after: Option<Account>,
    wiped: bool,
    /// Its slots, in [`ChangedKeys::slots`] at first, then the changed ones in [`TrieChanges::slots`].
    slots: Range<usize>,
}

/// What has to change in the trie of `from` to make it that of `to`. Where an account was wiped in between, `keys` names all slots that it
/// has in `to`. Keys that changed only later than both do no harm.
pub(crate) fn changes_between(
    from: &View<'_>,
    to: &View<'_>,
    keys: &mut ChangedKeys,
    salted: &HashMap<AccountId, Address>,
) -> Result<TrieChanges> {
    keys.sort();
    let mut touched = touched((from, to), keys, salted)?;
    let mut changes = TrieChanges::default();
    add_slots((from, to), keys, &mut touched, &mut changes.slots)?;
    let is_changed = |account: &Touched| account.before != account.after || !account.slots.is_empty() || account.wiped;
    for batch in touched.chunks(BATCH) {
        let addresses: Vec<&[u8]> = batch.iter().map(|account| account.address.as_slice()).collect();
        let paths = from.commitment.paths(&addresses);
        for (account, path) in batch.iter().zip(paths).filter(|(account, _)| is_changed(account)) {
            let Touched { id, after, wiped, ref slots, .. } = *account;
            changes.slots[slots.clone()].sort_unstable_by_key(|item| item.path);
            let key = KeyTag::of(from.lookup.hasher.account_id(&account.address, 0).0);
            let change = AccountChange { id, account: after, wiped, slots: slots.clone() };
            changes.accounts.push(Item { path, key, existed: account.before.is_some(), change });
        }
    }
    changes.accounts.sort_unstable_by_key(|item| item.path);
    Ok(changes)
}

/// The accounts that the keys belong to, with their slots among the keys, in the order of their ids.
fn touched(
    (from, to): (&View<'_>, &View<'_>),
    keys: &ChangedKeys,
    salted: &HashMap<AccountId, Address>,
) -> Result<Vec<Touched>> {
    let mut rest = 0;
    let mut touched = Vec::new();
    for batch in accounts(from.lookup, keys, salted)?.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|(_, address)| from.lookup.hasher.account_id(address, 0).0).collect();
        from.lookup.prefetch(&hashes);
        for (id, address) in batch {
            let first = rest + keys.slots[rest..].partition_point(|(own, _)| own < id);
            rest = first + keys.slots[first..].iter().take_while(|(own, _)| own == id).count();
            let before = from.account(address)?.map(|stored| stored.account);
            let after = to.account(address)?.map(|stored| stored.account);
            if before.is_none() && after.is_none() {
                continue;
            }
            let wiped = keys.wiped.get(id).is_some_and(|version| *version <= from.version.max(to.version));
            let slots = if after.is_some() { first..rest } else { 0..0 };
            touched.push(Touched { id: *id, address: *address, before, after, wiped, slots });
        }
    }
    Ok(touched)
}

/// Adds the slots whose values differ, account by account.
fn add_slots(
    (from, to): (&View<'_>, &View<'_>),
    keys: &ChangedKeys,
    touched: &mut [Touched],
    items: &mut Vec<Item<Option<Payload>>>,
) -> Result<()> {
    let mut given: Vec<(usize, U256)> = Vec::with_capacity(BATCH);
    for account in 0..touched.len() {
        let slots = std::mem::take(&mut touched[account].slots);
        for (_, slot) in &keys.slots[slots] {
            given.push((account, *slot));
            if given.len() == BATCH {
                add_batch((from, to), &given, touched, items)?;
                given.clear();
            }
        }
    }
    add_batch((from, to), &given, touched, items)
}

fn add_batch(
    (from, to): (&View<'_>, &View<'_>),
    given: &[(usize, U256)],
    touched: &mut [Touched],
    items: &mut Vec<Item<Option<Payload>>>,
) -> Result<()> {
    let hashes: Vec<u64> =
        given.iter().map(|(account, slot)| from.lookup.hasher.slot(touched[*account].id, slot)).collect();
    from.lookup.prefetch(&hashes);
    let first = items.len();
    let mut numbers = Vec::with_capacity(given.len());
    for ((account, slot), hash) in given.iter().zip(hashes) {
        let account = &mut touched[*account];
        let old = if account.wiped { U256::ZERO } else { from.slot(account.id, slot)?.0 };
        let (value, _) = to.slot(account.id, slot)?;
        if old == value {
            continue;
        }
        if account.slots.is_empty() {
            account.slots = items.len()..items.len();
        }
        account.slots.end += 1;
        numbers.push(slot.to_be_bytes::<32>());
        let (key, change) = (KeyTag::of(hash), slot_payload(value));
        items.push(Item { path: B256::ZERO, key, existed: !old.is_zero(), change });
    }
    let paths = from.commitment.paths(&numbers.iter().map(|number| &number[..]).collect::<Vec<_>>());
    items[first..].iter_mut().zip(paths).for_each(|(item, path)| item.path = path);
    Ok(())
}

/// The accounts that the keys belong to, in the order of their ids.
fn accounts(
    lookup: &Lookup,
    keys: &ChangedKeys,
    salted: &HashMap<AccountId, Address>,
) -> Result<Vec<(AccountId, Address)>> {
    let mut accounts = BTreeMap::new();
    for address in &keys.accounts {
        if let Some(id) = lookup.known_account_id(address)? {
            accounts.insert(id, *address);
        }
    }
    let mut ids: Vec<AccountId> = keys.slots.chunk_by(|one, other| one.0 == other.0).map(|slots| slots[0].0).collect();
    ids.extend(keys.wiped.keys());
    ids.retain(|id| !accounts.contains_key(id));
    for batch in ids.chunks(BATCH) {
        lookup.prefetch(&batch.iter().map(|id| id.0).collect::<Vec<_>>());
        for id in batch {
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
    }
    Ok(accounts.into_iter().collect())
}
