//! Power cuts at every storage operation of a history, and during recovery.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::B256;

use super::{
    Random, assert_proves, disk,
    model::{State, Step, changes},
    small,
};
use crate::{CheckLevel, Commit, Db, Durability, Error, Options, proof::EMPTY_ROOT, storage::SimulatedDisk};

const COMMITS: u64 = 12;
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
    /// Their roots, as far as they were told.
    roots: Vec<B256>,
    /// The newest version that was acknowledged as durable.
    acknowledged: u64,
    /// Segments dropped, counted at checkpoints.
    dropped: u64,
    /// Versions that came by a proposal, and by a deferred root.
    proposed: u64,
    deferred: u64,
    /// What ended it.
    failure: Option<Error>,
}

impl Outcome {
    /// A version was committed, and this is its root.
    fn know(&mut self, version: u64, root: B256) {
        assert_eq!(version, self.roots.len() as u64);
        self.roots.push(root);
    }
}

/// Runs a history that depends on the seed alone, until it ends or the disk fails.
fn run(disk: &Arc<SimulatedDisk>, seed: u64) -> Outcome {
    let mut outcome = Outcome { states: vec![State::default()], roots: vec![EMPTY_ROOT], ..Outcome::default() };
    outcome.failure = run_until_failure(disk, seed, &mut outcome).err();
    outcome
}

