//! Readers that never end: what they hold back can be seen, may be bounded, and ends with a typed error; what a read looks at stays.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use alloy_primitives::{Address, B256, U256};

use super::{End, disk, small, wide};
use crate::{Account, Changes, CheckLevel, Db, Durability, Error, Snapshot};

const SLOTS: u64 = 300;
const LIMIT: u64 = 1 << 20;

/// All slots of one account, with values that tell the round.
fn churn(db: &Db, round: u64) {
    let address = Address::repeat_byte(1);
    let mut changes = Changes::new();
    changes.set_account(address, Account { nonce: round, ..Account::default() });
    for slot in 0..SLOTS {
        changes.set_storage(address, U256::from(slot), value(round, slot));
    }
    db.commit(&changes, Durability::Pipelined).unwrap();
}

fn value(round: u64, slot: u64) -> U256 {
    wide(round << 20 | slot)
}

fn is_expired<T>(outcome: Result<T, Error>, version: u64) -> bool {
    match outcome {
        Ok(_) => false,
        Err(Error::SnapshotExpired { version: told }) => {
            assert_eq!(told, version);
            true
        }
        Err(error) => panic!("neither a value nor expired: {error}"),
    }
}

/// Each way to read, whether it says that the snapshot has expired.
fn all_reads(snapshot: &Snapshot) -> Vec<bool> {
    let (address, version) = (Address::repeat_byte(1), snapshot.version());
    let slot = U256::from(7);
    vec![
        is_expired(snapshot.account(&address), version),
        is_expired(snapshot.storage(&address, slot), version),
        is_expired(snapshot.has_storage(&address), version),
        is_expired(snapshot.root(), version),
        is_expired(snapshot.storage_root(&address), version),
        is_expired(snapshot.proof(&address, &[slot]), version),
        is_expired(snapshot.accounts(B256::ZERO), version),
        is_expired(snapshot.slots(&address, B256::ZERO), version),
        is_expired(snapshot.code(&B256::ZERO), version),
        is_expired(snapshot.block(1), version),
        is_expired(snapshot.committed_block(), version),
        is_expired(snapshot.get_many(&[crate::Key::Storage(address, slot)]), version),
    ]
}

#[test]
fn a_reader_that_never_ends_is_seen_and_ended() {
    let db = small().retain_versions(4).max_held_back_bytes(LIMIT).create_on(disk(1)).unwrap();
    churn(&db, 1);
    let endless = db.snapshot().unwrap();
    let proposal = db.propose(&endless, &Changes::new()).unwrap();
    endless.proof(&Address::repeat_byte(1), &[U256::from(3)]).unwrap();
    let mut held_back = 0;
    let mut round = 1;
    while all_reads(&endless).iter().all(|expired| !expired) {
        assert_eq!(endless.storage(&Address::repeat_byte(1), U256::from(9)).unwrap(), value(1, 9));
        round += 1;
        churn(&db, round);
        held_back = held_back.max(db.stats().held_back_bytes);
        assert!(round < 100, "it holds back {} bytes", db.stats().held_back_bytes);
    }
    assert!(held_back > LIMIT / 2 && held_back <= LIMIT, "{held_back}");
    assert!(all_reads(&endless).iter().all(|expired| *expired), "all at once: {:?}", all_reads(&endless));
    assert!(is_expired(proposal.account(&Address::repeat_byte(1)), endless.version()));
    assert!(is_expired(proposal.propose(&Changes::new()), endless.version()));
    let stats = db.stats();
    assert_eq!((stats.snapshots, stats.expired_snapshots, stats.held_back_bytes), (0, 1, 0));
    drop(proposal);
    drop(endless);
    assert_eq!(db.stats().expired_snapshots, 0);
    db.check(CheckLevel::Full).unwrap();
}

/// The log and the arena stay as large as they are, though the reader is still there and has asked for its trie.
#[test]
fn what_an_expired_snapshot_held_back_is_used_again() {
    let db = small().retain_versions(2).max_held_back_bytes(LIMIT).create_on(disk(2)).unwrap();
    churn(&db, 1);
    db.checkpoint().unwrap();
    let log_bytes = |sizes: &[(u64, u64)]| sizes.iter().map(|size| size.0).max();
    let arena_bytes = |sizes: &[(u64, u64)]| sizes.iter().map(|size| size.1).max();
    let endless = db.snapshot().unwrap();
    endless.storage_root(&Address::repeat_byte(1)).unwrap();
    let mut sizes = Vec::new();
    for round in 2..200 {
        churn(&db, round);
        if round % 5 == 0 {
            db.checkpoint().unwrap();
            sizes.push((db.stats().log_disk_bytes, db.stats().arena_disk_bytes));
        }
    }
    let (first, second) = sizes.split_at(sizes.len() / 2);
    assert!(log_bytes(second) <= log_bytes(first), "{sizes:?}");
    assert!(arena_bytes(second) <= arena_bytes(first), "{sizes:?}");
    assert!(all_reads(&endless).iter().all(|expired| *expired));
    db.check(CheckLevel::Full).unwrap();
}

