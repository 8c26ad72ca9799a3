//! Keeps large blocks of zeroed memory cheap.
//!
//! An open database has a table of 8 MiB of which it touches a page or two. glibc maps the first such block, but takes the next ones from its
//! heap, where they have to be cleared by hand: a third of the time that a crash state takes.

use std::sync::Once;

/// Makes the allocator map every block from 1 MiB on, and so leave the clearing of pages that nobody touches.
pub(crate) fn map_large_blocks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            use std::ffi::c_int;
            unsafe extern "C" {
                fn mallopt(parameter: c_int, value: c_int) -> c_int;
            }
            const M_MMAP_THRESHOLD: c_int = -3;
            // SAFETY: glibc's `mallopt` takes any two numbers, at any time, and changes only where later blocks come from.
            unsafe { mallopt(M_MMAP_THRESHOLD, 1 << 20) };
        }
    });
}
