//! The index: from the hash of a key to the log position of the key's newest record.
//!
//! The index holds no keys. A lookup yields the positions of all records whose tag, 19 bits of the
//! hash, is that of the key sought, and the caller looks at those records. One writer at a time
//! changes the table; any number of readers use it meanwhile, take no lock and never wait.
//!
//! The table is an array of lines of eight entries that grows by linear hashing: one line after
//! the other is split in two as entries come. The *marker*, one atomic word, says how many lines
//! there are and thus which line a hash belongs to. A line with more than eight entries links to
//! an overflow line in its last slot, which may link on: its *chain*.
//!
//! # Why readers miss nothing
//!
//! A lookup loads the marker, scans the line of the hash and its chain from the front to the end,
//! and loads the marker again if no candidate was accepted. If it has changed, the lookup starts
//! anew. The invariants under which its answer "absent" is right:
//!
//! 1. The marker never returns to an earlier value: it rises with every split, and once more within
//!    a split that cuts off overflow lines.
//! 2. Every store into a slot has release order and comes, in the program, after the marker stores
//!    that precede it. (A reader that notes a checked checksum only continues the release sequence
//!    of the store it extends.) A reader that loads what was stored, and past an acquire fence the
//!    marker, gets at least that marker. So whatever a lookup sees that loads the same marker
//!    twice was stored before the next marker, and nothing that preceded this marker is hidden
//!    from it. Below, a lookup *under a marker* is one that loaded it first.
//! 3. An entry moves to another line only in a split: it is copied into the new line first, then
//!    the marker that makes the new line known is stored, and then it is cleared from the old line.
//!    A lookup that saw it cleared under the old marker finds the marker changed; one that loaded
//!    the new marker looks at the new line, where the copy was before the marker was.
//! 4. An entry that does not move to another line is at no time outside of its chain. When a ninth
//!    entry comes, the last slot's entry is copied into the overflow line before the link replaces
//!    it there; a reader loads that slot once, and gets the entry or the link.
//! 5. Within a chain, an entry moves towards the front only in a split: it is copied down, then the
//!    marker is stored once more, and only then the overflow line is cut off by overwriting the
//!    link to it. A lookup that scanned the front before the copy came and then missed the link
//!    finds the marker changed; one under the second marker scans the copy. One entry may itself
//!    replace the link and is nowhere else: a lookup gets either that entry or the link to it.
//! 6. An overflow line that is cut off stays as it is until a later marker has been stored, that
//!    of the next split. A lookup under the second marker of 5 may have loaded the link before the
//!    cut, and finds on the line what it held. A lookup that sees the line written again, for use
//!    in another chain, finds the marker changed.
//! 7. Chunks of lines stay mapped, at the same address, as long as the index: a link that a reader
//!    loaded, however long ago, leads to a line.
//!
//! What a lookup accepts is right whatever happens meanwhile: an entry that it sees was the newest
//! of its key at some moment since the lookup began. An entry is replaced in its slot, and has a
//! second copy only within one insert and its splits, which replace nothing; after these the copy
//! that was moved away is overwritten or on a line cut off, where only a lookup that began before
//! can be.
//!
//! # Why the writer leaks nothing
//!
//! 8. A chain of `n` entries has exactly as many overflow lines as `n` need: an entry is inserted
//!    into the first free slot, an overflow line is added only to full lines, entries leave only in
//!    a split, and a split cuts off the lines that are not needed any more.
//! 9. Every overflow line ever used is in one chain, or cut off, or free; those cut off become free
//!    at the marker of the next split.

mod entry;
mod image;
mod memory;
mod scan;
mod table;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, fmt, io, path::PathBuf, sync::Arc};

#[cfg(test)]
pub(crate) use self::image::{ImageSummary, TableHeader};
use self::{
    entry::{Entry, Marker},
    memory::{LINE_BYTES, LINK_SLOT, Line, SLOTS},
    table::{Table, Writer},
};
pub(crate) use self::{image::ImageSource, table::MAX_LINES_LOG2};
use crate::{
    Error, Result, probe,
    sync::{AtomicU64, Mutex, Ordering, fence},
};

/// Most splits in one insert: two catch up with inserts made while splits were paused.
const SPLITS_PER_INSERT: usize = 2;

/// Maps hashes of keys to the log positions of their newest records.
///
/// Lookups may run on any thread at any time. Calls that change the index ([`Index::insert`],
/// [`Index::replace`]) are serialised by the caller.
#[derive(Debug)]
pub(crate) struct Index {
    table: Table,
    growth: Apart<Growth>,
}

/// Kept off the cache lines that readers use.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// What changes with every insert.
#[derive(Debug)]
struct Growth {
    entries: AtomicU64,
    writer: Mutex<Writer>,
}

