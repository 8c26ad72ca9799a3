//! The index in lockstep with a map, its limits and its size.

use std::{convert::Infallible, io};

use proptest::prelude::*;

use super::{audit, has, insert, mix, positions};
use crate::{
    Error,
    index::{Index, memory::LINK_SLOT},
};

const CASES: u32 = if cfg!(miri) { 4 } else { 96 };
const STEPS: usize = if cfg!(miri) { 60 } else { 1200 };

/// One step of the lockstep test.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Replace(usize),
    Verify(usize),
    Absent(u64),
    Pause(bool),
}

fn hash() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>(),
        // All in one line while the table is small, later in few.
        2 => (0..64_u64).prop_map(|high| high << 20 | 1),
        // Equal tags, different lines and upper bits.
        1 => (0..4_u64, 0..16_u64).prop_map(|(low, high)| high << 40 | 0x155 << 4 | low),
        // Tag 0, which empty slots seem to have.
        1 => (0..4_u64, 0..16_u64).prop_map(|(low, high)| high << 40 | low),
        // Equal hashes of different keys.
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => hash().prop_map(Step::Insert),
        4 => any::<usize>().prop_map(Step::Replace),
        2 => any::<usize>().prop_map(Step::Verify),
        2 => any::<u64>().prop_map(Step::Absent),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

fn is_verified(index: &Index, hash: u64, position: u64) -> bool {
    let found: Result<_, Infallible> =
        index.find(hash, |candidate| Ok((candidate.position == position).then_some(candidate.verified)));
    found.unwrap().expect("present")
}

fn verify(index: &Index, hash: u64, position: u64) {
    let found: Result<_, Infallible> =
        index.find(hash, |candidate| Ok((candidate.position == position).then_some(candidate)));
    found.unwrap().expect("present").mark_verified();
}

