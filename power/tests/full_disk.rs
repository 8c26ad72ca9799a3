//! A filesystem that runs full, and a limit on the size of files.

use std::{
    fs,
    io::{self, Write},
};

use alloy_primitives::{Address, U256};
use metisdb::{Account, Changes, CheckLevel, Db, Durability, Options};
use metisdb_power::volume::{Filesystem, Volume};
use rustix::fs::{FallocateFlags, fallocate};

const SLOTS: u64 = 800;
/// Bytes that are taken at a time.
const CHUNK: usize = 1 << 16;

fn options() -> Options {
    Options::new().segment_bytes(1 << 18).expected_keys(0).retain_versions(2)
}

fn changes(round: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for slot in 0..SLOTS {
        changes.set_storage(Address::ZERO, U256::from(slot + round % 3 * SLOTS), U256::from(round) << 190);
    }
    changes
}

fn assert_holds(db: &Db, round: u64) {
    let snapshot = db.snapshot().unwrap();
    assert_eq!(snapshot.version(), round);
    for earlier in (1..=round).rev().take(3) {
        for slot in [0, SLOTS / 2, SLOTS - 1] {
            let slot = U256::from(slot + earlier % 3 * SLOTS);
            assert_eq!(snapshot.storage(&Address::ZERO, slot).unwrap(), U256::from(earlier) << 190, "round {earlier}");
        }
    }
}

/// Commits until the disk is full, again and again, with less room each time; each time there is space again, commits go on.
fn commits_fail_and_go_on(filesystem: Filesystem) {
    if let Some(reason) = Volume::missing(filesystem) {
        // Past the test runner, which hides what a passing test prints.
        let _ = writeln!(io::stderr(), "skipped: {reason}");
        return;
    }
    let volume = Volume::create(filesystem, filesystem.least_bytes()).unwrap();
    let path = volume.path().join("database");
    let db = options().create(&path).unwrap();
    let ballast = volume.path().join("ballast");
    let mut round = 0;
    let mut full = 0;
    for fill in 0..6 {
        // All but a little of the space is somebody else's.
        let file = fs::File::create(&ballast).unwrap();
        let taken = (0..)
            .step_by(CHUNK)
            .find(|offset| fallocate(&file, FallocateFlags::empty(), *offset, CHUNK as u64).is_err());
        file.set_len(taken.unwrap().saturating_sub((1 + fill) << 17)).unwrap();
        let refused = (0..100).find_map(|attempt| {
            let outcome = if attempt % 16 == 15 {
                db.checkpoint()
            } else {
                db.commit(&changes(round + 1), Durability::Durable).map(|commit| round = commit.version())
            };
            outcome.err()
        });
        if let Some(error) = refused {
            assert!(error.is_out_of_space(), "{error}");
            full += 1;
        }
        assert_holds(&db, round);
        drop(file);
        fs::remove_file(&ballast).unwrap();
        db.commit(&changes(round + 1), Durability::Durable).unwrap();
        round += 1;
        db.checkpoint().unwrap();
        assert_holds(&db, round);
    }
    println!("full {full} times in {round} commits");
    assert!(full > 2, "full {full} times");
    db.check(CheckLevel::Full).unwrap();
    db.close().unwrap();
    let db = options().open(&path).unwrap();
    assert_holds(&db, round);
}

#[test]
fn a_full_ext4_fails_commits_and_nothing_else() {
    commits_fail_and_go_on(Filesystem::Ext4);
}

#[test]
fn a_full_xfs_fails_commits_and_nothing_else() {
    commits_fail_and_go_on(Filesystem::Xfs);
}
