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

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, atomic::Ordering},
};

use alloy_primitives::B256;
use parking_lot::{MutexGuard, RwLockWriteGuard};

use crate::{
    error::{Error, Result},
    image::{self, Books},
    log::{
        frame::{FrameBuilder, FrameHeader, FrameKind},
        segment,
    },
    probe, roots,
    store::{CheckpointState, Store, Writer},
    superblock::{ImageReference, SegmentRow, Superblock, TopReference, TrieReference},
    trie::{
        arena::{
            pages::PAGE_BYTES,
            writer::{self, Throttle, Written},
        },
        node::{Child, Leaf, Link, NodeRef},
        sweep::{self, Moved},
    },
    tries::HeldTrie,
};

/// How much of all pages in use has to be live for a thorough checkpoint to leave them as they are.
const PACKED_BYTES: u64 = PAGE_BYTES * 15 / 16;
/// How much of a page has to be live for an automatic checkpoint, which sweeps a part of the trie, to leave its nodes there.
const HALF_BYTES: u64 = PAGE_BYTES / 2;
/// An automatic checkpoint goes through one in so many bytes of the trie, and no more than it writes.
const SWEPT_FRACTION: u64 = 16;
/// Bytes of nodes that a sweep goes through while commits wait.
const SLICE_BYTES: u64 = 2 << 20;

/// How much a checkpoint tidies up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    /// What keeps up with the writing.
    Automatic,
    /// Packs the whole trie, and frees at once what is not needed.
    Requested,
}

/// Takes a checkpoint. Blocks on the device, not on readers; commits go on.
pub(crate) fn checkpoint(store: &Store, thoroughness: Thoroughness) -> Result<()> {
    store.check_writable()?;
    let mut state = store.checkpoint.lock();
    let _unbroken = store.log.unbroken();
    take(store, &mut state, thoroughness)?;
    if thoroughness == Thoroughness::Requested && (!state.leaving.is_empty() || holds_dead_pages(store, &state)) {
        // What only the older superblock needs goes once both are newer.
        repeat_superblock(store, &mut state)?;
        store.tries.arena.give_back_free_pages(reuse_floor(store, &state))?;
    }
    Ok(())
}

/// What was retired from the trie at or before this sequence is needed by no trie in memory and by neither superblock (T1).
fn reuse_floor(store: &Store, state: &CheckpointState) -> u64 {
    let held = if probe::skip("page-reuse-holds") { u64::MAX } else { store.tries.floor(&store.pins) };
    let on_disk = state.older_trie_sequence.min(state.newest.trie.sequence);
    if probe::skip("page-reuse-superblocks") { held } else { held.min(on_disk) }
}

