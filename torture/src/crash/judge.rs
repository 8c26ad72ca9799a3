//! What must hold of a disk after a power loss.

use std::sync::Arc;

use alloy_primitives::U256;
use metisdb::{
    CheckLevel, Db, Durability, Error,
    storage::{SimulatedDisk, Storage},
};

use super::history::{History, Known};
use crate::model::{State, address, ensure};

/// Where a segment's header has the position at which the segment starts (`spec/format.md`).
const START_AT: usize = 80;

/// Opens what a power loss left, on the path that users take, and compares it with what is known. Returns the number of operations of the
/// opening.
///
/// # Errors
/// What does not hold.
pub(crate) fn judge(left: &Arc<SimulatedDisk>, known: &Known, history: &History) -> Result<u64, String> {
    let db = match history.options().open_on(left.clone()) {
        Ok(db) => db,
        Err(Error::NotADatabase { .. }) if !known.created => {
            history.options().create_on(left.clone()).map_err(|error| format!("creating again: {error}"))?;
            return Ok(0);
        }
        Err(error) => return Err(format!("open: {error}")),
    };
    let operations = left.operations();
    let stats = db.stats();
    let version = stats.version;
    ensure!(version >= known.acknowledged, "version {version} was found, {} acknowledged", known.acknowledged);
    ensure!(version <= known.submitted, "version {version} was found, {} submitted", known.submitted);
    nothing_behind(left, stats.log_position)?;
    for readable in stats.oldest_version..=version {
        let snapshot = db.snapshot_at(readable).map_err(|error| format!("snapshot of {readable}: {error}"))?;
        history.states[readable as usize].compare(&snapshot, &history.codes)?;
    }
    proves(&db, &history.states[version as usize])?;
    db.check(CheckLevel::Full).map_err(|error| format!("check: {error}"))?;
    drop(db);
    survives_again(left, version, history)?;
    Ok(operations)
}

/// V2: the log's last segment holds nothing but zeros behind the end of the log.
fn nothing_behind(disk: &SimulatedDisk, end: u64) -> Result<(), String> {
    let names = disk.list().map_err(|error| error.to_string())?;
    let last = names.into_iter().filter(|name| name.starts_with("segment.")).max().ok_or("no segment")?;
    let bytes = disk.file_bytes(&last).ok_or("no segment")?;
    let field = bytes.get(START_AT..START_AT + 8).ok_or("a short segment")?;
    let start = u64::from_le_bytes(field.try_into().map_err(|_| "8 bytes")?);
    let behind = bytes.get((end - start) as usize..).ok_or("the log ends behind its last segment")?;
    ensure!(behind.iter().all(|byte| *byte == 0), "something stands behind the end of the log");
    Ok(())
}

/// An account and a slot are proved, present or absent.
fn proves(db: &Db, state: &State) -> Result<(), String> {
    let failed = |error| format!("a proof: {error}");
    let snapshot = db.snapshot().map_err(failed)?;
    let proof = snapshot.proof(&address(0), &[U256::from(1)]).map_err(failed)?;
    proof.verify(state.root()).map_err(|error| format!("a proof: {error}"))?;
    Ok(())
}

/// What was recovered is durable: a power loss right behind changes nothing, and recovering it writes nothing. Then a commit works.
fn survives_again(left: &SimulatedDisk, version: u64, history: &History) -> Result<(), String> {
    let again = Arc::new(left.after_power_loss(0));
    let db = history.options().open_on(again.clone()).map_err(|error| format!("opening again: {error}"))?;
    ensure!(db.stats().version == version, "version {version} was recovered, {} found again", db.stats().version);
    let written = again.operations();
    ensure!(written == 0, "recovering a recovered database takes {written} operations");
    let next = history.next(version);
    let (next, changes) = &*next;
    let commit = db.commit(changes, Durability::Durable).map_err(|error| format!("a commit: {error}"))?;
    ensure!(commit.version() == version + 1, "the next version is {}", commit.version());
    let snapshot = db.snapshot().map_err(|error| format!("a snapshot: {error}"))?;
    next.compare(&snapshot, &next.code_hashes())
}
