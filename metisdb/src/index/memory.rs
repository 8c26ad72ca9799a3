//! Memory of the lines: chunks of doubling size at stable addresses.

#[cfg(not(loom))]
use std::alloc::alloc_zeroed;
use std::{
    alloc::{Layout, dealloc},
    io,
    ptr::{self, NonNull},
};

use super::entry::Entry;
use crate::{
    anonymous::AnonymousMap,
    probe,
    sync::{self, AtomicPtr, AtomicU64, Mutex, Ordering},
};

/// Slots of a line.
pub(super) const SLOTS: usize = sync::size(8, 2);

/// The slot that becomes the link to an overflow line when a ninth entry comes.
pub(super) const LINK_SLOT: usize = SLOTS - 1;

/// Bytes of a line.
pub(super) const LINE_BYTES: u64 = size_of::<Line>() as u64;

/// Places of the highest bit of a line's number, which tells its chunk.
const PLACES: usize = sync::size(64, 6);

/// Chunks below this size come from the heap: a map of its own would cost a whole page and two
/// system calls, too much for databases that hold next to nothing.
const MAP_FROM_BYTES: usize = 128 << 10;

/// Chunks from this size on are aligned for huge pages.
const HUGE_FROM_BYTES: usize = 4 << 20;

/// One cache line of eight entries.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line([AtomicU64; SLOTS]);

impl Line {
    /// The entry of a slot, and all that was stored before it.
    pub(super) fn get(&self, slot: usize) -> Entry {
        Entry(self.0[slot].load(Ordering::Acquire))
    }

    /// Stores an entry, after all that was stored before: see invariant 2 of the module.
    pub(super) fn set(&self, slot: usize, entry: Entry) {
        self.0[slot].store(entry.0, probe::order("index-store-order", Ordering::Release));
    }

    /// The slots themselves.
    pub(super) fn slots(&self) -> &[AtomicU64; SLOTS] {
        &self.0
    }
}

/// An array of lines that grows without moving.
///
/// The first chunk holds the first `2^base` lines, but at least two, every further chunk as many as all before it.
#[derive(Debug)]
pub(super) struct Chunks {
    base: u32,
    /// For each place of a line number's highest bit, where line 0 would be if the line's chunk reached down to it: so
    /// that one addition leads to any line. Null where there is no chunk yet.
    origins: [AtomicPtr<Line>; PLACES],
    blocks: Mutex<Vec<Block>>,
}

impl Chunks {
    /// An array of no lines whose first chunk will hold `2^base` lines.
    pub(super) fn new(base: u32) -> Self {
        let origins = std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        Self { base: base.max(1), origins, blocks: Mutex::new(Vec::new()) }
    }

    /// A line that [`Chunks::ensure`] has provided.
    #[inline(always)]
    pub(super) fn line(&self, number: u64) -> &Line {
        let origin = self.origins[place(number)].load(Ordering::Acquire);
        if origin.is_null() {
            not_reserved(number);
        }
        // SAFETY: an origin that is not null was stored by `ensure` with Release. It belongs to the chunk of all lines with
        // this highest bit, which were zeroed or since written, in a block that lives in `blocks` as long as `self`; and it lies
        // as many lines before the block's start as this chunk's first line has before it, so that the sum is line `number` of that
        // block. Lines are atomics, to which shared references may be held by any number of threads.
        unsafe { &*origin.wrapping_add(number as usize) }
    }

    /// Provides the lines below `lines`. Lines never used hold nothing but zeros and cost nothing.
    pub(super) fn ensure(&self, lines: u64) -> io::Result<()> {
        let (mut first, mut end) = (0, 1 << self.base);
        while first < lines {
            self.ensure_chunk(first, end)?;
            (first, end) = (end, 2 * end);
        }
        Ok(())
    }

    /// Provides the chunk of the lines from `first` to before `end`.
    fn ensure_chunk(&self, first: u64, end: u64) -> io::Result<()> {
        let origins = self.origins.get(place(first)..=place(end - 1)).ok_or(io::ErrorKind::OutOfMemory)?;
        let is_there = || origins.iter().all(|origin| !origin.load(Ordering::Acquire).is_null());
        if is_there() {
            return Ok(());
        }
        let mut blocks = self.blocks.lock();
        if !is_there() {
            let block = Block::new((end - first) as usize)?;
            let new = block.start().as_ptr().wrapping_sub(first as usize);
            // A block does not begin so low that what it holds, and no less before it, would reach down to address 0.
            debug_assert!(!new.is_null());
            blocks.push(block);
            for origin in origins {
                origin.store(new, Ordering::Release);
            }
        }
        Ok(())
    }
}

