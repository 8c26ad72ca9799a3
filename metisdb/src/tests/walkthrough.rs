//! A small database through its whole life: small enough for Miri, which checks every access of the code with `unsafe` on the way.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{assert_proves, beside, disk, small};
use crate::{Account, Changes, CheckLevel, Db, Durability, Key, Options, Snapshot, Value, log::segment::SEGMENT_BYTES};

const ACCOUNTS: u64 = if cfg!(miri) { 3 } else { 10 };
const SLOTS: u64 = if cfg!(miri) { 4 } else { 12 };
const VERSIONS: u64 = if cfg!(miri) { 2 } else { 4 };
/// Longer than a segment, so that its record lies across the borders of what the log is mapped in. Hashing it would take Miri minutes.
const CODE_BYTES: usize = if cfg!(miri) { 100 } else { (1 << 16) + 100 };

fn address(number: u64) -> Address {
    Address::left_padding_from(&(number + 1).to_be_bytes())
}

/// Every slot is of the first account; a version sets every third, and all of them at first.
fn is_set(slot: u64, version: u64) -> bool {
    version == 1 || slot % 3 == version % 3
}

fn value(slot: u64, version: u64) -> U256 {
    let set = (1..=version).rev().find(|version| is_set(slot, *version));
    set.map_or(U256::ZERO, |set| U256::from(1000 * set + slot + 1))
}

fn code() -> Bytes {
    vec![0xfe; CODE_BYTES].into()
}

fn commit(db: &Db, version: u64) {
    let mut changes = Changes::new();
    for number in 0..ACCOUNTS {
        let account = Account { nonce: version, balance: U256::from(number), ..Account::default() };
        changes.set_account(address(number), account);
    }
    for slot in (0..SLOTS).filter(|slot| is_set(*slot, version)) {
        changes.set_storage(address(0), U256::from(slot), value(slot, version));
    }
    if version == 2 {
        changes.set_code(keccak256(code()), code());
    }
    assert_eq!(db.commit(&changes, Durability::Durable).unwrap().version(), version);
}

fn assert_reads(snapshot: &Snapshot) {
    let version = snapshot.version();
    for slot in 0..SLOTS {
        let found = snapshot.storage(&address(0), U256::from(slot)).unwrap();
        assert_eq!(found, value(slot, version), "slot {slot} at {version}");
    }
    let keys: Vec<Key> = (0..=ACCOUNTS).map(|number| Key::Account(address(number))).collect();
    let values = snapshot.get_many(&keys).unwrap();
    let nonces = values.into_iter().map(|value| match value {
        Value::Account(account) => account.map(|account| account.nonce),
        other => panic!("{other:?}"),
    });
    let exists = |number| version > 0 && number < ACCOUNTS;
    assert!(nonces.eq((0..=ACCOUNTS).map(|number| exists(number).then_some(version))));
}

fn assert_tells_all(db: &Db, roots: &[B256]) {
    let snapshot = db.snapshot().unwrap();
    assert_eq!(snapshot.version(), VERSIONS);
    assert_reads(&snapshot);
    assert_eq!(snapshot.code(&keccak256(code())).unwrap(), Some(code()));
    for (version, root) in (0..).zip(roots) {
        let older = db.snapshot_at(version).unwrap();
        assert_reads(&older);
        assert_eq!(older.root().unwrap(), *root);
    }
    assert_proves(&snapshot, roots[VERSIONS as usize], "the newest");
}

/// The smallest files that there can be.
fn options() -> Options {
    small().segment_bytes(*SEGMENT_BYTES.start()).retain_versions(VERSIONS)
}

#[test]
fn a_small_database_lives() {
    let disk = disk(7);
    let db = options().create_on(disk.clone()).unwrap();
    let mut roots = vec![db.snapshot().unwrap().root().unwrap()];
    for version in 1..=VERSIONS {
        commit(&db, version);
        roots.push(db.snapshot().unwrap().root().unwrap());
        if version == 2 {
            db.checkpoint().unwrap();
        }
    }
    assert_tells_all(&db, &roots);
    db.close().unwrap();
    let reader = options().open_read_only_on(disk.clone()).unwrap();
    assert_tells_all(&reader, &roots);
    drop(reader);
    let db = options().open_on(disk.clone()).unwrap();
    assert_tells_all(&db, &roots);
    assert_eq!(db.check(CheckLevel::Full).unwrap().accounts, ACCOUNTS);
    drop(db);
    let rebuilt = options().rebuild(true).verify_every_read(true).open_on(disk).unwrap();
    assert_tells_all(&rebuilt, &roots);
}

#[test]
fn a_reader_stays_beside_a_small_writer() {
    let db = options().retain_versions(0).create_on(disk(8)).unwrap();
    let reads = AtomicU64::new(0);
    let read = || {
        assert_reads(&db.snapshot().unwrap());
        reads.fetch_add(1, Ordering::Release);
    };
    beside(read, || {
        for version in 1..=VERSIONS {
            commit(&db, version);
            if version % 2 == 0 {
                db.checkpoint().unwrap();
            }
        }
        while reads.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    });
    assert_reads(&db.snapshot().unwrap());
}
