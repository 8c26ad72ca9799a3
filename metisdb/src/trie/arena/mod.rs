//! The arena: files of pages that hold the nodes that checkpoints wrote, read through maps.
//!
//! * `bytes`: the bytes of a node, as pure functions.
//! * `pages`: which pages are in use, and when one may be written again.
//! * `writer`: packs nodes into free pages and writes them in long runs.
//!
//! A node is decoded from the map whenever it is needed, its checksum verified each time. Files (*extents*) have one size, are mapped
//! whole, and are removed when nothing in them is in use.
//!
//! Invariant T2 (rule 1): a node's birth is not after that of the arena node that leads to it: a page that was written again, against
//! T1, is told from the one that was meant.

pub(crate) mod bytes;
pub(crate) mod pages;
pub(crate) mod writer;

use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, sync::Arc};

use alloy_primitives::B256;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use self::{
    bytes::Node,
    pages::{PAGE_BYTES, Page, Pages},
};
use crate::{
    error::{Error, Result},
    layout::layout,
    log::{
        Damage, crc32c,
        segment::{FORMAT_VERSION, Identity},
    },
    prefetch, probe,
    storage::{self, Map, Storage, StorageFile},
};

const MAGIC: [u8; 8] = *b"METISARN";
const NAME_PREFIX: &str = "arena.";
/// A full branch.
const PREFETCHED_LINES: usize = 10;

/// A node's place: its byte in the arena, where extent `n` covers `[n * extent_bytes, (n + 1) * extent_bytes)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place(NonZeroU64);

impl Place {
    /// Places stay below this.
    pub(crate) const LIMIT: u64 = 1 << 48;
    /// No place is lower: extents are counted from one, and the first page of each is not for nodes.
    const LOWEST: u64 = PAGE_BYTES;

    /// `None` where no node can be.
    pub(crate) fn new(position: u64) -> Option<Self> {
        NonZeroU64::new(position).filter(|_| (Self::LOWEST..Self::LIMIT).contains(&position)).map(Self)
    }

    /// As a number.
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }
}

layout! {
    /// What stands in the first page of an extent.
    ExtentHeader, 64 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        page_bytes: u32 = 12,
        number: u64 = 16,
        database_id: [u8; 16] = 24,
        extent_bytes: u64 = 40,
        reserved: [u8; 12] = 48,
        checksum: u32 = 60,
    }
}

/// One file of the arena.
#[derive(Debug)]
struct Extent {
    file: Arc<dyn StorageFile>,
    map: Map,
}

/// The files by their numbers.
type Extents = BTreeMap<u64, Arc<Extent>>;

/// The arena of an open database.
#[derive(Debug)]
pub(crate) struct Arena {
    storage: Arc<dyn Storage>,
    identity: Identity,
    /// Looked up for every node by all threads of an update: a lock, or a count of who has an extent, would go back and forth between their
    /// processors.
    extents: ArcSwap<Extents>,
    pub(crate) pages: Mutex<Pages>,
    /// Of a handle that does not write.
    beside: Option<Beside>,
}

/// A handle that does not write may have a writer beside it, now or later, which writes pages again that the handle refers to. So it reads nodes
/// from the files, and believes none that is newer than its trie.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Generation of the newest node of the trie that the handle was opened with.
    pub(crate) newest_birth: u32,
    /// Generation of the superblock that names this trie.
    pub(crate) generation: u64,
    /// Reads the generation of the newest superblock that is there now, if one is sound.
    pub(crate) newest_generation: fn(&dyn Storage) -> Option<u64>,
}

impl Beside {
    /// Whether neither superblock names the trie any more, so that its pages may be others' (T1).
    fn is_replaced(&self, storage: &dyn Storage) -> bool {
        (self.newest_generation)(storage).is_some_and(|newest| newest > self.generation + 1)
    }
}

/// The file name of an extent.
pub(crate) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:010}")
}

