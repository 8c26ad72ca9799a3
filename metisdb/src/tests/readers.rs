//! Readers beside a writer: no reader ever sees a value of another version, while the index grows, retention moves and
//! segments are dropped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy_primitives::{Address, U256};

use super::{End, Random, disk, mix, small, wide};
use crate::{Account, Changes, Db, Durability, Error, Snapshot};

const COMMITS: u64 = 10_000;
const READERS: u64 = 8;
const RETAIN: u64 = 20;
const HOT_KEYS: u64 = 500;
const CHANGES: u64 = 20;
const ACCOUNTS: u64 = 50;

/// What every version does, computed ahead: the versions that set each key, and the keys of each version.
struct Script {
    /// Keys that a version sets.
    sets: Vec<Vec<u64>>,
    /// Versions that set a key, ascending.
    set_by: Vec<Vec<u64>>,
}

impl Script {
    /// Every second hundred of versions brings new keys; the others set hot ones, so that whole segments die.
    fn new() -> Self {
        let mut script = Self { sets: vec![Vec::new()], set_by: vec![Vec::new(); HOT_KEYS as usize] };
        for version in 1..=COMMITS {
            let mut keys: Vec<u64> = if version / 100 % 2 == 0 {
                let first = script.set_by.len() as u64;
                script.set_by.extend((0..CHANGES).map(|_| Vec::new()));
                (first..first + CHANGES).collect()
            } else {
                (0..CHANGES).map(|index| mix(version * CHANGES + index) % HOT_KEYS).collect()
            };
            keys.sort_unstable();
            keys.dedup();
            for key in &keys {
                script.set_by[*key as usize].push(version);
            }
            script.sets.push(keys);
        }
        script
    }

    /// A key's value at a version: told by the version that set it; every seventh setting clears it.
    fn value(&self, key: u64, version: u64) -> U256 {
        let settings = &self.set_by[key as usize];
        let count = settings.partition_point(|by| *by <= version);
        if count == 0 { U256::ZERO } else { set_value(key, settings[count - 1]) }
    }
}

fn set_value(key: u64, version: u64) -> U256 {
    if mix(key ^ version << 32).is_multiple_of(7) { U256::ZERO } else { wide(key << 20 | version) }
}

fn place(key: u64) -> (Address, U256) {
    (Address::with_last_byte((key % ACCOUNTS) as u8 + 1), U256::from(key))
}

fn write(db: &Db, script: &Script) {
    for version in 1..=COMMITS {
        let mut changes = Changes::new();
        if version == 1 {
            for account in 0..ACCOUNTS {
                changes.set_account(place(account).0, Account::default());
            }
        }
        for key in &script.sets[version as usize] {
            let (address, slot) = place(*key);
            changes.set_storage(address, slot, set_value(*key, version));
        }
        let commit = db.commit(&changes, Durability::Pipelined).unwrap();
        assert_eq!(commit.version(), version);
        if version % 40 == 0 {
            db.checkpoint().unwrap();
        }
    }
}

fn read(db: &Db, script: &Script, seed: u64, done: &AtomicBool) -> u64 {
    let mut random = Random(seed);
    let mut held: Vec<Snapshot> = Vec::new();
    let mut reads = 0;
    while !done.load(Ordering::Relaxed) {
        let newest = db.snapshot().unwrap();
        let snapshot = match random.below(3) {
            0 => {
                let version = newest.version().saturating_sub(random.below(RETAIN + 10));
                let horizon = db.store.pins.horizon();
                let pinned = db.snapshot_at(version);
                assert!(version >= horizon || pinned.is_err(), "P1: {version} is pinned below the horizon {horizon}");
                match pinned {
                    Ok(older) => older,
                    Err(Error::VersionNotRetained { .. }) => newest,
                    Err(error) => panic!("{version}: {error}"),
                }
            }
            1 if !held.is_empty() => held[random.below(held.len() as u64) as usize].clone(),
            _ => newest,
        };
        let version = snapshot.version();
        for _ in 0..20 {
            let key = if random.one_in(2) { random.below(HOT_KEYS) } else { random.below(script.set_by.len() as u64) };
            let (address, slot) = place(key);
            let value = snapshot.storage(&address, slot).unwrap();
            assert_eq!(value, script.value(key, version), "key {key} at version {version}, reader {seed}");
            reads += 1;
        }
        // Two readers hold on to old versions; the others let the floor rise.
        if seed < 2 && random.one_in(50) {
            held.push(snapshot);
        }
        if held.len() > 3 || random.one_in(1000) && !held.is_empty() {
            held.remove(0);
        }
    }
    reads
}

/// Names the invariants P1 (pin protocol) and those of the index's growth: without either re-check it fails.
#[test]
fn readers_see_their_version_while_the_store_moves_on() {
    let script = Script::new();
    let db = small().retain_versions(RETAIN).create_on(disk(1)).unwrap();
    let done = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (db, script, done) = (&db, &script, &done);
        let readers: Vec<_> = (0..READERS).map(|seed| scope.spawn(move || read(db, script, seed, done))).collect();
        let end = End(done);
        write(db, script);
        drop(end);
        for reader in readers {
            reads.fetch_add(reader.join().unwrap(), Ordering::Relaxed);
        }
    });
    let db = Arc::new(db);
    let stats = db.stats();
    println!(
        "{} reads beside {COMMITS} commits; {} keys; reclaimed {} bytes of records, dropped {} segments",
        reads.load(Ordering::Relaxed),
        stats.keys,
        stats.reclaimed_bytes,
        stats.dropped_segments
    );
    assert!(reads.into_inner() > 10_000, "readers were at work");
    assert!(stats.dropped_segments > 50, "reclaim was at work: {}", stats.dropped_segments);
    assert!(stats.keys > 100_000 / 2, "the index grew: {}", stats.keys);
}
