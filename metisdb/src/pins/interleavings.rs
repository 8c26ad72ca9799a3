//! P1 and P2 in every order that the steps of readers and writer can have.

use loom::{sync::Arc, thread};

use super::Pins;
use crate::sync::modelled::{Plain, explore};

const VERSIONS: usize = 3;

/// Pins, and for each version what only it can read: the model checker reports who reads it while, or after, it is taken away.
struct Store {
    pins: Pins,
    records: [Plain<Option<usize>>; VERSIONS],
}

impl Store {
    fn new() -> Arc<Self> {
        let records = std::array::from_fn(|version| Plain::new((version == 0).then_some(version)));
        Arc::new(Self { pins: Pins::new(0, 0), records })
    }

    /// Makes a version, and reclaims what those from `retained` on do not need.
    fn commit(&self, version: usize, retained: u64) {
        self.records[version].write(Some(version));
        self.pins.publish(version as u64);
        self.reclaim(self.pins.raise_horizon(retained));
    }

    /// Takes away what only versions below the floor can read.
    fn reclaim(&self, floor: u64) {
        for dead in 0..floor as usize {
            self.records[dead].write(None);
        }
    }

    fn read(&self, version: u64) {
        let found = self.records[version as usize].read();
        assert_eq!(found, Some(version as usize), "P1: a pinned version is readable");
        assert!(self.pins.floor() <= version, "P1: no floor is above a pin");
    }

    fn read_newest(&self) {
        let pin = self.pins.pin_newest();
        self.read(pin.version);
        self.pins.release(&pin);
    }
}

#[test]
fn the_newest_version_is_pinned_beside_commits() {
    explore("pin the newest beside two commits", || {
        let store = Store::new();
        let reader = Arc::clone(&store);
        let reader = thread::spawn(move || reader.read_newest());
        store.commit(1, 1);
        store.commit(2, 2);
        reader.join().unwrap();
    });
}

#[test]
fn an_older_version_is_pinned_or_refused_beside_commits() {
    explore("pin an older one beside two commits", || {
        let store = Store::new();
        store.commit(1, 0);
        let reader = Arc::clone(&store);
        let reader = thread::spawn(move || {
            if let Ok(pin) = reader.pins.pin(0) {
                reader.read(0);
                // What the pin holds can be pinned again by name.
                let again = reader.pins.pin(1).map(|pin| reader.pins.release(&pin));
                assert!(again.is_ok() || reader.pins.horizon() > 1);
                reader.pins.release(&pin);
            }
        });
        store.commit(2, 2);
        reader.join().unwrap();
    });
}

#[test]
fn readers_that_want_the_same_slot_get_one_each() {
    explore("two readers and a commit", || {
        let store = Store::new();
        let readers: [_; 2] = std::array::from_fn(|_| {
            let reader = Arc::clone(&store);
            thread::spawn(move || reader.read_newest())
        });
        store.commit(1, 1);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_slot_is_free_again_for_the_next_pin() {
    explore("a slot used twice beside two commits", || {
        let store = Store::new();
        let reader = Arc::clone(&store);
        let reader = thread::spawn(move || {
            reader.read_newest();
            reader.read_newest();
        });
        store.commit(1, 1);
        store.commit(2, 2);
        reader.join().unwrap();
    });
}

#[test]
fn what_is_being_read_does_not_expire() {
    explore("a counted read beside an expiry", || {
        let store = Store::new();
        let pin = store.pins.pin_newest();
        let reader = Arc::clone(&store);
        let reader = thread::spawn(move || {
            if let Ok(_reading) = reader.pins.begin_read(&pin) {
                reader.read(0);
            }
            reader.pins.release(&pin);
        });
        store.commit(1, 1);
        store.reclaim(store.pins.expire_before(1));
        store.reclaim(store.pins.expire_before(1));
        reader.join().unwrap();
    });
}
