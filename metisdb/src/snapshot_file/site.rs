//! Where a database is made of a snapshot file: beside the place that it takes in the end.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    header::SnapshotHeader,
    place::{claim, io_error, sibling, sync_folder_of},
    read::SnapshotFile,
};
use crate::error::{Error, Result};

/// The header of the file that is imported; locked by who imports it.
const MARKER: &str = "snapshot-header";
const DATABASE: &str = "state";
/// A database that is being removed.
const REFUSED: &str = "refused";

/// A folder in which a database is made of a snapshot file. It stays until the database is whole.
#[derive(Debug)]
pub(super) struct Site {
    target: PathBuf,
    folder: PathBuf,
    /// Holds the lock.
    marker: File,
}

impl Site {
    /// Takes the place of a database that is to be at `target`: anew, or where an import of the same file has stopped.
    pub(super) fn begin(target: &Path, header: &SnapshotHeader) -> Result<Self> {
        let target = std::path::absolute(target).map_err(io_error("find", target, 0))?;
        let folder = sibling(&target, ".importing")?;
        require_free(&target)?;
        require_same_filesystem(&target)?;
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &folder, 0)(error));
            }
            _ => {}
        }
        let path = folder.join(MARKER);
        let marker = claim(&path)?;
        // A database that was being removed would take space until this one is whole.
        let _ = fs::remove_dir_all(folder.join(REFUSED));
        // Whoever had the folder before may have finished meanwhile.
        require_free(&target)?;
        let site = Self { target, folder, marker };
        site.mark(&path, header)?;
        Ok(site)
    }

    /// Notes which file is imported here; refuses another one than the one that was noted.
    fn mark(&self, path: &Path, header: &SnapshotHeader) -> Result<()> {
        if self.database().exists() {
            let noted = File::open(path).map_err(io_error("open", path, 0))?;
            let found = match SnapshotFile::begin(noted, path.to_owned()) {
                Ok(noted) if noted.header == *header => return Ok(()),
                Ok(noted) => noted.header.to_string(),
                Err(error) => error.to_string(),
            };
            return Err(Error::OtherSnapshot { path: self.folder.clone(), found, wanted: header.to_string() });
        }
        let mut file = &self.marker;
        file.set_len(0).map_err(io_error("cut", path, 0))?;
        file.write_all(&header.encode()).map_err(io_error("write", path, 0))?;
        file.sync_all().map_err(io_error("sync", path, 0))?;
        sync_folder_of(path)?;
        sync_folder_of(&self.folder)
    }

    /// Where the database is made.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// Puts the database, which must be closed, where it is to be. After a crash it is there or it is not.
    pub(super) fn publish(self) -> Result<()> {
        let (from, to) = (self.database(), &self.target);
        fs::rename(&from, to).map_err(io_error("move the database to", to, 0))?;
        sync_folder_of(&from)?;
        sync_folder_of(to)?;
        self.tidy();
        Ok(())
    }

    /// Removes the database, which must be closed. After a crash the next import begins anew or finds all of it.
    pub(super) fn clear(self) -> Result<()> {
        let (from, to) = (self.database(), self.folder.join(REFUSED));
        // What an earlier call could not remove whole would be in the way.
        let _ = fs::remove_dir_all(&to);
        fs::rename(&from, &to).map_err(io_error("move the database to", &to, 0))?;
        sync_folder_of(&from)?;
        self.tidy();
        Ok(())
    }

    /// Whether what is left goes away is of no matter to a database in its place, nor to the next import.
    fn tidy(&self) {
        let _ = fs::remove_dir_all(self.folder.join(REFUSED));
        let _ = fs::remove_file(self.folder.join(MARKER));
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A database is moved to its place, which it cannot be where another filesystem is mounted.
fn require_same_filesystem(target: &Path) -> Result<()> {
    let device = |path| fs::metadata(path).map(|found| found.dev());
    let above = target.parent().map(device);
    match (device(target), above) {
        (Ok(own), Some(Ok(above))) if own != above => Err(Error::FileExists { path: target.to_owned() }),
        _ => Ok(()),
    }
}

/// Nothing or an empty folder must be there.
fn require_free(target: &Path) -> Result<()> {
    let is_free = match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(is_empty) => is_empty,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    // A folder cannot take the place of a link.
    if is_free && !target.is_symlink() { Ok(()) } else { Err(Error::FileExists { path: target.to_owned() }) }
}
