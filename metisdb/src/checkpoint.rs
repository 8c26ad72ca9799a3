//! Checkpoints: what bounds the work of the next open, and frees what nothing needs any more.
//!
//! ```text
//! note where the log ends -> write the image -> sync the log -> superblock -> drop what both superblocks leave out
//! ```
//!
//! Commits go on meanwhile: only the first step takes the commit lock, for as long as it takes to copy the bookkeeping.
//!
//! Invariants:
//! * K1 (rule 1): a segment is dropped only when both superblocks were written after all its records were dead.
//! * K2 (rule 12, I1): the log is synced past all that the image names before the superblock names the image.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    error::Result,
    image,
    log::{
        frame::{FrameBuilder, FrameHeader, FrameKind},
        segment,
    },
    probe,
    store::{CheckpointState, Shared, Store, Writer},
    superblock::{SegmentRow, Superblock},
};

/// Takes a checkpoint. Blocks on the device, not on readers; commits go on.
pub(crate) fn checkpoint(store: &Store) -> Result<()> {
    store.check_writable()?;
    let mut state = store.checkpoint.lock();
    let started = std::time::Instant::now();
    let (mut superblock, ledger, dead) = capture(store, &state);
    if is_up_to_date(&superblock, &state) {
        return Ok(());
    }
    let storage = &*store.log.storage;
    let image = image::write(storage, &superblock, &ledger, &store.lookup.index);
    superblock.image = Some(image.inspect_err(|_| {
        // What is left of it takes space for nothing; if this fails too, the next open removes it.
        let _ = storage.remove(&image::file_name(superblock.generation));
    })?);
    if !probe::skip("checkpoint-log-sync") {
        store.log.sync_upto(store.log.appended_upto())?;
    }
    superblock.durable_upto = store.log.durable_upto();
    superblock.write(storage).map_err(|error| if error.is_out_of_space() { error } else { store.log.poison(error) })?;
    drop_unneeded(store, &mut state, superblock, dead)?;
    metrics::histogram!("metisdb.checkpoint_seconds").record(started.elapsed());
    tracing::debug!(
        version = state.newest.checkpoint_version,
        milliseconds = started.elapsed().as_millis() as u64,
        "checkpoint"
    );
    store.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Whether nothing has happened since the newest checkpoint.
fn is_up_to_date(superblock: &Superblock, state: &CheckpointState) -> bool {
    state.newest.image.is_some()
        && superblock.checkpoint_position == state.newest.checkpoint_position
        && state.leaving.is_empty()
        && superblock.segments == state.newest.segments
}

/// Notes where the log ends and what the bookkeeping says there. Returns the dead segments, too.
fn capture(store: &Store, state: &CheckpointState) -> (Superblock, crate::ledger::Ledger, Vec<u64>) {
    let mut writer = store.writer.lock();
    let floor = store.pins.raise_horizon(store.pins.horizon());
    writer.ledger.bury(floor);
    let Writer { tail, ledger, .. } = &mut *writer;
    let all = store.lookup.table.all();
    let mut rows = Vec::with_capacity(all.len());
    let mut dead = Vec::new();
    for (index, segment) in all.iter().enumerate() {
        let sealed = segment.number != tail.segment.number;
        if sealed && ledger.live.get(&segment.number).copied().unwrap_or(0) == 0 {
            dead.push(segment.number);
            continue;
        }
        let end = match all.get(index + 1) {
            Some(next) if next.number == segment.number + 1 => next.previous_end,
            _ if sealed => segment.known_end(state),
            _ => 0,
        };
        rows.push(SegmentRow { number: segment.number, end });
    }
    let superblock = Superblock {
        generation: state.newest.generation + 1,
        identity: store.log.identity,
        checkpoint_position: tail.position,
        checkpoint_version: store.pins.head(),
        checkpoint_sequence: tail.sequence,
        checkpoint_chain: tail.chain,
        durable_upto: 0,
        horizon: store.pins.horizon(),
        image: None,
        segments: rows,
    };
    let position = tail.position;
    let ledger = ledger.clone();
    writer.checkpoint_position = position;
    (superblock, ledger, dead)
}

impl segment::Segment {
    /// Where the segment's last frame ends, for one whose successor is gone: the superblock kept it.
    fn known_end(&self, state: &CheckpointState) -> u64 {
        let row = state.newest.segments.iter().find(|row| row.number == self.number);
        row.map_or(self.end, |row| row.end)
    }
}

/// The new superblock is in force: drops what it and the one before it leave out.
fn drop_unneeded(store: &Store, state: &mut CheckpointState, superblock: Superblock, dead: Vec<u64>) -> Result<()> {
    let storage = &*store.log.storage;
    let old_image = std::mem::replace(&mut state.newest, superblock).image;
    let mut removed = false;
    if let Some(old) = old_image {
        storage.remove(&image::file_name(old.generation))?;
        removed = true;
    }
    let leaving =
        if probe::skip("drop-after-both-superblocks") { dead.clone() } else { std::mem::take(&mut state.leaving) };
    for number in leaving {
        if let Some(segment) = store.lookup.table.remove(number) {
            let bytes = segment.file.allocated_bytes().unwrap_or(0);
            store.counters.dropped_segments.fetch_add(1, Ordering::Relaxed);
            store.counters.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
            tracing::debug!(number, bytes, "dropped a segment of the log that nothing needs any more");
        }
        store.writer.lock().ledger.live.remove(&number);
        storage.remove(&segment::file_name(number))?;
        removed = true;
    }
    state.leaving = dead.into_iter().filter(|number| store.lookup.table.contains(*number)).collect();
    if removed {
        storage.sync_directory()?;
    }
    Ok(())
}

/// Starts a checkpoint on a thread of its own if the log behind the last one has grown enough and none is under way.
pub(crate) fn start_if_due(store: &Shared, since_last: u64) {
    let index_bytes = store.lookup.index.entries() * 8;
    let due =
        store.options.checkpoint_log_bytes.max(index_bytes.min(store.options.checkpoint_log_bytes.saturating_mul(64)));
    if since_last < due || store.counters.checkpoint_running.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = Arc::clone(store);
    let spawned = std::thread::Builder::new().name("metisdb-checkpoint".into()).spawn(move || {
        if let Err(error) = checkpoint(&own) {
            tracing::warn!(%error, "a checkpoint failed; it will be tried again");
        }
        own.counters.checkpoint_running.store(false, Ordering::Release);
    });
    if spawned.is_err() {
        store.counters.checkpoint_running.store(false, Ordering::Release);
    }
}

/// Ends the session: marks the log as durable to its end and takes a last checkpoint.
pub(crate) fn close(store: &Store) -> Result<()> {
    store.check_writable()?;
    {
        let mut writer = store.writer.lock();
        let wrote = writer.tail.session_opened;
        store.log.sync_upto(writer.tail.position)?;
        if wrote {
            append_mark(store, &mut writer)?;
        }
    }
    checkpoint(store)
}

/// Writes and syncs a frame that says that everything before it is durable.
pub(crate) fn append_mark(store: &Store, writer: &mut Writer) -> Result<()> {
    let bytes = FrameHeader::BYTES;
    let position = store.log.reserve(&store.lookup.table, &mut writer.tail, bytes as u64)?;
    let frame = FrameBuilder::new(position, bytes);
    let end = store.log.append(&mut writer.tail, frame, FrameKind::Mark, store.pins.head())?;
    store.log.sync_upto(end)
}
