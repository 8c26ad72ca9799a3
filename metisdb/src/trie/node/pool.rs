//! Memory of branches: cells of a few sizes, in blocks that hold one size each.
//!
//! A chain's block changes tens of thousands of branches, each of another length and with another life. A general allocator cuts and joins
//! its free memory for every one of them, and reads the neighbours of each for that: two fifths of the time of a block of updates
//! (`spec/decisions/0011`). Here a branch takes the next free cell of its size, and leaves its cell to the next branch of that size.
//!
//! ```text
//!             take                      all cells free again             all blocks free again
//! region ------------> block of a size ----------------------> free block -------------------> given back
//! ```
//!
//! The pool is one for the process, as its allocator is: branches are shared by whatever holds them. As many
//! regions as are in use are kept beside them, and the rest goes back to the system.
//!
//! Invariants:
//! * M1: a block's cells are of one size as long as any of them is in use, so that who gives one back reads the size without a lock.
//! * M2: a block is in the list of its size exactly if a cell of it is free and one is in use.
//!
//! Lock order: those of the sizes, in their order, then that of the regions. Each is held for a few instructions, but where a region comes or
//! goes; by `fork`, all of them.

use std::{
    alloc::{Layout, handle_alloc_error},
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[cfg(not(miri))]
use crate::anonymous::AnonymousMap;

/// Cells begin at cache lines, and are so many of them long.
pub(super) const UNIT_BYTES: usize = 64;
/// Cells of 1 to so many units.
const SIZES: usize = 24;
/// The most bytes that a cell can have.
pub(super) const MOST_BYTES: usize = SIZES * UNIT_BYTES;
/// Blocks begin at multiples of their length: so a cell's address tells its block.
const BLOCK_BYTES: usize = if cfg!(miri) { 8 << 10 } else { 64 << 10 };
/// Blocks of a region.
const BLOCKS: usize = if cfg!(miri) { 4 } else { 32 };
const REGION_BYTES: usize = BLOCKS * BLOCK_BYTES;

/// The first bytes of a block.
#[repr(C, align(64))]
struct Block {
    /// Length of its cells. It stands apart from what is borrowed under the lock of a size: others read it meanwhile (M1).
    units: u32,
    books: Books,
}

/// What is in use of a block: the property of whoever holds the lock of its size.
struct Books {
    /// How many it has.
    cells: u32,
    in_use: u32,
    /// Cells from this one on were never in use.
    fresh: u32,
    /// Free cells that were in use.
    free: *mut FreeCell,
    next: *mut Block,
    before: *mut Block,
}

/// What a free cell holds.
struct FreeCell {
    next: *mut FreeCell,
}

/// The blocks of one size that have free cells and others.
struct Size {
    first: *mut Block,
}

// SAFETY: what it leads to is the property of whoever holds its lock, whichever thread that is.
unsafe impl Send for Size {}

/// Memory of [`BLOCKS`] blocks.
struct Region {
    memory: Memory,
    /// Which blocks are free.
    free: u32,
}

#[cfg(not(miri))]
type Memory = AnonymousMap;
#[cfg(miri)]
type Memory = self::heap::Heap;

static POOL: [Mutex<Size>; SIZES] = [const { Mutex::new(Size { first: ptr::null_mut() }) }; SIZES];
static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());

const _: () = assert!(size_of::<Block>() == UNIT_BYTES, "cells begin at units");

const ALL_FREE: u32 = ((1_u64 << BLOCKS) - 1) as u32;

/// The bytes that a cell for so many bytes takes, at most [`MOST_BYTES`].
pub(super) fn cell_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of(UNIT_BYTES)
}

/// A cell of at least so many bytes, from 1 to [`MOST_BYTES`], at a multiple of [`UNIT_BYTES`]; they are not initialised.
pub(super) fn take(bytes: usize) -> NonNull<u8> {
    assert!((1..=MOST_BYTES).contains(&bytes), "no branch has {bytes} bytes");
    let units = bytes.div_ceil(UNIT_BYTES);
    #[cfg(all(unix, not(miri)))]
    fork::watch();
    let mut size = lock(&POOL[units - 1]);
    let mut block = size.first;
    if block.is_null() {
        block = take_block().as_ptr();
        // SAFETY: the block is nobody else's, aligned, and longer than its header; and it is in no list.
        unsafe {
            block.write(Block { units: units as u32, books: Books::new(units) });
            size.push(block);
        }
    }
    // SAFETY: the books of blocks in the list of a size are this lock's holder's, and have a free cell (M2): one that was in use, whose link
    // is initialised, or else a fresh one, which lies inside the block.
    unsafe {
        let books = &mut (*block).books;
        let cell = if books.free.is_null() {
            debug_assert!(books.fresh < books.cells, "M2");
            books.fresh += 1;
            block.add(1).cast::<u8>().add((books.fresh as usize - 1) * units * UNIT_BYTES)
        } else {
            let cell = books.free;
            books.free = (*cell).next;
            cell.cast()
        };
        books.in_use += 1;
        if books.is_full() {
            size.remove(block);
        }
        NonNull::new_unchecked(cell)
    }
}

