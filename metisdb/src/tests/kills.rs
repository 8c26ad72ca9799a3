//! `kill -9` before and in the middle of every operation of a history, on a real filesystem, and once more while what it left is recovered.
//!
//! A child plays the history and tells through a pipe what it submits and what is acknowledged; the parent opens what the child leaves.

use std::{os::unix::process::ExitStatusExt, path::Path, sync::Arc};

use rustix::process::{Signal, getpid, kill_process};

use super::{
    Random,
    children::{child, part},
    interrupted::Interrupted,
    model::{State, changes},
    small,
};
use crate::{CheckLevel, Commit, Db, Durability, Error, Options, Result, storage::DiskStorage};

const COMMITS: u64 = 16;
const SEED: u64 = 11;
const NAME: &str = "kills::a_kill_at_any_operation_loses_nothing_acknowledged";

fn options() -> Options {
    small().retain_versions(4)
}

/// The states of the history, by version, with the steps that lead to each.
fn states() -> Vec<(State, Vec<super::model::Step>)> {
    let mut random = Random(SEED);
    let mut states = vec![(State::default(), Vec::new())];
    for number in 0..COMMITS {
        let newest = &states.last().unwrap().0;
        let next = if number % 3 == 1 { newest.churn(&mut random) } else { newest.next(&mut random, 6000) };
        states.push(next);
    }
    states
}

/// The disk that kills the process at an operation.
fn deadly(folder: &Path, number: u64, in_middle: bool) -> Arc<Interrupted> {
    Arc::new(Interrupted::new(DiskStorage::create(folder, true).unwrap(), move |at, middle| {
        if (at, middle) == (number, in_middle) {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }))
}

/// One line to the parent, written at once.
fn tell(what: &str, version: u64) {
    println!("\n{what} {version}");
}

/// The child: all operations of a handle's life, some of them several times.
fn play(disk: &Arc<Interrupted>) -> Result<()> {
    let states = states();
    let mut db = options().create_on(disk.clone())?;
    tell("created", 0);
    for (version, (_, steps)) in (0..).zip(&states).skip(1) {
        tell("submitted", version);
        let durability = if version % 4 == 2 { Durability::Pipelined } else { Durability::Durable };
        let commit = commit(&db, version, steps, durability)?;
        if durability == Durability::Pipelined {
            commit.wait_durable()?;
        }
        tell("durable", version);
        match version {
            5 | 9 | 10 => db.checkpoint()?,
            7 => {
                drop(commit);
                db.close()?;
                db = options().open_on(disk.clone())?;
            }
            12 => {
                drop((db, commit));
                db = options().open_on(disk.clone())?;
            }
            _ => {}
        }
    }
    db.close()?;
    tell("operations", disk.operations());
    Ok(())
}

fn commit(db: &Db, version: u64, steps: &[super::model::Step], durability: Durability) -> Result<Commit> {
    if version % 5 == 3 {
        return Ok(db.commit_deferred(&changes(steps), durability)?.0);
    }
    db.commit(&changes(steps), durability)
}

/// What a child told: the last number behind each word, as far as it came.
fn told(written: &str, what: &str) -> Option<u64> {
    written.lines().filter_map(|line| line.strip_prefix(what)?.trim().parse().ok()).next_back()
}

/// Opens what is there and compares; returns the version found.
fn assert_holds(
    folder: &Path,
    case: &str,
    durable: u64,
    submitted: u64,
    states: &[(State, Vec<super::model::Step>)],
) -> u64 {
    let db = options().open(folder).unwrap_or_else(|error| panic!("{case}: {error}"));
    let stats = db.stats();
    assert!((durable..=submitted).contains(&stats.version), "{case}: {} of {durable} to {submitted}", stats.version);
    for version in stats.oldest_version..=stats.version {
        states[version as usize].0.assert_equals(&db.snapshot_at(version).unwrap());
    }
    db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{case}: {error}"));
    stats.version
}

/// Kills a child that recovers the folder at one of the first operations of that, if it comes so far.
fn kill_recovery(folder: &Path, number: u64) -> bool {
    let output = child(NAME, folder, &format!("recover {number}")).output().unwrap();
    let is_killed = output.status.signal() == Some(Signal::KILL.as_raw());
    assert!(is_killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_killed
}

/// The part of a child: `play` or `recover`, and where it is killed.
fn play_part(folder: &Path, part: &str) {
    let mut words = part.split(' ');
    let what = words.next().unwrap();
    let number = words.next().unwrap().parse().unwrap();
    let disk = deadly(folder, number, words.next() == Some("middle"));
    if what == "play" {
        return play(&disk).unwrap();
    }
    match options().open_on(disk) {
        Ok(db) => drop(db),
        Err(Error::NotADatabase { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_kill_at_any_operation_loses_nothing_acknowledged() {
    if let Some((folder, part)) = part() {
        return play_part(&folder, &part);
    }
    let states = states();
    let (mut kills, mut recoveries, mut lost_unacknowledged) = (0, 0, 0);
    for number in 0.. {
        let mut ended = 0;
        for moment in ["before", "middle"] {
            let case = format!("seed {SEED}, killed {moment} operation {number}");
            let folder = tempfile::tempdir().unwrap();
            let output = child(NAME, folder.path(), &format!("play {number} {moment}")).output().unwrap();
            let written = String::from_utf8_lossy(&output.stdout);
            if output.status.success() {
                // Only writes have a middle.
                ended += 1;
                let last = told(&written, "operations").unwrap();
                assert!(moment == "middle" || number >= last, "{case}: {last} operations");
                continue;
            }
            assert_eq!(
                output.status.signal(),
                Some(Signal::KILL.as_raw()),
                "{case}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            kills += 1;
            if number % 3 == 0 {
                recoveries += u32::from(kill_recovery(folder.path(), number / 3 % 12));
            }
            if told(&written, "created").is_none() {
                match options().open(folder.path()) {
                    Ok(db) => assert_eq!(db.stats().version, 0, "{case}"),
                    Err(Error::NotADatabase { .. }) => drop(options().create(folder.path()).unwrap()),
                    Err(error) => panic!("{case}: {error}"),
                }
                continue;
            }
            let (durable, submitted) =
                (told(&written, "durable").unwrap_or(0), told(&written, "submitted").unwrap_or(0));
            lost_unacknowledged += submitted - assert_holds(folder.path(), &case, durable, submitted, &states);
        }
        if ended == 2 {
            println!(
                "{kills} kills in {number} operations, {recoveries} of recoveries; {lost_unacknowledged} commits without an acknowledgement were not there"
            );
            assert!(number > 100 && recoveries > 20, "{number} operations, {recoveries}");
            return;
        }
    }
}
