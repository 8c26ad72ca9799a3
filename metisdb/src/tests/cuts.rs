//! Power cuts at every storage operation of a history, and during recovery.

use std::sync::Arc;

use super::{
    Random, disk,
    model::{State, changes},
    small,
};
use crate::{CheckLevel, Db, Durability, Error, Options, storage::SimulatedDisk};

const COMMITS: u64 = 14;
const RETAIN: u64 = 4;

fn options() -> Options {
    small().retain_versions(RETAIN)
}

/// What is known at the moment of the cut.
#[derive(Default)]
struct Outcome {
    created: bool,
    /// States of all versions that were submitted.
    states: Vec<State>,
    /// The newest version that was acknowledged as durable.
    acknowledged: u64,
    /// Segments dropped, counted at checkpoints.
    dropped: u64,
}

/// Runs a history that depends on the seed alone, until it ends or the disk fails.
fn run(disk: &Arc<SimulatedDisk>, seed: u64) -> Outcome {
    let mut outcome = Outcome { states: vec![State::default()], ..Outcome::default() };
    let _ = run_until_failure(disk, seed, &mut outcome);
    outcome
}

fn run_until_failure(disk: &Arc<SimulatedDisk>, seed: u64, outcome: &mut Outcome) -> Result<(), Error> {
    let mut random = Random(seed);
    let mut db = options().create_on(disk.clone())?;
    outcome.created = true;
    for _ in 0..COMMITS {
        let before = outcome.states.last().unwrap();
        let (next, steps) =
            if seed.is_multiple_of(2) { before.next(&mut random, 9000) } else { before.churn(&mut random) };
        let durable = random.one_in(2);
        outcome.states.push(next);
        let durability = if durable { Durability::Durable } else { Durability::Pipelined };
        let commit = db.commit(&changes(&steps), durability)?;
        if durable || random.one_in(4) {
            commit.wait_durable()?;
            outcome.acknowledged = commit.version();
        }
        drop(commit);
        match random.below(8) {
            0..=2 => {
                db.checkpoint()?;
                outcome.acknowledged = db.stats().version;
                outcome.dropped += db.stats().dropped_segments;
            }
            3 => db = reopen(db, disk, outcome)?,
            _ => {}
        }
    }
    reopen(db, disk, outcome)?;
    Ok(())
}

fn reopen(db: Db, disk: &Arc<SimulatedDisk>, outcome: &mut Outcome) -> Result<Db, Error> {
    let version = db.stats().version;
    db.close()?;
    outcome.acknowledged = version;
    options().open_on(disk.clone())
}

/// Opens what a power loss left and compares it with what is known. Returns the number of operations of the opening.
fn judge(left: SimulatedDisk, outcome: &Outcome, case: &str) -> u64 {
    let left = Arc::new(left);
    let db = match options().open_on(left.clone()) {
        Ok(db) => db,
        Err(Error::NotADatabase { .. }) if !outcome.created => {
            options().create_on(left).unwrap_or_else(|error| panic!("{case}: creating again: {error}"));
            return 0;
        }
        Err(error) => panic!("{case}: {error}"),
    };
    let operations = left.operations();
    assert_erased_behind(&db, case);
    let stats = db.stats();
    let version = stats.version;
    assert!(version >= outcome.acknowledged, "{case}: version {version}, acknowledged {}", outcome.acknowledged);
    assert!(version < outcome.states.len() as u64, "{case}: version {version} was never submitted");
    for readable in stats.oldest_version..=version {
        outcome.states[readable as usize].assert_equals(&db.snapshot_at(readable).unwrap());
    }
    db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{case}: {error}"));
    drop(db);
    // What was recovered is durable: a second loss right after changes nothing, and recovering it writes nothing.
    let again = Arc::new(left.after_power_loss(0));
    let db = options().open_on(again.clone()).unwrap_or_else(|error| panic!("{case}: again: {error}"));
    assert_eq!(db.stats().version, version, "{case}: after a second loss");
    assert_eq!(again.operations(), 0, "{case}: recovering a recovered database writes nothing");
    let (next, steps) = outcome.states[version as usize].next(&mut Random(7), 100);
    db.commit(&changes(&steps), Durability::Durable).unwrap_or_else(|error| panic!("{case}: {error}"));
    next.assert_equals(&db.snapshot().unwrap());
    operations
}

