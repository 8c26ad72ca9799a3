//! A storage whose operations can be interrupted, before or in the middle: by a signal, by a panic.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Result,
    storage::{Lock, Map, Storage, StorageFile},
};

/// What is called with the number of an operation, counted from 0, and with whether a part of it has happened.
pub(super) type Interrupt = dyn Fn(u64, bool) + Send + Sync;

/// Operations are those that change something or sync: creating, removing, changing a length, reserving, giving back, writing, syncing. Only
/// writes have a middle.
pub(super) struct Interrupted {
    inner: Arc<dyn Storage>,
    turns: Arc<Turns>,
}

struct Turns {
    next: AtomicU64,
    interrupt: Box<Interrupt>,
}

impl Turns {
    /// An operation begins; returns its number.
    fn take(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        (self.interrupt)(number, false);
        number
    }
}

impl Interrupted {
    pub(super) fn new(inner: impl Storage + 'static, interrupt: impl Fn(u64, bool) + Send + Sync + 'static) -> Self {
        let turns = Turns { next: AtomicU64::new(0), interrupt: Box::new(interrupt) };
        Self { inner: Arc::new(inner), turns: Arc::new(turns) }
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> u64 {
        self.turns.next.load(Ordering::SeqCst)
    }

    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(InterruptedFile { file, turns: self.turns.clone() })
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Interrupted").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Storage for Interrupted {
    fn path(&self) -> PathBuf {
        self.inner.path()
    }
    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }
    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>> {
        Ok(self.inner.open(name)?.map(|file| self.wrap(file)))
    }
    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>> {
        self.turns.take();
        Ok(self.wrap(self.inner.create(name)?))
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.turns.take();
        self.inner.remove(name)
    }
    fn sync_directory(&self) -> Result<()> {
        self.turns.take();
        self.inner.sync_directory()
    }
    fn lock_exclusive(&self) -> Result<Box<dyn Lock>> {
        self.inner.lock_exclusive()
    }
    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>> {
        self.inner.lock_shared()
    }
    fn entropy(&self, bytes: &mut [u8]) -> Result<()> {
        self.inner.entropy(bytes)
    }
}

struct InterruptedFile {
    file: Arc<dyn StorageFile>,
    turns: Arc<Turns>,
}

impl fmt::Debug for InterruptedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(formatter)
    }
}

impl StorageFile for InterruptedFile {
    fn path(&self) -> PathBuf {
        self.file.path()
    }
    fn length(&self) -> Result<u64> {
        self.file.length()
    }
    fn set_length(&self, length: u64) -> Result<()> {
        self.turns.take();
        self.file.set_length(length)
    }
    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        self.turns.take();
        self.file.reserve(offset, length)
    }
    fn give_back(&self, offset: u64, length: u64) -> Result<()> {
        self.turns.take();
        self.file.give_back(offset, length)
    }
    fn allocated_bytes(&self) -> Result<u64> {
        self.file.allocated_bytes()
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let number = self.turns.take();
        let (front, back) = bytes.split_at(bytes.len() / 2);
        self.file.write_all_at(front, offset)?;
        (self.turns.interrupt)(number, true);
        self.file.write_all_at(back, offset + front.len() as u64)
    }
    fn sync(&self) -> Result<()> {
        self.turns.take();
        self.file.sync()
    }
    fn map(&self, length: u64) -> Result<Map> {
        self.file.map(length)
    }
}
