//! Loading: all slots in random order through the public interface.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use metisdb::{Account, Changes, Db, Durability, Options};
use serde::Serialize;

use super::keys::KeySpace;
use crate::{Result, progress, system};

/// Most changes in a commit.
pub(crate) const COMMIT_CHANGES: u64 = 50_000;

/// What loading took.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    /// From an empty folder to the last durable commit.
    pub(crate) seconds: f64,
    pub(crate) keys_per_second: f64,
    /// Of the seconds, those spent making keys, values and `Changes`.
    pub(crate) staging_seconds: f64,
    /// Of the seconds, those spent in `Db::commit`.
    pub(crate) commit_seconds: f64,
    /// A thorough checkpoint, which packs the trie.
    pub(crate) checkpoint_seconds: f64,
    pub(crate) close_seconds: f64,
    pub(crate) commits: u64,
    pub(crate) checkpoints: u64,
    /// Entries of the index: slots and accounts.
    pub(crate) index_keys: u64,
    pub(crate) index_bytes: u64,
    /// Bytes written to the log.
    pub(crate) log_bytes: u64,
    /// What the log's files take on disk.
    pub(crate) log_disk_bytes: u64,
    pub(crate) arena_disk_bytes: u64,
    pub(crate) arena_live_bytes: u64,
    pub(crate) image_bytes: u64,
    pub(crate) superblock_bytes: u64,
    /// Most anonymous memory that was seen after a commit.
    pub(crate) peak_anonymous_bytes: u64,
}

impl Load {
    /// All files, on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.log_disk_bytes + self.arena_disk_bytes + self.image_bytes + self.superblock_bytes
    }

    /// Memory that is neither the index nor a map of a file; the changes being staged are in it.
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.peak_anonymous_bytes.saturating_sub(self.index_bytes)
    }
}

/// Commits changes as they come, in commits of bounded size.
struct Loader<'d> {
    db: &'d Db,
    changes: Changes,
    committing: Duration,
    peak_anonymous_bytes: u64,
}

impl Loader<'_> {
    fn commit_if_full(&mut self) -> Result<()> {
        if self.changes.len() as u64 >= COMMIT_CHANGES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        let started = Instant::now();
        self.db.commit(&self.changes, Durability::Durable)?;
        self.committing += started.elapsed();
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(system::anonymous_bytes()?);
        self.changes = Changes::new();
        Ok(())
    }
}

/// Creates a database with all keys, closes it, and opens it once more to see what it takes.
pub(crate) fn load(path: &Path, space: &KeySpace) -> Result<Load> {
    let started = Instant::now();
    let db = Options::new().create(path)?;
    let mut loader = Loader { db: &db, changes: Changes::new(), committing: Duration::ZERO, peak_anonymous_bytes: 0 };
    for number in 0..space.accounts {
        loader.changes.set_account(space.address(number), Account { nonce: 1, ..Account::default() });
        loader.commit_if_full()?;
    }
    for turn in 0..space.keys {
        let number = space.in_random_order(turn);
        let (address, slot) = space.key(number);
        loader.changes.set_storage(address, slot, space.value(number, 0));
        loader.commit_if_full()?;
        if turn > 0 && turn % 1_000_000 == 0 {
            progress(&format!("load: {turn} of {} keys, {:.1} s", space.keys, started.elapsed().as_secs_f64()));
        }
    }
    if !loader.changes.is_empty() {
        loader.commit()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (committing, peak_anonymous_bytes) = (loader.committing.as_secs_f64(), loader.peak_anonymous_bytes);
    let loaded = db.stats();
    let packing = Instant::now();
    db.checkpoint()?;
    let checkpoint_seconds = packing.elapsed().as_secs_f64();
    let closing = Instant::now();
    db.close()?;
    let close_seconds = closing.elapsed().as_secs_f64();
    let db = Options::new().open_read_only(path)?;
    let stats = db.stats();
    Ok(Load {
        seconds,
        keys_per_second: space.keys as f64 / seconds,
        staging_seconds: seconds - committing,
        commit_seconds: committing,
        checkpoint_seconds,
        close_seconds,
        commits: loaded.commits,
        checkpoints: loaded.checkpoints,
        index_keys: stats.keys,
        index_bytes: stats.index_bytes,
        log_bytes: stats.log_position,
        log_disk_bytes: stats.log_disk_bytes,
        arena_disk_bytes: stats.arena_disk_bytes,
        arena_live_bytes: stats.arena_live_bytes,
        image_bytes: system::files_bytes(path, "index.")?,
        superblock_bytes: system::files_bytes(path, "superblock.")?,
        peak_anonymous_bytes,
    })
}
