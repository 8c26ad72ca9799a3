//! Making a database beside its place: it takes the place when it is whole, so that nobody ever finds half of one.
//!
//! ```text
//! state.incomplete/           for a database that is to be `state`
//!     metisdb-construction    locked by the process that works here; without the lock, what is here was left by one that was killed
//!     state/                  the database
//! ```

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

const MARKER: &str = "metisdb-construction";
const DATABASE: &str = "state";

/// A place where a database is made. Unless it is published, it goes away without a trace.
#[derive(Debug)]
pub(crate) struct Construction {
    target: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Construction {
    /// Begins a database that is to be at `target`, where nothing or an empty folder may be.
    pub(crate) fn begin(target: &Path) -> Result<Self, Failure> {
        let target = resolve(target)?;
        let name = target.file_name().ok_or_else(|| {
            Failure::Refused(format!("{} cannot be a new database; name a folder in it", target.display()))
        })?;
        let folder = target.with_file_name([name, ".incomplete".as_ref()].into_iter().collect::<OsString>());
        let parent = parent(&target);
        if !parent.is_dir() {
            let reason = format!("{} is no folder; make it first, or check the path", parent.display());
            return Err(Failure::Refused(reason));
        }
        require_free(&target)?;
        require_same_filesystem(&target, parent)?;
        let construction = Self { _lock: claim(&folder)?, target, folder };
        construction.remove_database()?;
        Ok(construction)
    }

    /// Where the database is to be made meanwhile.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// Puts the database, which must be closed, where it is to be. After a crash it is there or it is not.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        let (from, to) = (self.path(), &self.target);
        fs::rename(&from, to).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => taken(to),
            _ => Failure::system("move the new database to", to)(error),
        })?;
        for folder in [&*self.folder, parent(to)] {
            File::open(folder).and_then(|open| open.sync_all()).map_err(Failure::system("sync", folder))?;
        }
        Ok(())
    }

    fn remove_database(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::system("remove", &self.path())(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Construction {
    fn drop(&mut self) {
        // The marker goes last, so that what cannot be removed is still known as left over.
        match self.remove_database() {
            Ok(()) => {
                let _ = fs::remove_file(self.folder.join(MARKER));
                let _ = fs::remove_dir(&self.folder);
            }
            Err(failure) => eprintln!("warning: {failure}; the next import does it"),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The absolute path; of a symbolic link, that to which it leads.
fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::path::absolute(path).map_err(Failure::system("find", path))
        }
        Err(error) => Err(Failure::system("find", path)(error)),
    }
}

fn taken(target: &Path) -> Failure {
    let target = target.display();
    Failure::Refused(format!("{target} is taken: it is not an empty folder; choose another place, or move it away"))
}

/// Nothing or an empty folder must be there.
fn require_free(target: &Path) -> Result<(), Failure> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(taken(target)),
        Err(error) => match error.kind() {
            // A link may lead nowhere.
            io::ErrorKind::NotFound if !target.is_symlink() => Ok(()),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Err(taken(target)),
            _ => Err(Failure::system("read", target)(error)),
        },
    }
}

/// A database is moved to its place, which it cannot be where another filesystem begins.
fn require_same_filesystem(target: &Path, parent: &Path) -> Result<(), Failure> {
    let device = |path| fs::metadata(path).map(|found| found.dev());
    match (device(target), device(parent)) {
        (Ok(own), Ok(above)) if own != above => {
            let target = target.display();
            Err(Failure::Refused(format!(
                "a filesystem is mounted at {target}; name a folder in it, such as {target}/{DATABASE}"
            )))
        }
        _ => Ok(()),
    }
}

/// Makes the folder, or takes it over from a process that was killed.
fn claim(folder: &Path) -> Result<File, Failure> {
    let marker = folder.join(MARKER);
    let busy = || Failure::Busy(format!("another process makes a database in {}; wait for it", folder.display()));
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Failure::system("create", folder)(error));
        }
        Err(_) if !is_left_over(folder)? => {
            let reason = format!("{} is in the way and not left by an import; move it away", folder.display());
            return Err(Failure::Refused(reason));
        }
        _ => {}
    }
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&marker)
        .map_err(Failure::system("create", &marker))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(Failure::system("lock", &marker)(error)),
    }
    // Whoever had the lock may have removed the file before letting go of it.
    let locked = lock.metadata().map_err(Failure::system("look at", &marker))?;
    let is_in_place =
        fs::metadata(&marker).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino()));
    if is_in_place { Ok(lock) } else { Err(busy()) }
}

/// Whether a construction that was killed could have left this: everything of it, from the folder alone on.
fn is_left_over(folder: &Path) -> Result<bool, Failure> {
    let failed = || Failure::system("read", folder);
    if !fs::symlink_metadata(folder).map_err(failed())?.is_dir() {
        return Ok(false);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        names.push(entry.map_err(failed())?.file_name());
    }
    Ok(names.is_empty()
        || (names.iter().any(|name| name == MARKER) && names.iter().all(|name| name == MARKER || name == DATABASE)))
}
