//! Reading files ahead when a database is opened.
//!
//! Records and nodes are read in no order, so maps tell the system to read no more than the page that is needed (see [`super::map`]). Left to that,
//! a database that memory has room for would come in page by page after the machine was started; so what was written last is read in long runs,
//! once, behind the open.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

/// Less than this comes in soon enough by itself.
const WORTHWHILE_BYTES: u64 = 16 << 20;

/// Bytes read at once.
const RUN_BYTES: usize = 1 << 20;

/// Has the system read the files of a folder into memory, on a thread of its own, those that were written last first, as long as they
/// have at most so many bytes together. Only a help: what cannot be read shows when it is needed.
pub(crate) fn start(folder: &Path, bytes: u64) {
    let Ok(files) = chosen(folder, bytes) else { return };
    if files.is_empty() {
        return;
    }
    let preload = move || {
        let mut run = vec![0; RUN_BYTES];
        for path in files {
            let Ok(mut file) = File::open(path) else { continue };
            while file.read(&mut run).is_ok_and(|length| length > 0) {}
        }
    };
    let _not_started = thread::Builder::new().name("metisdb-preload".into()).spawn(preload);
}

/// The files to read, in order.
fn chosen(folder: &Path, bytes: u64) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.path(), entry.metadata().ok().filter(Metadata::is_file)?))
    });
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .map(|(path, metadata)| (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path))
        .collect();
    if files.iter().map(|(_, length, _)| length).sum::<u64>() < WORTHWHILE_BYTES {
        return Ok(Vec::new());
    }
    files.sort_unstable_by(|left, right| right.cmp(left));
    let mut rest = bytes;
    let fits = |(_, length, _): &(SystemTime, u64, PathBuf)| match rest.checked_sub(*length) {
        Some(less) => {
            rest = less;
            true
        }
        None => false,
    };
    Ok(files.into_iter().take_while(fits).map(|(_, _, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Files of so many mebibytes, the first one the oldest.
    fn folder_with(mebibytes: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (index, size) in mebibytes.iter().enumerate() {
            let file = File::create(folder.path().join(format!("file.{index}"))).unwrap();
            file.set_len(size << 20).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(index as u64)).unwrap();
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, mebibytes: u64) -> Vec<String> {
        let files = chosen(folder.path(), mebibytes << 20).unwrap();
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_newest_files_are_read_that_fit() {
        let folder = folder_with(&[3, 20, 5, 1]);
        fs::create_dir(folder.path().join("a folder")).unwrap();
        assert_eq!(names(&folder, 100), ["file.3", "file.2", "file.1", "file.0"]);
        assert_eq!(names(&folder, 26), ["file.3", "file.2", "file.1"]);
        assert_eq!(names(&folder, 25), ["file.3", "file.2"]);
        assert!(names(&folder, 0).is_empty());
        assert!(names(&folder_with(&[8, 7]), 100).is_empty(), "so little comes in by itself");
        assert!(chosen(&folder.path().join("missing"), 1).is_err());
    }
}
