//! What an open database consists of.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use alloy_primitives::Address;
use parking_lot::{Mutex, RwLock};

use crate::{
    error::{Error, Result},
    history::History,
    ledger::Ledger,
    log::append::{Log, Tail},
    lookup::Lookup,
    options::Options,
    pins::Pins,
    roots::PendingRoots,
    stage::Staged,
    storage::Lock,
    superblock::Superblock,
    trie::{Trie, node::Child, sweep::Position},
    tries::Tries,
    view::View,
};

/// Everything that the handles of one open database share.
pub(crate) struct Store {
    pub(crate) options: Options,
    pub(crate) lookup: Lookup,
    pub(crate) log: Log,
    pub(crate) pins: Pins,
    pub(crate) tries: Tries,
    pub(crate) history: History,
    pub(crate) pending: PendingRoots,
    /// Where the newest checkpoint stands in the log.
    pub(crate) checkpoint_position: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    /// Held while a checkpoint is taken.
    pub(crate) checkpoint: Mutex<CheckpointState>,
    /// Shared by those who read the files of the log from front to back. Who removes files takes it alone, or leaves them for later.
    pub(crate) files: RwLock<()>,
    pub(crate) counters: Counters,
    /// `None` for a read-only handle.
    pub(crate) lock: Option<Box<dyn Lock>>,
    /// The process that opened the handle (rule 19).
    pub(crate) process: u32,
}

/// Shared by all handles.
pub(crate) type Shared = Arc<Store>;

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.lookup.storage.path();
        formatter.debug_struct("Store").field("path", &path).field("version", &self.pins.head()).finish_non_exhaustive()
    }
}

/// State of the one writer.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) tail: Tail,
    pub(crate) ledger: Ledger,
}

/// What the superblocks on disk say.
#[derive(Debug)]
pub(crate) struct CheckpointState {
    pub(crate) newest: Superblock,
    /// Segments that only the newest superblock leaves out: they go with the next one (rule 1).
    pub(crate) leaving: Vec<u64>,
    /// Whether the newest one is surely on disk: one that an earlier process left may be in the page cache only.
    pub(crate) proven: bool,
    /// Sequence of the tries in the older superblock; that of the newest if there is no other.
    pub(crate) older_trie_sequence: u64,
    /// Where in the trie the next sweep begins.
    pub(crate) next_swept: Position,
    /// Bytes of nodes that were written since the newest superblock, which does not name them.
    pub(crate) ahead_bytes: u64,
}

/// Numbers for [`crate::Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) dropped_segments: AtomicU64,
    pub(crate) dropped_bytes: AtomicU64,
    /// Whether a checkpoint that was started by itself is under way.
    pub(crate) checkpoint_running: AtomicBool,
    /// The thread of the last one.
    pub(crate) checkpoint_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Store {
    /// The topmost node of an account's storage, with the latest birth of what is below.
    pub(crate) fn storage_top(
        &self,
        trie: &Trie,
        view: &View<'_>,
        address: &Address,
    ) -> Result<Option<(Arc<Child>, u32)>> {
        match view.account(address)? {
            Some(_) => self.tries.storage(trie, &self.tries.commitment.paths(&[address.as_slice()])[0]),
            None => Ok(None),
        }
    }

    /// The state of a version, with proposals over it, oldest first.
    pub(crate) fn view<'a>(&'a self, version: u64, staged: &'a [Arc<Staged>]) -> View<'a> {
        View { lookup: &self.lookup, commitment: &*self.tries.commitment, version, staged }
    }

    /// # Errors
    /// [`Error::ForkedProcess`] in a child of the process that opened the handle (rule 19).
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() { Ok(()) } else { Err(Error::ForkedProcess) }
    }

    /// # Errors
    /// Unless the handle may write.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.lock.is_none() {
            return Err(Error::ReadOnly);
        }
        self.check_process()?;
        self.log.check_poison()
    }
}
