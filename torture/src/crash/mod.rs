//! Histories that are cut at every operation of the storage, and what a power loss can leave of each.
//!
//! | file | what lives there |
//! |---|---|
//! | `history` | what a user does, in sessions |
//! | `case` | the name of a crash state |
//! | `judge` | what must hold of one |
//! | `explore` | all of one history |
//! | `tally` | what was judged, counted |

mod case;
mod explore;
mod history;
mod judge;
mod tally;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use parking_lot::Mutex;

use self::explore::Explorer;
pub use self::{
    case::Case,
    explore::{Failure, replay},
    tally::Tally,
};
use crate::allocator;

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seed of the first history.
    pub first_seed: u64,
    /// States after which to stop.
    pub states: u64,
    /// When to stop.
    pub deadline: Option<Instant>,
    /// Threads, each with histories of its own.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was judged.
    pub tally: Tally,
    /// The first seed that no history was made of.
    pub next_seed: u64,
    /// The state that ended it.
    pub failure: Option<Failure>,
}

/// Judges the states of one history after the other, until there are enough or one is not as it must be. `progress` is told the figures now and then.
pub fn enumerate(limits: &Limits, progress: &(dyn Fn(&Tally) + Sync)) -> Report {
    allocator::tune();
    let tally = Mutex::new(Tally::default());
    let failure = Mutex::new(None);
    let next_seed = AtomicU64::new(limits.first_seed);
    let done = AtomicBool::new(false);
    let goes_on = |own: &mut Tally| {
        let mut all = tally.lock();
        all.add(&std::mem::take(own));
        progress(&all);
        if all.states >= limits.states || limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            done.store(true, Ordering::Relaxed);
        }
        !done.load(Ordering::Relaxed)
    };
    thread::scope(|scope| {
        for _ in 0..limits.threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                    if let Err(failed) = Explorer::new(seed, &goes_on).run() {
                        done.store(true, Ordering::Relaxed);
                        failure.lock().get_or_insert(failed);
                    }
                }
            });
        }
    });
    Report { tally: tally.into_inner(), next_seed: next_seed.into_inner(), failure: failure.into_inner() }
}
