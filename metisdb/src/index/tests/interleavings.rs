//! The index's invariants in every order that the steps of one writer and a reader can have.
//!
//! For the model checker a line has two slots, and is split when there are more than twice as many entries as lines: so three keys make
//! an overflow line, split, copy down and cut off.

use std::convert::Infallible;

use loom::{sync::Arc, thread};

use super::{audit, has, insert};
use crate::{
    index::Index,
    pins::Pins,
    sync::modelled::{Plain, explore},
};

/// The record of a key, where only one was ever written.
fn position(hash: u64) -> u64 {
    8 * (hash + 1)
}

/// One line with these keys, not split yet.
fn filled(keys: &[u64]) -> Index {
    let index = Index::new(0).unwrap();
    let pause = index.pause_splits();
    for &key in keys {
        insert(&index, key, position(key));
    }
    drop(pause);
    index
}

/// A key that is there is found, whatever the writer does.
fn looks_up_beside(name: &str, before: &'static [u64], inserted: &'static [u64], wanted: u64) {
    explore(name, move || {
        let index = Arc::new(filled(before));
        index.reserve(inserted.len()).unwrap();
        let reader = Arc::clone(&index);
        let reader = thread::spawn(move || assert!(has(&reader, wanted, position(wanted)), "key {wanted} is absent"));
        for &key in inserted {
            index.insert(key, position(key));
        }
        reader.join().unwrap();
        audit(&index);
        for &key in before.iter().chain(inserted) {
            assert!(has(&index, key, position(key)), "key {key} is absent at the end");
        }
    });
}

#[test]
fn a_key_stays_while_its_line_gets_an_overflow_line() {
    // The last slot's entry moves into the overflow line, the first stays.
    for wanted in [2, 4] {
        explore("look up beside an overflow line that is hung on", move || {
            let index = Arc::new(filled(&[2, 4]));
            index.reserve(1).unwrap();
            let pause = index.pause_splits();
            let reader = Arc::clone(&index);
            let reader = thread::spawn(move || assert!(has(&reader, wanted, position(wanted))));
            index.insert(6, position(6));
            reader.join().unwrap();
            drop(pause);
            audit(&index);
        });
    }
}

#[test]
fn a_key_that_moves_to_another_line_is_found() {
    looks_up_beside("look up a key that a split moves", &[1, 2], &[4], 1);
    looks_up_beside("look up a key that a split moves out of the overflow line", &[2, 1], &[4], 1);
}

#[test]
fn a_key_that_is_copied_down_is_found() {
    looks_up_beside("look up a key that a split copies down", &[1, 2], &[4], 2);
    looks_up_beside("look up a key that stays in the first slot", &[2, 1], &[4], 2);
}

#[test]
fn a_key_that_replaces_the_link_is_found_though_its_line_is_used_again() {
    for wanted in [4, 2, 1] {
        looks_up_beside("look up a key while its overflow line is used again", &[1, 2, 4], &[3, 5], wanted);
    }
}

#[test]
fn a_commit_is_seen_whole_or_not_at_all() {
    explore("replace, insert and publish beside a reader", || {
        // What stands at a position of the log: written before the index leads there.
        let log: Arc<[Plain<u64>; 4]> = Arc::new(std::array::from_fn(|_| Plain::new(0)));
        log[1].write(1);
        let index = Arc::new(Index::new(0).unwrap());
        insert(&index, 1, 8);
        index.reserve(1).unwrap();
        let pins = Arc::new(Pins::new(1, 0));
        let reader = {
            let (log, index, pins) = (Arc::clone(&log), Arc::clone(&index), Arc::clone(&pins));
            thread::spawn(move || {
                let pin = pins.pin_newest();
                let version_of = |key: u64| {
                    let found: Result<_, Infallible> = index.find(key, |candidate| {
                        let record = log[candidate.position as usize / 8].read();
                        candidate.mark_verified();
                        Ok(Some(record))
                    });
                    found.unwrap()
                };
                let (replaced, inserted) = (version_of(1), version_of(2));
                let expected = if pin.version == 2 { (Some(2), Some(2)) } else { (Some(1), None) };
                assert!(replaced >= expected.0 && inserted >= expected.1, "C2: {replaced:?}, {inserted:?}");
                pins.release(&pin);
            })
        };
        log[2].write(2);
        log[3].write(2);
        assert!(index.replace(1, 8, 16));
        index.insert(2, 24);
        pins.publish(2);
        reader.join().unwrap();
    });
}

#[test]
fn an_image_has_every_key_of_before() {
    explore("capture beside an insert", || {
        let index = Arc::new(filled(&[2, 4]));
        index.reserve(1).unwrap();
        let pause = index.pause_splits();
        let capturing = Arc::clone(&index);
        let capturing = thread::spawn(move || {
            let (bytes, summary) = super::images::capture(&capturing.pause_splits());
            super::images::restore(&bytes, summary.max_position).unwrap()
        });
        index.insert(6, position(6));
        let restored = capturing.join().unwrap();
        drop(pause);
        assert!(has(&restored, 2, position(2)) && has(&restored, 4, position(4)));
    });
}
