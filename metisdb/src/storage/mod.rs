//! The storage seam: every byte that reaches or leaves a disk passes through these two traits.
//!
//! One [`Storage`] is one database folder. The real one is [`DiskStorage`]; [`SimulatedDisk`] keeps the
//! files in memory, records what was synced, and produces the states that a power cut can leave.
//! Nothing outside this folder knows the operating system.
//!
//! Files are written with positioned writes only and read through read-only maps or positioned
//! reads; nothing is ever written through a map.

#[cfg(target_os = "linux")]
mod bus_errors;
mod disk;
mod map;
pub(crate) mod preload;
mod simulated;

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(target_os = "linux")]
pub(crate) use self::bus_errors::is_lost;
pub use self::{disk::DiskStorage, map::Map, simulated::SimulatedDisk};
use crate::error::{Error, Result};

/// One database folder: a flat set of named files.
///
/// No call takes a path: names are relative to the folder. All calls block on the device.
pub trait Storage: Debug + Send + Sync {
    /// The folder's path, for messages.
    fn path(&self) -> PathBuf;

    /// Names of all entries of the folder, in no particular order. What the storage keeps there for
    /// its own lock is not among them.
    fn list(&self) -> Result<Vec<String>>;

    /// Opens an existing file; `None` where there is none of that name.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>>;

    /// Creates an empty file; one of the same name is removed first. The directory entry is durable
    /// only after [`Storage::sync_directory`].
    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>>;

    /// Removes a file if it exists; durable only after [`Storage::sync_directory`]. Maps of it stay readable.
    fn remove(&self, name: &str) -> Result<()>;

    /// Makes creations and removals of entries durable.
    fn sync_directory(&self) -> Result<()>;

    /// Takes the lock of the folder for one writer, until the returned value is dropped.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process or handle holds it, or a reader is loading.
    fn lock_exclusive(&self) -> Result<Box<dyn Lock>>;

    /// Takes the lock for a reader that is loading; `None` where a writer holds it.
    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>>;

    /// Fills `bytes` with entropy.
    fn entropy(&self, bytes: &mut [u8]) -> Result<()>;
}

/// Holds a folder's lock until it is dropped.
pub trait Lock: Debug + Send + Sync {}

/// One open file. Writing needs no `&mut`: callers order their writes themselves.
pub trait StorageFile: Debug + Send + Sync {
    /// The file's path, for messages.
    fn path(&self) -> PathBuf;

    /// Length in bytes.
    fn length(&self) -> Result<u64>;

    /// Sets the length; new bytes read as zero and take no space. Durable after [`StorageFile::sync`].
    fn set_length(&self, length: u64) -> Result<()>;

    /// Reserves space on the device for `[offset, offset + length)` inside the file's length,
    /// so that writing there cannot run out of space. Contents and length stay as they are.
    fn reserve(&self, offset: u64, length: u64) -> Result<()>;

    /// Gives back the space that `[offset, offset + length)` takes, as far as the filesystem can: the bytes read as zero, or stay as they
    /// are. The length stays as it is.
    fn give_back(&self, offset: u64, length: u64) -> Result<()>;

    /// Bytes that the file takes on the device.
    fn allocated_bytes(&self) -> Result<u64>;

    /// Fills `bytes` from `offset`; reading past the end is an error.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()>;

    /// Writes all of `bytes` at `offset`. On an error any part of them may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Makes all writes and the length durable. After an error nothing may be assumed of
    /// what was written since the last successful sync.
    fn sync(&self) -> Result<()>;

    /// Maps the first `length` bytes read-only. The file must be at least that long, and stay so.
    fn map(&self, length: u64) -> Result<Map>;
}

/// Only on Linux are lost pages told from others: elsewhere a bus error ends the process.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_lost(_: &[u8]) -> bool {
    false
}

/// The error for a read through a map that met a lost page.
#[cold]
pub(crate) fn unreadable(path: &Path, offset: u64) -> Error {
    let reason = "a page behind the memory map could not be read; it is tried again when the database is opened again";
    refused("read", path, offset, io::Error::other(reason))
}

/// The error for a refused operation on `path`.
fn refused(operation: &'static str, path: &Path, offset: u64, source: io::Error) -> Error {
    Error::Io { operation, path: path.to_owned(), offset, source: Arc::new(source) }
}
