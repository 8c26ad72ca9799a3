//! Deferred roots: commits that are visible before their root is known.
//!
//! The roots are computed one after the other, in the order of the versions, by a thread of their own or by whoever needs one first. Each
//! is written to the log in a frame of its own; where that is missing after a crash, recovery computes the root anew. The first of them may be
//! the trie that the database was opened without (see `regrow`).
//!
//! Lock order: gate, then `computing`, then the commit lock. The gate is shared by deferred commits; whoever needs the newest version's trie
//! holds it alone, so that no root can be outstanding meanwhile.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use alloy_primitives::B256;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::{
    changes::Changes,
    checkpointer,
    commit::{self, Commit, Durability, ROOT_FRAME_BYTES},
    error::{Error, Result},
    log::frame::FrameKind,
    pins::Pin,
    probe,
    regrow::Regrowth,
    stage::{self, Staged},
    store::{Shared, Store, Writer},
};

/// The root of a version that was committed before it was known.
#[derive(Clone, Debug)]
pub struct DeferredRoot {
    store: Shared,
    version: u64,
}

impl DeferredRoot {
    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the root is known.
    pub fn is_ready(&self) -> bool {
        self.store.history.row(self.version).is_none_or(|row| row.root.is_some())
    }

    /// The root. Blocks until it is computed, on this thread if no other has begun; earlier versions' roots come first.
    ///
    /// # Errors
    /// [`Error::Corruption`]; [`Error::VersionNotRetained`] if it was asked for so late that the version is gone; [`Error::ForkedProcess`].
    pub fn wait(&self) -> Result<B256> {
        self.store.check_process()?;
        settle(&self.store, self.version)?;
        let root = self.store.history.row(self.version).and_then(|row| row.root);
        root.ok_or_else(|| Error::VersionNotRetained {
            requested: self.version,
            oldest: self.store.pins.horizon(),
            newest: self.store.pins.head(),
        })
    }
}

/// Versions without a trie, and what it will be made of.
#[derive(Debug)]
enum Pending {
    /// One that was committed before its root is known.
    Commit {
        version: u64,
        staged: Arc<Staged>,
        /// Holds the version before: its trie is what the root begins with.
        pin: Pin,
    },
    /// All that the database was opened with.
    Recovered(Box<Regrowth>),
}

impl Pending {
    /// The oldest of the versions.
    fn version(&self) -> u64 {
        match self {
            Self::Commit { version, .. } => *version,
            Self::Recovered(_) => 0,
        }
    }
}

/// The versions whose roots are outstanding.
#[derive(Debug, Default)]
pub(crate) struct PendingRoots {
    gate: RwLock<()>,
    queue: Mutex<VecDeque<Arc<Pending>>>,
    /// Held while a root is computed.
    computing: Mutex<()>,
    thread_running: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PendingRoots {
    /// Begins with what a recovery has left to do.
    pub(crate) fn new(regrowth: Option<Regrowth>) -> Self {
        let queue = regrowth.map(|regrowth| Arc::new(Pending::Recovered(Box::new(regrowth)))).into_iter().collect();
        Self { queue: Mutex::new(queue), ..Self::default() }
    }

    /// Keeps roots from being computed.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.computing.lock()
    }

    /// How many roots are outstanding.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().len()
    }
}

/// Commits changes without waiting for their root.
pub(crate) fn commit_deferred(
    store: &Shared,
    changes: &Changes,
    durability: Durability,
) -> Result<(Commit, DeferredRoot)> {
    store.check_writable()?;
    checkpointer::relieve(store)?;
    while store.pending.len() >= store.options.max_deferred_roots.max(1) {
        settle_next(store, u64::MAX)?;
    }
    let started = Instant::now();
    let gate = store.pending.gate.read();
    let mut writer = store.writer.lock();
    let _unbroken = store.log.unbroken();
    let before = store.pins.head();
    let staged = stage::stage(&store.view(before, &[]), changes, &|_| Ok(true), store.options.most_threads())?;
    let appended = commit::append(store, &mut writer, &staged, None, durability)?;
    let pin = store.pins.pin_newest_for_good();
    if probe::skip("deferred-pin") {
        store.pins.release_for_good(&pin);
    }
    let root = DeferredRoot { store: store.clone(), version: appended.version };
    let staged = Arc::new(staged);
    // Before anyone can see the version and ask for its root.
    store.pending.queue.lock().push_back(Arc::new(Pending::Commit {
        version: appended.version,
        staged: staged.clone(),
        pin,
    }));
    commit::publish(store, &mut writer, &staged, &appended, None);
    let commit = commit::finish(store, writer, &staged, &appended, durability, started);
    drop(gate);
    start_thread(store);
    Ok((commit, root))
}

