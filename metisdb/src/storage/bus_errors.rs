//! Pages behind a map that the device cannot deliver.
//!
//! Reading such a page, or one behind the end of a file that was cut, raises SIGBUS. Where a [`Guard`] stands over the map, the handler
//! puts a page of zeros in its place, which is *lost* from then on, and lets the read go on. Whoever reads through a map
//! copies what it needs, asks [`is_lost`], and only then believes it. Every other SIGBUS goes to the handler that was there before.
//!
//! The handler touches atomics and makes system calls, nothing else: it may interrupt any instruction.
//!
//! Invariants:
//! * B1: a page is noted as lost before the zeros take its place: who has read zeros finds the note.
//! * B2: regions are never freed, only used again, so that the list of them can be walked at any time. What a region says counts only if it covers
//!   an address that is being read through a map, whose guard it then belongs to.
//! * B3: a region belongs to at most one guard. No lock says so: a child of `fork` would wait for ever for a thread that it does not have.

use std::{
    ffi::{c_int, c_void},
    mem, ptr,
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::probe;

/// The addresses of a guarded map.
#[derive(Debug)]
struct Region {
    /// Whether it belongs to a guard (B3).
    taken: AtomicBool,
    /// 0 while it guards nothing.
    start: AtomicUsize,
    end: AtomicUsize,
    /// A bit for each page, set where it is lost.
    lost: AtomicPtr<AtomicU64>,
    /// The region that was made before; set before this one is in the list.
    next: AtomicPtr<Self>,
}

/// All regions, the newest first.
static REGIONS: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());

/// Which pages may be lost: no region has to be looked at for the others. Apart from what changes often, since each read looks at it.
#[repr(align(128))]
struct Filter {
    any: AtomicBool,
    /// A bit for all pages whose numbers have the same end.
    pages: [AtomicU64; 1024],
}

static FILTER: Filter = Filter { any: AtomicBool::new(false), pages: [const { AtomicU64::new(0) }; 1024] };

impl Filter {
    fn bit(&self, page: usize) -> (&AtomicU64, u64) {
        (&self.pages[page / 64 % self.pages.len()], 1 << (page % 64))
    }

    fn insert(&self, page: usize) {
        let (word, bit) = self.bit(page);
        word.fetch_or(bit, Ordering::SeqCst);
        self.any.store(true, Ordering::SeqCst);
    }

    fn may_contain(&self, page: usize) -> bool {
        let (word, bit) = self.bit(page);
        word.load(Ordering::SeqCst) & bit != 0
    }
}

/// What was found when the handler was installed.
struct Found {
    previous: libc::sigaction,
    page_bytes: usize,
}

static FOUND: OnceLock<Found> = OnceLock::new();

/// Turns bus errors in a map into lost pages, until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    region: &'static Region,
    /// What the region's pointer leads to.
    _lost: Arc<[AtomicU64]>,
}

impl Guard {
    /// # Safety
    /// `length` bytes from `address` are a read-only map, from which nobody reads without going through it, and it is unmapped only
    /// after the guard is dropped.
    pub(super) unsafe fn new(address: *const u8, length: usize) -> Self {
        let pages = length.div_ceil(install().page_bytes);
        let lost: Arc<[AtomicU64]> = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let region = Region::take();
        region.end.store(address.addr() + length, Ordering::SeqCst);
        region.lost.store(Arc::as_ptr(&lost).cast::<AtomicU64>().cast_mut(), Ordering::SeqCst);
        region.start.store(address.addr(), Ordering::SeqCst);
        Self { region, _lost: lost }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.region.start.store(0, Ordering::SeqCst);
        self.region.taken.store(false, Ordering::SeqCst);
    }
}

impl Region {
    /// One that no guard has.
    fn take() -> &'static Self {
        regions().find(|region| !region.taken.swap(true, Ordering::SeqCst)).unwrap_or_else(Self::create)
    }

    /// A new one, taken.
    fn create() -> &'static Self {
        let region: &Self = Box::leak(Box::new(Self {
            taken: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            lost: AtomicPtr::default(),
            next: AtomicPtr::default(),
        }));
        let mut newest = REGIONS.load(Ordering::SeqCst);
        loop {
            region.next.store(newest, Ordering::SeqCst);
            let own = ptr::from_ref(region).cast_mut();
            match REGIONS.compare_exchange(newest, own, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return region,
                Err(newer) => newest = newer,
            }
        }
    }

    /// The word and the bit of the page at an address that is being read, if the region covers it.
    fn page(&'static self, address: usize, page_bytes: usize) -> Option<(&'static AtomicU64, u64)> {
        let start = self.start.load(Ordering::SeqCst);
        let (end, lost) = (self.end.load(Ordering::SeqCst), self.lost.load(Ordering::SeqCst));
        // Used again in between, it may have given the bounds of two maps, one that is gone.
        let is_one_map = start != 0 && self.start.load(Ordering::SeqCst) == start;
        if !is_one_map || !(start..end).contains(&address) {
            return None;
        }
        let page = (address - start) / page_bytes;
        // SAFETY: the address is being read, so its map is alive, and so is the guard that this region belongs to (B2), which
        // keeps a bit for each page. The reference is used within that read.
        Some((unsafe { &*lost.add(page / 64) }, 1 << (page % 64)))
    }
}

/// All regions, the newest first.
fn regions() -> impl Iterator<Item = &'static Region> {
    // SAFETY: pointers in the list are null or lead to regions, which are leaked.
    let follow = |link: &AtomicPtr<Region>| unsafe { link.load(Ordering::SeqCst).as_ref() };
    std::iter::successors(follow(&REGIONS), move |region: &&Region| follow(&region.next))
}

