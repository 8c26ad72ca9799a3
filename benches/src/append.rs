//! What an append and its sync take by themselves: the least that a durable commit of as many bytes can take.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Instant,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::KeySpace;

/// A file whose space is allocated, as that of the log is, and nothing else of a database.
pub(crate) struct BareLog {
    path: PathBuf,
    file: File,
    position: u64,
}

impl BareLog {
    /// Makes the file and allocates so many bytes, where the filesystem can do that.
    pub(crate) fn create(path: PathBuf, bytes: u64) -> io::Result<Self> {
        let file = File::create_new(&path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes)?,
            answer => answer?,
        }
        file.sync_all()?;
        Ok(Self { path, file, position: 0 })
    }

    /// Appends so many bytes, of values that do not repeat, in one write, and syncs them; the milliseconds.
    pub(crate) fn append(&mut self, space: &KeySpace, bytes: u64) -> io::Result<f64> {
        let values = (self.position..).flat_map(|number| space.value(number, 0).to_be_bytes::<32>());
        let content: Vec<u8> = values.take(bytes as usize).collect();
        let started = Instant::now();
        self.file.write_all_at(&content, self.position)?;
        self.file.sync_data()?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        self.position += bytes;
        Ok(milliseconds)
    }

    /// Takes the file away.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}