pub(crate) fn take(store: &Store, state: &mut CheckpointState, thoroughness: Thoroughness) -> Result<()> {
    let started = std::time::Instant::now();
    store.log.prove(&store.writer.lock().tail)?;
    store.tries.prune(&store.pins);
    sweep(store, state, thoroughness)?;
    let gate = roots::close_gate(store)?;
    let mut captured = capture(store, state);
    drop(gate);
    if is_up_to_date(&captured, state) {
        store.tries.end_checkpoint(None);
        return Ok(());
    }
    let frees = !captured.dead.is_empty() || !state.leaving.is_empty();
    if let Err(error) = prove_older(store, state) {
        store.tries.end_checkpoint(None);
        return Err(error);
    }
    if let Err(error) = write_trie(store, state, &mut captured) {
        store.tries.end_checkpoint(None);
        if !error.is_out_of_space() || !frees {
            return Err(error);
        }
        tracing::warn!(%error, "no space for the trie: dropping dead segments without it");
        captured.superblock.trie.top = TopReference::Absent;
    }
    let Captured { mut superblock, books, dead, .. } = captured;
    superblock.image = write_image(store, &superblock, &books, frees)?;
    if !probe::skip("checkpoint-log-sync") {
        store.log.sync_upto(store.log.appended_upto())?;
    }
    superblock.durable_upto = store.log.durable_upto();
    write_superblock(store, &superblock)?;
    store.checkpoint_position.store(superblock.checkpoint_position, Ordering::Relaxed);
    state.older_trie_sequence = state.newest.trie.sequence;
    state.ahead_bytes = 0;
    drop_unneeded(store, state, superblock, dead)?;
    metrics::histogram!("metisdb.checkpoint_seconds").record(started.elapsed());
    tracing::debug!(
        version = state.newest.checkpoint_version,
        milliseconds = started.elapsed().as_millis() as u64,
        "checkpoint"
    );
    store.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Writes the newest superblock again, over the older one.
fn repeat_superblock(store: &Store, state: &mut CheckpointState) -> Result<()> {
    prove_older(store, state)?;
    let mut superblock = state.newest.clone();
    superblock.generation += 1;
    write_superblock(store, &superblock)?;
    state.older_trie_sequence = superblock.trie.sequence;
    drop_unneeded(store, state, superblock, Vec::new())
}

/// Whether pages are kept only for the older superblock.
fn holds_dead_pages(store: &Store, state: &CheckpointState) -> bool {
    let pages = store.tries.arena.pages.lock();
    let newest = state.newest.trie.sequence;
    pages.extents.values().flatten().any(|page| page.is_leaving(state.older_trie_sequence, newest))
}

/// Makes sure of the newest superblock before the other one is overwritten.
fn prove_older(store: &Store, state: &mut CheckpointState) -> Result<()> {
    if !state.proven && !probe::skip("superblock-proof") {
        write_superblock(store, &state.newest)?;
        state.proven = true;
    }
    Ok(())
}

/// Moves nodes out of pages that are mostly dead; or all nodes, as long as there are gaps worth it.
pub(crate) fn sweep(store: &Store, state: &mut CheckpointState, thoroughness: Thoroughness) -> Result<()> {
    let (live, used) = store.tries.arena.pages.lock().usage();
    let most_bytes = store.options.max_unwritten_trie_bytes;
    let (mut left, full_bytes) = match thoroughness {
        Thoroughness::Automatic => (store.tries.unwritten_bytes().min(live / SWEPT_FRACTION), HALF_BYTES),
        Thoroughness::Requested if live * PAGE_BYTES >= used * PACKED_BYTES => return Ok(()),
        // Whatever moves takes its parents along, which leave gaps in pages that were full: so everything moves.
        Thoroughness::Requested => {
            state.next_swept.clear();
            (u64::MAX, u64::MAX)
        }
    };
    // In memory until it is written: commits need room beside it.
    let most_moved = most_bytes / 4;
    let mut moved_bytes = 0;
    // A slice at a time, so that commits are held up for a moment each.
    while left > 0 {
        if moved_bytes > most_moved {
            match thoroughness {
                Thoroughness::Automatic => break,
                Thoroughness::Requested => match write_ahead(store, state) {
                    // The rest stays where it is.
                    Err(error) if error.is_out_of_space() => break,
                    outcome => outcome?,
                },
            }
            moved_bytes = 0;
        }
        let slice = left.min(SLICE_BYTES).min(most_bytes.max(PAGE_BYTES));
        left -= slice;
        let gate = roots::close_gate(store)?;
        let writer = store.writer.lock();
        let (_, newest) = store.tries.newest();
        let swept = sweep::sweep(&store.tries.arena, &newest.trie, &state.next_swept, slice, full_bytes)?;
        if let Some(Moved { trie, retired, memory_bytes }) = swept.moved {
            moved_bytes += memory_bytes as u64;
            store.tries.replace_newest(trie, retired, memory_bytes as u64);
        }
        // Commits that wait come first.
        MutexGuard::unlock_fair(writer);
        RwLockWriteGuard::unlock_fair(gate);
        let is_at_end = swept.next.is_none();
        state.next_swept = swept.next.unwrap_or_default();
        if is_at_end {
            break;
        }
    }
    Ok(())
}

/// Writes the newest trie without a checkpoint, as one does that fails behind this step: no superblock names the nodes yet.
pub(crate) fn write_ahead(store: &Store, state: &mut CheckpointState) -> Result<()> {
    let (_, held, sequence) = {
        let _writer = store.writer.lock();
        store.tries.begin_checkpoint()
    };
    let written = match &held.trie.top {
        Some(top) => write_nodes(store, state, top, sequence).map(Some),
        None => Ok(None),
    };
    let settled = written.as_ref().ok().and_then(Option::as_ref);
    store.tries.end_checkpoint(settled);
    state.ahead_bytes += settled.map_or(0, Written::bytes);
    written.map(|_| ())
}

/// Writes the nodes of the captured trie that are in memory only, and tells where its top stands.
fn write_trie(store: &Store, state: &CheckpointState, captured: &mut Captured) -> Result<()> {
    let tries = &store.tries;
    let Some(top) = &captured.trie.trie.top else {
        tries.end_checkpoint(None);
        return Ok(());
    };
    let written = write_nodes(store, state, top, captured.superblock.trie.sequence)?;
    // Also if there was nothing to write: a checkpoint that failed behind this step may have written it all.
    captured.superblock.trie.generation = next_generation(state)?;
    captured.superblock.trie.top = reference_of(&top.link);
    if let Link::Leaf(Leaf { storage: Some(storage), .. }) = &top.link {
        let root = B256::new(*storage.reference.padded());
        captured.superblock.trie.storage = Some((root, reference_of(&storage.link)));
    }
    for (place, bytes) in written.places() {
        captured.books.pages.add_in_new_extent(place, bytes);
    }
    tries.end_checkpoint(Some(&written));
    Ok(())
}

/// The generation of the checkpoint under way, as nodes carry it.
fn next_generation(state: &CheckpointState) -> Result<u32> {
    u32::try_from(state.newest.generation + 1)
        .map_err(|_| Error::LimitReached { what: "the number of checkpoints", limit: u64::from(u32::MAX) })
}

/// Writes and syncs the nodes under the top of a trie of this sequence that are in memory only.
fn write_nodes(store: &Store, state: &CheckpointState, top: &Child, sequence: u64) -> Result<Written> {
    let tries = &store.tries;
    let generation = next_generation(state)?;
    let floor = reuse_floor(store, state).min(sequence);
    let mut throttle = Throttle::new(store.options.checkpoint_bytes_per_second);
    let reused_before = tries.arena.pages.lock().reused;
    let written = writer::write(&tries.arena, top, generation, floor, &mut throttle)?;
    let reused = tries.arena.pages.lock().reused - reused_before;
    tries.count_reuse(reused);
    let synced = if probe::skip("arena-sync") { Ok(()) } else { writer::sync(&tries.arena, &written) };
    if let Err(error) = synced {
        written.abandon(&tries.arena);
        return Err(store.log.poison(error));
    }
    Ok(written)
}

/// How the superblock refers to the top of a trie that is written.
fn reference_of(link: &Link) -> TopReference {
    match link {
        Link::Leaf(leaf) => TopReference::Leaf(leaf.key),
        Link::Branch(NodeRef::Arena(place)) => TopReference::Branch(*place),
        Link::Branch(NodeRef::Memory(branch)) => {
            branch.written().planned().map_or(TopReference::Nothing, TopReference::Branch)
        }
    }
}

/// Writes and syncs a superblock. A full disk, or one that cannot be opened, leaves the other one in force; any other failure poisons.
fn write_superblock(store: &Store, superblock: &Superblock) -> Result<()> {
    let poison = |error| store.log.poison(error);
    let written = superblock.write_unsynced(&*store.log.storage);
    // Where it could not even be opened, too many files may be.
    let is_untouched = |error: &Error| error.is_out_of_space() || matches!(error, Error::Io { operation: "open", .. });
    let file = written.map_err(|error| if is_untouched(&error) { error } else { poison(error) })?;
    if probe::skip("superblock-sync") { Ok(()) } else { file.sync().map_err(poison) }
}

/// Writes the image. On a full disk the checkpoint does without it if it can free space by that: the next open then reads the whole log.
fn write_image(store: &Store, superblock: &Superblock, books: &Books, frees: bool) -> Result<Option<ImageReference>> {
    let storage = &*store.log.storage;
    match image::write(storage, superblock, books, &store.lookup.index) {
        Ok(reference) => Ok(Some(reference)),
        Err(error) => {
            // What is left of it takes space for nothing; if this fails too, the next checkpoint removes it.
            let _ = storage.remove(&image::file_name(superblock.generation));
            if error.is_out_of_space() && frees {
                tracing::warn!(%error, "no space for an image of the index: dropping dead segments without it");
                return Ok(None);
            }
            if matches!(error, Error::LimitReached { .. }) {
                // More keys of one hash than an image has room for; the log has them.
                tracing::warn!(%error, "no image of the index");
                return Ok(None);
            }
            Err(error)
        }
    }
}

/// Whether nothing has happened since the newest checkpoint.
fn is_up_to_date(captured: &Captured, state: &CheckpointState) -> bool {
    state.newest.image.is_some()
        && captured.superblock.checkpoint_position == state.newest.checkpoint_position
        && captured.superblock.trie.sequence == state.newest.trie.sequence
        && state.newest.trie.top != TopReference::Absent
        && state.leaving.is_empty()
        && captured.superblock.segments == state.newest.segments
}

/// What a checkpoint writes, as it was at one moment.
struct Captured {
    superblock: Superblock,
    books: Books,
    trie: Arc<HeldTrie>,
    dead: Vec<u64>,
}

/// Notes where the log ends, what the bookkeeping says there, and which segments are dead.
fn capture(store: &Store, state: &CheckpointState) -> Captured {
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
    let (_, trie, sequence) = store.tries.begin_checkpoint();
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
        trie: TrieReference {
            root: trie.trie.root,
            sequence,
            generation: state.newest.trie.generation,
            ..TrieReference::empty()
        },
        segments: rows,
    };
    let versions = store.history.rows().into();
    let books = Books { ledger: ledger.clone(), versions, pages: store.tries.arena.pages.lock().clone() };
    Captured { superblock, books, trie, dead }
}