/// The position of a record whose tag is that of the key sought.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'i> {
    /// The record's position in the log.
    pub(crate) position: u64,
    /// Whether the record's checksum was checked since the index was made.
    pub(crate) verified: bool,
    slot: &'i AtomicU64,
    seen: Entry,
}

/// What one pass over the chain of a hash gives.
pub(crate) enum Pass<T> {
    /// A candidate, or what the visitor made of one.
    Found(T),
    /// The index has no such key.
    Absent,
    /// The table has changed meanwhile, so that a key may have been missed.
    Overtaken,
}

/// How large an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct IndexStats {
    /// Number of entries: keys.
    pub(crate) entries: u64,
    /// Number of lines, without overflow lines.
    pub(crate) lines: u64,
    /// Every line is addressed by at least that many bits of the hash.
    pub lines_log2: u32,
    /// Number of overflow lines in use.
    pub(crate) overflow_lines: u64,
    /// Number of overflow lines that hold memory: those in use and those free again.
    pub(crate) overflow_lines_touched: u64,
    /// Memory of the lines and overflow lines in use.
    pub(crate) memory_bytes: u64,
}

/// While it lives, no line is split, and the table can be captured.
///
/// Inserts go on, at the price of longer chains.
#[derive(Debug)]
#[must_use = "splits resume when this is dropped"]
pub(crate) struct SplitPause<'i> {
    index: &'i Index,
}

impl Index {
    /// An empty index of `2^initial_lines_log2` lines, which grows up to `2^19` times that size.
    pub(crate) fn new(initial_lines_log2: u32) -> Result<Self> {
        if initial_lines_log2 > MAX_LINES_LOG2 {
            return Err(Error::InvalidOption {
                option: "index lines",
                reason: format!("2^{initial_lines_log2} is above 2^{MAX_LINES_LOG2}"),
            });
        }
        let marker = Marker::new(initial_lines_log2, 0);
        let table = Table::new(initial_lines_log2, marker);
        table.ensure_lines(marker).map_err(no_memory)?;
        Ok(Self::assemble(table, Writer::default(), 0))
    }

    fn assemble(table: Table, writer: Writer, entries: u64) -> Self {
        let growth = Growth { entries: AtomicU64::new(entries), writer: Mutex::new(writer) };
        Self { table, growth: Apart(growth) }
    }

