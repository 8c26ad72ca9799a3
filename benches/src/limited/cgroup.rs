//! A control group that bounds the memory of one process, the page cache that it fills included.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::Result;

/// Where Linux shows groups; the first version of them has a folder for each thing that is bounded.
const GROUPS: &str = "/sys/fs/cgroup";

/// The group; gone once it is dropped and no process is in it.
#[derive(Debug)]
pub(super) struct MemoryGroup {
    folder: PathBuf,
    /// Where it shows the most that was in use.
    peak: &'static str,
}

impl MemoryGroup {
    /// Makes a group of so many bytes.
    ///
    /// # Errors
    /// Where the system has no such groups, or they are not this user's to make.
    pub(super) fn new(bytes: u64) -> Result<Self> {
        let first_version = Path::new(GROUPS).join("memory");
        let (parent, limit, peak) = if first_version.is_dir() {
            (first_version, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else {
            let all = PathBuf::from(GROUPS);
            fs::write(all.join("cgroup.subtree_control"), "+memory").map_err(|error| refused(&all, &error))?;
            (all, "memory.max", "memory.peak")
        };
        let folder = parent.join(format!("metisdb-bench-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| refused(&folder, &error))?;
        let group = Self { folder, peak };
        fs::write(group.folder.join(limit), bytes.to_string()).map_err(|error| refused(&group.folder, &error))?;
        Ok(group)
    }

    /// Where the id of a process is written to put it into the group.
    pub(super) fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// The most bytes that were in use, page cache included.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.folder.join(self.peak))?.trim().parse()?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Of use to nobody, but harmless.
        let _left_behind = fs::remove_dir(&self.folder);
    }
}

fn refused(place: &Path, error: &io::Error) -> String {
    format!(
        "skipped: memory cannot be bounded here: {}: {error}; it takes Linux with control groups, and root",
        place.display()
    )
}
