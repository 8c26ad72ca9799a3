//! What threads share without waiting: the atomics and locks of `pins` and `index`.
//!
//! They are those of the standard library; or, in a build with `--cfg loom`, those of the model checker loom, which runs a test in every
//! order that the threads' steps can have, and with every value that a load may return. See `modelled`.

#[cfg(loom)]
pub(crate) mod modelled;

#[cfg(not(loom))]
pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(loom)]
pub(crate) use self::modelled::{AtomicPtr, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, fence};

/// How large something is, and how large it is for the model checker: as small as the protocol allows.
pub(crate) const fn size(real: usize, modelled: usize) -> usize {
    if cfg!(loom) { modelled } else { real }
}
