//! What random histories ask of the trie: keys that make it take every shape, a second opinion on its roots, and a look at its nodes.

use std::{collections::BTreeMap, ops::RangeInclusive};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::Nibbles;

use super::{
    Random, mix,
    model::{State, Step, path, random_account},
    naive_trie, wide,
};
use crate::{
    Account, Block, Db, Proposal, Result, Snapshot,
    fuzzing::oracle_root,
    proof::{AccountProof, AccountRange, MultiProof, StorageRange},
    trie::{
        Loaded,
        node::{Child, Link},
    },
};

/// Codes and blocks that there may be.
const CODES: u64 = 4;
const BLOCKS: u64 = 4;
/// Extensions with more nibbles than this count as long.
const LONG: usize = 20;

/// Reading a version, or a proposal: the same calls.
pub(super) trait Reads {
    fn account(&self, address: &Address) -> Result<Option<Account>>;
    fn storage(&self, address: &Address, slot: U256) -> Result<U256>;
    fn has_storage(&self, address: &Address) -> Result<bool>;
    fn storage_root(&self, address: &Address) -> Result<B256>;
    fn code(&self, hash: &B256) -> Result<Option<Bytes>>;
    fn block(&self, number: u64) -> Result<Option<Block>>;
    fn block_hash(&self, number: u64) -> Result<Option<B256>>;
    fn proof(&self, address: &Address, slots: &[U256]) -> Result<AccountProof>;
    fn multiproof(&self, keys: &[(Address, &[U256])]) -> Result<MultiProof>;
    fn account_range(&self, range: RangeInclusive<B256>, limit: usize) -> Result<AccountRange>;
    fn storage_range(&self, address: &Address, range: RangeInclusive<B256>, limit: usize) -> Result<StorageRange>;
    fn state_root(&self) -> Result<B256>;
}

macro_rules! reads {
    ($own:ty, $root:expr) => {
        impl Reads for $own {
            fn account(&self, address: &Address) -> Result<Option<Account>> {
                self.account(address)
            }
            fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
                self.storage(address, slot)
            }
            fn has_storage(&self, address: &Address) -> Result<bool> {
                self.has_storage(address)
            }
            fn storage_root(&self, address: &Address) -> Result<B256> {
                self.storage_root(address)
            }
            fn code(&self, hash: &B256) -> Result<Option<Bytes>> {
                self.code(hash)
            }
            fn block(&self, number: u64) -> Result<Option<Block>> {
                self.block(number)
            }
            fn block_hash(&self, number: u64) -> Result<Option<B256>> {
                self.block_hash(number)
            }
            fn proof(&self, address: &Address, slots: &[U256]) -> Result<AccountProof> {
                self.proof(address, slots)
            }
            fn multiproof(&self, keys: &[(Address, &[U256])]) -> Result<MultiProof> {
                self.multiproof(keys)
            }
            fn account_range(&self, range: RangeInclusive<B256>, limit: usize) -> Result<AccountRange> {
                self.account_range(range, limit)
            }
            fn storage_range(
                &self,
                address: &Address,
                range: RangeInclusive<B256>,
                limit: usize,
            ) -> Result<StorageRange> {
                self.storage_range(address, range, limit)
            }
            fn state_root(&self) -> Result<B256> {
                $root(self)
            }
        }
    };
}
reads!(Snapshot, Snapshot::root);
reads!(Proposal, |own: &Proposal| Ok(own.root()));

/// The keys of a history.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) plain: bool,
    pub(super) addresses: Vec<Address>,
    pub(super) slots: Vec<U256>,
    /// Most steps of a large commit.
    pub(super) burst: u64,
    /// Whether accounts come and go more than slots do.
    restless: bool,
}

impl Shape {
    /// Keys for hashed paths: any will do.
    pub(super) fn hashed(addresses: u64) -> Self {
        let address = |number| Address::from_slice(&mix(number + 77).to_be_bytes().repeat(3)[..20]);
        let slots = (0..9).map(U256::from).chain([U256::MAX]).collect();
        Self { plain: false, addresses: (0..addresses).map(address).collect(), slots, burst: 60, restless: false }
    }