impl segment::Segment {
    /// Where the segment's last frame ends, for one whose successor is gone: the superblock kept it.
    fn known_end(&self, state: &CheckpointState) -> u64 {
        let rows = &state.newest.segments;
        rows.binary_search_by_key(&self.number, |row| row.number).map_or(self.end, |at| rows[at].end)
    }
}

/// The new superblock is in force: removes what it and the one before it leave out. What cannot be removed now is tried again
/// by the next checkpoint.
fn drop_unneeded(store: &Store, state: &mut CheckpointState, superblock: Superblock, dead: Vec<u64>) -> Result<()> {
    let storage = &*store.log.storage;
    let in_force = superblock.image.map(|image| image.generation);
    state.newest = superblock;
    let Some(_removing) = store.files.try_write() else {
        // They go with a later checkpoint, when nobody reads them all.
        let leaving: BTreeSet<u64> = state.leaving.drain(..).chain(dead).collect();
        state.leaving.extend(leaving);
        return Ok(());
    };
    let left_out_twice = |number: &u64| state.leaving.contains(number) || probe::skip("drop-after-both-superblocks");
    let (unneeded, leaving): (Vec<u64>, Vec<u64>) = dead.into_iter().partition(left_out_twice);
    // Those that an earlier process left are in no table any more.
    let from_before =
        std::mem::replace(&mut state.leaving, leaving).into_iter().filter(|number| !unneeded.contains(number));
    let unneeded: Vec<u64> = from_before.chain(unneeded.iter().copied()).collect();
    let mut names: Vec<String> = unneeded.iter().copied().map(segment::file_name).collect();
    // If the folder cannot be listed now, the next checkpoint finds the old images.
    let images = storage.list().unwrap_or_default().into_iter().filter_map(|name| image::parse_file_name(&name));
    names.extend(images.filter(|generation| Some(*generation) != in_force).map(image::file_name));
    let floor = reuse_floor(store, state);
    let extents = store.tries.arena.drop_free_extents(floor);
    if names.is_empty() && matches!(extents, Ok(0)) {
        return Ok(());
    }
    let mut outcome = extents.map(|_| ());
    for name in &names {
        outcome = outcome.and(storage.remove(name));
    }
    // What cannot be listed is taken for still there.
    let left: Option<HashSet<String>> = storage.list().ok().map(HashSet::from_iter);
    for number in unneeded {
        match &left {
            Some(left) if !left.contains(&segment::file_name(number)) => drop_segment(store, number),
            _ => state.leaving.push(number),
        }
    }
    outcome.and(storage.sync_directory())
}