/// The word and the bit of the page at an address that is being read through a guarded map.
fn guarded_page(address: usize, page_bytes: usize) -> Option<(&'static AtomicU64, u64)> {
    regions().find_map(|region| region.page(address, page_bytes))
}

/// Whether a page of these bytes, which were read through a map, is lost: then they are not what is on the disk.
#[inline(always)]
pub(crate) fn is_lost(bytes: &[u8]) -> bool {
    // The bytes were read before the note is looked for (B1). No instruction on x86-64.
    fence(Ordering::Acquire);
    FILTER.any.load(Ordering::Relaxed) && covers_lost_page(bytes)
}

#[cold]
fn covers_lost_page(bytes: &[u8]) -> bool {
    let Some(Found { page_bytes, .. }) = FOUND.get() else { return false };
    let addresses = bytes.as_ptr_range();
    let (start, end) = (addresses.start.addr(), addresses.end.addr());
    let is_lost = |page: usize| {
        let noted = guarded_page(start.max(page * page_bytes), *page_bytes);
        noted.is_some_and(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    };
    let mut pages = start / page_bytes..end.div_ceil(*page_bytes);
    pages.any(|page| FILTER.may_contain(page) && is_lost(page)) && !probe::skip("lost-pages")
}

/// Installs the handler, once in the life of the process.
fn install() -> &'static Found {
    static INSTALLED: Once = Once::new();
    let found = FOUND.get_or_init(|| Found { previous: current_action(), page_bytes: rustix::param::page_size() });
    INSTALLED.call_once(|| {
        let mut action = found.previous;
        action.sa_sigaction = on_bus_error as *const () as usize;
        // The rest, the mask too, as whoever may be called next expects it.
        action.sa_flags = found.previous.sa_flags & libc::SA_NODEFER | libc::SA_SIGINFO | libc::SA_ONSTACK;
        set_action(&action);
    });
    found
}

fn current_action() -> libc::sigaction {
    // SAFETY: zeros are a value of this type: no handler, no flags, an empty mask.
    let mut action = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid for writing; no action is given.
    let status = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut action) };
    debug_assert_eq!(status, 0, "SIGBUS is a signal that can be handled");
    action
}

fn set_action(action: &libc::sigaction) {
    // SAFETY: the action is the default one, or a handler that keeps to what a handler may do.
    let status = unsafe { libc::sigaction(libc::SIGBUS, action, ptr::null_mut()) };
    debug_assert_eq!(status, 0, "SIGBUS is a signal that can be handled");
}

/// What the kernel calls, on the thread whose read failed.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(found) = FOUND.get() else { return };
    // SAFETY: the kernel hands over a valid description, which has an address for the codes of failed accesses.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    let is_failed_read = matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR);
    if !is_failed_read || !lose_page(address, found.page_bytes) {
        pass_on(&found.previous, signal, info, context);
    }
}

/// Notes the page at an address that is being read as lost, and puts zeros there, if it belongs to a guarded map.
fn lose_page(address: *mut c_void, page_bytes: usize) -> bool {
    let Some((word, bit)) = guarded_page(address.addr(), page_bytes) else { return false };
    // Each thread that meets the page makes every note itself: another one may have made only some of them yet (B1).
    word.fetch_or(bit, Ordering::SeqCst);
    FILTER.insert(address.addr() / page_bytes);
    let page = address.map_addr(|address| address / page_bytes * page_bytes);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the page is part of a read-only map that is guarded, and so is not unmapped while it is read (see `Guard::new`); whoever reads
    // it finds that it is lost. The kernel replaces it in one step.
    unsafe { mmap_anonymous(page, page_bytes, ProtFlags::READ, flags) }.is_ok()
}

/// Does what would have been done without the handler.
fn pass_on(previous: &libc::sigaction, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: as in `on_bus_error`.
    let was_sent = unsafe { (*info).si_code } <= 0;
    match previous.sa_sigaction {
        libc::SIG_IGN if was_sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            let default = libc::sigaction { sa_sigaction: libc::SIG_DFL, ..*previous };
            set_action(&default);
            // The instruction that failed is repeated, and ends the process. A signal that somebody sent is sent again.
            if was_sent {
                // SAFETY: may be called from a handler; takes no pointers.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: installed with this flag, it is a function of this type.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = unsafe { mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: installed without that flag, it is a function of this type.
            let handler: extern "C" fn(c_int) = unsafe { mem::transmute(handler) };
            handler(signal);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::thread;

    use super::*;

    /// The free regions stood behind a lock that another thread could hold when the process forked: the first map of the child waited for ever.
    /// Taken without one, none may have two guards.
    #[test]
    fn guards_share_no_region() {
        const PAGES: usize = 3;
        let page_bytes = install().page_bytes;
        let guard_again_and_again = || {
            // Read as any other memory: no page of it is lost.
            let memory = vec![0_u8; (PAGES + 1) * page_bytes];
            let map = memory.as_ptr().map_addr(|address| address.next_multiple_of(page_bytes));
            for _ in 0..2_000 {
                // SAFETY: nobody unmaps it before the guard is dropped, and it is read by nobody.
                let guard = unsafe { Guard::new(map, PAGES * page_bytes) };
                for page in 0..PAGES {
                    let found = guarded_page(map.addr() + page * page_bytes, page_bytes);
                    assert_eq!(found.map(|(_, bit)| bit), Some(1 << page), "it is guarded");
                }
                drop(guard);
                assert!(guarded_page(map.addr(), page_bytes).is_none(), "it is not any more");
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(guard_again_and_again))));
    }
}
