//! Proposals: changes whose root is known before anything of them is visible.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
    time::Instant,
};

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    changes::Changes,
    checkpointer,
    commit::{self, Commit, Durability},
    error::{Error, Result},
    probe,
    proof::{Accessed, AccountProof, AccountRange, MultiProof, StorageRange, Witness, WitnessMode},
    prove::Prover,
    roots,
    snapshot::Snapshot,
    stage::{self, Staged},
    store::Store,
    trie::Trie,
    tries::{HeldTrie, NewTrie},
    types::{Account, Block},
    view::View,
    witness,
};

/// Changes on a snapshot or on another proposal, with the root that they lead to.
///
/// Nothing of a proposal is visible to others or on disk until [`Proposal::commit`]. Any number of proposals may be made on one
/// parent (forks) and on each other; dropping one that is not committed discards it and frees its memory. Reading takes no lock;
/// what was not changed is read from the snapshot at the bottom, which stays pinned.
///
/// ```
/// use alloy_primitives::Address;
/// use metisdb::{Account, Changes, Durability, Options};
///
/// # fn main() -> metisdb::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state");
/// let db = Options::new().create(&path)?;
/// let mut changes = Changes::new();
/// changes.set_account(Address::repeat_byte(1), Account { nonce: 1, ..Account::default() });
///
/// let proposal = db.propose(&db.snapshot()?, &changes)?;
/// let root = proposal.root();
/// proposal.commit(Durability::Durable)?;
/// assert_eq!(db.snapshot()?.root()?, root);
/// # drop(proposal);
/// # db.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proposal {
    inner: Arc<Proposed>,
}

#[derive(Debug)]
struct Proposed {
    /// What is under all the changes.
    snapshot: Snapshot,
    /// The changes of the proposals up to this one, oldest first.
    staged: Vec<Arc<Staged>>,
    /// Those proposals.
    layers: Vec<Layer>,
    held: Arc<HeldTrie>,
    /// Until it is committed.
    new: parking_lot::Mutex<Option<NewTrie>>,
}

/// What the proposals on a proposal know of it: so they do not keep it.
#[derive(Clone, Debug)]
struct Layer {
    /// The trie that it was made on.
    base: Arc<Trie>,
    /// The version that it became.
    committed: Arc<OnceLock<u64>>,
}

impl Proposed {
    /// The version that the parent is, if it is one.
    fn parent_version(&self) -> Option<u64> {
        match self.layers.iter().nth_back(1) {
            Some(parent) => parent.committed.get().copied(),
            None => Some(self.snapshot.version()),
        }
    }

    /// The proposal's own layer.
    fn own(&self) -> &Layer {
        self.layers.last().expect("a proposal is one of its layers")
    }

    /// The newest version that a proposal of the chain became, if it can be read, and how many of the chain are in it.
    fn committed_part(&self) -> Option<(Snapshot, usize)> {
        let committed = |layer: &Layer| layer.committed.get().copied();
        let count = self.layers.iter().rposition(|layer| committed(layer).is_some())? + 1;
        let version = committed(&self.layers[count - 1])?;
        Some((self.snapshot.at(version).ok()?, count))
    }
}

/// Proposes changes on a snapshot.
pub(crate) fn propose(snapshot: &Snapshot, changes: &Changes) -> Result<Proposal> {
    let _reading = snapshot.begin_read()?;
    make(snapshot.clone(), (&[], &[]), &*snapshot.trie()?, changes)
}

/// `below`: the changes of the proposals over the snapshot, and these.
fn make(
    snapshot: Snapshot,
    (below, layers): (&[Arc<Staged>], &[Layer]),
    base: &HeldTrie,
    changes: &Changes,
) -> Result<Proposal> {
    let store = snapshot.store();
    store.check_process()?;
    let view = store.view(snapshot.version(), below);
    let has_storage = |path: &B256| Ok(store.tries.storage(&base.trie, path)?.is_some());
    let staged = stage::stage(&view, changes, &has_storage, store.options.most_threads())?;
    let new = store.tries.update(&base.trie, &staged.trie, &view)?;
    let held = base.derive(new.trie.clone());
    let staged = below.iter().cloned().chain([Arc::new(staged)]).collect();
    let own = Layer { base: base.trie.clone(), committed: Arc::default() };
    let layers = layers.iter().cloned().chain([own]).collect();
    let inner = Proposed { snapshot, staged, layers, held, new: Some(new).into() };
    Ok(Proposal { inner: Arc::new(inner) })
}

