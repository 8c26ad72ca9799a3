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

/// Chunks of one array: the first and 27 doublings.
const CHUNKS: usize = sync::size(28, 6);

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
/// Chunk 0 holds the first `2^base` lines, every further chunk as many as all before it.
#[derive(Debug)]
pub(super) struct Chunks {
    base: u32,
    starts: [AtomicPtr<Line>; CHUNKS],
    blocks: Mutex<Vec<Block>>,
}

impl Chunks {
    /// An array of no lines whose first chunk will hold `2^base` lines.
    pub(super) fn new(base: u32) -> Self {
        Self { base, starts: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), blocks: Mutex::new(Vec::new()) }
    }

    /// A line that [`Chunks::ensure`] has provided.
    #[inline]
    pub(super) fn line(&self, number: u64) -> &Line {
        let chunk = (u64::BITS - (number >> self.base).leading_zeros()) as usize;
        let offset = number - self.first_line(chunk);
        let start = self.starts[chunk].load(Ordering::Acquire);
        assert!(!start.is_null(), "line {number} was not reserved");
        // SAFETY: a start that is not null was stored by `ensure` with Release and points to the
        // zeroed or since written `chunk_lines(chunk)` lines of a block that lives in `blocks` as
        // long as `self`. `number` lies in this chunk, so `offset` is below that count. Lines are
        // atomics, to which shared references may be held by any number of threads.
        unsafe { &*start.add(offset as usize) }
    }

    /// Provides the lines below `lines`. Lines never used hold nothing but zeros and cost nothing.
    pub(super) fn ensure(&self, lines: u64) -> io::Result<()> {
        for (chunk, start) in self.starts.iter().enumerate() {
            if self.first_line(chunk) >= lines {
                return Ok(());
            }
            if !start.load(Ordering::Acquire).is_null() {
                continue;
            }
            let mut blocks = self.blocks.lock();
            if start.load(Ordering::Acquire).is_null() {
                let block = Block::new(self.chunk_lines(chunk))?;
                start.store(block.start().as_ptr(), Ordering::Release);
                blocks.push(block);
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// The first line of a chunk.
    #[inline]
    fn first_line(&self, chunk: usize) -> u64 {
        if chunk == 0 { 0 } else { 1 << (self.base as usize + chunk - 1) }
    }

    /// Number of lines of a chunk.
    fn chunk_lines(&self, chunk: usize) -> usize {
        1 << (self.base as usize + chunk.saturating_sub(1))
    }
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
