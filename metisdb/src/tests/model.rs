//! A naive model of the state, every version a map of its own, and random histories for both.

use std::{collections::BTreeMap, sync::OnceLock};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{
    Random, mix,
    naive_trie::{self, NaiveAccount},
    wide,
};
use crate::{Account, Block, Changes, Key, Snapshot, Value};

const ADDRESSES: u64 = 10;
const SLOTS: u64 = 8;
const BLOCKS: u64 = 6;
/// Slots that a churning commit sets.
const CHURNED: u64 = 350;

/// One call on [`Changes`].
#[derive(Clone, Debug)]
pub(super) enum Step {
    Set(Address, Account),
    Delete(Address),
    Wipe(Address),
    Slot(Address, U256, U256),
    Code(B256, Bytes),
    Block(Block),
}

/// The state at one version.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) accounts: BTreeMap<Address, Account>,
    pub(super) slots: BTreeMap<(Address, U256), U256>,
    pub(super) codes: BTreeMap<B256, Bytes>,
    pub(super) blocks: BTreeMap<u64, Block>,
    /// Once they were asked for: for plain paths or not, which is the same through a whole test.
    roots: OnceLock<(bool, Roots)>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let content = |own: &Self| (own.accounts.clone(), own.slots.clone(), own.codes.clone(), own.blocks.clone());
        content(self) == content(other)
    }
}

/// The roots of one state, by the naive trie.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) state: B256,
    storage: BTreeMap<Address, B256>,
    empty: B256,
}

impl Roots {
    /// The root of an account's storage, that of the empty trie where it has none.
    pub(super) fn storage(&self, address: &Address) -> B256 {
        self.storage.get(address).copied().unwrap_or(self.empty)
    }
}

fn address(number: u64) -> Address {
    Address::from_slice(&mix(number + 1).to_be_bytes().repeat(3)[..20])
}

fn slot(number: u64) -> U256 {
    if number == 0 { U256::MAX } else { U256::from(number) }
}

impl State {
    pub(super) fn apply(&mut self, step: &Step) {
        self.roots = OnceLock::new();
        match step {
            Step::Set(address, account) => {
                self.accounts.insert(*address, *account);
            }
            Step::Delete(address) => {
                self.accounts.remove(address);
                self.slots.retain(|(own, _), _| own != address);
            }
            Step::Wipe(address) => self.slots.retain(|(own, _), _| own != address),
            Step::Slot(address, slot, value) if value.is_zero() => {
                self.slots.remove(&(*address, *slot));
            }
            Step::Slot(address, slot, value) => {
                self.slots.insert((*address, *slot), *value);
            }
            Step::Code(hash, code) => {
                self.codes.insert(*hash, code.clone());
            }
            Step::Block(block) => {
                self.blocks.insert(block.number, *block);
            }
        }
    }

    /// The storage of every account that has any.
    pub(super) fn storages(&self) -> BTreeMap<Address, BTreeMap<U256, U256>> {
        let mut storages: BTreeMap<Address, BTreeMap<U256, U256>> = BTreeMap::new();
        for ((address, slot), value) in &self.slots {
            storages.entry(*address).or_default().insert(*slot, *value);
        }
        storages
    }

    /// The roots, where paths are the keys' hashes or the plain keys.
    pub(super) fn roots(&self, plain_paths: bool) -> &Roots {
        let (plain, roots) = self.roots.get_or_init(|| {
            let path = |key: &[u8]| path(key, plain_paths);
            let (storages, none) = (self.storages(), BTreeMap::new());
            let naive = |(address, account): (&Address, &Account)| {
                let Account { nonce, balance, code_hash } = *account;
                let slots = storages.get(address).unwrap_or(&none);
                (*address, NaiveAccount { nonce, balance, code_hash, slots })
            };
            let state = naive_trie::state_root(self.accounts.iter().map(naive), path);
            let of = |(address, slots): (&Address, _)| (*address, naive_trie::storage_root(slots, &path));
            let storage = storages.iter().map(of).collect();
            (plain_paths, Roots { state, storage, empty: naive_trie::storage_root(&none, &path) })
        });
        assert_eq!(*plain, plain_paths, "the paths are the same through a whole test");
        roots
    }

