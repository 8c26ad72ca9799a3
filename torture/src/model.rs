//! A model of the state: every version a few maps, with roots by `alloy-trie`.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{TrieAccount, root};
use metisdb::{Account, Block, Changes, Key, Snapshot, Value};

use crate::random::{Random, mix};

const ADDRESSES: u64 = 8;
const SLOTS: u64 = 12;
const BLOCKS: u64 = 4;
/// Accounts and slots of each that a churning commit sets.
const CHURNED_ACCOUNTS: u64 = 2;
const CHURNED_SLOTS: u64 = 40;

/// Ends a function with a message unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// The state at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    accounts: BTreeMap<Address, Account>,
    slots: BTreeMap<(Address, U256), U256>,
    codes: BTreeMap<B256, Bytes>,
    blocks: BTreeMap<u64, Block>,
    /// Computed once, when the state is complete.
    root: B256,
}

/// Which changes a history makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A few of everything: accounts come and go, the index grows.
    Mixed,
    /// The same keys again and again, so that whole segments die.
    Churning,
}

/// How much a database holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    pub(crate) accounts: u64,
    /// Of each account.
    pub(crate) slots: u64,
    pub(crate) commits: u64,
    pub(crate) code_bytes: usize,
}

pub(crate) fn address(number: u64) -> Address {
    Address::from_slice(&mix(number + 1).to_be_bytes().repeat(3)[..20])
}

fn slot(number: u64) -> U256 {
    if number == 0 { U256::MAX } else { U256::from(number) }
}

impl State {
    /// The state of an empty database.
    pub(crate) fn empty() -> Self {
        Self { root: alloy_trie::EMPTY_ROOT_HASH, ..Self::default() }
    }

    pub(crate) fn root(&self) -> B256 {
        self.root
    }

    /// The next state, and the changes that lead to it.
    pub(crate) fn next(&self, random: &mut Random, profile: Profile) -> (Self, Changes) {
        let mut draft = Draft { state: self.clone(), changes: Changes::new() };
        match profile {
            Profile::Mixed => draft.mix(random),
            Profile::Churning => draft.churn(random),
        }
        draft.state.root = draft.state.compute_root();
        (draft.state, draft.changes)
    }

    /// The next state of a database that is filled: nothing is deleted, half of the slots are set anew in each round.
    pub(crate) fn fill(&self, random: &mut Random, filling: &Filling, round: u64) -> (Self, Changes) {
        let mut draft = Draft { state: self.clone(), changes: Changes::new() };
        for number in 0..filling.accounts {
            draft.set_account(address(number), random);
            for index in 0..filling.slots {
                if round == 0 || random.one_in(2) {
                    draft.put_slot(address(number), slot(index), random.wide() >> random.below(200) as usize);
                }
            }
        }
        let bytes = filling.code_bytes / filling.commits as usize;
        let code = (0..bytes.div_ceil(32)).flat_map(|_| random.wide().to_be_bytes::<32>()).take(bytes).collect();
        draft.put_code(code);
        draft.set_block(random);
        draft.state.root = draft.state.compute_root();
        (draft.state, draft.changes)
    }

    fn compute_root(&self) -> B256 {
        root::state_root_unhashed(self.accounts.iter().map(|(address, account)| {
            let slots = self.slots.range((*address, U256::ZERO)..=(*address, U256::MAX));
            let slots = slots.map(|((_, slot), value)| (B256::from(*slot), *value));
            let Account { nonce, balance, code_hash } = *account;
            (*address, TrieAccount { nonce, balance, storage_root: root::storage_root_unhashed(slots), code_hash })
        }))
    }

    /// Compares all that the snapshot gives with the state. `codes` are those that any version has.
    pub(crate) fn compare(&self, snapshot: &Snapshot, codes: &[B256]) -> Result<(), String> {
        let version = snapshot.version();
        let failed = |error| format!("reading version {version}: {error}");
        let got = snapshot.root().map_err(failed)?;
        ensure!(got == self.root, "version {version} has root {got}, not {}", self.root);
        let keys = self.keys(codes);
        let batch = snapshot.get_many(&keys).map_err(failed)?;
        for (key, got) in keys.iter().zip(batch) {
            let expected = self.value(key);
            ensure!(got == expected, "version {version}, {key:?}: {got:?}, not {expected:?}");
        }
        for number in 0..BLOCKS {
            let (got, expected) = (snapshot.block(number).map_err(failed)?, self.blocks.get(&number).copied());
            ensure!(got == expected, "version {version}, block {number}: {got:?}, not {expected:?}");
        }
        Ok(())
    }

    /// Accounts and slots that can be there, and some codes.
    pub(crate) fn keys(&self, codes: &[B256]) -> Vec<Key> {
        let mut keys: Vec<Key> = codes.iter().map(|hash| Key::Code(*hash)).collect();
        for number in 0..ADDRESSES {
            keys.push(Key::Account(address(number)));
            keys.extend((0..SLOTS).map(|index| Key::Storage(address(number), slot(index))));
        }
        for number in 0..CHURNED_ACCOUNTS {
            keys.extend((SLOTS..CHURNED_SLOTS).map(|index| Key::Storage(address(number), slot(index))));
        }
        keys
    }