    /// Keys that are paths themselves: clusters of addresses, numbers in a row and powers of two, so that few keys make long prefixes,
    /// and small values make nodes that stand inside their parents.
    pub(super) fn plain(random: &mut Random) -> Self {
        let mut addresses: Vec<Address> = (0..4).map(|last| Address::with_last_byte(last * 5)).collect();
        let mut near = |at: usize| {
            let mut bytes = [0x11; 20];
            bytes[at] = random.next() as u8 | 1;
            Address::new(bytes)
        };
        addresses.extend([near(0), near(9), near(18), near(19), near(19)]);
        let mut slots: Vec<U256> = (0..20).map(U256::from).collect();
        slots.extend((0..8).map(|_| U256::from(1) << (4 * random.below(64) + random.below(2)) as usize));
        let row = U256::from(7) << (8 * random.below(30)) as usize;
        slots.extend((0..4).map(|step| row + U256::from(step)));
        slots.push(U256::MAX);
        slots.sort_unstable();
        slots.dedup();
        addresses.sort_unstable();
        addresses.dedup();
        Self { plain: true, addresses, slots, burst: 60, restless: false }
    }

    /// Some commits are this large.
    pub(super) fn bursts(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    /// Accounts come and go more than slots do.
    pub(super) fn restless(self) -> Self {
        Self { restless: true, ..self }
    }

    pub(super) fn path(&self, key: &[u8]) -> B256 {
        path(key, self.plain)
    }

    pub(super) fn address(&self, random: &mut Random) -> Address {
        self.addresses[random.below(self.addresses.len() as u64) as usize]
    }

    /// A slot, rather one that is set if `set`.
    pub(super) fn slot(&self, state: &State, address: Address, set: bool, random: &mut Random) -> U256 {
        let own: Vec<U256> =
            state.slots.range((address, U256::ZERO)..=(address, U256::MAX)).map(|((_, slot), _)| *slot).collect();
        let from = if set && !own.is_empty() { &own } else { &self.slots };
        from[random.below(from.len() as u64) as usize]
    }

    fn value(&self, random: &mut Random) -> U256 {
        let wide = wide(random.next() >> 1);
        match random.below(if self.plain { 5 } else { 3 }) {
            0 => wide,
            1 => U256::from(random.below(0x7f) + 1),
            2 => U256::from(random.below(0xffff) + 1),
            // One to three bytes.
            _ => wide >> (256 - 8 * (1 + random.below(3)) as usize),
        }
    }

    /// Random steps that make the next state, `most` or a few more.
    pub(super) fn next(&self, state: &State, random: &mut Random, most: u64) -> (State, Vec<Step>) {
        let mut made = Made { state: state.clone(), steps: Vec::new() };
        for _ in 0..random.below(most + 1) {
            self.some(&mut made, random);
        }
        if random.one_in(3) {
            let number = random.below(BLOCKS);
            let hash = B256::from(wide(random.next() >> 1));
            made.step(Step::Block(Block { number, hash, parent_hash: hash, timestamp: random.next() }));
        }
        (made.state, made.steps)
    }

    fn some(&self, made: &mut Made, random: &mut Random) {
        let address = self.address(random);
        match random.below(24) {
            16.. if self.restless => {
                let exists = made.state.accounts.contains_key(&address);
                made.step(if exists { Step::Delete(address) } else { Step::Set(address, random_account(random)) });
            }
            0 => made.step(Step::Delete(address)),
            1 => made.step(Step::Wipe(address)),
            2 => {
                // Gone and back within one commit, with a slot that it had or may have had.
                let slot = self.slot(&made.state, address, true, random);
                made.step(Step::Delete(address));
                made.step(Step::Set(address, random_account(random)));
                if random.one_in(2) {
                    made.step(Step::Slot(address, slot, self.value(random)));
                }
            }
            3 => {
                let code: Bytes = vec![random.below(CODES) as u8; 40].into();
                made.step(Step::Code(keccak256(&code), code));
            }
            4 => {
                // Cleared one by one, all or all but one.
                let slots: Vec<U256> = made.state.storages().remove(&address).unwrap_or_default().into_keys().collect();
                for slot in slots.into_iter().skip(random.below(2) as usize) {
                    made.step(Step::Slot(address, slot, U256::ZERO));
                }
            }
            5..=8 => made.step(Step::Set(address, random_account(random))),
            clearing => {
                if !made.state.accounts.contains_key(&address) {
                    made.step(Step::Set(address, random_account(random)));
                }
                let clears = clearing < if self.burst > 100 { 10 } else { 15 };
                let slot = self.slot(&made.state, address, clears, random);
                let value = if clears { U256::ZERO } else { self.value(random) };
                made.step(Step::Slot(address, slot, value));
            }
        }
    }

    /// Compares all that can be read with the state.
    pub(super) fn compare(&self, reader: &impl Reads, state: &State) {
        let roots = state.roots(self.plain);
        assert_eq!(reader.state_root().unwrap(), roots.state, "the state's root");
        for address in &self.addresses {
            assert_eq!(reader.account(address).unwrap(), state.accounts.get(address).copied(), "{address}");
            assert_eq!(reader.storage_root(address).unwrap(), roots.storage(address), "storage root of {address}");
            let mut has_storage = false;
            for slot in &self.slots {
                let value = state.slots.get(&(*address, *slot)).copied().unwrap_or_default();
                assert_eq!(reader.storage(address, *slot).unwrap(), value, "slot {slot} of {address}");
                has_storage |= !value.is_zero();
            }
            assert_eq!(reader.has_storage(address).unwrap(), has_storage, "whether {address} has storage");
        }
        for byte in 0..CODES {
            let code: Bytes = vec![byte as u8; 40].into();
            let hash = keccak256(&code);
            assert_eq!(reader.code(&hash).unwrap(), state.codes.get(&hash).cloned(), "code {byte}");
        }
        for number in 0..BLOCKS {
            let block = state.blocks.get(&number).copied();
            assert_eq!(reader.block(number).unwrap(), block, "block {number}");
            assert_eq!(reader.block_hash(number).unwrap(), block.map(|block| block.hash), "block {number}");
        }
    }

    /// Both iterators, from a random place on.
    pub(super) fn compare_iteration(&self, snapshot: &Snapshot, state: &State, random: &mut Random) {
        let accounts: BTreeMap<B256, Address> =
            state.accounts.keys().map(|address| (self.path(address.as_slice()), *address)).collect();
        let from = some_start(accounts.keys(), random);
        let expected: Vec<(B256, Address, Account)> =
            accounts.range(from..).map(|(path, address)| (*path, *address, state.accounts[address])).collect();
        let got: Vec<_> = snapshot.accounts(from).unwrap().map(Result::unwrap).collect();
        assert_eq!(got, expected, "accounts from {from}");
        let address = self.address(random);
        let own = state.storages().remove(&address).unwrap_or_default();
        let slots: BTreeMap<B256, (U256, U256)> =
            own.into_iter().map(|(slot, value)| (self.path(&slot.to_be_bytes::<32>()), (slot, value))).collect();
        let from = some_start(slots.keys(), random);
        let expected: Vec<(B256, U256, U256)> =
            slots.range(from..).map(|(path, (slot, value))| (*path, *slot, *value)).collect();
        let got: Vec<_> = snapshot.slots(&address, from).unwrap().map(Result::unwrap).collect();
        assert_eq!(got, expected, "slots of {address} from {from}");
    }

    /// The proof of some account and of some slots says what the state says, and two verifiers believe it under this root alone.
    pub(super) fn compare_proof(&self, reader: &impl Reads, state: &State, other_root: B256, random: &mut Random) {
        let address = if random.one_in(5) { Address::from(wide_address(random)) } else { self.address(random) };
        let slots: Vec<U256> = (0..random.below(5))
            .map(|_| match random.below(4) {
                0 => wide(random.next() >> 1),
                1 => self.slot(state, address, false, random),
                _ => self.slot(state, address, true, random),
            })
            .collect();
        let proof = reader.proof(&address, &slots).unwrap();
        let root = state.roots(self.plain).state;
        proof.verify(root).unwrap_or_else(|error| panic!("{address} under {root}: {error}"));
        let account = state.accounts.get(&address).copied();
        let storage_root = state.roots(self.plain).storage(&address);
        assert_eq!((proof.address, proof.account, proof.storage_root), (address, account, storage_root));
        let value = account.map(|own| naive_trie::account_value(own.nonce, own.balance, storage_root, own.code_hash));
        let verify = |root, key: &[u8], value, nodes: &[Bytes]| {
            alloy_trie::proof::verify_proof(root, Nibbles::unpack(keccak256(key)), value, nodes)
        };
        verify(root, address.as_slice(), value.clone(), &proof.nodes).unwrap();
        assert_eq!(proof.slots.len(), slots.len());
        for (slot, proven) in slots.iter().zip(&proof.slots) {
            let expected = state.slots.get(&(address, *slot)).copied().unwrap_or_default();
            assert_eq!((proven.slot, proven.value), (*slot, expected), "slot of {address}");
            let value = (!expected.is_zero()).then(|| naive_trie::slot_value(expected));
            verify(storage_root, &slot.to_be_bytes::<32>(), value, &proven.nodes).unwrap();
        }
        if other_root != root {
            assert!(proof.verify(other_root).is_err(), "{address}: believed under another root");
            assert!(verify(other_root, address.as_slice(), value, &proof.nodes).is_err());
        }
        assert_forgeries_fail(&proof, root, random);
        self.compare_multiproof(reader, state, random);
        self.compare_ranges(reader, state, random);
    }
}

/// What is claimed otherwise than it was proven is not believed.
fn assert_forgeries_fail(proof: &AccountProof, root: B256, random: &mut Random) {
    let mut forged = proof.clone();
    match (&mut forged.account, forged.slots.first_mut()) {
        (_, Some(slot)) if random.one_in(2) => slot.value ^= U256::from(1) << random.below(256) as usize,
        (Some(account), _) if random.one_in(2) => account.balance ^= U256::from(1),
        (account @ Some(_), _) => *account = None,
        (account @ None, _) => *account = Some(Account::default()),
    }
    assert!(forged.verify(root).is_err(), "{}: a forgery is believed", proof.address);
    let mut damaged = proof.clone();
    if let Some(node) = damaged.nodes.last_mut() {
        let mut bytes = node.to_vec();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        *node = bytes.into();
        assert!(damaged.verify(root).is_err(), "{}: a damaged node is believed", proof.address);
    }
}

fn wide_address(random: &mut Random) -> [u8; 20] {
    let bytes = wide(random.next() >> 1).to_be_bytes::<32>();
    std::array::from_fn(|at| bytes[at])
}

/// A place to begin at: the beginning, a key, right behind one, or anywhere.
fn some_start<'k>(mut keys: impl ExactSizeIterator<Item = &'k B256>, random: &mut Random) -> B256 {
    let key = match keys.len() as u64 {
        0 => None,
        length => keys.nth(random.below(length) as usize),
    };
    match (random.below(5), key) {
        (0, _) => B256::ZERO,
        (1, Some(key)) => *key,
        (2, Some(key)) => B256::from(U256::from_be_bytes(key.0).saturating_add(U256::from(1))),
        (3, Some(key)) => {
            let mut near = *key;
            near.0[random.below(32) as usize] ^= random.next() as u8;
            near
        }
        _ => B256::from(wide(random.next() >> 1) ^ (U256::from(random.below(2)) << 255)),
    }
}

