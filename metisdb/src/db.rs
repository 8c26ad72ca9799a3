//! The face of the crate: a database handle.

use std::{path::Path, sync::Arc};

use crate::{
    changes::Changes,
    check::{self, CheckLevel, CheckReport},
    checkpoint::{self, Thoroughness},
    checkpointer,
    commit::{self, Commit, Durability},
    error::{Error, Result},
    options::Options,
    proposal::{self, Proposal},
    recover::{self, Access},
    roots::{self, DeferredRoot},
    snapshot::Snapshot,
    stats::{self, Stats},
    storage::{DiskStorage, Storage, preload},
    store::Shared,
};

/// How often a read-only open tries again when the writer beside it changed the files meanwhile.
const READ_ONLY_TRIES: usize = 10;

impl Options {
    /// Creates a database in an empty or missing folder and opens it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::ForeignFile`] where the folder holds anything else, [`Error::InvalidOption`], [`Error::Locked`],
    /// [`Error::NetworkFilesystem`], [`Error::Io`].
    pub fn create(self, path: impl AsRef<Path>) -> Result<Db> {
        self.check()?;
        let storage = DiskStorage::create(path.as_ref(), self.allow_network_filesystem)?;
        let storage = storage.handle_bus_errors(self.handle_bus_errors);
        self.create_on(Arc::new(storage))
    }

    /// Opens a database for reading and writing, recovering it first if it was not closed. Blocks until the state can be read: about a second
    /// for 10 million keys, and three for a GiB of log behind the last checkpoint. The trie of what was recovered is brought up to date
    /// on a thread behind it; commits, proposals, proofs and checkpoints wait for it. While read-only handles are loading the database, in
    /// whatever process, it waits for them, 30 seconds at most.
    ///
    /// # Errors
    /// [`Error::NotADatabase`], [`Error::Locked`] (says by whom), [`Error::FormatVersion`], [`Error::ForeignFile`],
    /// [`Error::Corruption`] where acknowledged data is damaged, [`Error::NetworkFilesystem`], [`Error::Io`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        self.check()?;
        let storage = DiskStorage::open(path.as_ref(), self.allow_network_filesystem)?;
        let storage = Arc::new(storage.handle_bus_errors(self.handle_bus_errors));
        let preload_bytes = self.preload_bytes;
        let db = self.open_on(storage.clone())?;
        preload::start(&storage.path(), preload_bytes);
        Ok(db)
    }

    /// Opens a database for reading, beside a writer or without one: a state that stays as it is. Writes nothing.
    ///
    /// Without a writer it is the newest one. Beside a writer it is the newest one that the log says is durable, which the
    /// next commit says of the one before: so the last commit may be missing.
    ///
    /// It has all versions that the writer had retained at its last checkpoint, whatever [`Options::retain_versions`] says. Values can be read for as long as the handle is open. Roots of storage, iteration, proofs, witnesses and exports need the trie, which a writer writes over
    /// when it has taken a second checkpoint since: from then on they may be [`Error::TrieReplaced`]. Snapshots of the writer's own
    /// process keep theirs.
    ///
    /// # Errors
    /// As [`Options::open`], but never [`Error::Locked`] or [`Error::NetworkFilesystem`].
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Db> {
        let storage = DiskStorage::open(path.as_ref(), true)?.handle_bus_errors(self.handle_bus_errors);
        self.open_read_only_on(Arc::new(storage))
    }

    /// [`Options::create`] on any storage.
    #[doc(hidden)]
    pub fn create_on(self, storage: Arc<dyn Storage>) -> Result<Db> {
        self.check()?;
        Db::create(storage, self)
    }

    /// [`Options::open`] on any storage.
    #[doc(hidden)]
    pub fn open_on(self, storage: Arc<dyn Storage>) -> Result<Db> {
        self.check()?;
        Db::open(storage, self)
    }

    /// [`Options::open_read_only`] on any storage.
    #[doc(hidden)]
    pub fn open_read_only_on(self, storage: Arc<dyn Storage>) -> Result<Db> {
        Db::open_read_only(storage, self)
    }
}

/// An open database. Share it between threads by reference or in an [`Arc`].
///
/// Dropping it without [`Db::close`] is safe: what was acknowledged is durable, and the next open replays the end of
/// the log. The folder stays locked until the last [`Snapshot`] and [`Commit`] are dropped, too.
///
/// ```
/// use alloy_primitives::{Address, U256};
/// use metisdb::{Account, Changes, Durability, Options};
///
/// # fn main() -> metisdb::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state");
/// let db = Options::new().create(&path)?;
/// let contract = Address::repeat_byte(0xc0);
///
/// let mut changes = Changes::new();
/// changes.set_account(contract, Account { nonce: 1, ..Account::default() });
/// changes.set_storage(contract, U256::from(7), U256::from(42));
/// let first = db.commit(&changes, Durability::Durable)?;
///
/// let mut changes = Changes::new();
/// changes.set_storage(contract, U256::from(7), U256::from(43));
/// db.commit(&changes, Durability::Durable)?;
///
/// assert_eq!(db.snapshot()?.storage(&contract, U256::from(7))?, U256::from(43));
/// let before = db.snapshot_at(first.version())?;
/// assert_eq!(before.storage(&contract, U256::from(7))?, U256::from(42));
/// # drop(before);
/// db.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Db {
    pub(crate) store: Shared,
}

impl Db {
    pub(crate) fn create(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        recover::require_no_foreign_file(&*storage)?;
        let lock = storage.lock_exclusive()?;
        recover::create(&*storage, &options)?;
        Ok(Self { store: Arc::new(recover::open(storage, options, Access::Write(lock))?) })
    }

