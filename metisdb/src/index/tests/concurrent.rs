//! Readers beside a growing table.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::{audit, mix};
use crate::{index::Index, tests::End};

const READERS: u64 = if cfg!(miri) { 2 } else { 4 };

/// A table, and what its writer has made known of it.
struct Shared {
    index: Index,
    keys: u64,
    hash: fn(u64) -> u64,
    /// Keys below this one are in the index.
    published: AtomicU64,
    /// The version that each key has at least.
    versions: Vec<AtomicU64>,
    done: AtomicBool,
}

impl Shared {
    fn new(initial: u32, keys: u64, hash: fn(u64) -> u64) -> Self {
        Self {
            index: Index::new(initial).unwrap(),
            keys,
            hash,
            published: AtomicU64::new(0),
            versions: (0..keys).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicBool::new(false),
        }
    }

    /// The position of a key's version, from which both can be told.
    fn position(&self, key: u64, version: u64) -> u64 {
        8 + 8 * (version * self.keys + key)
    }

    /// Inserts all keys, replacing others all the while.
    fn write(&self) {
        let _end = End(&self.done);
        for key in 0..self.keys {
            self.index.reserve(1).unwrap();
            self.index.insert((self.hash)(key), self.position(key, 0));
            self.published.store(key + 1, Ordering::Release);
            if key % 2 == 0 {
                let other = mix(key) % (key + 1);
                let version = self.versions[other as usize].load(Ordering::Relaxed);
                let (old, new) = (self.position(other, version), self.position(other, version + 1));
                assert!(self.index.replace((self.hash)(other), old, new));
                self.versions[other as usize].store(version + 1, Ordering::Release);
            }
        }
    }

    /// Looks up keys known to be there until the writer is done.
    fn read(&self, reader: u64) {
        let mut lookups = reader << 40;
        while !self.done.load(Ordering::Acquire) {
            let published = self.published.load(Ordering::Acquire);
            if published == 0 {
                thread::yield_now();
                continue;
            }
            lookups += 1;
            self.look_up(mix(lookups) % published, published);
            if lookups.is_multiple_of(16) {
                // A key that is never inserted.
                assert_eq!(self.find(self.keys, (self.hash)(mix(lookups))), None);
            }
        }
    }

    fn look_up(&self, key: u64, published: u64) {
        let known = self.versions[key as usize].load(Ordering::Acquire);
        let Some(version) = self.find(key, (self.hash)(key)) else {
            panic!("key {key} of {published} is absent");
        };
        assert!(known <= version, "key {key}: {version} after {known}");
    }

    /// The version of a key.
    fn find(&self, key: u64, hash: u64) -> Option<u64> {
        let found: Result<_, Infallible> = self.index.find(hash, |candidate| {
            let record = candidate.position / 8 - 1;
            if record % self.keys != key {
                return Ok(None);
            }
            candidate.mark_verified();
            Ok(Some(record / self.keys))
        });
        found.unwrap()
    }

    fn run(&self) {
        thread::scope(|scope| {
            for reader in 0..READERS {
                scope.spawn(move || self.read(reader));
            }
            self.write();
        });
        audit(&self.index);
        (0..self.keys).for_each(|key| self.look_up(key, self.keys));
    }
}

/// Hashes that leave three of four lines empty, so that the others have long chains.
fn clustered(key: u64) -> u64 {
    mix(key) & !0b1100
}

/// Hashes that leave all but one of 16 lines empty.
fn crowded(key: u64) -> u64 {
    mix(key) & !0b11_1100
}

#[test]
fn readers_miss_nothing_while_a_large_table_grows() {
    let keys = if cfg!(miri) { 100 } else { 200_000 };
    Shared::new(2, keys, mix).run();
}

#[test]
fn readers_miss_nothing_while_small_tables_grow() {
    let (rounds, keys) = if cfg!(miri) { (2, 60) } else { (1000, 1500) };
    for round in 0..rounds {
        let hash = [mix, clustered, crowded][round as usize % 3];
        Shared::new(round % 4, keys, hash).run();
    }
}

#[test]
fn an_image_is_captured_beside_inserts() {
    let keys = if cfg!(miri) { 100 } else { 40_000 };
    for hash in [mix, clustered] {
        let shared = Shared::new(3, keys, hash);
        thread::scope(|scope| {
            scope.spawn(|| shared.write());
            while !shared.done.load(Ordering::Acquire) {
                capture_and_check(&shared);
            }
        });
        capture_and_check(&shared);
    }
}

/// Every key known before the capture must be in the image once, with a version of then or later.
fn capture_and_check(shared: &Shared) {
    let pause = shared.index.pause_splits();
    let published = shared.published.load(Ordering::Acquire);
    let known: Vec<_> =
        shared.versions[..published as usize].iter().map(|version| version.load(Ordering::Acquire)).collect();
    let (bytes, summary) = super::images::capture(&pause);
    drop(pause);
    let restored = Shared {
        index: super::images::restore(&bytes, summary.max_position).unwrap(),
        keys: shared.keys,
        hash: shared.hash,
        published: AtomicU64::new(published),
        versions: known.into_iter().map(AtomicU64::new).collect(),
        done: AtomicBool::new(true),
    };
    audit(&restored.index);
    assert!(restored.index.entries() >= published);
    (0..published).for_each(|key| restored.look_up(key, published));
    for key in published..shared.keys {
        restored.find(key, (shared.hash)(key));
    }
}