/// Steps with the state that they make.
struct Made {
    state: State,
    steps: Vec<Step>,
}

impl Made {
    fn step(&mut self, step: Step) {
        self.state.apply(&step);
        self.steps.push(step);
    }
}

/// The root of a state by another implementation.
pub(super) fn alloy_root(state: &State, plain: bool) -> B256 {
    let storages = state.storages();
    let accounts = state.accounts.iter().map(|(address, account)| {
        let slots = storages.get(address).into_iter().flatten();
        let storage_root = oracle_root(
            &slots
                .map(|(slot, value)| (path(&slot.to_be_bytes::<32>(), plain), naive_trie::slot_value(*value)))
                .collect(),
        );
        let value = naive_trie::account_value(account.nonce, account.balance, storage_root, account.code_hash);
        (path(address.as_slice(), plain), value)
    });
    oracle_root(&accounts.collect())
}

/// What tries were made of.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Nodes inside their parents.
    pub(super) embedded: u64,
    /// Extensions of more than twenty nibbles.
    pub(super) long: u64,
    /// Branches whose extension grew since the last look, as one above them fell together,
    pub(super) grown: u64,
    /// or shrank, as one came into it.
    pub(super) shrunk: u64,
    /// Lengths of the extensions at the last look, by storage and path.
    last: BTreeMap<(Option<u64>, Vec<u8>), usize>,
}

