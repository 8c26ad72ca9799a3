//! Read-only regions of memory that show a file.

use std::{fmt, io, sync::Arc};

use memmap2::{Advice, Mmap};

#[cfg(target_os = "linux")]
use super::bus_errors::Guard;

/// What keeps the memory of a [`Map`] in place.
pub(super) trait Region: Send + Sync {}

/// The map of a file.
pub(super) struct FileRegion {
    /// Declared, and so dropped, before the map that it guards.
    #[cfg(target_os = "linux")]
    _guard: Option<Guard>,
    map: Mmap,
}

impl FileRegion {
    /// `guarded`: a page that cannot be read becomes a lost one, instead of the end of the process.
    pub(super) fn new(map: Mmap, guarded: bool) -> Self {
        // Records and nodes are read in no order. Without this the system reads megabytes around each page that is not in memory, which throws out
        // as much where there is not enough of it.
        let _only_a_hint = map.advise(Advice::Random);
        #[cfg(not(target_os = "linux"))]
        let _ = guarded;
        Self {
            // SAFETY: the map is read-only, readers go through `Map`s that hold this value, and the guard is dropped first.
            #[cfg(target_os = "linux")]
            _guard: guarded.then(|| unsafe { Guard::new(map.as_ptr(), map.len()) }),
            map,
        }
    }

    /// Where the map begins.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }
}

impl Region for FileRegion {}

/// The beginning of a file as read-only memory.
///
/// The address stays the same for the life of the map and of all its clones, also after the file
/// was removed. Later writes to the file show in the map.
#[derive(Clone)]
pub struct Map {
    address: *const u8,
    length: usize,
    _region: Arc<dyn Region>,
}

// SAFETY: the pointer is only an address inside the region, which is itself `Send` and `Sync` and
// which the map keeps alive; a map never writes through it.
unsafe impl Send for Map {}
// SAFETY: as for `Send`: shared maps only read, and whoever reads bytes through `Map::bytes` vouches
// that nobody writes them.
unsafe impl Sync for Map {}

impl Map {
    /// # Safety
    /// `length` bytes from `address` are readable at that place for as long as `region` lives.
    pub(super) unsafe fn new(address: *const u8, length: usize, region: Arc<dyn Region>) -> Self {
        Self { address, length, _region: region }
    }

    /// The address of the first byte.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.address
    }

    /// Length in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes `[offset, offset + length)`.
    ///
    /// # Panics
    /// If they are not all inside the map.
    ///
    /// # Safety
    /// None of these bytes is written, and the file is not cut below them, for as long as the
    /// returned reference lives.
    #[inline]
    pub unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(
            offset <= self.length && length <= self.length - offset,
            "{length} bytes at {offset} are outside a map of {} bytes",
            self.length
        );
        // SAFETY: the range is inside the map, whose bytes stay readable while `self` keeps the
        // region alive; that they do not change is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address.add(offset), length) }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Map")
            .field("address", &self.address)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The length of a map of `length` bytes of a file that has `available`.
pub(super) fn checked_length(length: u64, available: u64) -> io::Result<usize> {
    if length > available {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("a map of {length} bytes is longer than the file of {available}"),
        ));
    }
    usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
