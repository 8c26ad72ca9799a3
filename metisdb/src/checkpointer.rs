//! What is done by itself, beside commits: a checkpoint where the log behind the last one has grown, and room for nodes of the trie where
//! they take much memory.
//!
//! Room is made by writing them. A checkpoint around that would write the image of the whole index: of a hundred million keys it is many
//! times as long as what it is written for. So nodes are written ahead, as by a checkpoint that fails behind this step, until they are as
//! many bytes as the image. Pages that die meanwhile are not written again before the next checkpoints (T1): that much more space is in use.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    checkpoint::{self, Thoroughness},
    error::Result,
    store::{Shared, Store},
};

/// How often the log may be as long as the option says before a checkpoint is due, however large the index is.
const MOST_DUE: u64 = 64;
/// What an image has for a key, about.
const IMAGE_BYTES_A_KEY: u64 = 8;
/// How often who waits for room looks whether there is some.
const PATIENCE: Duration = Duration::from_millis(5);

/// Makes room before a commit if nodes of the trie take all the memory that they may: so commits wait for the writing.
pub(crate) fn relieve(store: &Store) -> Result<()> {
    make_room(store, store.options.max_unwritten_trie_bytes)
}

/// Starts a checkpoint on a thread of its own if the log behind the last one has grown enough, or makes room there if nodes of the trie take
/// half of the memory that they may; unless one of both is under way.
pub(crate) fn start_if_due(store: &Shared) {
    let since_last = store.log.appended_upto().saturating_sub(store.checkpoint_position.load(Ordering::Relaxed));
    let due_bytes = store.options.checkpoint_log_bytes;
    let is_due = since_last >= due_bytes.max(image_bytes(store).min(due_bytes.saturating_mul(MOST_DUE)));
    let crowded_bytes = store.options.max_unwritten_trie_bytes / 2;
    let is_crowded = store.tries.unwritten_bytes() >= crowded_bytes;
    if !is_due && !is_crowded || store.counters.checkpoint_running.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = Arc::clone(store);
    // Held until the thread is noted, so that none is started, and missed by `wait_for_started`, in between.
    let mut noted = store.counters.checkpoint_thread.lock();
    let spawned = std::thread::Builder::new().name("metisdb-checkpoint".into()).spawn(move || {
        let outcome =
            if is_due { checkpoint::checkpoint(&own, Thoroughness::Automatic) } else { make_room(&own, crowded_bytes) };
        if let Err(error) = outcome {
            tracing::warn!(%error, "a checkpoint failed; it will be tried again");
        }
        own.counters.checkpoint_running.store(false, Ordering::Release);
    });
    match spawned {
        // The one before said that it is done: it ends now, or has panicked.
        Ok(thread) => drop(noted.replace(thread).map(JoinHandle::join)),
        Err(_) => store.counters.checkpoint_running.store(false, Ordering::Release),
    }
}

/// Writes the nodes that are in memory only if they take so much, with a checkpoint around them if they are worth its image.
fn make_room(store: &Store, crowded_bytes: u64) -> Result<()> {
    if store.tries.unwritten_bytes() < crowded_bytes {
        return Ok(());
    }
    store.check_writable()?;
    // Whoever has the lock may be at it, and go on for long when there is room again.
    let mut state = loop {
        if let Some(state) = store.checkpoint.try_lock_for(PATIENCE) {
            break state;
        }
        if store.tries.unwritten_bytes() < crowded_bytes {
            return Ok(());
        }
    };
    let _unbroken = store.log.unbroken();
    let unwritten_bytes = store.tries.unwritten_bytes();
    if unwritten_bytes < crowded_bytes {
        return Ok(());
    }
    if state.ahead_bytes + unwritten_bytes >= image_bytes(store) {
        return checkpoint::take(store, &mut state, Thoroughness::Automatic);
    }
    store.tries.prune(&store.pins);
    checkpoint::sweep(store, &mut state, Thoroughness::Automatic)?;
    match checkpoint::write_ahead(store, &mut state) {
        // A checkpoint may find something to free.
        Err(error) if error.is_out_of_space() => checkpoint::take(store, &mut state, Thoroughness::Automatic),
        outcome => outcome,
    }
}

/// Length of an image of the index.
fn image_bytes(store: &Store) -> u64 {
    store.lookup.index.entries() * IMAGE_BYTES_A_KEY
}

/// Waits for a checkpoint that was started by itself, so that its thread does not hold the lock longer than the handle.
pub(crate) fn wait_for_started(store: &Store) {
    if store.check_process().is_err() {
        // Threads do not survive a fork.
        return;
    }
    let thread = store.counters.checkpoint_thread.lock().take();
    if let Some(thread) = thread {
        // A panic there was reported there.
        let _ = thread.join();
    }
}
