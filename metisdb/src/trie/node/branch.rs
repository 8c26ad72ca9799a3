//! A branch in memory: one run of bytes in a cell of the pool, shared and counted.
//!
//! ```text
//! | header, 64 bytes | branches in memory that it leads to | entries |
//! ```

use std::{
    fmt, mem,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Written,
    children::{Children, ChildrenView, ENTRY_BYTES, Entry, Kinds},
    pool,
};
use crate::{
    prefetch, probe,
    trie::{commitment::BranchView, nibbles::Nibbles},
};

/// An inner node with its nibbles since its parent; at least two children. It is immutable but for its place in the arena; cloning shares it.
pub(crate) struct Branch(NonNull<Header>);

/// What is looked at when the parent is copied comes first; the bytes behind it are what its numbers say.
#[repr(C, align(64))]
struct Header {
    /// How many share it.
    holders: AtomicU64,
    /// Where a checkpoint wrote or will write it.
    written: Written,
    kinds: Kinds,
    /// How many branches in memory it leads to.
    branches: u8,
    prefix: Nibbles,
}

const _: () = assert!(size_of::<Header>() == pool::UNIT_BYTES && align_of::<Header>() == pool::UNIT_BYTES);
/// Sixteen leaves of accounts, each with the topmost node of its storage.
const _: () = assert!(
    size_of::<Header>() + 16 * size_of::<Branch>() + 32 * ENTRY_BYTES <= pool::MOST_BYTES,
    "every branch fits in a cell"
);

// SAFETY: what is shared is immutable, or atomic, and is freed by the last holder, whichever thread that is.
unsafe impl Send for Branch {}
// SAFETY: as above.
unsafe impl Sync for Branch {}

/// Lines of a branch of ten children that lead to leaves.
const PREFETCHED_LINES: usize = 7;

impl Branch {
    /// A branch that is in memory only.
    pub(crate) fn new(prefix: Nibbles, mut children: Children) -> Self {
        let view = children.view();
        debug_assert!(view.mask().count_ones() > 1);
        let (kinds, branches) = (view.kinds(), view.branches.len());
        // As many as whoever looks at it will count.
        let given_entries = &view.entries[..kinds.entries()];
        let entries = given_entries.len();
        let header =
            Header { holders: AtomicU64::new(1), written: Written::default(), kinds, branches: branches as u8, prefix };
        let cell = pool::take(bytes_of(branches, entries)).cast::<Header>();
        // SAFETY: the cell has room for header, branches and entries, is aligned for the header, and nobody else knows it. The branches are
        // moved: the vector is left without them.
        unsafe {
            cell.write(header);
            let (own_branches, own_entries) = (branches_of(cell), entries_of(cell, branches));
            ptr::copy_nonoverlapping(given_entries.as_ptr(), own_entries, entries);
            let given = children.branches_mut();
            ptr::copy_nonoverlapping(given.as_ptr(), own_branches, branches);
            given.set_len(0);
        }
        Self(cell)
    }

    fn header(&self) -> &Header {
        // SAFETY: it was written before the branch was shared, and lives as long as a holder.
        unsafe { self.0.as_ref() }
    }

    /// Where a checkpoint wrote or will write it.
    pub(crate) fn written(&self) -> &Written {
        &self.header().written
    }

    /// The nibbles since its parent.
    pub(crate) fn prefix(&self) -> &Nibbles {
        &self.header().prefix
    }

    /// Its children.
    #[inline]
    pub(crate) fn children(&self) -> ChildrenView<'_> {
        let header = self.header();
        let (kinds, branches) = (header.kinds, usize::from(header.branches));
        // SAFETY: so many branches and entries were written behind the header, and stay as long as a holder, as `self` is.
        unsafe {
            ChildrenView {
                kinds,
                entries: slice::from_raw_parts(entries_of(self.0, branches), kinds.entries()),
                branches: slice::from_raw_parts(branches_of(self.0), branches),
            }
        }
    }

    /// What hashing needs of it.
    pub(crate) fn view(&self) -> BranchView<'_> {
        BranchView { prefix: self.prefix(), children: self.children() }
    }

    /// How many bytes of memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let header = self.header();
        pool::cell_bytes(bytes_of(usize::from(header.branches), header.kinds.entries()))
    }

    /// Brings what is looked at first into the cache.
    pub(crate) fn prefetch(&self) {
        prefetch::line(self.0.as_ptr().cast());
    }

    /// Brings all of it into the cache, as most branches are long.
    pub(crate) fn prefetch_whole(&self) {
        for line in 0..PREFETCHED_LINES {
            prefetch::line(self.0.as_ptr().cast::<u8>().wrapping_add(line * pool::UNIT_BYTES));
        }
    }

    /// The same for all that share it, and for no other.
    #[cfg(test)]
    pub(crate) fn address(&self) -> u64 {
        self.0.addr().get() as u64
    }
}

fn bytes_of(branches: usize, entries: usize) -> usize {
    size_of::<Header>() + branches * size_of::<Branch>() + entries * ENTRY_BYTES
}

/// # Safety
/// The header stands in a cell.
unsafe fn branches_of(cell: NonNull<Header>) -> *mut Branch {
    // SAFETY: cells are longer than the header.
    unsafe { cell.as_ptr().add(1).cast() }
}

/// # Safety
/// The header stands in a cell that has room for so many branches.
unsafe fn entries_of(cell: NonNull<Header>, branches: usize) -> *mut Entry {
    // SAFETY: said so by the caller.
    unsafe { branches_of(cell).add(branches).cast() }
}

impl Clone for Branch {
    fn clone(&self) -> Self {
        // Whoever has a holder can make another one: nothing has to be ordered. 2^64 of them fit in no memory.
        if !probe::skip("branch-count") {
            self.header().holders.fetch_add(1, Ordering::Relaxed);
        }
        Self(self.0)
    }
}

impl Drop for Branch {
    /// Each step down consumes a nibble: at most 128 of them.
    fn drop(&mut self) {
        let holders = &self.header().holders;
        if holders.fetch_sub(1, probe::order("branch-release", Ordering::Release)) != 1 {
            return;
        }
        // What others did with it happened before they let go, and so before this. Not a fence: the thread sanitizer does not know them.
        holders.load(probe::order("branch-acquire", Ordering::Acquire));
        // SAFETY: this was the last holder. The branches were moved here when it was made, and are dropped once; nothing else needs dropping.
        unsafe {
            let branches = usize::from(self.header().branches);
            self.children().branches.iter().for_each(Self::prefetch);
            ptr::slice_from_raw_parts_mut(branches_of(self.0), branches).drop_in_place();
            pool::give_back(self.0.cast());
        }
    }
}

const _: () = assert!(!mem::needs_drop::<Header>() && !mem::needs_drop::<Entry>());

impl fmt::Debug for Branch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, children) = (self.prefix(), self.children());
        formatter.debug_struct("Branch").field("prefix", prefix).field("children", &children).finish()
    }
}

#[cfg(test)]
mod tests;