impl Proposal {
    /// Proposes changes on this proposal. Blocks on nothing; takes the time of computing a root.
    ///
    /// # Errors
    /// As [`Db::propose`](crate::Db::propose).
    pub fn propose(&self, changes: &Changes) -> Result<Self> {
        let Proposed { snapshot, staged, layers, held, .. } = &*self.inner;
        match self.inner.committed_part() {
            // Begin with the version that proposals below have become: so chains stay short, and hold nothing older.
            Some((snapshot, count)) => {
                let _reading = snapshot.begin_read()?;
                let below = (&staged[count..], &layers[count..]);
                let base = self.above(&snapshot, below)?;
                make(snapshot.clone(), below, &base, changes)
            }
            None => {
                let _reading = snapshot.begin_read()?;
                make(snapshot.clone(), (staged, layers), held, changes)
            }
        }
    }

    /// The trie of the last of the proposals `below`, the first of which is made on the snapshot; it holds what the snapshot's trie holds.
    fn above(&self, snapshot: &Snapshot, (staged, layers): (&[Arc<Staged>], &[Layer])) -> Result<Arc<HeldTrie>> {
        let store = snapshot.store();
        let mut base = snapshot.trie()?;
        if layers.first().is_some_and(|first| Arc::ptr_eq(&first.base, &base.trie)) {
            return Ok(base.derive(self.inner.held.trie.clone()));
        }
        // The trie of that version was swept since: the same one in other places.
        for (count, own) in staged.iter().enumerate() {
            let view = store.view(snapshot.version(), &staged[..count]);
            base = base.derive(store.tries.update(&base.trie, &own.trie, &view)?.trie);
        }
        Ok(base)
    }

    /// The state root that the changes lead to.
    pub fn root(&self) -> B256 {
        self.inner.held.trie.root
    }

    /// The root of an account's storage; that of the empty trie where the account does not exist or has no slots.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::SnapshotExpired`]; so for all reads.
    pub fn storage_root(&self, address: &Address) -> Result<B256> {
        let _reading = self.inner.snapshot.begin_read()?;
        let top = self.store().storage_top(&self.inner.held.trie, &self.view(), address)?;
        Ok(top.map_or_else(|| self.store().tries.commitment.root(None), |(top, _)| B256::new(*top.reference.padded())))
    }

