//! How a database is created and opened.

use std::{num::NonZero, sync::LazyLock, thread};

use crate::{
    error::{Error, Result},
    index::MAX_LINES_LOG2,
    log::segment::SEGMENT_BYTES,
    trie::commitment::ethereum::Ethereum,
};

/// Options of a database handle. The defaults are safe, and fast without tuning.
///
/// ```
/// # fn main() -> metisdb::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state");
/// let db = metisdb::Options::new().retain_versions(1_000).create(&path)?;
/// db.close()?;
/// let db = metisdb::Options::new().open(&path)?;
/// # db.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) retain_versions: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) expected_keys: u64,
    pub(crate) verify_every_read: bool,
    pub(crate) checkpoint_log_bytes: u64,
    pub(crate) checkpoint_bytes_per_second: u64,
    pub(crate) max_unsynced_bytes: u64,
    pub(crate) max_unwritten_trie_bytes: u64,
    pub(crate) max_deferred_roots: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) max_held_back_bytes: Option<u64>,
    pub(crate) preload_bytes: u64,
    pub(crate) rebuild: bool,
    pub(crate) allow_network_filesystem: bool,
    pub(crate) handle_bus_errors: bool,
    /// Bits of the address hash that make the account id: tests force collisions.
    #[cfg(test)]
    pub(crate) account_id_mask: u64,
    /// Paths are the plain keys: tests make deep tries of few keys.
    #[cfg(test)]
    pub(crate) plain_paths: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retain_versions: 128,
            segment_bytes: 64 << 20,
            expected_keys: 300_000,
            verify_every_read: false,
            checkpoint_log_bytes: 64 << 20,
            checkpoint_bytes_per_second: 256 << 20,
            max_unsynced_bytes: 64 << 20,
            max_unwritten_trie_bytes: 256 << 20,
            max_deferred_roots: 16,
            threads: None,
            max_held_back_bytes: None,
            preload_bytes: 4 << 30,
            rebuild: false,
            allow_network_filesystem: false,
            handle_bus_errors: true,
            #[cfg(test)]
            account_id_mask: u64::MAX,
            #[cfg(test)]
            plain_paths: false,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many versions before the newest stay readable by [`Db::snapshot_at`](crate::Db::snapshot_at); 128 by default. Versions that a snapshot
    /// holds stay readable through it whatever this says, and a read-only handle reads all that the writer kept at its last checkpoint.
    pub fn retain_versions(mut self, versions: u64) -> Self {
        self.retain_versions = versions;
        self
    }

    /// Size of a log file in bytes, a power of two from 64 KiB to 1 GiB; 64 MiB by default. Fixed at creation; the log
    /// can grow to 2^20 times this, and to 64 TiB, as far as the system has descriptors and maps for the files: each takes one of both, as does
    /// each file of the trie's arena, which are of this size, too. Where a limit is met, commits and checkpoints fail until it is raised.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How many keys to expect: sizes the index at the start, which then grows as needed, up to 2^19 times as many.
    /// 300,000 by default.
    pub fn expected_keys(mut self, keys: u64) -> Self {
        self.expected_keys = keys;
        self
    }

    /// Verify a record's checksum on every read, instead of on the first read of it since the database was opened. Catches
    /// memory that goes bad, too. Off by default.
    pub fn verify_every_read(mut self, always: bool) -> Self {
        self.verify_every_read = always;
        self
    }

    /// Take a checkpoint by itself once the log behind the last one has this many bytes and is no shorter than the index;
    /// 64 MiB by default. Bounds the work of opening after a crash. `u64::MAX`: only by [`Db::checkpoint`](crate::Db::checkpoint)
    /// and [`Db::close`](crate::Db::close).
    pub fn checkpoint_log_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_log_bytes = bytes;
        self
    }

    /// How fast a checkpoint writes the trie, in bytes a second, so that commits beside it keep the device; 256 MiB by default.
    pub fn checkpoint_bytes_per_second(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes_per_second = bytes;
        self
    }

    /// Memory that nodes of the trie may take until they are written, in bytes: at half of it that starts by itself, with a checkpoint
    /// if they are worth its image of the index, and at all of it commits wait for it. 256 MiB by default.
    pub fn max_unwritten_trie_bytes(mut self, bytes: u64) -> Self {
        self.max_unwritten_trie_bytes = bytes;
        self
    }

    /// Most bytes that pipelined commits may leave unsynced: a commit that goes beyond syncs first. 64 MiB by default.
    pub fn max_unsynced_bytes(mut self, bytes: u64) -> Self {
        self.max_unsynced_bytes = bytes;
        self
    }

    /// How many roots may be outstanding: [`Db::commit_deferred`](crate::Db::commit_deferred) computes the oldest one first when
    /// there are so many. 16 by default.
    pub fn max_deferred_roots(mut self, count: usize) -> Self {
        self.max_deferred_roots = count;
        self
    }

    /// How many threads may look changes up, compute one root, or replay the log (at most two) at once; those of the machine by default, but at
    /// most 8. They are started for a few hundred keys or more, and end with what they do; with more than one, another one frees the nodes that
    /// a large commit has replaced, beside what follows.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Most bytes of superseded records that open snapshots may hold back beyond the retained versions: a commit that leaves more
    /// ends the oldest snapshots, whose reads then fail with [`Error::SnapshotExpired`]; what a read is just looking at stays until it is done.
    /// Without a limit by default. With one, each read is counted: give each thread a snapshot of its own.
    pub fn max_held_back_bytes(mut self, bytes: u64) -> Self {
        self.max_held_back_bytes = Some(bytes);
        self
    }

    /// How many bytes of the files that were written last are read into memory behind [`Options::open`], so that a database is fast soon after the
    /// machine was started; 4 GiB by default, 0: none. It blocks nothing, and memory that is needed otherwise takes it back.
    pub fn preload_bytes(mut self, bytes: u64) -> Self {
        self.preload_bytes = bytes;
        self
    }

    /// Open without the image of the index and without the trie's arena, as if they were lost: both are made anew from the log, and the
    /// root is compared with the one in it. For a database whose derived files are suspect.
    pub fn rebuild(mut self, rebuild: bool) -> Self {
        self.rebuild = rebuild;
        self
    }

    /// Accept network and user-space filesystems for writing. Their syncs and maps cannot be trusted to keep what this crate promises.
    pub fn allow_network_filesystem(mut self, allow: bool) -> Self {
        self.allow_network_filesystem = allow;
        self
    }

    /// Whether a page of a file that the device cannot deliver, or that was cut off, is an [`Error::Io`] of the read that needs it, instead of
    /// the end of the process. On by default, on Linux.
    ///
    /// For that, the first database opened installs a handler for the signal SIGBUS. It goes on to the handler that was installed before with
    /// everything that does not concern this crate's maps; a handler that is installed later has to do the same.
    pub fn handle_bus_errors(mut self, handle: bool) -> Self {
        self.handle_bus_errors = handle;
        self
    }

    /// Log2 of the number of lines that the index begins with.
    pub(crate) fn initial_lines_log2(&self) -> u32 {
        const KEYS_A_LINE: u64 = 5;
        (self.expected_keys / KEYS_A_LINE).next_power_of_two().trailing_zeros().clamp(2, MAX_LINES_LOG2)
    }

    /// Threads that one step may use.
    pub(crate) fn most_threads(&self) -> usize {
        const MOST: usize = 8;
        // The system is asked once: its answer takes longer than to open a small database.
        static AVAILABLE: LazyLock<usize> =
            LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get).min(MOST));
        self.threads.unwrap_or_else(|| *AVAILABLE)
    }

    /// The scheme of commitment.
    pub(crate) fn scheme(&self) -> Ethereum {
        Ethereum {
            #[cfg(test)]
            plain_paths: self.plain_paths,
        }
    }

    /// # Errors
    /// [`Error::InvalidOption`].
    pub(crate) fn check(&self) -> Result<()> {
        if !self.segment_bytes.is_power_of_two() || !SEGMENT_BYTES.contains(&self.segment_bytes) {
            let reason = format!("{} bytes is not a power of two from 64 KiB to 1 GiB", self.segment_bytes);
            return Err(Error::InvalidOption { option: "segment_bytes", reason });
        }
        Ok(())
    }
}
