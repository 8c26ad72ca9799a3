//! Segments: the files of the log, and the table that takes a reader from a position to bytes in memory.
//!
//! A segment is mapped whole when it joins the log and keeps its address until it is dropped. The
//! table is a fixed array, so that no reader ever meets one that is being replaced.
//!
//! Invariant L1: a position is looked up only by holders of a pin that keeps its record alive
//! (see `versions`), so a segment never leaves the table under a reader.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use parking_lot::Mutex;

use super::Damage;
use crate::{
    error::{Error, Result},
    layout::layout,
    log::{crc32c, record::POSITION_LIMIT},
    probe,
    storage::{Map, Storage, StorageFile},
};

/// The format that this build reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Segments that a log can have in its life, counted in units of `segment_bytes`. Miri looks at the whole table whenever it is borrowed.
pub(crate) const SLOT_LIMIT: u64 = if cfg!(miri) { 1 << 7 } else { 1 << 20 };
const MAGIC: [u8; 8] = *b"METISSEG";
const NAME_PREFIX: &str = "segment.";

layout! {
    /// The first bytes of a segment.
    SegmentHeader, 128 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        slots: u32 = 12,
        number: u64 = 16,
        database_id: [u8; 16] = 24,
        seed: [u8; 32] = 40,
        segment_bytes: u64 = 72,
        start: u64 = 80,
        previous_end: u64 = 88,
        previous_chain: u32 = 96,
        reserved: [u8; 24] = 100,
        checksum: u32 = 124,
    }
}

/// Sizes that a segment can have. Less under Miri, which takes a second for what zeroes or reads a segment.
pub(crate) const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = if cfg!(miri) { 1 << 14 } else { 1 << 16 }..=1 << 30;

/// Positions of a log stay below this.
pub(crate) fn log_limit(segment_bytes: u64) -> u64 {
    POSITION_LIMIT.min(SLOT_LIMIT * segment_bytes)
}

/// What every file of one database repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) database_id: [u8; 16],
    pub(crate) seed: [u8; 32],
    pub(crate) segment_bytes: u64,
}

impl SegmentHeader {
    /// The header of a segment that continues the log from `previous_end`.
    pub(crate) fn new(identity: &Identity, number: u64, slots: u32, start: u64, previous: (u64, u32)) -> Self {
        let mut header = Self {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            slots,
            number,
            database_id: identity.database_id,
            seed: identity.seed,
            segment_bytes: identity.segment_bytes,
            start,
            previous_end: previous.0,
            previous_chain: previous.1,
            reserved: [0; 24],
            checksum: 0,
        };
        header.checksum = crc32c(&header.encode()[..Self::BYTES - 4]);
        header
    }

    /// First position behind the segment.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.slots) * self.segment_bytes
    }

    /// Whether the positions that it claims are possible ones, so that nothing computed from them overflows.
    fn has_sound_place(&self) -> bool {
        let limit = log_limit(self.segment_bytes);
        let bytes = u64::from(self.slots) * self.segment_bytes;
        self.slots > 0
            && self.start.is_multiple_of(self.segment_bytes)
            && self.start.checked_add(bytes).is_some_and(|end| end <= limit)
            && self.previous_end <= self.start
    }

    /// Reads and checks the header of the file of segment `number`.
    pub(crate) fn read(file: &dyn StorageFile, identity: &Identity, number: u64) -> Result<Self> {
        let mut bytes = [0; Self::BYTES];
        let length = file.length()?;
        if length < Self::BYTES as u64 {
            return Err(Damage::new("a segment header", format!("a file of {length} bytes")).at(
                "segment",
                file.path(),
                0,
            ));
        }
        file.read_exact_at(&mut bytes, 0)?;
        let header = Self::decode(&bytes);
        let actual = crc32c(&bytes[..Self::BYTES - 4]);
        let damage = if header.magic != MAGIC || header.checksum != actual {
            Damage::new("a segment header with a matching checksum", format!("checksum {actual:08x}"))
        } else if header.format_version != FORMAT_VERSION {
            return Err(Error::FormatVersion {
                path: file.path(),
                found: header.format_version,
                supported: FORMAT_VERSION,
            });
        } else if header.database_id != identity.database_id {
            return Err(Error::ForeignFile { path: file.path() });
        } else if header.number != number || header.segment_bytes != identity.segment_bytes {
            Damage::new(format!("segment {number}"), format!("segment {}", header.number))
        } else if !header.has_sound_place() {
            Damage::new("a place inside the log", format!("{} slots from {}", header.slots, header.start))
        } else if length < header.end() - header.start {
            let expected = header.end() - header.start;
            Damage::new(format!("{expected} bytes"), format!("a file of {length} bytes"))
        } else {
            return Ok(header);
        };
        Err(damage.at("segment", file.path(), 0))
    }
}

/// The file name of a segment.
pub(crate) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:010}")
}

/// The number in a segment's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// One file of the log, mapped.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) start: u64,
    /// First position behind it.
    pub(crate) end: u64,
    /// Where the log ended in the segment before.
    pub(crate) previous_end: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    map: Map,
}