/// Computes all outstanding roots and keeps further ones from coming: the newest version has its trie while the guard lives.
pub(crate) fn close_gate(store: &Store) -> Result<RwLockWriteGuard<'_, ()>> {
    let gate = store.pending.gate.write();
    settle(store, u64::MAX)?;
    Ok(gate)
}

/// Computes the outstanding roots of versions up to one, oldest first.
pub(crate) fn settle(store: &Store, upto: u64) -> Result<()> {
    while settle_next(store, upto)? {}
    Ok(())
}

/// Computes the oldest outstanding root if it is of a version up to one. Returns whether there was one.
fn settle_next(store: &Store, upto: u64) -> Result<bool> {
    let _computing = store.pending.computing.lock();
    // It stays in the queue until it is done: an error, or a panic, leaves it outstanding, and all behind it.
    let first = store.pending.queue.lock().front().filter(|pending| pending.version() <= upto).cloned();
    let Some(pending) = first else { return Ok(false) };
    match &*pending {
        Pending::Commit { version, staged, pin } => compute(store, *version, staged, pin)?,
        Pending::Recovered(regrowth) => regrowth.install(store)?,
    }
    store.pending.queue.lock().pop_front();
    Ok(true)
}

fn compute(store: &Store, version: u64, staged: &Staged, pin: &Pin) -> Result<()> {
    let (_, base) = store.tries.newest();
    let view = store.view(version - 1, &[]);
    let new = store.tries.update(&base.trie, &staged.trie, &view)?;
    let root = new.trie.root;
    let mut writer = store.writer.lock();
    let _unbroken = store.log.unbroken();
    write_root(store, &mut writer, version, root);
    store.tries.install(version, new, &store.pins);
    store.history.set_root(version, root);
    drop(writer);
    store.pins.release_for_good(pin);
    Ok(())
}

/// Writes the root to the log. If that fails the root is computed once more after a crash.
fn write_root(store: &Store, writer: &mut Writer, version: u64, root: B256) {
    let written =
        store.log.reserve(&store.lookup.table, &mut writer.tail, ROOT_FRAME_BYTES as u64).and_then(|position| {
            let frame = commit::root_frame(position, version, root);
            store.log.append(&mut writer.tail, [(frame, FrameKind::Root)], version)
        });
    if let Err(error) = written {
        tracing::warn!(%error, version, "a deferred root was not written to the log");
    }
}

/// Bytes of log whose changes are entered in the trie before an open returns: a thread would take as long.
const SHORT_TAIL_BYTES: u64 = if cfg!(test) { 0 } else { 128 << 10 };

/// Sees to what a recovery has left to do: at once if it is little, or else on the thread.
pub(crate) fn begin(store: &Shared) {
    let tail_bytes = store.log.appended_upto().saturating_sub(store.checkpoint_position.load(Ordering::Relaxed));
    if tail_bytes > SHORT_TAIL_BYTES {
        start_thread(store);
    } else if let Err(error) = settle(store, u64::MAX) {
        tracing::warn!(%error, "the trie could not be brought up to date; it will be tried again when it is needed");
    }
}

/// Starts the thread that computes outstanding roots, unless it runs or there are none.
fn start_thread(store: &Shared) {
    if store.pending.len() == 0 || store.pending.thread_running.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = Arc::clone(store);
    let mut noted = store.pending.thread.lock();
    let spawned = std::thread::Builder::new().name("metisdb-roots".into()).spawn(move || {
        loop {
            let outcome = settle(&own, u64::MAX);
            own.pending.thread_running.store(false, Ordering::Release);
            if let Err(error) = outcome {
                tracing::warn!(%error, "a deferred root could not be computed; it will be tried again when it is asked for");
                return;
            }
            // One may have come since the last look.
            if own.pending.len() == 0 || own.pending.thread_running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    });
    match spawned {
        // The one before said that it is done: it ends now, or has panicked.
        Ok(thread) => drop(noted.replace(thread).map(JoinHandle::join)),
        Err(_) => store.pending.thread_running.store(false, Ordering::Release),
    }
}

/// Waits for the thread, so that it does not hold the lock longer than the handle.
pub(crate) fn wait_for_thread(store: &Store) {
    if store.check_process().is_err() {
        return;
    }
    let thread = store.pending.thread.lock().take();
    if let Some(thread) = thread {
        // A panic there was reported there.
        let _ = thread.join();
    }
}
