//! Memory of its own from the system, for what is too large or too long-lived for the allocator.

use std::{io, ptr::NonNull};

use memmap2::{MmapOptions, MmapRaw};

/// What the system maps as one page, if it can.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory, from the system and back to it. What is not touched takes none.
#[derive(Debug)]
pub(crate) struct AnonymousMap {
    start: NonNull<u8>,
    _map: MmapRaw,
}

// SAFETY: it owns its memory alone, whichever thread holds it; it gives out only the address.
unsafe impl Send for AnonymousMap {}

impl AnonymousMap {
    /// So many bytes, at the beginning of a page.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        Self::aligned(MmapRaw::from(reserved(bytes)?), 1)
    }

    /// So many bytes, at a multiple of [`HUGE_PAGE_BYTES`], and in huge pages where the system has them.
    pub(crate) fn of_huge_pages(bytes: usize) -> io::Result<Self> {
        let map = reserved(bytes + HUGE_PAGE_BYTES)?;
        #[cfg(target_os = "linux")]
        {
            // Only a hint: without huge pages its users are slower, not wrong.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Self::aligned(MmapRaw::from(map), HUGE_PAGE_BYTES)
    }

    fn aligned(map: MmapRaw, to: usize) -> io::Result<Self> {
        let memory = map.as_mut_ptr();
        let skip = memory.addr().next_multiple_of(to) - memory.addr();
        let start = NonNull::new(memory.wrapping_add(skip)).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, _map: map })
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// Reserved far ahead and seldom filled, it is not to count as memory before it is touched.
fn reserved(bytes: usize) -> io::Result<memmap2::MmapMut> {
    MmapOptions::new().len(bytes).no_reserve_swap().map_anon()
}