    /// What a key has here.
    pub(crate) fn value(&self, key: &Key) -> Value {
        match key {
            Key::Account(address) => Value::Account(self.accounts.get(address).copied()),
            Key::Storage(address, slot) => {
                Value::Storage(self.slots.get(&(*address, *slot)).copied().unwrap_or_default())
            }
            Key::Code(hash) => Value::Code(self.codes.get(hash).cloned()),
        }
    }

    /// The keys that are set, and for each account one that is not.
    pub(crate) fn own_keys(&self) -> Vec<Key> {
        let accounts = self
            .accounts
            .keys()
            .flat_map(|address| [Key::Account(*address), Key::Storage(*address, U256::MAX - U256::ONE)]);
        let slots = self.slots.keys().map(|(address, slot)| Key::Storage(*address, *slot));
        accounts.chain(slots).chain(self.codes.keys().map(|hash| Key::Code(*hash))).collect()
    }

    /// Each account with its slots.
    pub(crate) fn storages(&self) -> BTreeMap<Address, Vec<U256>> {
        let mut storages: BTreeMap<Address, Vec<U256>> = BTreeMap::new();
        for (address, slot) in self.slots.keys() {
            storages.entry(*address).or_default().push(*slot);
        }
        storages
    }

    pub(crate) fn account(&self, address: &Address) -> Option<Account> {
        self.accounts.get(address).copied()
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = (&u64, &Block)> {
        self.blocks.iter()
    }

    pub(crate) fn code_hashes(&self) -> Vec<B256> {
        self.codes.keys().copied().collect()
    }
}

/// A state on its way to the next one.
struct Draft {
    state: State,
    changes: Changes,
}

impl Draft {
    fn mix(&mut self, random: &mut Random) {
        for _ in 0..random.below(12) {
            let address = address(random.below(ADDRESSES));
            match random.below(24) {
                0 => self.delete(address),
                1 => self.wipe(address),
                2 if random.one_in(2) => self.store_code(random),
                3 => {
                    // Deleted and made again in one commit.
                    self.delete(address);
                    self.set_account(address, random);
                    self.set_slot(address, slot(random.below(SLOTS)), random);
                }
                4..=8 => self.set_account(address, random),
                _ => {
                    if !self.state.accounts.contains_key(&address) {
                        self.set_account(address, random);
                    }
                    self.set_slot(address, slot(random.below(SLOTS)), random);
                }
            }
        }
        if random.one_in(3) {
            self.set_block(random);
        }
    }

    fn churn(&mut self, random: &mut Random) {
        for number in 0..CHURNED_ACCOUNTS {
            let address = address(number);
            if random.one_in(12) {
                self.delete(address);
            }
            self.set_account(address, random);
            for index in 0..CHURNED_SLOTS {
                self.put_slot(address, slot(index), random.wide());
            }
        }
    }

    fn set_account(&mut self, address: Address, random: &mut Random) {
        let balance = match random.below(4) {
            0 => U256::ZERO,
            1 => U256::MAX,
            _ => U256::from(random.next()),
        };
        let nonce = if random.one_in(10) { u64::MAX } else { random.below(3) };
        let mut account = Account { nonce, balance, ..Account::default() };
        if random.one_in(3) {
            account.code_hash = B256::from(random.wide());
        }
        self.changes.set_account(address, account);
        self.state.accounts.insert(address, account);
    }

    fn set_slot(&mut self, address: Address, slot: U256, random: &mut Random) {
        let value = match random.below(5) {
            0 | 1 => U256::ZERO,
            2 => U256::from(random.below(300)),
            _ => random.wide(),
        };
        self.put_slot(address, slot, value);
    }

    fn put_slot(&mut self, address: Address, slot: U256, value: U256) {
        self.changes.set_storage(address, slot, value);
        if value.is_zero() {
            self.state.slots.remove(&(address, slot));
        } else {
            self.state.slots.insert((address, slot), value);
        }
    }

    fn delete(&mut self, address: Address) {
        self.changes.delete_account(address);
        self.state.accounts.remove(&address);
        self.state.slots.retain(|(own, _), _| *own != address);
    }

    fn wipe(&mut self, address: Address) {
        self.changes.wipe_storage(address);
        self.state.slots.retain(|(own, _), _| *own != address);
    }

    /// Fills segments: now and then the code is longer than one.
    fn store_code(&mut self, random: &mut Random) {
        let bytes = if random.one_in(12) { 70_000 } else { 1 + random.below(12_000) as usize };
        self.put_code(vec![random.below(6) as u8; bytes].into());
    }

    fn put_code(&mut self, code: Bytes) {
        let hash = keccak256(&code);
        self.changes.set_code(hash, code.clone());
        self.state.codes.insert(hash, code);
    }

    fn set_block(&mut self, random: &mut Random) {
        let number = random.below(BLOCKS);
        let hash = B256::from(random.wide());
        let block = Block { number, hash, parent_hash: B256::repeat_byte(number as u8), timestamp: random.next() };
        self.changes.set_block(block);
        self.state.blocks.insert(number, block);
    }
}
