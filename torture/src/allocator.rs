//! Keeps large blocks of memory cheap, zeroed ones and those that are freed and asked for again.
//!
//! An open database has a table of 8 MiB of which it touches a page or two. glibc maps the first such block, but takes the next ones from its
//! heap, where they have to be cleared by hand: a third of the time that a crash state takes. And it gives freed memory at the end of a heap back to
//! the system, from 128 KiB on, only to ask for it again: another sixth, and a third of the time that a wound takes.

use std::sync::Once;

/// Makes the allocator map every block from 1 MiB on, and so leave the clearing of pages that nobody touches, and keep what is freed below that.
pub(crate) fn tune() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            use std::ffi::c_int;
            unsafe extern "C" {
                fn mallopt(parameter: c_int, value: c_int) -> c_int;
            }
            const M_TRIM_THRESHOLD: c_int = -1;
            const M_MMAP_THRESHOLD: c_int = -3;
            // SAFETY: glibc's `mallopt` takes any two numbers, at any time, and changes only where later blocks come from and where freed ones go.
            unsafe {
                mallopt(M_MMAP_THRESHOLD, 1 << 20);
                mallopt(M_TRIM_THRESHOLD, 1 << 28);
            }
        }
    });
}