/// The number in an extent's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl Arena {
    /// Maps all extents that are there and sound. A node in another one is found to be missing when it is read.
    pub(crate) fn open(storage: Arc<dyn Storage>, identity: Identity, beside: Option<Beside>) -> Result<Self> {
        let arena = Self {
            storage,
            identity,
            extents: ArcSwap::default(),
            pages: Mutex::new(Pages::new(identity.segment_bytes)),
            beside,
        };
        for name in arena.storage.list()? {
            let Some(number) = parse_file_name(&name) else { continue };
            let Some(file) = arena.storage.open(&name)? else { continue };
            match arena.open_extent(number, file) {
                Ok(extent) => {
                    arena.insert_extent(number, extent);
                }
                Err(error) if error.is_damage() => tracing::warn!(%error, "an extent of the arena is not usable"),
                Err(error) => return Err(error),
            }
        }
        Ok(arena)
    }

    fn open_extent(&self, number: u64, file: Arc<dyn StorageFile>) -> Result<Extent> {
        let limit = Place::LIMIT / self.identity.segment_bytes;
        if number >= limit {
            let damage = Damage::new(format!("a number below {limit}"), format!("{number}"));
            return Err(damage.at("arena", file.path(), 0));
        }
        let length = file.length()?;
        let mut bytes = [0; ExtentHeader::BYTES];
        if length == self.identity.segment_bytes {
            file.read_exact_at(&mut bytes, 0)?;
        }
        let header = ExtentHeader::decode(&bytes);
        if header != self.header(number) {
            let damage = Damage::new("the header of this extent", format!("that of {}, {length} bytes", header.number));
            return Err(damage.at("arena", file.path(), 0));
        }
        let map = file.map(length)?;
        Ok(Extent { file, map })
    }

    fn header(&self, number: u64) -> ExtentHeader {
        let mut header = ExtentHeader {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            page_bytes: PAGE_BYTES as u32,
            number,
            database_id: self.identity.database_id,
            extent_bytes: self.identity.segment_bytes,
            reserved: [0; 12],
            checksum: 0,
        };
        header.checksum = crc32c(&header.encode()[..ExtentHeader::BYTES - 4]);
        header
    }

    /// Reads the node at a place; its birth is at most `birth_limit` (T2).
    ///
    /// # Errors
    /// Corruption where it is not what was written there; [`Error::TrieReplaced`]; of the disk.
    pub(crate) fn load(&self, place: Place, birth_limit: u32) -> Result<Node> {
        let newest_birth = self.beside.as_ref().map_or(u32::MAX, |beside| beside.newest_birth);
        let birth_limit = birth_limit.min(newest_birth);
        let node = self.read(place, |bytes| decode(bytes, place, birth_limit))?;
        node.map_err(|damage| self.damage(damage, place))
    }

    /// The extent of a place, and the byte in it.
    fn locate(&self, place: Place) -> (u64, u64) {
        // A power of two, which the compiler does not know.
        let extent_bytes = self.identity.segment_bytes;
        (place.get() >> extent_bytes.trailing_zeros(), place.get() & (extent_bytes - 1))
    }

    fn insert_extent(&self, number: u64, extent: Extent) {
        let extent = Arc::new(extent);
        self.extents.rcu(|extents| {
            let mut extents = Extents::clone(extents);
            extents.insert(number, extent.clone());
            extents
        });
    }

    fn remove_extent(&self, number: u64) {
        self.extents.rcu(|extents| {
            let mut extents = Extents::clone(extents);
            extents.remove(&number);
            extents
        });
    }

    /// Calls `reader` with the bytes from a place to the end of its page.
    fn read<T>(&self, place: Place, reader: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let (number, offset) = self.locate(place);
        let extents = self.extents.load();
        let extent = extents.get(&number).ok_or_else(|| self.lost_extent(number, offset))?;
        let length = PAGE_BYTES - offset % PAGE_BYTES;
        if self.beside.is_some() {
            let mut bytes = vec![0; length as usize];
            extent.file.read_exact_at(&mut bytes, offset)?;
            return Ok(reader(&bytes));
        }
        // SAFETY: the place comes from a verified node or superblock, or from memory, and is in use: its page is not
        // written while any trie can reach it (T1), and files of the arena are never cut. When a database is opened no page is written.
        let bytes = unsafe { extent.map.bytes(offset as usize, length as usize) };
        let answer = reader(bytes);
        if storage::is_lost(bytes) { Err(storage::unreadable(&extent.file.path(), offset)) } else { Ok(answer) }
    }

    #[cold]
    fn lost_extent(&self, number: u64, offset: u64) -> Error {
        self.damage_at(Damage::new(format!("an extent {number}"), "none"), number, offset)
    }

    /// Damage of the node at a place.
    #[cold]
    pub(crate) fn damage(&self, damage: Damage, place: Place) -> Error {
        let (number, offset) = self.locate(place);
        self.damage_at(damage, number, offset)
    }

    fn damage_at(&self, damage: Damage, number: u64, offset: u64) -> Error {
        if self.beside.as_ref().is_some_and(|beside| beside.is_replaced(&*self.storage)) {
            return Error::TrieReplaced { path: self.storage.path() };
        }
        metrics::counter!("metisdb.corruption").increment(1);
        damage.at("node", self.storage.path().join(file_name(number)), offset)
    }

    /// The folder, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.storage.path()
    }

    /// Says which pages are in use.
    ///
    /// # Errors
    /// Corruption where some of them are in a file that is not there.
    pub(crate) fn set_pages(&self, mut pages: Pages) -> Result<()> {
        let extents = self.extents.load();
        let is_used = |pages: &[Page]| pages.iter().any(|page| page.live_bytes > 0);
        let lost = pages.extents.iter().find(|(number, pages)| !extents.contains_key(number) && is_used(pages));
        if let Some((number, _)) = lost
            && !probe::skip("missing-extent")
        {
            return Err(self.lost_extent(*number, 0));
        }
        pages.extents.retain(|number, _| extents.contains_key(number));
        for number in extents.keys().filter(|number| !pages.extents.contains_key(number)).collect::<Vec<_>>() {
            pages.add_extent(*number);
        }
        *self.pages.lock() = pages;
        Ok(())
    }

    /// The pages of all files that exist, each in this state.
    pub(crate) fn empty_pages(&self, state: Page) -> Pages {
        let mut pages = Pages::new(self.identity.segment_bytes);
        for number in self.extents.load().keys() {
            pages.extents.insert(*number, vec![state; pages.pages_per_extent()]);
        }
        pages
    }

    /// The pages of all files when no trie says what is in use. Those that were written after the superblock of this
    /// generation are free: no superblock names them. The others are in this state.
    pub(crate) fn unknown_pages(&self, generation: u64, state: Page) -> Pages {
        let mut pages = self.empty_pages(state);
        for (number, pages) in &mut pages.extents {
            for (index, page) in pages.iter_mut().enumerate().skip(1) {
                let place = Place::new(number * self.identity.segment_bytes + index as u64 * PAGE_BYTES);
                let Some(place) = place else { continue };
                let first = self.read(place, |bytes| bytes::decode(bytes, place).ok()).ok().flatten();
                if first.is_some_and(|node| u64::from(node.birth) > generation) {
                    *page = Page::default();
                }
            }
        }
        pages
    }

    /// Brings a node closer that will be read.
    pub(crate) fn prefetch(&self, place: Place) {
        let (number, offset) = self.locate(place);
        if let Some(extent) = self.extents.load().get(&number) {
            for line in 0..PREFETCHED_LINES {
                prefetch::line(extent.map.as_ptr().wrapping_add(offset as usize + 64 * line));
            }
        }
    }

    /// Where a path leads from the node at a place, unverified: see [`bytes::peek`].
    pub(crate) fn peek(
        &self,
        place: Place,
        path: &B256,
        depth: usize,
        into_storage: bool,
    ) -> Option<(Place, Option<usize>)> {
        if self.beside.is_some() {
            return None;
        }
        let (number, offset) = self.locate(place);
        let extents = self.extents.load();
        let extent = extents.get(&number)?;
        // SAFETY: as in `Arena::load`; a place that is read out of a damaged node leads into a map all the same, or is refused.
        let bytes = unsafe { extent.map.bytes(offset as usize, (PAGE_BYTES - offset % PAGE_BYTES) as usize) };
        bytes::peek(bytes, path, depth, into_storage)
    }

    /// Makes the file of a new extent, with the lowest number that is not in use.
    fn create_extent(&self) -> Result<u64> {
        let number = {
            let extents = self.extents.load();
            (1..).find(|number| !extents.contains_key(number)).unwrap_or(u64::MAX)
        };
        let file = self.storage.create(&file_name(number))?;
        let made = file.set_length(self.identity.segment_bytes).and_then(|()| {
            file.write_all_at(&self.header(number).encode(), 0)?;
            file.map(self.identity.segment_bytes)
        });
        match made {
            Ok(map) => {
                self.insert_extent(number, Extent { file, map });
                self.pages.lock().add_extent(number);
                Ok(number)
            }
            Err(error) => {
                // If it stays, it is in no list, and the next attempt replaces it.
                let _ = self.storage.remove(&file_name(number));
                Err(error)
            }
        }
    }

    /// Removes the files of extents that nothing uses; returns how many. Durable after the folder is synced.
    pub(crate) fn drop_free_extents(&self, floor: u64) -> Result<usize> {
        let free = self.pages.lock().free_extents(floor);
        for number in &free {
            self.storage.remove(&file_name(*number))?;
            self.remove_extent(*number);
            self.pages.lock().extents.remove(number);
        }
        Ok(free.len())
    }

    /// Gives back the space of free pages that were written before.
    pub(crate) fn give_back_free_pages(&self, floor: u64) -> Result<()> {
        let runs = self.pages.lock().forget_free_runs(floor);
        for (start, bytes) in runs {
            let extent = self.extents.load().get(&(start / self.identity.segment_bytes)).cloned();
            if let Some(extent) = extent {
                extent.file.give_back(start % self.identity.segment_bytes, bytes)?;
            }
        }
        Ok(())
    }

    /// Bytes that the files take on the device.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.extents.load().values().map(|extent| extent.file.allocated_bytes().unwrap_or(0)).sum()
    }

    /// Bytes that the files have, empty pages included.
    pub(crate) fn bytes(&self) -> u64 {
        self.extent_count() * self.identity.segment_bytes
    }

    /// How many files there are.
    pub(crate) fn extent_count(&self) -> u64 {
        self.extents.load().len() as u64
    }

    /// Takes a free page for writing: the next one behind `after`, or one of a new extent.
    fn take_page(&self, after: u64, floor: u64) -> Result<u64> {
        if let Some(page) = self.pages.lock().take_free(after, floor) {
            return Ok(page);
        }
        let number = self.create_extent()?;
        let page = self.pages.lock().take_free(number * self.identity.segment_bytes, floor);
        page.ok_or_else(|| {
            Damage::new("a free page in a new extent", "none").at(
                "arena",
                self.storage.path().join(file_name(number)),
                0,
            )
        })
    }
}

/// The node at the front of the bytes of a place, if its birth is at most `birth_limit` (T2).
fn decode(bytes: &[u8], place: Place, birth_limit: u32) -> Result<Node, Damage> {
    let node = bytes::decode(bytes, place)?;
    if node.birth > birth_limit && !probe::skip("birth-check") {
        let expected = format!("a node of generation {birth_limit} or before");
        return Err(Damage::new(expected, format!("{}", node.birth)));
    }
    Ok(node)
}