/// Takes a segment whose file was removed out of the table.
fn drop_segment(store: &Store, number: u64) {
    let Some(segment) = store.lookup.table.remove(number) else { return };
    store.writer.lock().ledger.live.remove(&number);
    let bytes = segment.file.allocated_bytes().unwrap_or(0);
    store.counters.dropped_segments.fetch_add(1, Ordering::Relaxed);
    store.counters.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
    tracing::debug!(number, bytes, "dropped a segment of the log that nothing needs any more");
}

/// Ends the session: marks the log as durable to its end and takes a last checkpoint.
pub(crate) fn close(store: &Store) -> Result<()> {
    store.check_writable()?;
    {
        let mut writer = store.writer.lock();
        let _unbroken = store.log.unbroken();
        let wrote = writer.tail.session_opened;
        store.log.prove(&writer.tail)?;
        store.log.sync_upto(writer.tail.position)?;
        if wrote {
            append_mark(store, &mut writer)?;
        }
    }
    checkpoint(store, Thoroughness::Automatic)
}

/// Writes and syncs a frame that says that everything before it is durable.
pub(crate) fn append_mark(store: &Store, writer: &mut Writer) -> Result<()> {
    let bytes = FrameHeader::BYTES;
    let position = store.log.reserve(&store.lookup.table, &mut writer.tail, bytes as u64)?;
    let frame = FrameBuilder::new(position, bytes);
    let end = store.log.append(&mut writer.tail, [(frame, FrameKind::Mark)], store.pins.head())?;
    store.log.sync_upto(end)
}
