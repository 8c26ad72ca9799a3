//! The one error type of the crate, in three families: input/output, corruption, usage.

use std::{io, path::PathBuf, sync::Arc};

use alloy_primitives::{Address, B256};
use metisdb_proof::WitnessError;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// A failed call leaves the database as it was, unless the error is [`Error::Poisoned`]: then the
/// handle accepts no more writes, and reopening the database recovers every acknowledged commit.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation. Nothing was changed; a full disk
    /// ([`Error::is_out_of_space`]) may be retried once there is space.
    #[error("{operation} at byte {offset} of {}: {source}; mend what the system names and repeat the call", path.display())]
    Io {
        /// What was attempted, for example `write` or `sync`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Byte offset in the file; 0 where an offset has no meaning.
        offset: u64,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written. The database is left untouched; restore the file
    /// from a copy, or, where they are derived from the log, open it with [`Options::rebuild`](crate::Options::rebuild).
    #[error("{what} is corrupt in {} at byte {offset}: expected {expected}, got {got}; {}", path.display(), remedy(what))]
    Corruption {
        /// What was being read, for example `frame` or `superblock`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What a sound database would hold there.
        expected: String,
        /// What was found.
        got: String,
    },
    /// An earlier failure left it unknown what the disk holds. Reads go on; every write is refused
    /// until the database is closed and opened again.
    #[error(
        "the handle accepts no more writes since an earlier failure ({cause}); close the database and open it again"
    )]
    Poisoned {
        /// The failure that poisoned the handle.
        cause: Arc<Error>,
    },
    /// There is no MetisDB database at the path.
    #[error("{} holds no MetisDB database; create one there, or check the path", path.display())]
    NotADatabase {
        /// The folder that was to be opened.
        path: PathBuf,
    },
    /// A database cannot be created where one exists already.
    #[error("{} holds a database already; open it instead", path.display())]
    AlreadyExists {
        /// The folder.
        path: PathBuf,
    },
    /// The database was written in a format that this version of the crate does not read.
    #[error("{} has format version {found}, this build reads {supported}; use the MetisDB release that wrote it, or a newer one", path.display())]
    FormatVersion {
        /// The file that says so.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },
    /// Another handle has the database open for writing, or readers were loading it for as long as was waited for them.
    #[error("{} is in use by {holder}; close it there first, or open read-only", path.display())]
    Locked {
        /// The database folder.
        path: PathBuf,
        /// Who holds the lock, as far as the lock file says.
        holder: String,
    },
    /// The folder holds a file that is not part of this database.
    #[error("{} is not part of this database; move it out of the folder", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
    /// Something is where a snapshot file or a database of one is to be.
    #[error("{} is there already; name another place, or move it away", path.display())]
    FileExists {
        /// What is there.
        path: PathBuf,
    },
    /// An export or an import is to go on where one of another state was begun.
    #[error("{} belongs to {found}, not to {wanted}; move it away to begin anew", path.display())]
    OtherSnapshot {
        /// The partial file, or the folder of the import.
        path: PathBuf,
        /// What was begun there.
        found: String,
        /// What was to go on.
        wanted: String,
    },
    /// The database does not have the code of an account, so that its state cannot be exported.
    #[error("the code {code_hash} of {address} is not stored; commit it with `Changes::set_code`, then export again")]
    CodeMissing {
        /// An account that has the code.
        address: Address,
        /// The code's hash.
        code_hash: B256,
    },
    /// An export, an import or a verification was asked to stop. What is done stays done.
    #[error("stopped; the same call goes on where it was")]
    Stopped,
    /// The folder lies on a network or user-space filesystem, whose syncs and maps cannot be trusted.
    #[error("{} is on a {filesystem} filesystem, where syncs and maps cannot be trusted; use a local one, or allow it in the options", path.display())]
    NetworkFilesystem {
        /// The folder.
        path: PathBuf,
        /// The kind of filesystem.
        filesystem: &'static str,
    },
    /// The version is older than the retained ones, or newer than the newest.
    #[error(
        "version {requested} is not readable: retained are {oldest} to {newest}; raise `retain_versions` to keep more"
    )]
    VersionNotRetained {
        /// The version asked for.
        requested: u64,
        /// The oldest readable version.
        oldest: u64,
        /// The newest version.
        newest: u64,
    },
    /// The snapshot held back more than it may ([`Options::max_held_back_bytes`](crate::Options::max_held_back_bytes)), and what it reads is gone.
    #[error(
        "the snapshot of version {version} has expired, as open snapshots held back too much; take a new one, and drop it sooner"
    )]
    SnapshotExpired {
        /// The snapshot's version.
        version: u64,
    },
    /// A writer has taken checkpoints since this read-only handle was opened, and written over the trie that it was opened with: roots
    /// of storage, iteration, proofs and exports need it. Values are read on.
    #[error(
        "a writer of {} has written over the trie that this read-only handle was opened with; open it again",
        path.display()
    )]
    TrieReplaced {
        /// The database.
        path: PathBuf,
    },
    /// The snapshot is not of the handle that it was given to.
    #[error("the snapshot was not taken from this handle of {}; propose with the handle that it is of", path.display())]
    OtherDatabase {
        /// The database of the handle.
        path: PathBuf,
    },
    /// The proposal's parent is not the newest version: another proposal was committed before, or the parent was not.
    #[error(
        "the proposal was made on {}, but the newest version is {newest}; commit its parent first, or propose the changes again on a new snapshot",
        parent.map_or_else(|| "a proposal that is not committed".to_string(), |version| format!("version {version}"))
    )]
    NotChildOfNewest {
        /// The version that the proposal was made on; `None` for a proposal that is not committed.
        parent: Option<u64>,
        /// The newest version.
        newest: u64,
    },
    /// The proposal has the metadata of a block, or is committed, and takes none any more.
    #[error("the proposal takes no block {number}: {reason}; propose the changes again to give them another block")]
    CannotSeal {
        /// The block that it was to take.
        number: u64,
        /// What is in the way.
        reason: String,
    },
    /// A commit's code is longer than [`MAX_CODE_BYTES`](crate::MAX_CODE_BYTES).
    #[error(
        "the code {code_hash} has {bytes} bytes, the limit is {limit}; leave it out of the changes, no chain deploys code of that length"
    )]
    CodeTooLong {
        /// Hash of the code.
        code_hash: B256,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A code blob does not have the hash under which it was given.
    #[error("the code given as {code_hash} has the hash {actual}; give each code under its Keccak-256 hash")]
    CodeHashMismatch {
        /// The hash given.
        code_hash: B256,
        /// The hash of the bytes.
        actual: B256,
    },
    /// A commit sets a slot of an account that does not exist after it.
    #[error("a slot of {address} is set, but the account does not exist; set the account in the same commit")]
    SlotWithoutAccount {
        /// The account.
        address: Address,
    },
    /// A witness does not suffice, or cannot be made: its changes are none that a state can take.
    #[error(transparent)]
    Witness(Box<WitnessError>),
    /// A range of hashes ends before it begins.
    #[error("the range ends at {to}, before it begins at {from}; exchange the two")]
    EmptyRange {
        /// Where it begins.
        from: B256,
        /// Where it ends.
        to: B256,
    },
    /// An option has a value that it cannot have.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// What it must satisfy.
        reason: String,
    },
    /// The handle was opened read-only.
    #[error("the database is open read-only; open it with `Options::open` to write")]
    ReadOnly,
    /// The handle was inherited from a parent process; a child must open the database itself.
    #[error("the handle belongs to the parent process; open the database in this process")]
    ForkedProcess,
    /// A width of the format is exhausted: the log, the versions or the index cannot grow any more.
    #[error("{what} has reached its limit of {limit}; {}", limit_remedy(what))]
    LimitReached {
        /// What is exhausted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl From<WitnessError> for Error {
    fn from(error: WitnessError) -> Self {
        Self::Witness(Box::new(error))
    }
}

/// What to do about a limit.
fn limit_remedy(what: &str) -> &'static str {
    match what {
        "the size of a commit in bytes" => "commit the changes in several parts",
        // The index begins anew with as many lines as are asked for, and grows from there.
        "the number of keys in the index" => {
            "open the database with `Options::rebuild` and larger `Options::expected_keys`"
        }
        _ => "export the state into a new database",
    }
}

/// What to do about damage of this kind.
fn remedy(what: &str) -> &'static str {
    match what {
        // An open makes a trie that it finds damaged anew, of the log.
        "node" | "arena" | "trie" => "open the database again, with `Options::rebuild` if that does not help",
        // An import may have gone on with what one of another file had begun.
        "state of the snapshot file" => "import it again; if that does not help, restore the file from a copy",
        _ => "restore the file from a copy",
    }
}

impl Error {
    /// Whether the disk, a quota or the process's file size limit is exhausted: nothing was
    /// changed, and the call may be repeated once there is space.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }

    /// Whether bytes on disk were found damaged.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. })
    }

    /// Whether bytes on disk were found damaged, or cannot be read: of what can be made anew, or is there twice, it is all the same.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corruption { .. } | Self::Io { operation: "read", .. })
    }
}