    /// Random steps that make the next state; `bulk` code bytes now and then, to fill segments.
    pub(super) fn next(&self, random: &mut Random, bulk: usize) -> (Self, Vec<Step>) {
        let mut state = self.clone();
        let mut steps = Vec::new();
        for _ in 0..random.below(12) {
            let address = address(random.below(ADDRESSES));
            let step = match random.below(20) {
                0 => Step::Delete(address),
                1 => Step::Wipe(address),
                2 if random.one_in(2) => {
                    let code: Bytes = vec![random.below(6) as u8; bulk / 8 * (1 + random.below(8)) as usize + 1].into();
                    Step::Code(keccak256(&code), code)
                }
                2..=6 => Step::Set(address, random_account(random)),
                _ => {
                    if !state.accounts.contains_key(&address) {
                        let step = Step::Set(address, random_account(random));
                        state.apply(&step);
                        steps.push(step);
                    }
                    let value = match random.below(5) {
                        0 | 1 => U256::ZERO,
                        2 => U256::from(random.below(300)),
                        _ => wide(random.next() >> 1),
                    };
                    Step::Slot(address, slot(random.below(SLOTS)), value)
                }
            };
            state.apply(&step);
            steps.push(step);
        }
        if random.one_in(2) {
            let number = random.below(BLOCKS);
            let hash = B256::from(wide(random.next() >> 1));
            let block = Block { number, hash, parent_hash: B256::repeat_byte(number as u8), timestamp: random.next() };
            state.apply(&Step::Block(block));
            steps.push(Step::Block(block));
        }
        (state, steps)
    }

    /// Steps that set many slots of one account again and again, so that whole segments die.
    pub(super) fn churn(&self, random: &mut Random) -> (Self, Vec<Step>) {
        let mut steps = vec![Step::Set(address(0), random_account(random))];
        steps.extend((0..CHURNED).map(|number| Step::Slot(address(0), U256::from(number), wide(random.next() >> 1))));
        let mut state = self.clone();
        steps.iter().for_each(|step| state.apply(step));
        (state, steps)
    }

    /// Compares everything that the snapshot gives with the state.
    pub(super) fn assert_equals(&self, snapshot: &Snapshot) {
        let version = snapshot.version();
        let roots = self.roots(snapshot.store().options.plain_paths);
        assert_eq!(snapshot.root().unwrap(), roots.state, "root at {version}");
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for number in 0..ADDRESSES {
            let address = address(number);
            let account = self.accounts.get(&address).copied();
            assert_eq!(snapshot.account(&address).unwrap(), account, "account {address} at {version}");
            let has_storage = self.slots.keys().any(|(own, _)| *own == address);
            assert_eq!(snapshot.has_storage(&address).unwrap(), has_storage, "storage of {address} at {version}");
            let storage_root = snapshot.storage_root(&address).unwrap();
            assert_eq!(storage_root, roots.storage(&address), "storage root of {address} at {version}");
            keys.push(Key::Account(address));
            values.push(Value::Account(account));
            for slot in (0..SLOTS).map(slot) {
                let value = self.slots.get(&(address, slot)).copied().unwrap_or_default();
                assert_eq!(snapshot.storage(&address, slot).unwrap(), value, "slot {slot} of {address} at {version}");
                keys.push(Key::Storage(address, slot));
                values.push(Value::Storage(value));
            }
        }
        for (hash, code) in &self.codes {
            assert_eq!(snapshot.code(hash).unwrap().as_ref(), Some(code), "code {hash} at {version}");
            keys.push(Key::Code(*hash));
            values.push(Value::Code(Some(code.clone())));
        }
        assert_eq!(snapshot.get_many(&keys).unwrap(), values, "batch at {version}");
        for number in 0..BLOCKS {
            let block = self.blocks.get(&number).copied();
            assert_eq!(snapshot.block(number).unwrap(), block, "block {number} at {version}");
        }
    }
}

/// The path of a key.
pub(super) fn path(key: &[u8], plain: bool) -> B256 {
    if plain { B256::left_padding_from(key) } else { naive_trie::hashed(key) }
}

pub(super) fn random_account(random: &mut Random) -> Account {
    let balance = match random.below(4) {
        0 => U256::ZERO,
        1 => U256::MAX,
        _ => U256::from(random.next()),
    };
    let nonce = if random.one_in(10) { u64::MAX } else { random.below(3) };
    let account = Account { nonce, balance, ..Account::default() };
    if random.one_in(3) { Account { code_hash: B256::from(wide(random.next() >> 1)), ..account } } else { account }
}

/// The same steps as changes.
pub(super) fn changes(steps: &[Step]) -> Changes {
    let mut changes = Changes::new();
    for step in steps {
        match step {
            Step::Set(address, account) => changes.set_account(*address, *account),
            Step::Delete(address) => changes.delete_account(*address),
            Step::Wipe(address) => changes.wipe_storage(*address),
            Step::Slot(address, slot, value) => changes.set_storage(*address, *slot, *value),
            Step::Code(hash, code) => changes.set_code(*hash, code.clone()),
            Step::Block(block) => changes.set_block(*block),
        };
    }
    changes
}
