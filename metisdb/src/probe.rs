//! Hooks of the concurrency tests: points where a thread may lose its processor, and steps that a
//! mutant build leaves out. Both cost nothing in a normal build.

use std::sync::atomic::Ordering;

/// Whether the step of this name is to be left out: the one named by `METISDB_MUTANT`.
#[cfg(metisdb_mutants)]
pub(crate) fn skip(step: &'static str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("METISDB_MUTANT").ok()).as_deref() == Some(step)
}

/// Whether the step of this name is to be left out: never, outside of a mutant build.
#[cfg(not(metisdb_mutants))]
pub(crate) const fn skip(_step: &'static str) -> bool {
    false
}

/// The memory order of the step of this name; none in the build that leaves it out.
#[inline(always)]
pub(crate) fn order(step: &'static str, order: Ordering) -> Ordering {
    if skip(step) { Ordering::Relaxed } else { order }
}

/// Gives way to other threads now and then, so that tests meet rare interleavings.
#[cfg(all(any(test, metisdb_mutants), not(any(miri, loom))))]
pub(crate) fn pause(_point: &'static str) {
    use std::cell::Cell;
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        if x == 0 {
            // The address differs between threads, which is all that a seed needs.
            x = (state.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        if x >> 52 == 0 {
            std::thread::sleep(std::time::Duration::from_micros(50));
        } else if x >> 60 == 0 {
            std::thread::yield_now();
        }
    });
}

/// Gives way to other threads now and then: never, outside of tests.
#[cfg(not(all(any(test, metisdb_mutants), not(any(miri, loom)))))]
pub(crate) const fn pause(_point: &'static str) {}