/// Takes a cell back.
///
/// # Safety
/// [`take`] gave it, it was not given back since, and nothing refers to it any more.
pub(super) unsafe fn give_back(cell: NonNull<u8>) {
    let block: *mut Block = cell.as_ptr().map_addr(|address| address & !(BLOCK_BYTES - 1)).cast();
    // SAFETY: the cell lies in a block, which begins at a multiple of its length; its size does not change as long as a cell
    // is in use (M1), as this one is, and was written before the cell was given out.
    let units = unsafe { ptr::addr_of!((*block).units).read() };
    for unit in 0..units as usize {
        // SAFETY: the cell is so many units long, and nobody's any more. No instruction: it tells Miri that what was there is not to be read.
        unsafe { cell.cast::<MaybeUninit<[u8; UNIT_BYTES]>>().add(unit).write(MaybeUninit::uninit()) };
    }
    let mut size = lock(&POOL[units as usize - 1]);
    // SAFETY: the block is of this size, so its books are this lock's holder's. The cell is nobody's any more, and long enough for a link.
    unsafe {
        let books = &mut (*block).books;
        let was_full = books.is_full();
        cell.cast::<FreeCell>().write(FreeCell { next: books.free });
        books.free = cell.as_ptr().cast();
        books.in_use -= 1;
        match (books.in_use, was_full) {
            (0, was_full) => {
                if !was_full {
                    size.remove(block);
                }
                give_block_back(NonNull::new_unchecked(block));
            }
            (_, true) => size.push(block),
            (_, false) => {}
        }
    }
}

impl Books {
    /// Those of a block with cells of so many units, none of them in use.
    fn new(units: usize) -> Self {
        let cells = (BLOCK_BYTES - size_of::<Block>()) / (units * UNIT_BYTES);
        let (next, before) = (ptr::null_mut(), ptr::null_mut());
        Self { cells: cells as u32, in_use: 0, fresh: 0, free: ptr::null_mut(), next, before }
    }

    fn is_full(&self) -> bool {
        self.in_use == self.cells
    }
}

impl Size {
    /// # Safety
    /// The block is of this size, and in no list.
    unsafe fn push(&mut self, block: *mut Block) {
        // SAFETY: the books of blocks of this size are this lock's holder's.
        unsafe {
            ((*block).books.next, (*block).books.before) = (self.first, ptr::null_mut());
            if !self.first.is_null() {
                (*self.first).books.before = block;
            }
        }
        self.first = block;
    }

    /// # Safety
    /// The block is in this list.
    unsafe fn remove(&mut self, block: *mut Block) {
        // SAFETY: the books of blocks of this size are this lock's holder's; those that the block links to are in the same list.
        unsafe {
            let (next, before) = ((*block).books.next, (*block).books.before);
            if !next.is_null() {
                (*next).books.before = before;
            }
            if before.is_null() {
                self.first = next;
            } else {
                (*before).books.next = next;
            }
        }
    }
}

/// Nothing is left undone where a thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A free block.
fn take_block() -> NonNull<Block> {
    let mut regions = lock(&REGIONS);
    // Of a region that is in use already: so others become free as a whole.
    let index = regions.iter().position(|region| region.free != 0 && region.free != ALL_FREE);
    let index = index.or_else(|| regions.iter().position(|region| region.free != 0)).unwrap_or_else(|| {
        let Ok(memory) = Memory::of_huge_pages(REGION_BYTES) else {
            handle_alloc_error(Layout::from_size_align(REGION_BYTES, BLOCK_BYTES).expect("a power of two"))
        };
        regions.push(Region { memory, free: ALL_FREE });
        regions.len() - 1
    });
    let region = &mut regions[index];
    let number = region.free.trailing_zeros() as usize;
    region.free &= !(1 << number);
    // SAFETY: the region has that many blocks.
    unsafe { region.memory.start().add(number * BLOCK_BYTES).cast() }
}

/// Takes a block back none of whose cells is in use.
fn give_block_back(block: NonNull<Block>) {
    let mut regions = lock(&REGIONS);
    let address = block.addr().get();
    let offset = |region: &Region| address.wrapping_sub(region.memory.start().addr().get());
    let Some(region) = regions.iter_mut().find(|region| offset(region) < REGION_BYTES) else {
        unreachable!("blocks lie in regions")
    };
    region.free |= 1 << (offset(region) / BLOCK_BYTES);
    if region.free == ALL_FREE {
        give_regions_back(&mut regions);
    }
}

/// Keeps as many regions that nobody uses as are in use, and one more.
fn give_regions_back(regions: &mut Vec<Region>) {
    let is_free = |region: &Region| region.free == ALL_FREE;
    while 2 * regions.iter().filter(|region| is_free(region)).count() > regions.len() + 1 {
        let index = regions.iter().position(is_free).unwrap_or_default();
        regions.swap_remove(index);
    }
}

#[cfg(all(unix, not(miri)))]
mod fork;

#[cfg(miri)]
mod heap {
    use std::{
        alloc::{Layout, alloc, dealloc},
        io,
        ptr::NonNull,
    };

    /// As `AnonymousMap`, from the heap, which Miri looks at.
    pub(super) struct Heap {
        start: NonNull<u8>,
        layout: Layout,
    }

    // SAFETY: it owns its memory alone, whichever thread holds it; it gives out only the address.
    unsafe impl Send for Heap {}

    impl Heap {
        pub(super) fn of_huge_pages(bytes: usize) -> io::Result<Self> {
            let layout = Layout::from_size_align(bytes, bytes).map_err(io::Error::other)?;
            // SAFETY: a region has a length.
            let start = NonNull::new(unsafe { alloc(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { start, layout })
        }

        pub(super) fn start(&self) -> NonNull<u8> {
            self.start
        }
    }

    impl Drop for Heap {
        fn drop(&mut self) {
            // SAFETY: allocated in `of_huge_pages` with this layout.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

#[cfg(test)]
mod tests;
