//! The real disk: one folder of a local filesystem.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use memmap2::MmapOptions;

use super::{
    Lock, Storage, StorageFile,
    map::{FileRegion, Map, checked_length},
    refused,
};
use crate::error::{Error, Result};

/// The file that carries the folder's lock. Its content only names the holder, for messages.
const LOCK_FILE: &str = "LOCK";

/// How long a writer waits for readers that are loading the database, which takes seconds for a hundred million keys with an image.
const READERS_TIME: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(30) };

/// The unit of `st_blocks`, whatever the filesystem's own block size is.
const STAT_BLOCK_BYTES: u64 = 512;

/// A database folder on a disk.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
    folder: File,
    handle_bus_errors: bool,
}

impl DiskStorage {
    /// Opens an existing folder. With `allow_network_filesystem` it may lie anywhere; that is safe
    /// for a handle that only reads.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] where there is no such folder, [`Error::NetworkFilesystem`] where its
    /// filesystem cannot be trusted with syncs and maps.
    pub fn open(path: &Path, allow_network_filesystem: bool) -> Result<Self> {
        let path = absolute(path)?;
        let folder = match open_folder(&path) {
            Ok(folder) => folder,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::NotADatabase { path });
            }
            Err(error) => return Err(refused("open folder", &path, 0, error)),
        };
        if !allow_network_filesystem
            && let Some(filesystem) = network_filesystem(&folder).map_err(|error| refused("statfs", &path, 0, error))?
        {
            return Err(Error::NetworkFilesystem { path, filesystem });
        }
        Ok(Self { path, folder, handle_bus_errors: true })
    }

    /// Opens a folder, which is made where it is missing, together with the folders above it, and
    /// entered durably into its parent.
    ///
    /// # Errors
    /// As [`DiskStorage::open`]; a folder made before an error stays.
    pub fn create(path: &Path, allow_network_filesystem: bool) -> Result<Self> {
        make_folder(&absolute(path)?)?;
        Self::open(path, allow_network_filesystem)
    }

    /// Whether a page that cannot be read through a map is an error of that read; else it ends the process. See
    /// [`Options::handle_bus_errors`](crate::Options::handle_bus_errors).
    pub fn handle_bus_errors(mut self, handle: bool) -> Self {
        self.handle_bus_errors = handle;
        self
    }

    fn file(&self, file: File, path: PathBuf) -> Arc<dyn StorageFile> {
        Arc::new(DiskFile { file, path, handle_bus_errors: self.handle_bus_errors })
    }

    fn file_path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.is_empty() && !name.contains('/') && name != LOCK_FILE, "file name {name:?}");
        self.path.join(name)
    }

    /// Whether readers have the lock: only they leave room for one more.
    fn is_read(lock: &File) -> bool {
        lock.try_lock_shared().is_ok_and(|()| lock.unlock().is_ok())
    }

    /// Who keeps `lock` from being taken exclusively.
    fn holder(lock: &File) -> String {
        if Self::is_read(lock) {
            return "a reader that is loading it".to_owned();
        }
        let mut text = [0; 32];
        let filled = lock.read_at(&mut text, 0).unwrap_or(0);
        let process = std::str::from_utf8(&text[..filled])
            .ok()
            .and_then(|text| text.lines().next()?.strip_prefix("pid ")?.parse::<u32>().ok());
        match process {
            Some(id) if id == process::id() => "another handle of this process".to_owned(),
            Some(id) => format!("process {id}"),
            None => "another process".to_owned(),
        }
    }
}

impl Storage for DiskStorage {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = |error| refused("list folder", &self.path, 0, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name != LOCK_FILE {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>> {
        let path = self.file_path(name);
        let opened = match OpenOptions::new().read(true).write(true).open(&path) {
            // A file that may only be read serves a read-only handle; a write to it fails then.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                File::open(&path)
            }
            opened => opened,
        };
        match opened {
            Ok(file) => Ok(Some(self.file(file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused("open", &path, 0, error)),
        }
    }

    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>> {
        let path = self.file_path(name);
        // Truncating an existing file would pull the pages from under its maps.
        self.remove(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| refused("create", &path, 0, error))?;
        Ok(self.file(file, path))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.file_path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused("remove", &path, 0, error)),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self) -> Result<()> {
        self.folder.sync_all().map_err(|error| refused("sync folder", &self.path, 0, error))
    }

    fn lock_exclusive(&self) -> Result<Box<dyn Lock>> {
        let path = self.path.join(LOCK_FILE);
        let failed = |error| refused("lock", &path, 0, error);
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Self::is_read(&lock) && begun.elapsed() < READERS_TIME => {
                    thread::sleep(READERS_TIME / 1_000);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: self.path.clone(), holder: Self::holder(&lock) });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let name = format!("pid {}\n", process::id());
        // The name only serves messages: a full disk must not keep the database closed.
        drop(lock.set_len(0).and_then(|()| lock.write_all_at(name.as_bytes(), 0)));
        Ok(Box::new(DiskLock::of(Some(lock))))
    }

    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>> {
        let path = self.path.join(LOCK_FILE);
        let failed = |error| refused("lock", &path, 0, error);
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            // No writer has been here, and on read-only media none can come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Box::new(DiskLock::of(None))));
            }
            Err(error) => return Err(failed(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(DiskLock::of(Some(lock))))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn entropy(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|error| refused("read entropy", &self.path, 0, error.into()))
    }
}

/// A lock that is released by the process that took it, and by no forked child, whose copy of the open file is the same one; nor does a child
/// that lives on keep it.
#[derive(Debug)]
struct DiskLock {
    file: Option<File>,
    process: u32,
}

impl DiskLock {
    fn of(file: Option<File>) -> Self {
        Self { file, process: process::id() }
    }
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && self.process == process::id()
        {
            // If it fails, the lock goes when the last copy of the file is closed.
            let _ = file.unlock();
        }
    }
}

