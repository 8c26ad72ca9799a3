//! Loading: all slots in random order through the public interface.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use metisdb::{Account, Changes, Db, Durability, Options};
use serde::Serialize;

use crate::{Error, KeySpace, Progress, Result};

/// Most changes in a commit.
pub const COMMIT_CHANGES: u64 = 50_000;

/// What loading took.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// From an empty folder to the last durable commit.
    pub seconds: f64,
    /// Slots.
    pub keys_per_second: f64,
    /// Of the seconds, those spent making keys, values and `Changes`.
    pub staging_seconds: f64,
    /// Of the seconds, those spent in `Db::commit`.
    pub commit_seconds: f64,
    /// A thorough checkpoint, which packs the trie.
    pub checkpoint_seconds: f64,
    /// `Db::close` behind it.
    pub close_seconds: f64,
    /// Each with its root.
    pub commits: u64,
    /// Those that were taken meanwhile.
    pub checkpoints: u64,
    /// Entries of the index: slots and accounts.
    pub index_keys: u64,
    /// What they take in memory.
    pub index_bytes: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// What the log's files take on disk.
    pub log_disk_bytes: u64,
    /// What the files of the trie's arena take on disk.
    pub arena_disk_bytes: u64,
    /// Of that, nodes in use.
    pub arena_live_bytes: u64,
    /// The image of the index.
    pub image_bytes: u64,
    /// Both superblocks.
    pub superblock_bytes: u64,
    /// Most anonymous memory that was seen after a commit.
    pub peak_anonymous_bytes: u64,
}

impl Load {
    /// All files, on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.log_disk_bytes + self.arena_disk_bytes + self.image_bytes + self.superblock_bytes
    }

    /// Memory that is neither the index nor a map of a file; the changes being staged are in it.
    pub fn heap_bytes(&self) -> u64 {
        self.peak_anonymous_bytes.saturating_sub(self.index_bytes)
    }
}

/// Commits changes as they come, in commits of bounded size.
struct Loader<'a> {
    db: &'a Db,
    changes: Changes,
    done: u64,
    committing: Duration,
    peak_anonymous_bytes: u64,
    progress: &'a mut dyn Progress,
}

impl<'a> Loader<'a> {
    fn new(db: &'a Db, progress: &'a mut dyn Progress) -> Self {
        Self { db, changes: Changes::new(), done: 0, committing: Duration::ZERO, peak_anonymous_bytes: 0, progress }
    }

    fn load(&mut self, space: &KeySpace) -> Result<()> {
        for number in 0..space.accounts {
            self.changes.set_account(space.address(number), Account { nonce: 1, ..Account::default() });
            self.commit_if_full()?;
        }
        for turn in 0..space.keys {
            let number = space.in_random_order(turn);
            let (address, slot) = space.key(number);
            self.changes.set_storage(address, slot, space.value(number, 0));
            self.commit_if_full()?;
        }
        if self.changes.is_empty() { Ok(()) } else { self.commit() }
    }

    fn commit_if_full(&mut self) -> Result<()> {
        if self.changes.len() as u64 >= COMMIT_CHANGES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        let started = Instant::now();
        self.db.commit(&self.changes, Durability::Durable)?;
        self.committing += started.elapsed();
        let anonymous = process_bytes("RssAnon").map_err(Error::system("read /proc/self/status"))?;
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(anonymous);
        self.done += self.changes.len() as u64;
        self.changes = Changes::new();
        self.progress.advance(self.done)
    }
}

/// Creates a database with all keys, closes it, and opens it once more to see what it takes.
///
/// # Errors
/// As [`Error`](crate::Error) says.
pub fn load(path: &Path, space: &KeySpace, progress: &mut dyn Progress) -> Result<Load> {
    progress.begin("loads", space.accounts + space.keys);
    let started = Instant::now();
    let db = Options::new().create(path)?;
    let mut loader = Loader::new(&db, progress);
    loader.load(space)?;
    let seconds = started.elapsed().as_secs_f64();
    let (committing, peak_anonymous_bytes) = (loader.committing.as_secs_f64(), loader.peak_anonymous_bytes);
    let loaded = db.stats();
    let packing = Instant::now();
    db.checkpoint()?;
    let checkpoint_seconds = packing.elapsed().as_secs_f64();
    let closing = Instant::now();
    db.close()?;
    let close_seconds = closing.elapsed().as_secs_f64();
    let stats = Options::new().open_read_only(path)?.stats();
    let files = |prefix| files_bytes(path, prefix).map_err(Error::system("look at the files of the database"));
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
        image_bytes: files("index.")?,
        superblock_bytes: files("superblock.")?,
        peak_anonymous_bytes,
    })
}

/// What the system says of this process's memory, in bytes: `RssAnon` is the heap, stacks and the index without maps of files, `VmHWM` the most
/// that was ever in memory, maps of files included.
///
/// # Errors
/// Where the system does not say it.
pub fn process_bytes(field: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value =
        |line: &str| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    let kib = status.lines().find_map(value).ok_or_else(|| io::Error::other(format!("it has no {field}")))?;
    Ok(kib << 10)
}

/// Length of all files in a folder whose names begin with `prefix`.
fn files_bytes(folder: &Path, prefix: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
