//! Older versions: how many of them a read-only handle has, and their tries beside checkpoints that drop segments.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, U256};

use super::{beside, disk, small, wide};
use crate::{
    Account, Changes, CheckLevel, Durability, Error,
    checkpoint::{self, Thoroughness},
};

const OWNER: Address = Address::repeat_byte(1);

/// Sets all slots of an account anew.
fn slots(number: u8, count: u64, value: u64) -> Changes {
    let owner = Address::repeat_byte(number);
    let mut changes = Changes::new();
    changes.set_account(owner, Account { nonce: value, ..Account::default() });
    for slot in 0..count {
        changes.set_storage(owner, U256::from(slot), wide(value << 16 | slot));
    }
    changes
}

/// A read-only handle said of all versions but the newest 128 (or as many as it was told to retain) that they are gone, whatever the writer had
/// kept, and a thorough check did not look at them.
#[test]
fn a_read_only_handle_has_all_versions_that_the_writer_kept() {
    let disk = disk(1);
    let db = small().retain_versions(1_000).create_on(disk.clone()).unwrap();
    let roots: Vec<_> = (1..=300)
        .map(|value| {
            db.commit(&slots(1, 3, value), Durability::Pipelined).unwrap();
            db.snapshot().unwrap().root().unwrap()
        })
        .collect();
    db.close().unwrap();
    for retain in [0, 128, u64::MAX] {
        let db = small().retain_versions(retain).open_read_only_on(disk.clone()).unwrap();
        assert_eq!(db.stats().oldest_version, 0);
        for version in [1, 20, 170, 299] {
            let snapshot = db.snapshot_at(version).unwrap();
            assert_eq!(snapshot.storage(&OWNER, U256::from(2)).unwrap(), wide(version << 16 | 2));
            let root = roots[version as usize - 1];
            assert_eq!(snapshot.root().unwrap(), root);
            snapshot.proof(&OWNER, &[U256::from(2)]).unwrap().verify(root).unwrap();
        }
        assert_eq!(db.check(CheckLevel::Full).unwrap().roots, 301);
    }
    // Who writes keeps what it was told to, from now on.
    let db = small().retain_versions(10).open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().oldest_version, 290);
    db.close().unwrap();
    let db = small().open_read_only_on(disk).unwrap();
    assert!(matches!(db.snapshot_at(289), Err(Error::VersionNotRetained { oldest: 290, .. })));
}

/// Where an account had been wiped since, the trie of an older version was made by going through all segments, and each frame's was looked up
/// once more. A checkpoint that dropped one of them meanwhile made a sound database a damaged one: "expected a frame, got no segment".
#[test]
fn an_older_trie_is_made_beside_a_checkpoint_that_drops_segments() {
    let db = small().retain_versions(6).create_on(disk(2)).unwrap();
    for value in 1..8 {
        db.commit(&slots(2, 100, value), Durability::Pipelined).unwrap();
    }
    let made = AtomicU64::new(0);
    let read = || {
        let newest = db.snapshot().unwrap().version();
        match db.snapshot_at(newest - 4) {
            Ok(snapshot) => {
                snapshot.storage_root(&OWNER).unwrap();
                made.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => assert!(matches!(error, Error::VersionNotRetained { .. }), "{error}"),
        }
    };
    beside(read, || {
        for value in 8..800 {
            let mut changes = slots(2, 400, value);
            changes.set_account(OWNER, Account { nonce: value, ..Account::default() });
            changes.wipe_storage(OWNER).set_storage(OWNER, U256::from(1), U256::from(value));
            db.commit(&changes, Durability::Pipelined).unwrap();
            checkpoint::checkpoint(&db.store, Thoroughness::Automatic).unwrap();
        }
    });
    let dropped = db.stats().dropped_segments;
    let made = made.into_inner();
    println!("{made} tries of older versions beside {dropped} segments dropped");
    assert!(dropped > 100 && made > 20, "{dropped} segments, {made} tries");
    db.check(CheckLevel::Full).unwrap();
}
