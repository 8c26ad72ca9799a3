//! The database under test.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use alloy_primitives::B256;
use metisdb::{Changes, Db, Durability, Options, Snapshot, storage::SimulatedDisk};

use crate::{header::empty_root, state::State};

/// A result of a check: what went wrong, in words.
pub type Checked<T = ()> = Result<T, String>;

/// An empty database in memory.
///
/// # Errors
/// What the database says.
pub fn create(segment_bytes: u64) -> Checked<Db> {
    let disk = Arc::new(SimulatedDisk::new(1));
    told(Options::new().segment_bytes(segment_bytes).expected_keys(0).create_on(disk))
}

/// The error in words.
///
/// # Errors
/// That of `result`.
pub fn told<T>(result: metisdb::Result<T>) -> Checked<T> {
    result.map_err(|error| error.to_string())
}

/// The result of a check that may panic where a file is not of the shape that it expects: one case fails then, and not the suite.
///
/// # Errors
/// That of the check, or that it panicked.
pub fn caught<T>(check: impl FnOnce() -> Checked<T>) -> Checked<T> {
    // Whatever the check has left half done is its own, or is thrown away with the case.
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err("the check panicked; its message stands above".into()))
}

/// Whether two roots are one.
///
/// # Errors
/// Both of them, where not.
pub fn same(what: &str, actual: B256, expected: B256) -> Checked {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual}, expected {expected}")) }
}

/// Commits the changes and pins what they make.
///
/// # Errors
/// What the database says.
pub fn commit(db: &Db, changes: &Changes) -> Checked<Snapshot> {
    told(db.commit(changes, Durability::Pipelined))?;
    told(db.snapshot())
}

/// Compares the snapshot with the state: its root, and every account, slot and storage root.
///
/// # Errors
/// The first difference.
pub fn check(snapshot: &Snapshot, state: &State, root: B256) -> Checked {
    check_root(snapshot, root)?;
    for (address, whole) in &state.0 {
        if told(snapshot.account(address))? != Some(whole.account) {
            return Err(format!("the account {address} differs"));
        }
        for (slot, value) in &whole.slots {
            if told(snapshot.storage(address, *slot))? != *value {
                return Err(format!("slot {slot} of {address} differs"));
            }
        }
        if told(snapshot.has_storage(address))? == whole.slots.is_empty() {
            return Err(format!("whether {address} has storage differs"));
        }
        same("the database's storage root", told(snapshot.storage_root(address))?, whole.storage_root())?;
    }
    Ok(())
}

/// Compares the root of the snapshot.
///
/// # Errors
/// The difference.
pub fn check_root(snapshot: &Snapshot, root: B256) -> Checked {
    same("the database's root", told(snapshot.root())?, root)
}

/// Proposes the changes one upon the other and compares the root of each. Nothing is committed.
///
/// # Errors
/// The first difference.
pub fn check_proposals(db: &Db, base: &Snapshot, first: (&Changes, B256), second: (&Changes, B256)) -> Checked {
    let proposal = told(db.propose(base, first.0))?;
    same("the root of a proposal", proposal.root(), first.1)?;
    let child = told(proposal.propose(second.0))?;
    same("the root of a proposal upon a proposal", child.root(), second.1)
}

/// Proposes the changes, compares the root, commits the proposal and pins what it makes.
///
/// # Errors
/// The difference, or what the database says.
pub fn commit_proposal(db: &Db, changes: &Changes, root: B256) -> Checked<Snapshot> {
    let proposal = told(db.propose(&told(db.snapshot())?, changes))?;
    same("the root of a proposal", proposal.root(), root)?;
    told(proposal.commit(Durability::Pipelined))?;
    told(db.snapshot())
}

/// Loads the state into an empty database as one commit, compares, takes everything away again, and compares once more.
///
/// # Errors
/// The first difference.
pub fn check_from_empty(segment_bytes: u64, state: &State, root: B256) -> Checked {
    let db = create(segment_bytes)?;
    check_root(&told(db.snapshot())?, empty_root())?;
    let full = commit_proposal(&db, &state.changes_since(&State::default()), root)?;
    check(&full, state, root)?;
    let emptied = commit(&db, &State::default().changes_since(state))?;
    check_root(&emptied, empty_root())?;
    check_root(&full, root)
}

/// Loads `pre`, goes to `post` by one commit of the difference, back again, and to `post` by one that creates everything anew;
/// before all that, proposes the first two.
///
/// # Errors
/// The first difference.
pub fn check_step(segment_bytes: u64, (pre, pre_root): (&State, B256), (post, post_root): (&State, B256)) -> Checked {
    let db = create(segment_bytes)?;
    let load = pre.changes_since(&State::default());
    let forth = post.changes_since(pre);
    check_proposals(&db, &told(db.snapshot())?, (&load, pre_root), (&forth, post_root))?;
    let before = commit(&db, &load)?;
    check(&before, pre, pre_root)?;
    let after = commit(&db, &forth)?;
    check(&after, post, post_root)?;
    check_root(&before, pre_root)?;
    let again = commit_proposal(&db, &pre.changes_since(post), pre_root)?;
    check(&again, pre, pre_root)?;
    let anew = commit(&db, &post.changes_instead_of(pre))?;
    check(&anew, post, post_root)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, U256};

    use super::*;
    use crate::state::Whole;

    /// A check that agrees with everything is none.
    #[test]
    fn a_wrong_root_is_found() {
        let account = metisdb::Account { nonce: 1, ..Default::default() };
        let slots = [(U256::from(1), U256::from(2))].into();
        let whole = Whole { account, code: Default::default(), slots };
        let state = State([(Address::ZERO, whole)].into());
        let (right, wrong) = (state.root(), B256::ZERO);
        let empty = (&State::default(), empty_root());
        assert_eq!(check_from_empty(1 << 16, &state, right), Ok(()));
        assert!(check_from_empty(1 << 16, &state, wrong).is_err());
        assert_eq!(check_step(1 << 16, empty, (&state, right)), Ok(()));
        assert!(check_step(1 << 16, empty, (&state, wrong)).is_err());
    }
}
