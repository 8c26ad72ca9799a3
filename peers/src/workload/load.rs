//! Filling a store: all keys in random order, in durable commits of bounded size; and reading them all back.

use std::time::{Duration, Instant};

use super::ledger::{Ledger, Stroke, prepare, value};
use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Durability, Reader, Store},
};

/// Most changes in a commit.
const COMMIT_CHANGES: usize = 50_000;

/// Writes all that the ledger has. Returns the time that the store took for it.
pub(crate) fn fill<S: Store>(store: &S, space: &KeySpace, ledger: &Ledger) -> Result<Duration> {
    let mut elapsed = Duration::ZERO;
    let accounts: Vec<_> = (0..space.accounts).map(|account| space.address(account)).collect();
    for accounts in accounts.chunks(COMMIT_CHANGES) {
        let started = Instant::now();
        store.add_accounts(accounts)?;
        elapsed += started.elapsed();
    }
    let mut strokes = ledger.all().filter(|stroke| stroke.1.is_some());
    loop {
        let some: Vec<Stroke> = strokes.by_ref().take(COMMIT_CHANGES).collect();
        if some.is_empty() {
            return Ok(elapsed);
        }
        let changes = prepare::<S>(space, &some);
        let started = Instant::now();
        store.commit(&changes, Durability::Durable)?;
        elapsed += started.elapsed();
    }
}

/// Reads every key that is there or was, so that what the store keeps of them in memory is there, too.
pub(crate) fn check_all<S: Store>(store: &S, space: &KeySpace, ledger: &Ledger) -> Result<()> {
    let reader = store.reader()?;
    for (number, block) in ledger.all() {
        let expected = block.map_or(ABSENT, |block| value(space, number, block));
        let found = reader.get(&S::key(space, number))?;
        if found != expected {
            return Err(format!("{}: key {number} is {found:x?} instead of {expected:x?}", S::TITLE).into());
        }
    }
    Ok(())
}
