//! A pinned version of the state.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
};

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    changes::Changes,
    commit::Commit,
    error::{Error, Result},
    key::RecordKey,
    log::record::Body,
    lookup::Lookup,
    pins::{Expired, Pin, Reading},
    proof::{Accessed, AccountProof, AccountRange, MultiProof, StorageRange, Witness, WitnessMode},
    prove::Prover,
    range::{Accounts, Slots},
    retrace,
    store::Shared,
    trie::node::Child,
    tries::HeldTrie,
    types::{Account, Block, Key, Value},
    view::View,
    witness,
};

/// How many reads of a batch are under way at once.
const BATCH: usize = 32;

/// The state as one version left it.
///
/// Reading takes no lock, never waits for the writer, and the writer never waits for it. Cloning is cheap and shares the
/// pin; the version stays readable, and what it needs stays on disk, until the last clone is dropped.
///
/// # Errors
/// Every read fails with [`Error::Corruption`](crate::Error::Corruption), and never returns a wrong value, where the bytes
/// on disk were damaged; with [`Error::Io`](crate::Error::Io) where the device cannot deliver them; with [`Error::SnapshotExpired`] where open
/// snapshots held back more than [`Options::max_held_back_bytes`](crate::Options::max_held_back_bytes) allows. Of a handle that was opened read-only, what needs
/// the trie may fail with [`Error::TrieReplaced`](crate::Error::TrieReplaced) ([`Options::open_read_only`](crate::Options::open_read_only)).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pinned: Arc<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    store: Shared,
    pin: Pin,
    /// Once it was asked for.
    trie: OnceLock<Arc<HeldTrie>>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.pins.release(&self.pin);
    }
}

impl Snapshot {
    pub(crate) fn new(store: Shared, pin: Pin) -> Self {
        Self { pinned: Arc::new(Pinned { store, pin, trie: OnceLock::new() }) }
    }

    #[inline]
    fn lookup(&self) -> &Lookup {
        debug_assert!(self.version() >= self.pinned.store.pins.floor(), "P1: what a snapshot reads is not reclaimed");
        &self.pinned.store.lookup
    }