    /// Calls `visit` for the records that may be those of a key with this hash, until it answers
    /// `Ok(Some(_))` or fails; returns its last answer.
    ///
    /// A record may be visited more than once if the table grows meanwhile.
    #[inline(always)]
    pub(crate) fn find<'i, T, E>(
        &'i self,
        hash: u64,
        mut visit: impl FnMut(Candidate<'i>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        loop {
            match self.pass(hash, &mut visit)? {
                Pass::Found(found) => return Ok(Some(found)),
                Pass::Absent => return Ok(None),
                Pass::Overtaken => {}
            }
        }
    }

    /// The first record that may be that of a key with this hash. Where it is not, or the table grows meanwhile, [`Index::find`] tells.
    #[inline(always)]
    pub(crate) fn first(&self, hash: u64) -> Pass<Candidate<'_>> {
        let Ok(pass) = self.pass(hash, |candidate| Ok::<_, Infallible>(Some(candidate)));
        pass
    }

    #[inline(always)]
    fn pass<'i, T, E>(
        &'i self,
        hash: u64,
        mut visit: impl FnMut(Candidate<'i>) -> Result<Option<T>, E>,
    ) -> Result<Pass<T>, E> {
        let marker = self.table.marker();
        probe::pause("index-find-marker");
        let first = self.table.line(marker.line_of(hash));
        if let Some(found) = self.scan_chain(first, self.table.tag_of(hash), &mut visit)? {
            return Ok(Pass::Found(found));
        }
        probe::pause("index-find-scanned");
        if probe::skip("index-recheck") {
            return Ok(Pass::Absent);
        }
        // After the fence, the marker is at least as new as anything the scan has seen.
        if !probe::skip("index-recheck-fence") {
            fence(Ordering::Acquire);
        }
        Ok(if self.table.marker() == marker { Pass::Absent } else { Pass::Overtaken })
    }

    #[inline(always)]
    fn scan_chain<'i, T, E>(
        &'i self,
        mut line: &'i Line,
        tag: u32,
        visit: &mut impl FnMut(Candidate<'i>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        loop {
            // The last slot always has its turn: one load decides whether it holds an entry or the link that replaced it.
            let mut hints = scan::tag_hints(line, tag) | 1 << LINK_SLOT;
            let last = loop {
                let slot = hints.trailing_zeros() as usize;
                let entry = line.get(slot);
                if entry.has_tag(tag)
                    && let Some(found) = visit(Candidate::new(line, slot, entry))?
                {
                    return Ok(Some(found));
                }
                hints &= hints - 1;
                if hints == 0 {
                    break entry;
                }
            };
            let Some(next) = last.linked() else { return Ok(None) };
            probe::pause("index-find-linked");
            line = self.table.overflow_line(next);
        }
    }

    /// Brings the line of a hash into the cache for a lookup to come.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let line = self.table.marker().line_of(hash);
        crate::prefetch::line(std::ptr::from_ref(self.table.line(line)).cast());
    }

    /// Brings the overflow line behind the line of a hash, if there is one, into the cache, once the line itself is there.
    #[inline]
    pub(crate) fn prefetch_overflow(&self, hash: u64) {
        let line = self.table.line(self.table.marker().line_of(hash));
        if let Some(next) = self.table.following(line) {
            crate::prefetch::line(std::ptr::from_ref(next).cast());
        }
    }

    /// Provides the memory for that many inserts, which then cannot fail.
    ///
    /// Fails with [`Error::LimitReached`] if the index cannot grow that far, and with
    /// [`Error::Io`] if the system has no memory; nothing is changed then.
    pub(crate) fn reserve(&self, inserts: usize) -> Result<()> {
        let writer = self.growth.0.writer.lock();
        let entries = self.entries();
        let limit = self.table.max_entries();
        let inserts = inserts as u64;
        if inserts > limit.saturating_sub(entries) {
            return Err(Error::LimitReached { what: "the number of keys in the index", limit });
        }
        self.table.ensure_room(&writer, entries, inserts).map_err(no_memory)
    }

    /// Adds the record of a key that the index does not have.
    ///
    /// # Panics
    ///
    /// If there is no room, that is without a preceding [`Index::reserve`], and if `position` is
    /// not a multiple of 8 between 8 and `2^46`.
    pub(crate) fn insert(&self, hash: u64, position: u64) {
        let entry = Entry::new(self.table.tag_of(hash), position);
        let mut writer = self.growth.0.writer.lock();
        let line = self.table.marker().line_of(hash);
        self.table.place(&mut writer, self.table.line(line), entry);
        let entries = self.growth.0.entries.fetch_add(1, Ordering::Relaxed) + 1;
        for _ in 0..SPLITS_PER_INSERT {
            if writer.pauses > 0 || !self.table.is_crowded(entries) {
                break;
            }
            self.table.split(&mut writer);
        }
    }

    /// Replaces the record of a key at position `old` by one at `new` whose checksum has not been
    /// checked. Returns whether there was one.
    ///
    /// # Panics
    ///
    /// If `new` is not a multiple of 8 between 8 and `2^46`.
    pub(crate) fn replace(&self, hash: u64, old: u64, new: u64) -> bool {
        let tag = self.table.tag_of(hash);
        let entry = Entry::new(tag, new);
        let mut line = self.table.line(self.table.marker().line_of(hash));
        loop {
            for slot in 0..SLOTS {
                let seen = line.get(slot);
                if seen.has_tag(tag) && seen.position() == old {
                    line.set(slot, entry);
                    return true;
                }
            }
            match self.table.following(line) {
                Some(next) => line = next,
                None => return false,
            }
        }
    }

    /// Stops splitting lines until the answer is dropped. A split at work is completed before.
    pub(crate) fn pause_splits(&self) -> SplitPause<'_> {
        self.growth.0.writer.lock().pauses += 1;
        SplitPause { index: self }
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> u64 {
        self.growth.0.entries.load(Ordering::Relaxed)
    }

    /// How large the index is.
    pub(crate) fn stats(&self) -> IndexStats {
        let writer = self.growth.0.writer.lock();
        let marker = self.table.marker();
        IndexStats {
            entries: self.entries(),
            lines: marker.lines(),
            lines_log2: marker.level(),
            overflow_lines: writer.overflow_lines(),
            overflow_lines_touched: writer.overflow_lines_touched(),
            memory_bytes: (marker.lines() + writer.overflow_lines()) * LINE_BYTES,
        }
    }
}

impl Drop for SplitPause<'_> {
    fn drop(&mut self) {
        self.index.growth.0.writer.lock().pauses -= 1;
    }
}

impl<'i> Candidate<'i> {
    fn new(line: &'i Line, slot: usize, seen: Entry) -> Self {
        Self { position: seen.position(), verified: seen.verified(), slot: &line.slots()[slot], seen }
    }

    /// Notes that the record's checksum was checked and right, unless the entry has changed.
    pub(crate) fn mark_verified(&self) {
        // Should the entry have moved, another lookup will check and note it again.
        let _ =
            self.slot.compare_exchange(self.seen.0, self.seen.with_verified().0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("position", &self.position)
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

fn no_memory(source: io::Error) -> Error {
    Error::Io {
        operation: "map memory for the index",
        path: PathBuf::from("(anonymous memory)"),
        offset: 0,
        source: Arc::new(source),
    }
}
