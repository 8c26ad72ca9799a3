//! Which pages of the arena are in use.
//!
//! A page's life in four sentences. It is *free*; a checkpoint fills it with nodes and it is *live*. Each node that a
//! commit replaces takes its bytes off the page's count, and at zero the page is *dead*, since the sequence of that commit.
//! It stays as it is while anything may still read it: a trie in memory of an earlier sequence, or either superblock.
//! When all of them are of that sequence or later it is free again.
//!
//! Invariant T1 (rules 1, 8, 15): a page is written only if its count is zero and its death is not after the *floor*, the
//! lowest sequence of all tries that are held and of both superblocks.

use std::collections::BTreeMap;

use super::Place;

/// Size of a page. A node lies within one.
pub(crate) const PAGE_BYTES: u64 = 8192;

/// Sequences stay below this: the lower bits of a packed page.
pub(crate) const SEQUENCE_LIMIT: u64 = (1 << Page::DIED_BITS) - 1;

/// One page: bytes of live nodes in it, and the sequence of the last death in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) live_bytes: u16,
    pub(crate) died: u64,
}

impl Page {
    const DIED_BITS: u32 = 48;

    /// The page that a checkpoint is writing: nobody else's until it is done.
    const TAKEN: Self = Self { live_bytes: 0, died: (1 << Self::DIED_BITS) - 1 };

    /// As one number, for the image.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.live_bytes) << Self::DIED_BITS | self.died
    }

    /// From [`Page::pack`].
    pub(crate) fn unpack(packed: u64) -> Self {
        Self { live_bytes: (packed >> Self::DIED_BITS) as u16, died: packed & ((1 << Self::DIED_BITS) - 1) }
    }

    /// Whether a superblock of sequence `older` may need the page and one of `newer` does not.
    pub(crate) fn is_leaving(self, older: u64, newer: u64) -> bool {
        self.live_bytes == 0 && (older + 1..=newer).contains(&self.died)
    }

    fn is_free(self, floor: u64) -> bool {
        self.live_bytes == 0 && self.died <= floor
    }
}

/// The pages of all extents. The first page of an extent is its header and never free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// By extent number.
    pub(crate) extents: BTreeMap<u64, Vec<Page>>,
    pub(crate) extent_bytes: u64,
    /// Pages that were written once more since the database was opened.
    pub(crate) reused: u64,
}

impl Pages {
    /// No extents.
    pub(crate) fn new(extent_bytes: u64) -> Self {
        Self { extents: BTreeMap::new(), extent_bytes, reused: 0 }
    }

    /// Pages of an extent, its header included.
    pub(crate) fn pages_per_extent(&self) -> usize {
        (self.extent_bytes / PAGE_BYTES) as usize
    }

    fn page(&mut self, place: Place) -> Option<&mut Page> {
        let extent = self.extents.get_mut(&(place.get() / self.extent_bytes))?;
        extent.get_mut((place.get() % self.extent_bytes / PAGE_BYTES) as usize)
    }

    /// Adds an extent whose pages are all free.
    pub(crate) fn add_extent(&mut self, number: u64) {
        self.extents.insert(number, vec![Page::default(); self.pages_per_extent()]);
    }

    /// The free page that comes first behind `after`, taken: no other call gives it until it is filled or released.
    pub(crate) fn take_free(&mut self, after: u64, floor: u64) -> Option<u64> {
        let first_extent = after / self.extent_bytes;
        for (number, pages) in self.extents.range_mut(first_extent..) {
            let start = number * self.extent_bytes;
            let first = (after.saturating_sub(start) / PAGE_BYTES) as usize + 1;
            for (index, page) in pages.iter_mut().enumerate().skip(first) {
                if page.is_free(floor) {
                    self.reused += u64::from(page.died > 0);
                    *page = Page::TAKEN;
                    return Some(start + index as u64 * PAGE_BYTES);
                }
            }
        }
        None
    }

    /// A node of `bytes` stands at a place.
    pub(crate) fn add(&mut self, place: Place, bytes: usize) {
        if let Some(page) = self.page(place) {
            if page.live_bytes == 0 {
                page.died = 0;
            }
            page.live_bytes += bytes as u16;
        }
    }

    /// The same, in a copy that does not know of an extent made since.
    pub(crate) fn add_in_new_extent(&mut self, place: Place, bytes: usize) {
        let number = place.get() / self.extent_bytes;
        if !self.extents.contains_key(&number) {
            self.add_extent(number);
        }
        self.add(place, bytes);
    }

    /// The node of `bytes` at a place is not reachable from tries of `sequence` or later.
    ///
    /// The count may be of an image, which says what it likes. A page that does not count the node at all has a wrong one, and keeps it:
    /// of what else stands there nobody knows.
    pub(crate) fn retire(&mut self, place: Place, bytes: usize, sequence: u64) {
        let Some(page) = self.page(place) else { return };
        let left = usize::from(page.live_bytes).checked_sub(bytes);
        if let Some(left) = left {
            page.live_bytes = left as u16;
            page.died = page.died.max(sequence);
        }
    }

    /// Pages that were taken for nothing are free again, those whose checkpoint failed.
    pub(crate) fn release_taken(&mut self) {
        for page in self.extents.values_mut().flatten().filter(|page| **page == Page::TAKEN) {
            *page = Page::default();
        }
    }

    /// How full the page of a place is, in bytes.
    pub(crate) fn live_bytes_beside(&self, place: Place) -> u64 {
        let extent = self.extents.get(&(place.get() / self.extent_bytes));
        let page = extent.and_then(|pages| pages.get((place.get() % self.extent_bytes / PAGE_BYTES) as usize));
        page.map_or(PAGE_BYTES, |page| u64::from(page.live_bytes))
    }

    /// Runs of free pages that were written before, as place and bytes; from now on they are as if they were not.
    pub(crate) fn forget_free_runs(&mut self, floor: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (number, pages) in &mut self.extents {
            for (index, page) in
                pages.iter_mut().enumerate().skip(1).filter(|(_, page)| page.died > 0 && page.is_free(floor))
            {
                *page = Page::default();
                let start = number * self.extent_bytes + index as u64 * PAGE_BYTES;
                match runs.last_mut() {
                    Some((first, bytes)) if *first + *bytes == start => *bytes += PAGE_BYTES,
                    _ => runs.push((start, PAGE_BYTES)),
                }
            }
        }
        runs
    }

    /// Extents all of whose pages are free.
    pub(crate) fn free_extents(&self, floor: u64) -> Vec<u64> {
        let free = self.extents.iter().filter(|(_, pages)| pages[1..].iter().all(|page| page.is_free(floor)));
        free.map(|(number, _)| *number).collect()
    }

    /// Bytes of live nodes, and of the pages that hold any.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let pages = self.extents.values().flatten().filter(|page| page.live_bytes > 0);
        pages.fold((0, 0), |(live, used), page| (live + u64::from(page.live_bytes), used + PAGE_BYTES))
    }
}