    /// Proves an account and some of its slots against [`Proposal::root`].
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::SnapshotExpired`].
    pub fn proof(&self, address: &Address, slots: &[U256]) -> Result<AccountProof> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.prover().account(address, slots)
    }

    /// Proves many accounts and slots against [`Proposal::root`], as [`Snapshot::multiproof`] does.
    ///
    /// # Errors
    /// As [`Proposal::proof`].
    pub fn multiproof(&self, keys: &[(Address, &[U256])]) -> Result<MultiProof> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.prover().multi(keys)
    }

    /// Proves all accounts in a range against [`Proposal::root`], as [`Snapshot::account_range`] does.
    ///
    /// # Errors
    /// As [`Proposal::proof`], and [`Error::EmptyRange`].
    pub fn account_range(&self, range: RangeInclusive<B256>, limit: usize) -> Result<AccountRange> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.prover().account_range(range, limit)
    }

    /// Proves all slots of an account in a range against [`Proposal::root`], as [`Snapshot::storage_range`] does.
    ///
    /// # Errors
    /// As [`Proposal::account_range`].
    pub fn storage_range(&self, address: &Address, range: RangeInclusive<B256>, limit: usize) -> Result<StorageRange> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.prover().storage_range(address, range, limit)
    }

    /// What a replay on this state needs: [`Snapshot::witness`].
    ///
    /// # Errors
    /// As [`Snapshot::witness`].
    pub fn witness(&self, accessed: &Accessed, changes: &Changes, mode: WitnessMode) -> Result<Witness> {
        let _reading = self.inner.snapshot.begin_read()?;
        witness::witness(self.prover(), accessed, changes, mode)
    }

    /// An account, or `None` where it does not exist.
    ///
    /// # Errors
    /// As [`Proposal::storage_root`].
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        let _reading = self.inner.snapshot.begin_read()?;
        Ok(self.view().account(address)?.map(|stored| stored.account))
    }

    /// The value of a slot; zero where it is not set.
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        let _reading = self.inner.snapshot.begin_read()?;
        let view = self.view();
        match view.account_id(address)? {
            Some(account) => Ok(view.slot(account, &slot)?.0),
            None => Ok(U256::ZERO),
        }
    }

    /// Whether any slot of the account is set.
    pub fn has_storage(&self, address: &Address) -> Result<bool> {
        let _reading = self.inner.snapshot.begin_read()?;
        Ok(self.store().storage_top(&self.inner.held.trie, &self.view(), address)?.is_some())
    }

    /// Code by its hash; `None` where it was never stored.
    pub fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.view().code(code_hash)
    }

    /// The metadata of a block.
    pub fn block(&self, number: u64) -> Result<Option<Block>> {
        let _reading = self.inner.snapshot.begin_read()?;
        self.view().block(number)
    }

    /// The hash of a block.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        Ok(self.block(number)?.map(|block| block.hash))
    }

    /// Gives the changes the metadata of the block that they make, which are often known only after the root. Once: they are
    /// committed with the changes, and until then are read through this proposal and those on it. Blocks on this proposal's commit.
    ///
    /// # Errors
    /// [`Error::CannotSeal`] where the changes have a block already, or are committed; [`Error::Corruption`], [`Error::SnapshotExpired`].
    pub fn seal(&self, block: Block) -> Result<()> {
        let _reading = self.inner.snapshot.begin_read()?;
        let refuse = |reason| Err(Error::CannotSeal { number: block.number, reason });
        // Who commits holds it while the records are counted, written and entered.
        let _new = self.inner.new.lock();
        if let Some(version) = self.inner.own().committed.get() {
            return refuse(format!("it is version {version}"));
        }
        let Some((own, below)) = self.inner.staged.split_last() else { unreachable!("a proposal has changes") };
        if let Some(known) = own.block() {
            return refuse(format!("it has block {}", known.number));
        }
        let view = self.store().view(self.inner.snapshot.version(), below);
        let _ = own.sealed.set(stage::stage_block(&view, block)?);
        Ok(())
    }

    /// Makes the proposal the next version. Blocks on other commits and, with [`Durability::Durable`], on the device. Commits its own
    /// changes only: those of a proposal below must have been committed before.
    ///
    /// # Errors
    /// [`Error::NotChildOfNewest`] unless its parent is the newest version: propose the changes again. Else as
    /// [`Db::commit`](crate::Db::commit).
    pub fn commit(&self, durability: Durability) -> Result<Commit> {
        let store = self.inner.snapshot.store();
        store.check_writable()?;
        checkpointer::relieve(store)?;
        let started = Instant::now();
        let _gate = roots::close_gate(store)?;
        let mut writer = store.writer.lock();
        let _unbroken = store.log.unbroken();
        let newest = store.pins.head();
        let parent = self.inner.parent_version();
        let Layer { base, committed } = self.inner.own();
        let is_child = parent == Some(newest) || probe::skip("proposal-parent");
        if !is_child || committed.get().is_some() {
            return Err(Error::NotChildOfNewest { parent, newest });
        }
        let root = self.root();
        let mut new = self.inner.new.lock();
        let staged = self.settled(store)?;
        let (_, current) = store.tries.newest();
        if !Arc::ptr_eq(&current.trie, base) {
            // The trie below was swept since: the same one in other places.
            *new = Some(store.tries.update(&current.trie, &staged.trie, &store.view(newest, &[]))?);
        }
        debug_assert!(new.as_ref().is_some_and(|new| new.trie.root == root));
        let appended = commit::append(store, &mut writer, &staged, Some(root), durability)?;
        let _ = committed.set(appended.version);
        commit::publish(store, &mut writer, &staged, &appended, new.take());
        drop(new);
        Ok(commit::finish(store, writer, &staged, &appended, durability, started))
    }

    /// The changes with what they supersede, now that it is all in the log.
    fn settled(&self, store: &Store) -> Result<Arc<Staged>> {
        let own = self.inner.staged.last().cloned().unwrap_or_default();
        if self.inner.layers.len() == 1 {
            return Ok(own);
        }
        Ok(Arc::new(own.settled(&store.lookup)?))
    }

    fn store(&self) -> &Store {
        self.inner.snapshot.store()
    }

    fn prover(&self) -> Prover<'_> {
        Prover { tries: &self.store().tries, held: &self.inner.held, view: self.view() }
    }

    fn view(&self) -> View<'_> {
        self.store().view(self.inner.snapshot.version(), &self.inner.staged)
    }
}
