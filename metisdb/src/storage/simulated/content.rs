//! The bytes of one simulated file: sparse, and at a stable address while mapped.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    io,
    ops::Range,
    ptr::NonNull,
    sync::Arc,
};

use super::super::map::{Map, Region, checked_length};

/// Unit in which a simulated file takes space. Maps start at a multiple of it, as real ones do.
pub(super) const BLOCK: usize = 4096;

/// Zeroed memory that the system backs with pages only where it is touched.
struct Memory {
    allocation: NonNull<u8>,
    layout: Layout,
    /// Start of the content: the first block boundary of the allocation. Asking the allocator for
    /// that alignment would make it clear the memory by hand, and so touch all of it.
    address: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the memory is owned, and moving the owner does not move it.
unsafe impl Send for Memory {}
// SAFETY: `Memory` offers no access of its own. `Content` writes under `&mut` and reads under `&`;
// besides it only maps see the memory, and who reads through a map vouches that nobody writes there.
unsafe impl Sync for Memory {}

impl Memory {
    fn zeroed(capacity: usize) -> io::Result<Self> {
        let layout = capacity
            .checked_add(BLOCK)
            .and_then(|bytes| Layout::from_size_align(bytes, align_of::<u64>()).ok())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        // SAFETY: the layout has at least one block.
        let allocation = unsafe { alloc_zeroed(layout) };
        let allocation = NonNull::new(allocation).ok_or(io::ErrorKind::OutOfMemory)?;
        let start = allocation.addr().get();
        let skipped = start.next_multiple_of(BLOCK) - start;
        // SAFETY: fewer bytes than one block are skipped, and the allocation has one more than
        // `capacity`.
        let address = unsafe { allocation.add(skipped) };
        Ok(Self { allocation, layout, address, capacity })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeroed`, and nobody else has a share in it any more.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
    }
}

impl Region for Memory {}

/// Which blocks of a file take space.
#[derive(Clone, Default)]
struct Blocks {
    words: Vec<u64>,
}

impl Blocks {
    fn contains(&self, block: usize) -> bool {
        self.words.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn insert(&mut self, block: usize) {
        if self.words.len() <= block / 64 {
            self.words.resize(block / 64 + 1, 0);
        }
        self.words[block / 64] |= 1 << (block % 64);
    }

    fn remove(&mut self, block: usize) {
        self.words[block / 64] &= !(1 << (block % 64));
    }

    fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn insert_all(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    fn iter_from(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate().skip(first / 64);
        words
            .filter(|(_, word)| **word != 0)
            .flat_map(|(index, _)| index * 64..index * 64 + 64)
            .filter(move |block| *block >= first && self.contains(*block))
    }
}

/// A file's bytes and length. Bytes beyond the length are zero, and take no space.
pub(super) struct Content {
    memory: Option<Arc<Memory>>,
    length: usize,
    blocks: Blocks,
}

impl Content {
    pub(super) fn empty() -> Self {
        Self { memory: None, length: 0, blocks: Blocks::default() }
    }

    /// A copy with memory of its own.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        let mut copy = Self::empty();
        copy.set_length(self.length())?;
        copy.take_blocks(self);
        Ok(copy)
    }

    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.blocks.count() * BLOCK as u64
    }

    /// How many bytes of space a write of the range would take in addition.
    pub(super) fn missing_bytes(&self, range: Range<u64>) -> u64 {
        let missing = blocks_of(range).filter(|block| !self.blocks.contains(*block)).count();
        (missing * BLOCK) as u64
    }

    /// Makes the range take space. It lies inside the length.
    pub(super) fn reserve(&mut self, range: Range<u64>) {
        blocks_of(range).for_each(|block| self.blocks.insert(block));
    }

    /// Makes whatever takes space in `other`, a file of the same length, take space here too.
    pub(super) fn reserve_as(&mut self, other: &Self) {
        self.blocks.insert_all(&other.blocks);
    }

    /// Sets the length.
    ///
    /// # Errors
    /// Where there is no memory for it, or the bytes would have to move while they are mapped.
    pub(super) fn set_length(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if length > self.capacity() {
            self.grow(length)?;
        } else if length < self.length {
            self.clear_from(length);
        }
        self.length = length;
        Ok(())
    }

    /// Writes bytes inside the length.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.length(), "a write up to {end} in a file of {} bytes", self.length);
        self.reserve(offset..end);
        if let Some(memory) = &self.memory {
            // SAFETY: the range is inside the length, which is inside the memory. Nobody else writes,
            // as `self` is borrowed mutably, and nobody reads these bytes through a map: whoever does
            // so vouches that they are no longer written.
            unsafe {
                let target = memory.address.as_ptr().add(offset as usize);
                target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
    }

    /// Reads bytes inside the length.
    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.length() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(memory) = &self.memory {
            // SAFETY: the range is inside the length, which is inside the memory, and nobody writes
            // while `self` is borrowed.
            unsafe {
                let source = memory.address.as_ptr().add(offset as usize);
                bytes.as_mut_ptr().copy_from_nonoverlapping(source, bytes.len());
            }
        }
        Ok(())
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        for block in self.blocks.iter_from(0) {
            let range = block * BLOCK..self.length.min((block + 1) * BLOCK);
            self.read(&mut bytes[range.clone()], range.start as u64).expect("inside the length");
        }
        bytes
    }

    /// Calls `visit` with the number and the bytes of every block that is not all zero.
    pub(super) fn for_each_written_block(&self, mut visit: impl FnMut(usize, &[u8])) {
        let mut bytes = [0; BLOCK];
        for block in self.blocks.iter_from(0) {
            let filled = &mut bytes[..BLOCK.min(self.length - block * BLOCK)];
            self.read(filled, (block * BLOCK) as u64).expect("inside the length");
            if filled.iter().any(|byte| *byte != 0) {
                visit(block, filled);
            }
        }
    }

    /// Maps the first `length` bytes.
    pub(super) fn map(&self, length: u64) -> io::Result<Map> {
        let length = checked_length(length, self.length())?;
        let memory = match &self.memory {
            Some(memory) => Arc::clone(memory),
            None => Arc::new(Memory::zeroed(0)?),
        };
        // SAFETY: the length is inside the memory, which stays where it is until its last owner is
        // gone: `grow` does not replace the memory while a map has a share in it.
        Ok(unsafe { Map::new(memory.address.as_ptr(), length, memory) })
    }

    fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.capacity)
    }

    /// Moves the bytes into memory for at least `length`.
    fn grow(&mut self, length: usize) -> io::Result<()> {
        if self.memory.as_mut().is_some_and(|memory| Arc::get_mut(memory).is_none()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a mapped file of a simulated disk cannot outgrow its memory",
            ));
        }
        let capacity = length.checked_next_power_of_two().ok_or(io::ErrorKind::FileTooLarge)?;
        let memory = Memory::zeroed(capacity.max(BLOCK))?;
        let old = std::mem::replace(self, Self { memory: Some(Arc::new(memory)), ..Self::empty() });
        self.length = old.length;
        self.take_blocks(&old);
        Ok(())
    }

    /// Copies what takes space in `source`, which is not longer and not this file.
    fn take_blocks(&mut self, source: &Self) {
        if let (Some(to), Some(from)) = (&self.memory, &source.memory) {
            for block in source.blocks.iter_from(0) {
                // SAFETY: memories have whole blocks, and a block that takes space begins inside the
                // length, hence inside both of them. They are two allocations; `self` is borrowed
                // mutably and has not been mapped, and nobody writes to `source` while it is borrowed.
                unsafe {
                    let target = to.address.as_ptr().add(block * BLOCK);
                    target.copy_from_nonoverlapping(from.address.as_ptr().add(block * BLOCK), BLOCK);
                }
            }
        }
        self.blocks = source.blocks.clone();
    }

    /// Zeroes everything from `length` on and gives up its whole blocks.
    fn clear_from(&mut self, length: usize) {
        let Some(memory) = &self.memory else { return };
        let cut: Vec<usize> = self.blocks.iter_from(length / BLOCK).collect();
        for block in cut {
            let start = length.max(block * BLOCK);
            // SAFETY: the block begins inside the old length, hence lies in the memory. Nobody else
            // writes while `self` is borrowed mutably, and a file is not cut below what is read
            // through its maps.
            unsafe { memory.address.as_ptr().add(start).write_bytes(0, (block + 1) * BLOCK - start) };
            if start == block * BLOCK {
                self.blocks.remove(block);
            }
        }
    }
}

/// The blocks that the range touches.
fn blocks_of(range: Range<u64>) -> Range<usize> {
    if range.is_empty() {
        return 0..0;
    }
    range.start as usize / BLOCK..(range.end as usize).div_ceil(BLOCK)
}
