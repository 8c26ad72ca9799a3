//! What a database holds and does.

use std::sync::atomic::Ordering;

use crate::store::Shared;

/// A look at the database, by [`Db::stats`](crate::Db::stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest version.
    pub version: u64,
    /// The oldest version that [`Db::snapshot_at`](crate::Db::snapshot_at) gives.
    pub oldest_version: u64,
    /// Snapshots that are open, clones not counted.
    pub snapshots: u64,
    /// The oldest version that a snapshot holds: what was superseded since then stays on disk.
    pub oldest_snapshot: Option<u64>,
    /// Snapshots that have expired ([`Options::max_held_back_bytes`](crate::Options::max_held_back_bytes)) and are not dropped yet.
    pub expired_snapshots: u64,
    /// Keys in the index, deleted ones that still hide something included.
    pub keys: u64,
    /// Memory of the index in use.
    pub index_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Position at which the log ends: bytes ever written to it.
    pub log_position: u64,
    /// Bytes that the files of the log take on disk, space reserved ahead included.
    pub log_disk_bytes: u64,
    /// Files of the trie's arena.
    pub arena_extents: u64,
    /// Bytes that they take on disk.
    pub arena_disk_bytes: u64,
    /// Bytes of nodes in the arena that the newest version's trie uses.
    pub arena_live_bytes: u64,
    /// Pages of the arena that were written once more since the database was opened,
    pub arena_reused_pages: u64,
    /// and those of them while a trie older than the newest was held.
    pub arena_pages_reused_beside_holds: u64,
    /// Memory of nodes that no checkpoint has written yet, about.
    pub unwritten_trie_bytes: u64,
    /// Bytes of records that some readable version can reach.
    pub live_bytes: u64,
    /// Bytes of records that only versions older than the newest can reach: what retention and open snapshots cost.
    pub history_bytes: u64,
    /// Those of them that only open snapshots can reach.
    pub held_back_bytes: u64,
    /// Bytes of records that went out of reach since the database was opened.
    pub reclaimed_bytes: u64,
    /// Files of the log dropped since the database was opened.
    pub dropped_segments: u64,
    /// Bytes on disk that they gave back.
    pub dropped_bytes: u64,
    /// Bytes of the log that are not synced yet.
    pub unsynced_bytes: u64,
    /// Bytes of the log that opening after a crash would replay.
    pub replay_bytes: u64,
    /// Roots that are not computed yet; what was recovered counts as one.
    pub deferred_roots: u64,
    /// Commits since the database was opened.
    pub commits: u64,
    /// Checkpoints since the database was opened.
    pub checkpoints: u64,
}

pub(crate) fn stats(store: &Shared) -> Stats {
    let writer = store.writer.lock();
    let index = store.lookup.index.stats();
    let segments = store.lookup.table.all();
    let appended = writer.tail.position;
    let counters = &store.counters;
    let arena = &store.tries.arena;
    let (arena_live_bytes, arena_reused_pages) = {
        let pages = arena.pages.lock();
        (pages.usage().0, pages.reused)
    };
    Stats {
        version: store.pins.head(),
        oldest_version: store.pins.horizon(),
        snapshots: store.pins.pinned().count() as u64,
        oldest_snapshot: store.pins.oldest_pinned(),
        expired_snapshots: store.pins.expired_count() as u64,
        keys: index.entries,
        index_bytes: index.memory_bytes,
        segments: segments.len() as u64,
        log_position: appended,
        log_disk_bytes: segments.iter().map(|segment| segment.file.allocated_bytes().unwrap_or(0)).sum(),
        arena_extents: arena.extent_count(),
        arena_disk_bytes: arena.disk_bytes(),
        arena_live_bytes,
        arena_reused_pages,
        arena_pages_reused_beside_holds: store.tries.reused_beside_holds.load(Ordering::Relaxed),
        unwritten_trie_bytes: store.tries.unwritten_bytes(),
        live_bytes: writer.ledger.live.values().sum(),
        history_bytes: writer.ledger.retired_bytes(),
        held_back_bytes: writer.ledger.held_back(store.pins.horizon()),
        reclaimed_bytes: writer.ledger.reclaimed_bytes,
        dropped_segments: counters.dropped_segments.load(Ordering::Relaxed),
        dropped_bytes: counters.dropped_bytes.load(Ordering::Relaxed),
        unsynced_bytes: appended.saturating_sub(store.log.durable_upto()),
        replay_bytes: appended.saturating_sub(store.checkpoint_position.load(Ordering::Relaxed)),
        deferred_roots: store.pending.len() as u64,
        commits: counters.commits.load(Ordering::Relaxed),
        checkpoints: counters.checkpoints.load(Ordering::Relaxed),
    }
}