fn run_until_failure(disk: &Arc<SimulatedDisk>, seed: u64, outcome: &mut Outcome) -> Result<(), Error> {
    let mut random = Random(seed);
    let mut db = options().create_on(disk.clone())?;
    outcome.created = true;
    while outcome.states.len() <= COMMITS as usize {
        let durability = if random.one_in(2) { Durability::Durable } else { Durability::Pipelined };
        let commit = match random.below(6) {
            0 => defer(&db, seed, &mut random, durability, outcome)?,
            1 | 2 => propose(&db, seed, &mut random, durability, outcome)?,
            _ => {
                let steps = submit(seed, &mut random, outcome);
                let commit = db.commit(&changes(&steps), durability)?;
                outcome.know(commit.version(), db.snapshot()?.root()?);
                commit
            }
        };
        if durability == Durability::Durable || random.one_in(4) {
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

/// Steps to the next state, which is submitted with that.
fn submit(seed: u64, random: &mut Random, outcome: &mut Outcome) -> Vec<Step> {
    let before = outcome.states.last().unwrap();
    let (next, steps) = if seed.is_multiple_of(2) { before.next(random, 9000) } else { before.churn(random) };
    outcome.states.push(next);
    steps
}

/// Commits with deferred roots, all of which are outstanding for a moment.
fn defer(
    db: &Db,
    seed: u64,
    random: &mut Random,
    durability: Durability,
    outcome: &mut Outcome,
) -> Result<Commit, Error> {
    let stalled = db.store.pending.stall();
    let mut committed = Vec::new();
    for _ in 0..1 + random.below(2) {
        let steps = submit(seed, random, outcome);
        committed.push(db.commit_deferred(&changes(&steps), durability)?);
    }
    drop(stalled);
    outcome.deferred += committed.len() as u64;
    for (commit, root) in &committed {
        outcome.know(commit.version(), root.wait()?);
    }
    Ok(committed.pop().unwrap().0)
}

/// Commits one of two forks.
fn propose(
    db: &Db,
    seed: u64,
    random: &mut Random,
    durability: Durability,
    outcome: &mut Outcome,
) -> Result<Commit, Error> {
    let parent = db.snapshot()?;
    let (_, other) = outcome.states.last().unwrap().next(random, 100);
    let lost = db.propose(&parent, &changes(&other))?;
    let steps = submit(seed, random, outcome);
    let won = db.propose(&parent, &changes(&steps))?;
    let commit = won.commit(durability)?;
    outcome.proposed += 1;
    outcome.know(commit.version(), won.root());
    drop(lost);
    Ok(commit)
}

fn reopen(db: Db, disk: &Arc<SimulatedDisk>, outcome: &mut Outcome) -> Result<Db, Error> {
    let version = db.stats().version;
    db.close()?;
    outcome.acknowledged = version;
    options().open_on(disk.clone())
}

/// Opens what a power loss left and compares it with what is known. Returns the number of operations of the opening.
fn judge(left: SimulatedDisk, outcome: &Outcome, roots: &[B256], case: &str) -> u64 {
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
        let snapshot = db.snapshot_at(readable).unwrap();
        outcome.states[readable as usize].assert_equals(&snapshot);
        assert_eq!(snapshot.root().unwrap(), roots[readable as usize], "{case}: root of {readable}");
    }
    assert_proves(&db.snapshot().unwrap(), roots[version as usize], case);
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

/// Operations on the arena that a power cut hit, by kind.
type ArenaCuts = BTreeMap<&'static str, u64>;

fn count_arena(cuts: &mut ArenaCuts, failure: Option<&Error>) {
    let cause = match failure {
        Some(Error::Poisoned { cause }) => Some(&**cause),
        other => other,
    };
    if let Some(Error::Io { operation, path, .. }) = cause
        && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("arena."))
    {
        *cuts.entry(operation).or_default() += 1;
    }
}

/// V2: nothing stands behind the end of the log.
fn assert_erased_behind(db: &Db, case: &str) {
    let tail = db.store.writer.lock().tail.clone();
    let mut behind = vec![0; (tail.segment.end - tail.position) as usize];
    tail.segment.file.read_exact_at(&mut behind, tail.position - tail.segment.start).unwrap();
    assert!(behind.iter().all(|byte| *byte == 0), "{case}: something stands behind the end of the log");
}

/// Cuts the history of a seed at operations `first`, `first + step`, ... and returns how many crash states that took.
fn enumerate(seed: u64, losses: u64, arena: &mut ArenaCuts) -> u64 {
    let whole = disk(seed);
    let outcome = run(&whole, seed);
    assert!(outcome.failure.is_none(), "the history runs to its end when nothing is cut: {:?}", outcome.failure);
    let total = whole.operations();
    let Outcome { dropped, proposed, deferred, roots, .. } = outcome;
    println!(
        "seed {seed}: {total} operations, {dropped} segments dropped, {proposed} proposals, {deferred} deferred roots"
    );
    let mut states = 0;
    for cut in 0..total {
        let disk = disk(seed);
        disk.cut_after(cut);
        let outcome = run(&disk, seed);
        assert_eq!(outcome.roots, roots[..outcome.roots.len()], "seed {seed}, cut {cut}");
        count_arena(arena, outcome.failure.as_ref());
        for loss in 0..losses {
            let case = format!("seed {seed}, cut {cut} of {total}, loss {loss}");
            let operations = judge(disk.after_power_loss(loss), &outcome, &roots, &case);
            states += 1;
            if loss >= 2 && operations > 0 {
                let nested = cut % operations;
                let left = Arc::new(disk.after_power_loss(loss));
                left.cut_after(nested);
                drop(options().open_on(left.clone()));
                let case = format!("{case}, recovery cut at {nested}");
                judge(left.after_power_loss(loss + cut), &outcome, &roots, &case);
                states += 1;
            }
        }
    }
    states
}

#[test]
fn a_cut_at_every_operation_loses_nothing_acknowledged() {
    let mut arena = ArenaCuts::new();
    let states: u64 = (0..8).map(|seed| enumerate(seed, 3, &mut arena)).sum();
    println!("{states} crash states; operations on the arena that were cut: {arena:?}");
    assert!(states > 1000);
    for operation in ["create", "set length", "write", "sync", "give back"] {
        assert!(arena.get(operation).is_some_and(|count| *count > 1), "no {operation} of the arena was cut: {arena:?}");
    }
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
