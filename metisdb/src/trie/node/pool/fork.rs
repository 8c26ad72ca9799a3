//! The pool in a child of `fork`, which has a copy of all memory, and one thread.
//!
//! What other threads were about is to be whole there, and no lock theirs: so whoever forks takes all of them first, as the allocators of the
//! systems do with their own. The locks are those of the standard library: to let one go touches the lock alone, and at most wakes nobody.

use std::{
    cell::RefCell,
    sync::{MutexGuard, Once},
};

use super::{POOL, REGIONS, Region, SIZES, Size, lock};

type Held = ([MutexGuard<'static, Size>; SIZES], MutexGuard<'static, Vec<Region>>);

thread_local! {
    /// Of a thread that forks, and of its copy in the child.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// From now on, `fork` does so.
#[inline]
pub(super) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: the handlers may be called by any thread at any time that it does not hold a lock of the pool, within which nothing forks.
        let status = unsafe { libc::pthread_atfork(Some(hold), Some(let_go), Some(let_go)) };
        debug_assert_eq!(status, 0, "there is memory for three addresses");
    });
}

unsafe extern "C" fn hold() {
    let sizes = POOL.each_ref().map(lock);
    let regions = lock(&REGIONS);
    // A thread that is past its end holds nothing.
    let _ = HELD.try_with(|held| held.replace(Some((sizes, regions))));
}

unsafe extern "C" fn let_go() {
    let _ = HELD.try_with(RefCell::take);
}