/// The trie of an older version is made from the newest one, which was held for the newest version alone: where snapshots of both expired meanwhile, its
/// pages were written again while the older version's reader still read them.
#[test]
fn a_trie_that_an_older_one_is_made_from_stays_though_its_own_version_expires() {
    let db = small().retain_versions(4).create_on(disk(4)).unwrap();
    // The trie of the first is let go of.
    (1..=3).for_each(|round| churn(&db, round));
    let older = 1;
    let newer = db.snapshot().unwrap();
    let pins = &db.store.pins;
    let pin = pins.pin(older).unwrap();
    let reading = pins.begin_read(&pin).unwrap();
    let (version, base) = db.store.tries.newest_for(older);
    assert_eq!(version, newer.version());
    (4..=5).for_each(|round| churn(&db, round));
    let floor = db.store.tries.floor(pins);
    pins.raise_horizon(newer.version() + 1);
    pins.expire_before(newer.version() + 1);
    assert_eq!(db.store.tries.floor(pins), floor);
    drop(base);
    assert!(db.store.tries.floor(pins) > floor);
    drop(reading);
    pins.release(&pin);
}

/// Snapshots that expire while other threads read them: a read gives the version's value or says that it has expired.
#[test]
fn reads_beside_expiry_are_right_or_expired() {
    let db = small().retain_versions(1).max_held_back_bytes(LIMIT / 4).create_on(disk(3)).unwrap();
    churn(&db, 1);
    let done = AtomicBool::new(false);
    let (expired, read) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (db, done, expired, read) = (&db, &done, &expired, &read);
            scope.spawn(move || {
                let address = Address::repeat_byte(1);
                let mut snapshot = db.snapshot().unwrap();
                let mut turn = seed;
                while !done.load(Ordering::Relaxed) {
                    turn += 1;
                    let slot = turn * 7 % SLOTS;
                    let version = snapshot.version();
                    let outcome = match turn % 16 {
                        0 => snapshot.proof(&address, &[U256::from(slot)]).map(|proof| proof.slots[0].value),
                        1 => snapshot.slots(&address, B256::ZERO).and_then(|mut slots| {
                            let (_, number, value) = slots.next().expect("it has slots")?;
                            assert_eq!(value, self::value(version, number.to()));
                            Ok(self::value(version, slot))
                        }),
                        _ => snapshot.storage(&address, U256::from(slot)),
                    };
                    match outcome {
                        Ok(found) => {
                            assert_eq!(found, value(version, slot), "version {version}");
                            read.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::SnapshotExpired { .. }) => {
                            expired.fetch_add(1, Ordering::Relaxed);
                            snapshot = db.snapshot().unwrap();
                        }
                        Err(error) => panic!("version {version}: {error}"),
                    }
                }
            });
        }
        let _end = End(&done);
        for round in 2..600 {
            churn(&db, round);
            if round % 8 == 0 {
                db.checkpoint().unwrap();
            }
        }
    });
    let (expired, read) = (expired.into_inner(), read.into_inner());
    let dropped = db.stats().dropped_segments;
    println!(
        "{read} reads, {expired} snapshots expired, {dropped} segments dropped, {} pages reused",
        db.stats().arena_reused_pages
    );
    assert!(expired > 3 && read > 1000 && dropped > 3);
    db.check(CheckLevel::Full).unwrap();
}

/// An iterator of a snapshot that had expired said so again and again: who skipped errors never came to an end.
#[test]
fn an_iterator_of_an_expired_snapshot_ends() {
    let db = small().retain_versions(1).max_held_back_bytes(LIMIT / 4).create_on(disk(5)).unwrap();
    churn(&db, 1);
    let snapshot = db.snapshot().unwrap();
    let address = Address::repeat_byte(1);
    let mut accounts = snapshot.accounts(B256::ZERO).unwrap();
    let mut slots = snapshot.slots(&address, B256::ZERO).unwrap();
    assert!(slots.next().unwrap().is_ok());
    (2..60).for_each(|round| churn(&db, round));
    assert!(matches!(slots.next(), Some(Err(Error::SnapshotExpired { .. }))));
    assert!(matches!(accounts.next(), Some(Err(Error::SnapshotExpired { .. }))));
    assert!(slots.next().is_none() && accounts.next().is_none());
}