impl Tally {
    /// Looks at the newest trie.
    pub(super) fn look(&mut self, db: &Db) {
        let tries = &db.store.tries;
        let (_, held) = tries.newest();
        let mut seen = BTreeMap::new();
        let top = |child: &Child| (child.settled(), u32::MAX, None, Vec::new());
        let mut waiting: Vec<_> = held.trie.top.iter().map(top).collect();
        while let Some((child, birth, storage, mut nibbles)) = waiting.pop() {
            match child.link {
                Link::Leaf(leaf) => {
                    let key = Some(leaf.key.get());
                    waiting.extend(leaf.storage.map(|top| (top.settled(), birth, key, Vec::new())));
                }
                Link::Branch(node) => {
                    let loaded = Loaded::read(&tries.arena, &node, birth, nibbles.len()).unwrap();
                    let length = loaded.prefix.len();
                    nibbles.extend((0..length).map(|at| loaded.prefix.get(at)));
                    self.long += u64::from(length > LONG);
                    for (nibble, child) in loaded.children.view().iter() {
                        self.embedded += u64::from(child.reference.as_hash().is_none());
                        let below = [nibbles.as_slice(), &[nibble]].concat();
                        waiting.push((child, loaded.birth, storage, below));
                    }
                    seen.insert((storage, nibbles), length);
                }
            }
        }
        for (branch, length) in &seen {
            let before = self.last.get(branch).copied().unwrap_or(*length);
            self.grown += u64::from(before > 0 && before < *length);
            self.shrunk += u64::from(before > *length);
        }
        self.last = seen;
    }
}
