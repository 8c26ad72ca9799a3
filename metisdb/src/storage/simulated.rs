//! A disk in memory that can lose power.

mod content;
mod file;
mod node;
mod state;
mod survival;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use self::{
    content::Content,
    file::SimulatedFile,
    node::Node,
    state::{Entries, EntryChange, SharedNode, State, Turn, power_cut},
    survival::Survival,
};
use super::{Lock, Storage, StorageFile, refused};
use crate::error::{Error, Result};

/// The path that messages give for the folder of a simulated disk.
const FOLDER: &str = "/simulated";

/// A database folder in memory, with the semantics of a disk under power loss. Everything it does
/// depends only on its seeds and on the order of the calls. Clones are handles of the same disk.
///
/// # Operations
///
/// Creating, removing, changing a length, reserving, writing, syncing a file and syncing the folder
/// are the operations. They are numbered from 0 in the order in which they happen; one that fails
/// has a number too, and one that the power cut hits or precedes has none.
///
/// # What a power loss leaves
///
/// - Of a file: the content at its last sync, with any of the later changes on top, in their order.
///   Each change of the length is kept or lost as a whole; each write is kept, lost, or torn, which
///   keeps or loses each 512-byte sector of it by itself. A write beyond the end is a change of the
///   length followed by the write. Bytes beyond the surviving length are gone, and bytes below it
///   that did not survive are zero.
/// - Of the folder: the entries at its last sync, with each later creation and removal kept or lost
///   by itself. Replacing a file is a removal and a creation. Syncing a file does not make its entry
///   durable, and a lost removal brings the file back with the content described above.
/// - Of reservations: those made before the file's last sync.
///
/// # Failed syncs
///
/// A sync that fails makes nothing durable, and the writes that it was to make durable are given up:
/// reads show them, a power loss may still keep them, but no later sync makes them durable; only
/// writing the bytes again does. Changes of the length, and of the folder, stay pending instead.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    /// An empty disk. The seed determines its entropy.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(Entries::new(), None, seed))) }
    }

    /// How many operations there were, which is the number of the next one.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Cuts the power when operation `number` begins: the ones before it happen, it and everything
    /// after it, reads too, fails. If it changes something, that counts as not synced and may still
    /// reach the disk.
    pub fn cut_after(&self, number: u64) {
        self.state.lock().cut_at = Some(number);
    }

    /// The operation that the power cut hit: what it was, and on which file, or the folder.
    pub fn interrupted(&self) -> Option<(&'static str, PathBuf)> {
        self.state.lock().interrupted.clone()
    }

    /// Makes operation `number` fail with an error of this kind, and without effect, except that a
    /// failed [`StorageFile::sync`] gives up what it was to make durable.
    pub fn fail_operation(&self, number: u64, kind: io::ErrorKind) {
        self.state.lock().failures.insert(number, kind);
    }

    /// Limits the space that all files together may take, counted in blocks of 4096 bytes. Writes and
    /// reservations beyond it fail with [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// A new disk that holds what a power loss at this moment can leave; this one stays as it is.
    ///
    /// With seed 0 nothing survives that is not synced, with seed 1 everything; any other seed
    /// draws. The new disk has the same capacity, no locks, and no planned cut or failure.
    ///
    /// # Panics
    /// If there is not enough memory for the copy.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        self.survivors(Survival::new(seed), seed)
    }

    /// How many parts a power loss at this moment keeps or loses, each by itself: creations, removals, lengths, and sectors of writes.
    pub fn unsynced_parts(&self) -> usize {
        let state = self.state.lock();
        let durable = state.durable_entries.values().map(|node| node.lock().unsynced_parts());
        let changed = state.unsynced_entries.iter().map(|(durable, change)| {
            let created = match change {
                EntryChange::Create(_, node) => node.lock().unsynced_parts(),
                EntryChange::Remove(_) => 0,
            };
            created + usize::from(!durable)
        });
        durable.chain(changed).sum()
    }

    /// As [`SimulatedDisk::after_power_loss`], but each part survives whose bit in `kept` is set: first those of the folder, in the order of the
    /// calls; then those of the surviving files, by name and in the order of the calls. Parts behind the 64th are lost. With
    /// [`SimulatedDisk::unsynced_parts`] = n, the numbers below 2^n give every state there is; some give the same one, where a file is lost.
    ///
    /// # Panics
    /// If there is not enough memory for the copy.
    #[must_use]
    pub fn after_keeping(&self, kept: u64) -> Self {
        self.survivors(Survival::Chosen(kept), kept)
    }

    fn survivors(&self, mut survival: Survival, seed: u64) -> Self {
        let state = self.state.lock();
        let mut survivors: BTreeMap<&str, &SharedNode> =
            state.durable_entries.iter().map(|(name, node)| (name.as_str(), node)).collect();
        for (durable, change) in state.unsynced_entries.iter() {
            if durable || survival.keeps() {
                match change {
                    EntryChange::Create(name, node) => survivors.insert(name, node),
                    EntryChange::Remove(name) => survivors.remove(name.as_str()),
                };
            }
        }
        let entries = survivors.into_iter().map(|(name, node)| {
            let content = node.lock().after_power_loss(&mut survival).expect("memory for a copy");
            (name.to_owned(), node_at_rest(content))
        });
        let seed = state.generator.clone().draw() ^ seed;
        Self { state: Arc::new(Mutex::new(State::new(entries.collect(), state.capacity, seed))) }
    }

    /// A hash of the names and contents that are durable, to tell disks apart.
    pub fn image_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, node) in &self.state.lock().durable_entries {
            let node = node.lock();
            (name, node.durable().length()).hash(&mut hasher);
            node.durable().for_each_written_block(|block, bytes| (block, checksum(bytes)).hash(&mut hasher));
        }
        hasher.finish()
    }

    /// What a file holds at this moment, synced or not; `None` where there is none of that name.
    pub fn file_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let node = self.state.lock().entries.get(name).cloned()?;
        let bytes = node.lock().visible.to_vec();
        Some(bytes)
    }

    /// Flips the bits of `xor_mask` in one byte of a file at rest: all of the file is durable then.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn damage(&self, name: &str, offset: u64, xor_mask: u8) {
        self.change_at_rest(name, |content| {
            let mut byte = [0];
            content.read(&mut byte, offset)?;
            content.write(&[byte[0] ^ xor_mask], offset);
            Ok(())
        });
    }

    /// Sets the length of a file at rest: all of the file is durable then.
    ///
    /// # Panics
    /// If there is no such file, or a mapped one would have to move to become longer.
    pub fn truncate_file(&self, name: &str, length: u64) {
        self.change_at_rest(name, |content| content.set_length(length));
    }

    /// Puts a durable file into the folder, in place of one of the same name.
    ///
    /// # Panics
    /// If there is not enough memory for it.
    pub fn put_file(&self, name: &str, bytes: Vec<u8>) {
        let mut content = Content::empty();
        content.set_length(bytes.len() as u64).expect("memory for a file");
        content.write(&bytes, 0);
        self.state.lock().put_at_rest(name, Some(node_at_rest(content)));
    }

    /// Removes a file durably, if there is one of that name.
    pub fn remove_file(&self, name: &str) {
        self.state.lock().put_at_rest(name, None);
    }

    /// Changes a file and makes it durable together with its entry.
    fn change_at_rest(&self, name: &str, change: impl FnOnce(&mut Content) -> io::Result<()>) {
        let mut state = self.state.lock();
        let node = state.entries.get(name).cloned();
        let node = node.unwrap_or_else(|| panic!("the simulated disk has no file {name:?}"));
        let changed = node.lock().change_at_rest(change);
        changed.unwrap_or_else(|error| panic!("file {name:?} cannot be changed so: {error}"));
        state.put_at_rest(name, Some(node));
    }

    fn file(&self, name: &str, node: SharedNode) -> Arc<dyn StorageFile> {
        Arc::new(SimulatedFile::new(self.clone(), Path::new(FOLDER).join(name), node))
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl Storage for SimulatedDisk {
    fn path(&self) -> PathBuf {
        FOLDER.into()
    }

    fn list(&self) -> Result<Vec<String>> {
        let state = self.state.lock();
        state.check_power().map_err(|error| refused("list folder", Path::new(FOLDER), 0, error))?;
        Ok(state.entries.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>> {
        let state = self.state.lock();
        state.check_power().map_err(|error| refused("open", &Path::new(FOLDER).join(name), 0, error))?;
        Ok(state.entries.get(name).map(|node| self.file(name, Arc::clone(node))))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>> {
        let mut state = self.state.lock();
        let outcome = match state.next_turn("create", &Path::new(FOLDER).join(name)) {
            Turn::Proceed => Ok(state.create(name, true)),
            Turn::CutShort => {
                state.create(name, false);
                Err(power_cut())
            }
            Turn::Fail(kind) => Err(kind.into()),
            Turn::PowerIsOff => Err(power_cut()),
        };
        match outcome {
            Ok(node) => Ok(self.file(name, node)),
            Err(error) => Err(refused("create", &Path::new(FOLDER).join(name), 0, error)),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state.lock();
        let path = Path::new(FOLDER).join(name);
        let turn = state.next_turn("remove", &path);
        if matches!(turn, Turn::Proceed | Turn::CutShort) {
            state.remove(name, matches!(turn, Turn::Proceed));
        }
        turn.outcome().map_err(|error| refused("remove", &path, 0, error))
    }

    fn sync_directory(&self) -> Result<()> {
        let mut state = self.state.lock();
        let turn = state.next_turn("sync folder", Path::new(FOLDER));
        if matches!(turn, Turn::Proceed) {
            let State { unsynced_entries, durable_entries, .. } = &mut *state;
            unsynced_entries.sync().for_each(|change| change.apply(durable_entries));
        }
        turn.outcome().map_err(|error| refused("sync folder", Path::new(FOLDER), 0, error))
    }

    fn lock_exclusive(&self) -> Result<Box<dyn Lock>> {
        let mut state = self.state.lock();
        state.check_power().map_err(|error| refused("lock", Path::new(FOLDER), 0, error))?;
        let holder = match (state.writers, state.readers) {
            (0, 0) => {
                state.writers = 1;
                return Ok(Box::new(SimulatedLock { disk: self.clone(), exclusive: true }));
            }
            (0, _) => "a reader that is loading it",
            _ => "another handle of this process",
        };
        Err(Error::Locked { path: FOLDER.into(), holder: holder.to_owned() })
    }

    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>> {
        let mut state = self.state.lock();
        state.check_power().map_err(|error| refused("lock", Path::new(FOLDER), 0, error))?;
        if state.writers > 0 {
            return Ok(None);
        }
        state.readers += 1;
        Ok(Some(Box::new(SimulatedLock { disk: self.clone(), exclusive: false })))
    }

    fn entropy(&self, bytes: &mut [u8]) -> Result<()> {
        let mut state = self.state.lock();
        state.check_power().map_err(|error| refused("read entropy", Path::new(FOLDER), 0, error))?;
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&state.generator.draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A share in the lock of a simulated disk.
#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    exclusive: bool,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if self.exclusive {
            state.writers -= 1;
        } else {
            state.readers -= 1;
        }
    }
}

fn node_at_rest(content: Content) -> SharedNode {
    Arc::new(Mutex::new(Node::at_rest(content)))
}

/// Of a block's bytes: fast, and enough to tell blocks apart.
fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}
