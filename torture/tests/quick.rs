//! The quick form of each command.

use std::thread;

use metisdb_torture::{
    crash::{self, Limits},
    damage::{self, SMALL_CODE_BYTES, Share},
    faults, proofs,
};

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// About 300,000 distinct disks (a disk may be judged more than once, by what was known when the power went), of which one in ten was left by an interrupted recovery; every kind of operation and activity was cut.
#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let limits = Limits { first_seed: 0, states: 320_000, deadline: None, threads: threads() };
    let report = crash::enumerate(&limits, &|_| {});
    if let Some(failure) = report.failure {
        panic!("{}; replay: metisdb-torture crash --replay {}", failure.wrong, failure.case);
    }
    let tally = report.tally;
    println!("{tally:#?}");
    assert!(tally.states >= 320_000 && tally.images >= 290_000);
    assert!(tally.in_recovery * 10 >= tally.states);
    assert!(tally.exhausted * 2 >= tally.cuts, "most cuts leave few parts, all of whose subsets are judged");
    assert!(tally.dropped_segments > 10 && tally.index_growths > 100);
    for kind in ["segment", "arena", "image", "superblock"] {
        for operation in ["create", "write", "sync"] {
            let class = format!("{operation} {kind}");
            assert!(tally.by_operation.get(&class).is_some_and(|count| *count > 10), "{class}");
        }
    }
    for class in
        ["sync folder", "remove segment", "remove image", "set length segment", "set length arena", "give back arena"]
    {
        assert!(tally.by_operation.get(class).is_some_and(|count| *count > 10), "{class}");
    }
    assert_eq!(tally.by_activity.len(), 8, "creating, opening, commits of three kinds, checkpoints of two, closing");
}

/// Every bit in use of a database of 64 KiB, and whatever else can happen to its files.
#[test]
fn no_damage_gives_a_wrong_value() {
    let share = Share::ALL;
    let plan = damage::Plan { code_bytes: SMALL_CODE_BYTES, samples: 500, seed: 0, threads: threads(), share };
    let report = damage::damage(&plan).expect("a database to damage");
    println!("{report:#?}");
    assert_eq!(report.failure, None);
    assert!(report.live_bytes >= 1 << 16, "{} bytes", report.live_bytes);
    for class in ["flip in segment, live record", "flip in arena", "blocks of 4096 swapped in segment"] {
        let told = report.verdicts.get(&format!("{class}: an error when read"));
        assert!(told.is_some_and(|count| *count > 10), "{class}");
    }
}

/// Every call of a history fails, in four ways, once and for good.
#[test]
fn no_failing_call_loses_what_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = faults::inject(0..2, folder.path()).expect("a folder that can be written to");
    println!("{report:#?}");
    assert_eq!(report.failure, None);
    for class in
        ["sync segment: poisoned", "sync superblock: poisoned", "map segment: an error", "read image: an error"]
    {
        assert!(report.outcomes.get(class).is_some_and(|count| *count > 4), "{class}");
    }
    assert!(report.outcomes.keys().all(|outcome| outcome != "sync segment: passed over"));
}

/// A million forgeries, and every byte of a thousand proofs: accounts with slots, multiproofs, ranges.
#[test]
fn no_forged_proof_is_believed() {
    let (forgeries, exhausted) = (1_000_000, 1_000);
    let limits = proofs::Limits { first_seed: 0, forgeries, exhausted, deadline: None, threads: threads() };
    let report = proofs::forge(&limits);
    if let Some((seed, wrong)) = report.failure {
        panic!("{wrong}; replay: metisdb-torture proofs --replay {seed}");
    }
    let tally = report.tally;
    println!("{tally:#?}");
    assert!(tally.forgeries >= forgeries && tally.exhausted >= exhausted);
    assert!(tally.cuts > 1_000_000 && tally.changes > 1_000_000, "every byte was tried");
    assert!(tally.honest > 10_000 && tally.believed > 1_000, "some changes make another honest proof");
    assert!(tally.under_honest_roots > forgeries / 4);
    // Those that forgeries are made of were once counted as honest ones.
    assert_eq!(tally.honest + tally.believed + tally.refused.values().sum::<u64>(), tally.forgeries);
    assert!(tally.refused.len() >= 28, "too few reasons were met");
}