/// The place of the highest bit of a line's number; that of line 0 is 0.
#[inline(always)]
fn place(number: u64) -> usize {
    (number | 1).ilog2() as usize
}

#[cold]
fn not_reserved(number: u64) -> ! {
    panic!("line {number} was not reserved")
}

/// The zeroed memory of one chunk.
#[derive(Debug)]
enum Block {
    /// A small one, from the heap.
    Heap { start: NonNull<Line>, layout: Layout },
    /// A large one, of its own map, which the system fills with zeroed pages on first touch.
    Map(AnonymousMap),
}

// SAFETY: a block owns its memory alone, whichever thread holds it; it gives out only the address,
// and what lies there are atomics.
unsafe impl Send for Block {}

impl Block {
    /// Zeroed memory for `lines` lines, at least one.
    fn new(lines: usize) -> io::Result<Self> {
        let layout = Layout::array::<Line>(lines).map_err(io::Error::other)?;
        if cfg!(miri) || layout.size() < MAP_FROM_BYTES { Self::heap(layout) } else { Self::map(layout.size()) }
    }

    /// The model checker's atomics are not zeros: each is made by itself.
    #[cfg(loom)]
    fn heap(layout: Layout) -> io::Result<Self> {
        let lines: Box<[Line]> = (0..layout.size() / size_of::<Line>()).map(|_| Line::default()).collect();
        Ok(Self::Heap { start: NonNull::from(Box::leak(lines)).cast(), layout })
    }

    #[cfg(not(loom))]
    fn heap(layout: Layout) -> io::Result<Self> {
        // SAFETY: the layout has a size, since a chunk has at least one line.
        let memory = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self::Heap { start, layout })
    }

    /// The system's memory is aligned enough for lines.
    fn map(bytes: usize) -> io::Result<Self> {
        let map =
            if bytes >= HUGE_FROM_BYTES { AnonymousMap::of_huge_pages(bytes)? } else { AnonymousMap::new(bytes)? };
        Ok(Self::Map(map))
    }

    fn start(&self) -> NonNull<Line> {
        match self {
            Self::Heap { start, .. } => *start,
            Self::Map(map) => map.start().cast(),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Self::Heap { start, layout } = self {
            // SAFETY: allocated in `heap` with this layout and freed nowhere else; the array of
            // lines whose block this is is gone, and with it every reference to its lines.
            unsafe { dealloc(start.as_ptr().cast(), *layout) }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::anonymous::HUGE_PAGE_BYTES;

    #[test]
    fn lines_are_zeroed_distinct_and_stay() {
        for base in [0, 2, 5] {
            let chunks = Chunks::new(base);
            chunks.ensure(1).unwrap();
            let first: *const Line = chunks.line(0);
            let count = if cfg!(miri) { 100 } else { 5000 };
            chunks.ensure(count).unwrap();
            assert_eq!(first, ptr::from_ref(chunks.line(0)));
            for number in 0..count {
                let line = chunks.line(number);
                assert_eq!(line.get(3), Entry::EMPTY);
                line.set(3, Entry(number + 1));
            }
            for number in 0..count {
                assert_eq!(chunks.line(number).get(3), Entry(number + 1));
            }
        }
    }

    #[test]
    fn large_chunks_are_aligned_for_huge_pages() {
        if cfg!(miri) {
            return;
        }
        let chunks = Chunks::new(17);
        chunks.ensure(1 << 18).unwrap();
        for number in [0, 1 << 17] {
            assert_eq!(ptr::from_ref(chunks.line(number)).addr() % HUGE_PAGE_BYTES, 0);
            chunks.line(number + (1 << 17) - 1).set(7, Entry(1));
        }
    }

    #[test]
    #[should_panic(expected = "was not reserved")]
    fn a_line_beyond_the_chunks_is_refused() {
        let chunks = Chunks::new(2);
        chunks.ensure(4).unwrap();
        chunks.line(4);
    }
}