/// One open file of a [`DiskStorage`].
#[derive(Debug)]
struct DiskFile {
    file: File,
    path: PathBuf,
    handle_bus_errors: bool,
}

impl DiskFile {
    fn failed(&self, operation: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Error {
        move |error| refused(operation, &self.path, offset, error)
    }
}

impl StorageFile for DiskFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.failed("stat", 0))?.len())
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(self.failed("set length", length))
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        reserve(&self.file, offset, length).map_err(self.failed("reserve", offset))
    }

    fn give_back(&self, offset: u64, length: u64) -> Result<()> {
        give_back(&self.file, offset, length).map_err(self.failed("give back", offset))
    }

    fn allocated_bytes(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.failed("stat", 0))?.blocks() * STAT_BLOCK_BYTES)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        // Goes on after short reads and interrupts, as `write_all_at` does.
        self.file.read_exact_at(bytes, offset).map_err(self.failed("read", offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write", offset))
    }

    fn sync(&self) -> Result<()> {
        // Of the metadata, a data sync writes what is needed to read the data back: the length and
        // the extents.
        self.file.sync_data().map_err(self.failed("sync", 0))
    }

    fn map(&self, length: u64) -> Result<Map> {
        let length = checked_length(length, self.length()?).map_err(self.failed("map", 0))?;
        // SAFETY: nothing makes a reference to the whole map; `Map::bytes` leaves to its callers
        // which bytes have become immutable, and the file is not cut while it is mapped.
        let region = unsafe { MmapOptions::new().len(length).map(&self.file) };
        let map = region.map_err(self.failed("map", 0))?;
        let region = Arc::new(FileRegion::new(map, self.handle_bus_errors));
        // SAFETY: the memory map has that address and length until it is dropped.
        Ok(unsafe { Map::new(region.as_ptr(), length, region) })
    }
}

/// The path as seen from the root, so that a later change of the working directory does no harm.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| refused("open folder", path, 0, error))
}

fn open_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    if folder.metadata()?.is_dir() { Ok(folder) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Makes the folder at an absolute path unless it exists, and syncs its parent.
fn make_folder(path: &Path) -> Result<()> {
    let mut made = fs::create_dir(path);
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        make_folder(parent)?;
        made = fs::create_dir(path);
    }
    let existed = match made {
        Ok(()) => false,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
        Err(error) => return Err(refused("create folder", path, 0, error)),
    };
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // A folder that exists may still wait for this sync, after a creation that was cut short.
        // But it may also have been given to us below one that we cannot open.
        Err(error) if !(existed && error.kind() == io::ErrorKind::PermissionDenied) => {
            Err(refused("sync folder", parent, 0, error))
        }
        _ => Ok(()),
    }
}

/// The name of the folder's filesystem if it lies on another machine or in another process.
#[cfg(target_os = "linux")]
fn network_filesystem(folder: &File) -> io::Result<Option<&'static str>> {
    // The field's width differs between architectures; the numbers have 32 bits.
    Ok(network_filesystem_name(rustix::fs::fstatfs(folder)?.f_type as u32))
}

/// Other systems than Linux have no such numbers.
#[cfg(not(target_os = "linux"))]
fn network_filesystem(_: &File) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The name of the filesystem with this number in `statfs`, if it is a network or user-space one.
#[cfg(target_os = "linux")]
fn network_filesystem_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B => "SMB",
        0xFF53_4D42 => "CIFS",
        0xFE53_4D42 => "SMB2",
        0x0102_1997 => "9p",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x0BD0_0BD0 => "Lustre",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

/// Reserves space. A filesystem that cannot do so counts as success: there, a write can run out of
/// space, which callers survive at the price of a poisoned handle. Writing zeros instead could hit
/// bytes that are in use.
#[cfg(target_os = "linux")]
fn reserve(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::{Errno, retry_on_intr},
    };
    if length == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, length)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        answer => Ok(answer?),
    }
}

#[cfg(target_os = "linux")]
fn give_back(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::{Errno, retry_on_intr},
    };
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(file, hole, offset, length)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        answer => Ok(answer?),
    }
}

/// Only Linux makes holes this way; elsewhere the space stays taken.
#[cfg(not(target_os = "linux"))]
fn give_back(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

/// Only Linux reserves without touching contents and length; elsewhere a write can run out of space.
#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}