    pub(crate) fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        recover::require_database(&*storage)?;
        let lock = storage.lock_exclusive()?;
        let store = Arc::new(recover::open(storage, options, Access::Write(lock))?);
        roots::begin(&store);
        Ok(Self { store })
    }

    pub(crate) fn open_read_only(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        let mut tries = 1;
        loop {
            let lock = storage.lock_shared()?;
            let beside_writer = lock.is_none();
            let opened = recover::open(storage.clone(), options.clone(), Access::Read { beside_writer });
            let opened = match opened {
                // The writer may be about to write over the trie of our checkpoint.
                Ok(store) if beside_writer => roots::settle(&store, u64::MAX).map(|()| store),
                other => other,
            };
            match opened {
                // The writer may have taken a checkpoint between two of our reads.
                Err(Error::Corruption { .. } | Error::Io { .. } | Error::TrieReplaced { .. })
                    if beside_writer && tries < READ_ONLY_TRIES =>
                {
                    tries += 1;
                }
                other => return Ok(Self { store: Arc::new(other?) }),
            }
        }
    }

    /// Pins the newest version. Takes no lock and does not wait for the writer.
    ///
    /// # Errors
    /// [`Error::ForkedProcess`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.store.check_process()?;
        Ok(Snapshot::new(self.store.clone(), self.store.pins.pin_newest()))
    }

    /// Pins an older version, down to [`Options::retain_versions`] before the newest; of a read-only handle, all that the writer kept at its
    /// last checkpoint.
    ///
    /// # Errors
    /// [`Error::VersionNotRetained`], [`Error::ForkedProcess`].
    pub fn snapshot_at(&self, version: u64) -> Result<Snapshot> {
        self.store.check_process()?;
        Snapshot::of_version(&self.store, version)
    }

    /// Makes the changes the next version. One commit runs at a time, further callers wait for it; readers do not.
    ///
    /// With [`Durability::Durable`] it blocks until the changes are synced. On an error nothing of them is visible.
    ///
    /// # Errors
    /// Of the changes: [`Error::SlotWithoutAccount`], [`Error::CodeTooLong`], [`Error::CodeHashMismatch`]. Of the handle:
    /// [`Error::ReadOnly`], [`Error::ForkedProcess`], [`Error::Poisoned`]. Of the disk: [`Error::Io`] where it is full (repeat
    /// the call once there is space) or a record to be superseded cannot be read, [`Error::Poisoned`] where it failed, [`Error::Corruption`] where
    /// such a record is damaged. [`Error::LimitReached`].
    pub fn commit(&self, changes: &Changes, durability: Durability) -> Result<Commit> {
        commit::commit(&self.store, changes, durability)
    }

    /// As [`Db::commit`], but visible before its root is known: the root is computed behind the execution, in order, on a thread of its
    /// own, and delivered by the handle. At most [`Options::max_deferred_roots`] are outstanding. Proposals and other commits wait for them.
    ///
    /// After a crash the versions are there all the same, and their roots are computed anew.
    ///
    /// # Errors
    /// As [`Db::commit`].
    pub fn commit_deferred(&self, changes: &Changes, durability: Durability) -> Result<(Commit, DeferredRoot)> {
        roots::commit_deferred(&self.store, changes, durability)
    }

    /// Computes the state that changes on a snapshot lead to, without making anything of it visible; see [`Proposal`]. Takes no
    /// lock and does not wait for commits; any number of proposals may be made at once, on any threads.
    ///
    /// # Errors
    /// Of the changes, as for [`Db::commit`]; [`Error::OtherDatabase`] where the snapshot is another handle's; [`Error::ForkedProcess`];
    /// [`Error::Corruption`].
    pub fn propose(&self, parent: &Snapshot, changes: &Changes) -> Result<Proposal> {
        if !parent.is_of(&self.store) {
            return Err(Error::OtherDatabase { path: self.store.lookup.storage.path() });
        }
        proposal::propose(parent, changes)
    }

    /// Takes a thorough checkpoint: packs the trie, syncs the log, writes an image of the index, and drops files and gives back space that nothing
    /// needs any more. Commits and reads go on meanwhile. Opening after a crash replays only what came after the last checkpoint. May need as
    /// much space again as the trie takes until it is done. Checkpoints that are taken automatically, and by [`Db::close`], tidy up less.
    ///
    /// # Errors
    /// As [`Db::commit`], but for those of the changes.
    pub fn checkpoint(&self) -> Result<()> {
        checkpoint::checkpoint(&self.store, Thoroughness::Requested)
    }

    /// What the database holds and does now. Waits for a commit that is under way.
    pub fn stats(&self) -> Stats {
        stats::stats(&self.store)
    }

    /// Examines the files against each other and against what is in memory; see [`CheckLevel`] for how thoroughly. Blocks neither commits nor
    /// reads, and waits for a checkpoint that is under way; while it runs, checkpoints remove no files.
    ///
    /// # Errors
    /// [`Error::Corruption`] with the first damage found.
    pub fn check(&self, level: CheckLevel) -> Result<CheckReport> {
        check::check(&self.store, level)
    }

    /// Makes everything durable and takes a last checkpoint, so that the next open replays nothing. A read-only handle is just dropped.
    ///
    /// # Errors
    /// As [`Db::checkpoint`]. The handle is gone all the same; what was acknowledged is durable.
    pub fn close(self) -> Result<()> {
        roots::wait_for_thread(&self.store);
        checkpointer::wait_for_started(&self.store);
        match checkpoint::close(&self.store) {
            Err(Error::ReadOnly) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        roots::wait_for_thread(&self.store);
        checkpointer::wait_for_started(&self.store);
    }
}
