//! A storage whose calls fail: once, or all from one on.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use metisdb::{
    Error, Result,
    storage::{Lock, Map, Storage, StorageFile},
};
use parking_lot::Mutex;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails without effect.
    Error(io::ErrorKind),
    /// A write is done in part and fails; any other call fails without effect.
    Short(io::ErrorKind),
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) fault: Fault,
    /// Number of the first call that fails.
    pub(crate) at: u64,
    /// Whether all calls behind it fail, too.
    pub(crate) sticky: bool,
}

#[derive(Debug, Default)]
struct Calls {
    count: u64,
    plan: Option<Plan>,
    /// The first call that failed: what it was, and on which file.
    failed: Option<(&'static str, PathBuf)>,
    /// Classes of the calls, and where in the order each is met.
    classes: BTreeMap<String, Vec<u64>>,
}

/// Passes calls on to another storage, counts them from 0, and fails those that are planned to.
#[derive(Clone, Debug)]
pub(crate) struct Injector {
    inner: Arc<dyn Storage>,
    calls: Arc<Mutex<Calls>>,
}

impl Injector {
    pub(crate) fn new(inner: Arc<dyn Storage>, plan: Option<Plan>) -> Self {
        Self { inner, calls: Arc::new(Mutex::new(Calls { plan, ..Calls::default() })) }
    }

    /// The numbers of all calls, by operation and kind of file.
    pub(crate) fn classes(&self) -> BTreeMap<String, Vec<u64>> {
        self.calls.lock().classes.clone()
    }

    /// The first call that failed.
    pub(crate) fn failed(&self) -> Option<(&'static str, PathBuf)> {
        self.calls.lock().failed.clone()
    }

    /// From now on no call fails any more.
    pub(crate) fn mend(&self) {
        self.calls.lock().plan = None;
    }

    /// Counts a call and says how it fails, if it does.
    fn next(&self, operation: &'static str, path: &Path) -> Option<Fault> {
        let mut calls = self.calls.lock();
        let number = calls.count;
        calls.count += 1;
        calls.classes.entry(class_of(operation, path)).or_default().push(number);
        let plan = calls.plan?;
        if number < plan.at || number > plan.at && !plan.sticky {
            return None;
        }
        calls.failed.get_or_insert_with(|| (operation, path.to_owned()));
        Some(plan.fault)
    }

    fn call<T>(&self, operation: &'static str, path: &Path, call: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.next(operation, path) {
            None => call(),
            Some(fault) => Err(fault.error(operation, path, 0)),
        }
    }

    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(InjectedFile { inner: file, injector: self.clone() })
    }
}

/// An operation and the kind of file that it is on.
pub(crate) fn class_of(operation: &str, path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = match name.split('.').next() {
        Some("index") => "image",
        Some(kind @ ("segment" | "arena" | "superblock")) => kind,
        _ => "folder",
    };
    if operation.ends_with(kind) { operation.to_string() } else { format!("{operation} {kind}") }
}

impl Fault {
    fn error(self, operation: &'static str, path: &Path, offset: u64) -> Error {
        let (Self::Error(kind) | Self::Short(kind)) = self;
        Error::Io { operation, path: path.to_owned(), offset, source: Arc::new(kind.into()) }
    }
}

impl Storage for Injector {
    fn path(&self) -> PathBuf {
        self.inner.path()
    }

    fn list(&self) -> Result<Vec<String>> {
        self.call("list folder", &self.path(), || self.inner.list())
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>> {
        let opened = self.call("open", &self.path().join(name), || self.inner.open(name))?;
        Ok(opened.map(|file| self.wrap(file)))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(self.call("create", &self.path().join(name), || self.inner.create(name))?))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.call("remove", &self.path().join(name), || self.inner.remove(name))
    }

    fn sync_directory(&self) -> Result<()> {
        self.call("sync folder", &self.path(), || self.inner.sync_directory())
    }

    fn lock_exclusive(&self) -> Result<Box<dyn Lock>> {
        self.call("lock", &self.path(), || self.inner.lock_exclusive())
    }

    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>> {
        self.call("lock", &self.path(), || self.inner.lock_shared())
    }

    fn entropy(&self, bytes: &mut [u8]) -> Result<()> {
        self.call("read entropy", &self.path(), || self.inner.entropy(bytes))
    }
}

/// A file of an [`Injector`].
#[derive(Debug)]
struct InjectedFile {
    inner: Arc<dyn StorageFile>,
    injector: Injector,
}

impl InjectedFile {
    fn call<T>(&self, operation: &'static str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.injector.call(operation, &self.inner.path(), call)
    }
}

impl StorageFile for InjectedFile {
    fn path(&self) -> PathBuf {
        self.inner.path()
    }

    fn length(&self) -> Result<u64> {
        self.call("stat", || self.inner.length())
    }

    fn set_length(&self, length: u64) -> Result<()> {
        self.call("set length", || self.inner.set_length(length))
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        self.call("reserve", || self.inner.reserve(offset, length))
    }

    fn give_back(&self, offset: u64, length: u64) -> Result<()> {
        self.call("give back", || self.inner.give_back(offset, length))
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.call("stat", || self.inner.allocated_bytes())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.call("read", || self.inner.read_exact_at(bytes, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let Some(fault) = self.injector.next("write", &self.inner.path()) else {
            return self.inner.write_all_at(bytes, offset);
        };
        if let Fault::Short(_) = fault {
            // So much that the first of two frames is whole.
            self.inner.write_all_at(&bytes[..bytes.len() - (bytes.len() / 2).min(100)], offset)?;
        }
        Err(fault.error("write", &self.inner.path(), offset))
    }

    fn sync(&self) -> Result<()> {
        self.call("sync", || self.inner.sync())
    }

    fn map(&self, length: u64) -> Result<Map> {
        self.call("map", || self.inner.map(length))
    }
}