/// V2: nothing stands behind the end of the log.
fn assert_erased_behind(db: &Db, case: &str) {
    let tail = db.store.writer.lock().tail.clone();
    let mut behind = vec![0; (tail.segment.end - tail.position) as usize];
    tail.segment.file.read_exact_at(&mut behind, tail.position - tail.segment.start).unwrap();
    assert!(behind.iter().all(|byte| *byte == 0), "{case}: something stands behind the end of the log");
}

/// Cuts the history of a seed at operations `first`, `first + step`, ... and returns how many crash states that took.
fn enumerate(seed: u64, first: u64, step: u64, losses: u64) -> u64 {
    let whole = disk(seed);
    let outcome = run(&whole, seed);
    assert_eq!(outcome.states.len() as u64, COMMITS + 1, "the history runs to its end when nothing is cut");
    let total = whole.operations();
    println!("seed {seed}: {total} operations, {} segments dropped", outcome.dropped);
    let mut states = 0;
    for cut in (first..total).step_by(step as usize) {
        let disk = disk(seed);
        disk.cut_after(cut);
        let outcome = run(&disk, seed);
        for loss in 0..losses {
            let case = format!("seed {seed}, cut {cut} of {total}, loss {loss}");
            let operations = judge(disk.after_power_loss(loss), &outcome, &case);
            states += 1;
            if loss >= 2 && operations > 0 {
                let nested = cut % operations;
                let left = Arc::new(disk.after_power_loss(loss));
                left.cut_after(nested);
                drop(options().open_on(left.clone()));
                let case = format!("{case}, recovery cut at {nested}");
                judge(left.after_power_loss(loss + cut), &outcome, &case);
                states += 1;
            }
        }
    }
    states
}

#[test]
fn a_cut_at_every_operation_loses_nothing_acknowledged() {
    let states: u64 = (0..8).map(|seed| enumerate(seed, 0, 1, 5)).sum();
    println!("{states} crash states");
    assert!(states > 1000);
}

/// A process that is killed leaves its writes in the page cache; the next one shows them to readers, so they must survive
/// a power loss from then on (V1). After a failed sync the cache holds them as clean: only writing them again helps.
#[test]
fn what_a_recovery_shows_survives_the_next_power_loss() {
    for seed in 0..40 {
        let disk = disk(seed);
        let mut random = Random(seed);
        let db = options().create_on(disk.clone()).unwrap();
        let mut states = vec![State::default()];
        for _ in 0..5 {
            let (next, steps) = states.last().unwrap().next(&mut random, 5000);
            db.commit(&changes(&steps), Durability::Pipelined).unwrap();
            states.push(next);
        }
        if random.one_in(2) {
            let (next, steps) = states.last().unwrap().next(&mut random, 100);
            let commit = db.commit(&changes(&steps), Durability::Pipelined).unwrap();
            states.push(next);
            disk.fail_operation(disk.operations(), std::io::ErrorKind::Other);
            assert!(
                matches!(commit.wait_durable(), Err(Error::Poisoned { .. })),
                "seed {seed}: nothing is acknowledged"
            );
        }
        drop(db);
        let db = options().open_on(disk.clone()).unwrap();
        let shown = db.stats().version;
        assert_eq!(shown, states.len() as u64 - 1, "seed {seed}: the page cache has all of it");
        drop(db);
        let left = Arc::new(disk.after_power_loss(0));
        let db = options().open_on(left).unwrap();
        assert_eq!(db.stats().version, shown, "seed {seed}: what was shown is lost");
        states.last().unwrap().assert_equals(&db.snapshot().unwrap());
    }
}