fn run(initial: u32, steps: Vec<Step>) {
    let index = Index::new(initial).unwrap();
    let mut keys: Vec<(u64, u64, bool)> = Vec::new();
    let mut pause = None;
    let mut position = 0;
    for step in steps {
        match step {
            Step::Insert(hash) => {
                position += 8;
                insert(&index, hash, position);
                keys.push((hash, position, false));
            }
            Step::Replace(_) | Step::Verify(_) if keys.is_empty() => {}
            Step::Replace(key) => {
                let key = key % keys.len();
                let (hash, old, _) = keys[key];
                position += 8;
                assert!(index.replace(hash, old, position));
                assert!(!index.replace(hash, old, position));
                keys[key] = (hash, position, false);
            }
            Step::Verify(key) => {
                let key = key % keys.len();
                let (hash, position, verified) = &mut keys[key];
                verify(&index, *hash, *position);
                *verified = true;
            }
            Step::Absent(hash) => {
                index.prefetch(hash);
                assert!(!has(&index, hash, position + 8));
                assert!(!index.replace(hash, position + 8, position + 16));
            }
            Step::Pause(on) => pause = on.then(|| index.pause_splits()),
        }
        if let Some(&(hash, position, verified)) = keys.last() {
            assert_eq!(is_verified(&index, hash, position), verified);
        }
    }
    drop(pause);
    audit(&index);
    for &(hash, position, verified) in &keys {
        assert_eq!(is_verified(&index, hash, position), verified);
        let mut equal: Vec<_> = keys.iter().filter(|k| k.0 == hash).map(|k| k.1).collect();
        equal.sort_unstable();
        let found = positions(&index, hash);
        assert!(equal.iter().all(|position| found.contains(position)));
    }
    assert_eq!(index.entries(), keys.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lockstep_with_a_map(initial in 0..5_u32, steps in prop::collection::vec(step(), 1..STEPS)) {
        run(initial, steps);
    }
}

#[test]
fn overflow_lines_are_never_lost() {
    let rounds = if cfg!(miri) { 100 } else { 4000 };
    // Part of the lines get all the keys, so that chains are long and every split moves them.
    for (initial, spread) in [(0, 0), (2, 1), (3, 2), (4, 6)] {
        let index = Index::new(initial).unwrap();
        for key in 0..rounds {
            insert(&index, mix(key) << spread, 8 + key * 8);
            if key % 64 == 0 {
                audit(&index);
            }
        }
        audit(&index);
        assert!((0..rounds).all(|key| has(&index, mix(key) << spread, 8 + key * 8)));
        assert!(!has(&index, mix(rounds) << spread, 8));
    }
}

#[test]
fn splits_catch_up_after_a_pause() {
    let keys = if cfg!(miri) { 200 } else { 20_000 };
    let index = Index::new(2).unwrap();
    index.reserve(2 * keys).unwrap();
    let pause = index.pause_splits();
    let second = index.pause_splits();
    drop(second);
    for key in 0..keys as u64 {
        index.insert(mix(key), 8 + key * 8);
    }
    assert_eq!(index.stats().lines, 4);
    audit(&index);
    drop(pause);
    for key in keys as u64..2 * keys as u64 {
        index.insert(mix(key), 8 + key * 8);
    }
    audit(&index);
    let stats = index.stats();
    assert_eq!(stats.lines, (stats.entries * 5).div_ceil(27));
}

#[test]
fn all_that_was_reserved_can_be_inserted() {
    let keys = if cfg!(miri) { 100 } else { 3000 };
    // Random hashes, hashes of one line, and one hash for all.
    let kinds: [fn(u64) -> u64; 3] = [mix, |key| mix(key) << 12, |_| 5];
    for hash in kinds {
        for batch in [1, 10, keys] {
            let index = Index::new(1).unwrap();
            for key in 0..keys {
                if key % batch == 0 {
                    index.reserve(batch as usize).unwrap();
                }
                index.insert(hash(key), 8 + key * 8);
            }
            audit(&index);
        }
    }
}

#[test]
fn limits_are_reported() {
    let index = Index::new(0).unwrap();
    let limit = (1 << 19) * 27 / 5;
    index.reserve(limit).unwrap();
    insert(&index, 0, 8);
    for inserts in [limit, usize::MAX] {
        let error = index.reserve(inserts).unwrap_err();
        assert!(matches!(error, Error::LimitReached { limit: l, .. } if l == limit as u64));
    }
    assert!(matches!(Index::new(29), Err(Error::InvalidOption { .. })));
}

#[test]
#[should_panic(expected = "is not a record's")]
fn position_zero_is_refused() {
    insert(&Index::new(2).unwrap(), 1, 0);
}

#[test]
fn the_highest_position_and_tag_are_kept() {
    let index = Index::new(2).unwrap();
    let highest = (1 << 46) - 8;
    for key in 0..20 {
        insert(&index, u64::MAX, highest - 8 * key);
    }
    for key in 0..20 {
        assert!(has(&index, u64::MAX, highest - 8 * key));
    }
    assert!(positions(&index, u64::MAX ^ 4).is_empty());
}

#[test]
fn visitors_end_the_search_and_fail_it() {
    let index = Index::new(2).unwrap();
    for key in 1..=30 {
        insert(&index, 7, key * 8);
    }
    let mut visits = 0;
    let found: Result<_, io::Error> = index.find(7, |candidate| {
        visits += 1;
        Ok((visits == 10).then_some(candidate.position))
    });
    assert!(found.unwrap().is_some());
    assert_eq!(visits, 10);
    let failed: Result<Option<()>, _> = index.find(7, |_| Err(io::ErrorKind::Other));
    assert_eq!(failed, Err(io::ErrorKind::Other));
}

#[test]
fn a_lookup_overtaken_by_growth_starts_anew() {
    let index = Index::new(2).unwrap();
    insert(&index, mix(0), 8);
    let mut visits = 0;
    let found: Result<_, Infallible> = index.find(mix(0), |candidate| {
        visits += 1;
        if visits == 1 {
            // The table grows while the lookup is at work, which then rejects what it saw.
            (1..200).for_each(|key| insert(&index, mix(key), 8 + key * 8));
        }
        Ok((visits > 1).then_some(candidate.position))
    });
    assert_eq!(found, Ok(Some(8)));
}

#[test]
fn an_outdated_candidate_is_not_marked() {
    let index = Index::new(2).unwrap();
    insert(&index, 1, 8);
    let found: Result<_, Infallible> = index.find(1, |candidate| Ok(Some(candidate)));
    let outdated = found.unwrap().unwrap();
    assert!(index.replace(1, 8, 16));
    outdated.mark_verified();
    assert!(!is_verified(&index, 1, 16));
}

/// Mean number of lines that lookups of all keys touch.
fn lines_per_lookup(index: &Index, entries: u64) -> f64 {
    let lines = 0..index.stats().lines;
    let touched: u64 = lines
        .map(|number| {
            let mut line = index.table.line(number);
            let mut touched = 0;
            for depth in 1.. {
                let records = (0..=LINK_SLOT).filter(|&slot| line.get(slot).is_record());
                touched += records.count() as u64 * depth;
                match index.table.following(line) {
                    Some(next) => line = next,
                    None => break,
                }
            }
            touched
        })
        .sum();
    touched as f64 / entries as f64
}

#[test]
fn an_entry_takes_at_most_14_bytes() {
    let (first, initial) = if cfg!(miri) { (500, 2) } else { (1 << 20, 12) };
    let index = Index::new(initial).unwrap();
    let mut key = 0;
    for step in 0..=8 {
        let entries = (f64::from(first) * f64::from(step).mul_add(0.125, 0.0).exp2()) as u64;
        index.reserve((entries - key) as usize).unwrap();
        while key < entries {
            index.insert(mix(key), 8 + key * 8);
            key += 1;
        }
        let stats = index.stats();
        let bytes = stats.memory_bytes as f64 / entries as f64;
        let touched = (stats.lines + stats.overflow_lines_touched) as f64 * 64.0 / entries as f64;
        let lines = lines_per_lookup(&index, entries);
        println!(
            "{entries} entries: {bytes:.2} bytes each ({touched:.2} with free lines), {lines:.3} \
             lines per lookup"
        );
        if !cfg!(miri) {
            assert!(bytes <= 14.0);
            assert!(lines <= 1.25);
        }
    }
    audit(&index);
}
