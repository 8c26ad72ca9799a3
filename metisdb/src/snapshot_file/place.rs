//! Files and folders: claimed for one call, named beside another, entered durably.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::error::{Error, Result};

/// Opens a file for this call alone, and makes it if it is missing.
pub(super) fn claim(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(io_error("create", path, 0))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Locked { path: path.to_owned(), holder: "another export or import".to_owned() })
        }
        Err(TryLockError::Error(error)) => Err(io_error("lock", path, 0)(error)),
    }
}

/// The path beside `path` whose name ends in `suffix`.
pub(super) fn sibling(path: &Path, suffix: &str) -> Result<PathBuf> {
    let unnamed = || io_error("name a file", path, 0)(io::ErrorKind::InvalidInput.into());
    let mut name = path.file_name().ok_or_else(unnamed)?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

/// Makes the entry of a file or folder durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|open| open.sync_all()).map_err(io_error("sync folder", folder, 0))
}

/// The system refused an operation.
pub(super) fn io_error(operation: &'static str, path: &Path, offset: u64) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, offset, source: Arc::new(source) }
}