    /// What is read stays until the guard is dropped. Counts nothing where snapshots do not expire.
    #[inline]
    pub(crate) fn begin_read(&self) -> Result<Option<Reading<'_>>> {
        if !self.may_expire() {
            return Ok(None);
        }
        let Pinned { store, pin, .. } = &*self.pinned;
        store.pins.begin_read(pin).map(Some).map_err(|Expired| Error::SnapshotExpired { version: pin.version })
    }

    #[inline]
    fn may_expire(&self) -> bool {
        self.pinned.store.options.max_held_back_bytes.is_some()
    }

    /// The version that is read.
    #[inline]
    pub fn version(&self) -> u64 {
        self.pinned.pin.version
    }

    /// An account, or `None` where it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        let _reading = self.begin_read()?;
        Ok(self.lookup().account_at(address, self.version())?.map(|stored| stored.account))
    }

    /// A storage slot; zero where it is not set.
    #[inline]
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        if self.may_expire() {
            return self.storage_counted(address, &slot);
        }
        self.lookup().storage(address, &slot, self.version())
    }

    /// [`Snapshot::storage`] where reads are counted.
    #[cold]
    fn storage_counted(&self, address: &Address, slot: &U256) -> Result<U256> {
        let _reading = self.begin_read()?;
        self.lookup().storage(address, slot, self.version())
    }

    /// Whether any slot of the account is set (EIP-7610 asks that of the address of a new contract). Asks the trie, as
    /// [`Snapshot::storage_root`] does.
    pub fn has_storage(&self, address: &Address) -> Result<bool> {
        let _reading = self.begin_read()?;
        Ok(self.storage_top(address)?.is_some())
    }

    /// The state root of the version.
    ///
    /// Known for every version that was committed with its root; a root that is still being computed is waited for.
    pub fn root(&self) -> Result<B256> {
        let _reading = self.begin_read()?;
        match self.store().history.row(self.version()).and_then(|row| row.root) {
            Some(root) => Ok(root),
            None => Ok(self.trie()?.trie.root),
        }
    }

    /// The block that was committed with the version ([`Changes::set_block`](crate::Changes::set_block)); `None` if none was. Reads the version's
    /// changes from the log.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Corruption`] where they are damaged.
    pub fn committed_block(&self) -> Result<Option<Block>> {
        let _reading = self.begin_read()?;
        retrace::block_of(self.store(), self.version())
    }

    /// The root of an account's storage; that of the empty trie where the account does not exist or has no slots.
    ///
    /// Takes one walk through the trie. The trie of a version that was not the newest one when the snapshot was taken may have to
    /// be made first, from the changes since: once for this snapshot and its clones.
    pub fn storage_root(&self, address: &Address) -> Result<B256> {
        let _reading = self.begin_read()?;
        let top = self.storage_top(address)?;
        Ok(top.map_or_else(|| self.store().tries.commitment.root(None), |(top, _)| B256::new(*top.reference.padded())))
    }

    /// Proves an account and some of its slots, present or absent, to anyone who knows the root: [`AccountProof::verify`].
    /// Asks the trie, as [`Snapshot::storage_root`] does.
    pub fn proof(&self, address: &Address, slots: &[U256]) -> Result<AccountProof> {
        let _reading = self.begin_read()?;
        self.prover(&*self.trie()?).account(address, slots)
    }

    /// Proves many accounts and slots in one proof that has each node once: [`MultiProof::verify`]. They may be given in any order, and
    /// more than once; the proof has them in the order of their hashes. Asks the trie, as [`Snapshot::storage_root`] does.
    pub fn multiproof(&self, keys: &[(Address, &[U256])]) -> Result<MultiProof> {
        let _reading = self.begin_read()?;
        self.prover(&*self.trie()?).multi(keys)
    }

    /// The accounts whose addresses have a Keccak-256 hash in a range, in the order of these, with a proof that they are all:
    /// [`AccountRange::verify`]. At most `limit` of them, but at least one if there is one: where more follow, the range of the proof
    /// ends with the last one given, and the next range begins behind it. Holds the answer in memory. Asks the trie, as
    /// [`Snapshot::storage_root`] does.
    ///
    /// ```
    /// use alloy_primitives::{Address, B256};
    /// use metisdb::{Account, Changes, Durability, Options};
    ///
    /// # fn main() -> metisdb::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Options::new().create(folder.path().join("state"))?;
    /// # let mut changes = Changes::new();
    /// # changes.set_account(Address::repeat_byte(1), Account { nonce: 1, ..Account::default() });
    /// # db.commit(&changes, Durability::Durable)?;
    /// let snapshot = db.snapshot()?;
    /// let last = B256::repeat_byte(0xff);
    /// let range = snapshot.account_range(B256::ZERO..=last, 1_000)?;
    /// range.verify(snapshot.root()?).expect("anyone who knows the root can check it");
    /// assert_eq!((range.accounts.len(), range.to), (1, last), "there are no others");
    /// # drop(snapshot);
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::EmptyRange`] where the range ends before it begins; else as all reads.
    pub fn account_range(&self, range: RangeInclusive<B256>, limit: usize) -> Result<AccountRange> {
        let _reading = self.begin_read()?;
        self.prover(&*self.trie()?).account_range(range, limit)
    }

    /// The slots of an account that are set and whose numbers have a Keccak-256 hash in a range, with a proof of the account and that they
    /// are all: [`StorageRange::verify`]. Else as [`Snapshot::account_range`].
    ///
    /// # Errors
    /// As [`Snapshot::account_range`].
    pub fn storage_range(&self, address: &Address, range: RangeInclusive<B256>, limit: usize) -> Result<StorageRange> {
        let _reading = self.begin_read()?;
        self.prover(&*self.trie()?).storage_range(address, range, limit)
    }

    /// What a replay needs of this state that reads what is `accessed` and makes the `changes`, for whoever has no database:
    /// [`PartialState`](crate::proof::PartialState). A [`Recorder`](crate::Recorder) notes what is accessed. Headers are the caller's to
    /// add. Reads each path from the trie once, in superset mode those of what is removed twice; blocks on nobody. Asks the trie, as
    /// [`Snapshot::storage_root`] does.
    ///
    /// # Errors
    /// [`Error::Witness`] for changes that no state can take; [`Error::Corruption`], [`Error::Io`], [`Error::SnapshotExpired`].
    pub fn witness(&self, accessed: &Accessed, changes: &Changes, mode: WitnessMode) -> Result<Witness> {
        let _reading = self.begin_read()?;
        witness::witness(self.prover(&*self.trie()?), accessed, changes, mode)
    }

    /// The accounts in the order of the Keccak-256 hashes of their addresses, from a hash on: hash, address, account. After an error an
    /// iterator goes on behind what it could not read, if it can; after [`Error::SnapshotExpired`] it ends.
    pub fn accounts(&self, from: B256) -> Result<Accounts<'_>> {
        let _reading = self.begin_read()?;
        Accounts::new(self, from)
    }

    /// The slots of an account that are set, in the order of the Keccak-256 hashes of their numbers, from a hash on: hash, number, value.
    pub fn slots(&self, address: &Address, from: B256) -> Result<Slots<'_>> {
        let _reading = self.begin_read()?;
        Slots::new(self, address, from)
    }

    fn prover<'a>(&'a self, held: &'a HeldTrie) -> Prover<'a> {
        Prover { tries: &self.store().tries, held, view: self.view() }
    }

    fn storage_top(&self, address: &Address) -> Result<Option<(Arc<Child>, u32)>> {
        self.store().storage_top(&self.trie()?.trie, &self.view(), address)
    }

    pub(crate) fn store(&self) -> &Shared {
        &self.pinned.store
    }

    /// Pins a version.
    pub(crate) fn of_version(store: &Shared, version: u64) -> Result<Self> {
        let pin = store.pins.pin(version).map_err(|range| Error::VersionNotRetained {
            requested: version,
            oldest: range.oldest,
            newest: range.newest,
        })?;
        Ok(Self::new(store.clone(), pin))
    }

    /// A snapshot of another version.
    pub(crate) fn at(&self, version: u64) -> Result<Self> {
        Self::of_version(self.store(), version)
    }

    /// Whether it is of this handle.
    pub(crate) fn is_of(&self, store: &Shared) -> bool {
        Arc::ptr_eq(self.store(), store)
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.store().view(self.version(), &[])
    }

    /// The trie of the version.
    pub(crate) fn trie(&self) -> Result<Arc<HeldTrie>> {
        if let Some(trie) = self.pinned.trie.get() {
            return Ok(trie.clone());
        }
        self.store().check_process()?;
        let trie = retrace::trie_at(self.store(), self.version())?;
        Ok(self.pinned.trie.get_or_init(|| trie).clone())
    }

    /// Code by its Keccak-256 hash; `None` where it was never stored. The bytes are a copy.
    pub fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        let _reading = self.begin_read()?;
        self.lookup().code_at(code_hash, self.version())
    }

    /// Whether code is stored under a hash.
    pub(crate) fn has_code(&self, code_hash: &B256) -> Result<bool> {
        let _reading = self.begin_read()?;
        Ok(self.lookup().find_key(&RecordKey::Code(*code_hash), self.version())?.is_some())
    }

    /// The metadata of a block, as it was given with a commit.
    pub fn block(&self, number: u64) -> Result<Option<Block>> {
        let _reading = self.begin_read()?;
        let found = self.lookup().find_key(&RecordKey::Block(number), self.version())?;
        Ok(found.and_then(|found| match found.record.body {
            Body::Block(block) => Some(block),
            _ => None,
        }))
    }

    /// The hash of a block, as it was given with a commit.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        Ok(self.block(number)?.map(|block| block.hash))
    }

    /// Reads many keys at once, in the order given: the waits for memory overlap, so that a batch (a block
    /// access list, say) takes a fraction of the time of single reads.
    pub fn get_many(&self, keys: &[Key]) -> Result<Vec<Value>> {
        let _reading = self.begin_read()?;
        let mut values = Vec::with_capacity(keys.len());
        let mut hashes = [0; BATCH];
        let mut accounts = [None; BATCH];
        for batch in keys.chunks(BATCH) {
            for (index, key) in batch.iter().enumerate() {
                hashes[index] = match key {
                    Key::Account(address) => self.lookup().hasher.account_id(address, 0).0,
                    Key::Storage(address, slot) => {
                        accounts[index] = self.lookup().account_id(address)?;
                        accounts[index].map_or(0, |account| self.lookup().hasher.slot(account, slot))
                    }
                    Key::Code(hash) => self.lookup().hasher.record(&RecordKey::Code(*hash)),
                };
            }
            self.lookup().prefetch(&hashes[..batch.len()]);
            for (index, key) in batch.iter().enumerate() {
                values.push(match key {
                    Key::Account(address) => Value::Account(self.account(address)?),
                    Key::Storage(_, slot) => Value::Storage(match accounts[index] {
                        Some(account) => self.lookup().slot_at(account, slot, self.version())?,
                        None => U256::ZERO,
                    }),
                    Key::Code(hash) => Value::Code(self.code(hash)?),
                });
            }
        }
        Ok(values)
    }
}

impl Commit {
    /// Pins the version that the commit made.
    ///
    /// # Errors
    /// As [`Db::snapshot_at`](crate::Db::snapshot_at): so many commits may have come since that the version is retained no more.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.store().check_process()?;
        Snapshot::of_version(self.store(), self.version())
    }
}
