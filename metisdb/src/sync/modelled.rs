//! The model checker's atomics and locks, and how its tests are run.
//!
//! What loom does not do decides how the models are written:
//! * A sequentially consistent access counts as acquire and release: of P1 it sees the fences only.
//! * It remembers the last access to a place. A thread that loads and then stores there hides from it that another one has loaded before, and the
//!   store is not tried earlier. So the writer is the thread that a model begins with: what the others load comes behind the stores, and is tried before them.
//! * A compare-and-exchange may come behind a store, in the order of the place, that has replaced what it compares with.

pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

/// A lock that does not know poison.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a model ends with its first panic")
    }
}

/// A value that is written once, whose readers are ordered by the model checker's atomics.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: loom::sync::atomic::AtomicBool,
    writing: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self { is_set: Default::default(), writing: Mutex::new(()), value: std::sync::OnceLock::new() }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            let _writing = self.writing.lock();
            self.value.get_or_init(make);
            self.is_set.store(true, Ordering::Release);
        }
        self.value.get().expect("it was written")
    }
}

/// Memory without an order of its own, as the bytes of the log are: it is reported when one thread writes what another one reads or writes, and nothing
/// says which came first.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Plain<T>(loom::cell::UnsafeCell<T>);

#[cfg(test)]
impl<T: Copy> Plain<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn read(&self) -> T {
        // SAFETY: the threads of a model run one at a time, and give way between accesses only. The pointer is valid.
        self.0.with(|value| unsafe { *value })
    }

    pub(crate) fn write(&self, value: T) {
        // SAFETY: as above.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

/// Runs a model in every order of its threads' steps, with up to `LOOM_MAX_PREEMPTIONS` preemptions, and prints how many there were.
#[cfg(test)]
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    use std::{sync::Arc, time::Instant};
    let schedules = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&schedules);
    let started = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{name}: {} schedules in {:.1} s", schedules.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
}
