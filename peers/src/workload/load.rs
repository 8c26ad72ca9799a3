//! Filling a store: all keys in random order, in durable commits of bounded size; and reading them all back.

use std::{
    iter,
    time::{Duration, Instant},
};

use super::ledger::{Ledger, Stroke, prepare};
use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Durability, Reader, Store},
};

/// Most changes in a commit.
const COMMIT_CHANGES: usize = 200_000;

/// Keys that are sorted before they are read, which is faster. They are so many that the allocator gives their memory back
/// to the system at once, lest it counts as the store's.
const CHECKED_KEYS: usize = 2_000_000;

/// Writes all that the ledger has. Returns the time that the store took for it.
pub(crate) fn fill<S: Store>(store: &S, space: &KeySpace, ledger: &Ledger) -> Result<Duration> {
    let mut elapsed = Duration::ZERO;
    let accounts: Vec<_> = (0..space.accounts).map(|account| space.address(account)).collect();
    for accounts in accounts.chunks(COMMIT_CHANGES) {
        let started = Instant::now();
        store.add_accounts(accounts)?;
        elapsed += started.elapsed();
    }
    for changes in parts::<S>(space, ledger.all().filter(|stroke| stroke.1.is_some()), COMMIT_CHANGES) {
        let started = Instant::now();
        store.commit(&changes, Durability::Durable)?;
        elapsed += started.elapsed();
    }
    Ok(elapsed)
}

/// Reads every key that is there or was, so that what the store keeps of them in memory is there, too.
pub(crate) fn check_all<S: Store>(store: &S, space: &KeySpace, ledger: &Ledger) -> Result<()> {
    let reader = store.reader()?;
    for keys in parts::<S>(space, ledger.all(), CHECKED_KEYS) {
        for (key, value) in &keys {
            let (found, expected) = (reader.get(key)?, value.unwrap_or(ABSENT));
            if found != expected {
                return Err(format!("{}: a key is {found:x?} instead of {expected:x?}", S::TITLE).into());
            }
        }
    }
    Ok(())
}

/// Parts of at most this many strokes, each sorted by key.
fn parts<S: Store>(
    space: &KeySpace,
    mut strokes: impl Iterator<Item = Stroke>,
    most: usize,
) -> impl Iterator<Item = Vec<Change<S::Key>>> {
    iter::from_fn(move || {
        let part: Vec<Stroke> = strokes.by_ref().take(most).collect();
        (!part.is_empty()).then(|| prepare::<S>(space, &part))
    })
}