impl Segment {
    /// Maps the file whose sound header is `header`.
    pub(crate) fn map(file: Arc<dyn StorageFile>, header: &SegmentHeader) -> Result<Self> {
        let bytes = u64::from(header.slots) * header.segment_bytes;
        let map = file.map(bytes)?;
        Ok(Self {
            number: header.number,
            start: header.start,
            end: header.start + bytes,
            previous_end: header.previous_end,
            file,
            map,
        })
    }
}

/// From position to memory.
#[derive(Debug)]
pub(crate) struct SegmentTable {
    /// Address of each `segment_bytes` of the log; null where no segment is.
    bases: Box<[AtomicPtr<u8>; SLOT_LIMIT as usize]>,
    shift: u32,
    /// The bits of a position that lead on from such an address.
    mask: u64,
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
}

impl SegmentTable {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        debug_assert!(segment_bytes.is_power_of_two());
        // SAFETY: the all-zero bit pattern is the null `AtomicPtr`. Zeroed memory is mapped lazily, so
        // that the unused part of the table takes no memory.
        let bases = unsafe { Box::new_zeroed().assume_init() };
        Self { bases, shift: segment_bytes.trailing_zeros(), mask: segment_bytes - 1, segments: Mutex::default() }
    }

    /// Adds a segment; the caller checked that it ends below the limits.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        let base = segment.map.as_ptr().cast_mut();
        let slots = (segment.start >> self.shift)..(segment.end >> self.shift);
        for (slot, index) in slots.zip(0usize..) {
            let address = base.wrapping_add(index << self.shift);
            self.bases[slot as usize].store(address, probe::order("segment-joins", Ordering::Release));
        }
        self.segments.lock().insert(segment.start, segment);
    }

    /// Takes a segment out; its memory goes when the last value that holds it does.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Segment>> {
        let mut segments = self.segments.lock();
        let start = segments.values().find(|segment| segment.number == number)?.start;
        let segment = segments.remove(&start)?;
        if !probe::skip("segment-leaves") {
            for slot in (segment.start >> self.shift)..(segment.end >> self.shift) {
                self.bases[slot as usize].store(ptr::null_mut(), Ordering::Release);
            }
        }
        Some(segment)
    }

    /// The segment that covers a position. Takes a lock: not for the read path.
    pub(crate) fn segment_of(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.lock();
        let (_, segment) = segments.range(..=position).next_back()?;
        (position < segment.end).then(|| segment.clone())
    }

    /// All segments, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.lock().values().cloned().collect()
    }

    /// Brings the front of a record into the cache.
    #[inline]
    pub(crate) fn prefetch(&self, position: u64) {
        let Some(base) = self.base(position) else { return };
        let address = base.wrapping_add((position & self.mask) as usize);
        crate::prefetch::line(address);
        crate::prefetch::line(address.wrapping_add(64));
    }

    /// `length` bytes from `position`; `None` where no segment has them.
    ///
    /// # Safety
    /// - The bytes are part of a record that was published to this thread.
    /// - For the returned lifetime a pin (or the commit lock) keeps its segment in the table (invariant L1).
    #[inline(always)]
    pub(crate) unsafe fn bytes(&self, position: u64, length: usize) -> Option<&[u8]> {
        let base = self.base(position)?;
        let offset = (position & self.mask) as usize;
        if offset + length > 1usize << self.shift {
            return self.bytes_across_slots(position, length);
        }
        // SAFETY: the slot of `segment_bytes` at `base` is mapped while its segment is in the table; bytes of a
        // published record are not written any more.
        Some(unsafe { std::slice::from_raw_parts(base.add(offset), length) })
    }

    /// Where the record at `position` begins, if `room` bytes from there lie in one slot of the log: all of them are mapped.
    ///
    /// # Safety
    /// As for [`SegmentTable::bytes`], of the bytes that are read through the pointer.
    #[inline(always)]
    pub(crate) unsafe fn start(&self, position: u64, room: usize) -> Option<*const u8> {
        debug_assert!(room > 0);
        let offset = (position & self.mask) as usize;
        let base = self.base(position).filter(|_| offset + (room - 1) <= self.mask as usize)?;
        // SAFETY: the slot of `segment_bytes` at `base` is mapped while its segment is in the table.
        Some(unsafe { base.add(offset) })
    }

    /// [`SegmentTable::bytes`] for the rare record that crosses from one slot into the next, in a segment of several.
    #[cold]
    fn bytes_across_slots(&self, position: u64, length: usize) -> Option<&[u8]> {
        let segment = self.segment_of(position)?;
        let offset = (position - segment.start) as usize;
        if offset + length > (segment.end - segment.start) as usize && !probe::skip("segment-end") {
            return None;
        }
        // SAFETY: inside the segment's map; the caller of `bytes` keeps it in the table, and the record is not
        // written any more.
        Some(unsafe { std::slice::from_raw_parts(segment.map.as_ptr().add(offset), length) })
    }

    /// Path and offset of a position, for errors.
    #[cold]
    pub(crate) fn place(&self, storage: &dyn Storage, position: u64) -> (PathBuf, u64) {
        match self.segment_of(position) {
            Some(segment) => (segment.file.path(), position - segment.start),
            None => (storage.path(), position),
        }
    }

    #[inline(always)]
    fn base(&self, position: u64) -> Option<*mut u8> {
        let base = self.bases.get((position >> self.shift) as usize)?.load(Ordering::Acquire);
        (!base.is_null()).then_some(base)
    }
}
