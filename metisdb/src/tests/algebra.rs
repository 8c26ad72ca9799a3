//! Laws of the trie: it is a function of the state alone, however the state came to be. And what is read beside a writer that goes on.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256};

use super::{
    Random, beside, disk,
    forks::seeds,
    model::{State, Step, changes},
    small,
    tries::{Shape, alloy_root},
};
use crate::{
    Changes, CheckLevel, Db, Durability,
    checkpoint::{self, Thoroughness},
};

const CASES: u64 = 60;

fn empty(shape: &Shape) -> Db {
    let mut options = small();
    options.plain_paths = shape.plain;
    options.create_on(disk(1)).unwrap()
}

fn commit(db: &Db, changes: &Changes) -> B256 {
    db.commit(changes, Durability::Pipelined).unwrap();
    db.snapshot().unwrap().root().unwrap()
}

fn shape(seed: u64, random: &mut Random) -> Shape {
    if seed.is_multiple_of(2) { Shape::hashed(20) } else { Shape::plain(random) }
}

/// The state after some commits' steps, and the steps of each.
fn grown(shape: &Shape, random: &mut Random, commits: usize) -> (State, Vec<Vec<Step>>) {
    let mut state = State::default();
    let mut all = Vec::new();
    for _ in 0..commits {
        let (next, steps) = shape.next(&state, random, 40);
        state = next;
        all.push(steps);
    }
    (state, all)
}

/// Steps that make a state of an empty one.
fn from_nothing(state: &State) -> Vec<Step> {
    let accounts = state.accounts.iter().map(|(address, account)| Step::Set(*address, *account));
    let slots = state.slots.iter().map(|((address, slot), value)| Step::Slot(*address, *slot, *value));
    accounts.chain(slots).collect()
}

/// Steps that make one state of another: account by account, slot by slot.
fn between(from: &State, to: &State) -> Vec<Step> {
    let gone = from.accounts.keys().filter(|address| !to.accounts.contains_key(*address));
    let mut steps: Vec<Step> = gone.map(|address| Step::Delete(*address)).collect();
    steps.extend(to.accounts.iter().map(|(address, account)| Step::Set(*address, *account)));
    let cleared = from.slots.keys().filter(|key| !to.slots.contains_key(*key) && to.accounts.contains_key(&key.0));
    steps.extend(cleared.map(|(address, slot)| Step::Slot(*address, *slot, U256::ZERO)));
    steps.extend(to.slots.iter().map(|((address, slot), value)| Step::Slot(*address, *slot, *value)));
    steps
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

fn each_case(law: impl Fn(&Shape, &mut Random)) {
    for seed in seeds(CASES) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let shape = shape(seed, &mut random);
        law(&shape, &mut random);
    }
}

#[test]
fn step_by_step_is_as_from_nothing() {
    each_case(|shape, random| {
        let (state, all) = grown(shape, random, 12);
        let one = empty(shape);
        let roots: Vec<B256> = all.iter().map(|steps| commit(&one, &changes(steps))).collect();
        let stepwise = roots[roots.len() - 1];
        assert_eq!(stepwise, alloy_root(&state, shape.plain));
        assert_eq!(commit(&empty(shape), &changes(&from_nothing(&state))), stepwise);
    });
}

/// One commit for each account and for each slot, in any order, and one commit of all: the same.
#[test]
fn order_and_division_do_not_matter() {
    each_case(|shape, random| {
        let (state, _) = grown(shape, random, 6);
        let root = state.roots(shape.plain).state;
        let mut accounts: BTreeMap<_, Vec<Step>> = BTreeMap::new();
        for step in from_nothing(&state) {
            let (Step::Set(address, _) | Step::Slot(address, ..)) = step else { unreachable!("others do not occur") };
            accounts.entry(address).or_default().push(step);
        }
        // Accounts before their slots; else any order, and any number in a commit.
        let mut waiting: Vec<Vec<Step>> = accounts.into_values().collect();
        let (mut order, mut next) = (Vec::new(), 0);
        waiting.iter_mut().for_each(|steps| shuffle(&mut steps[1..], random));
        while !waiting.is_empty() {
            next = (next + random.below(waiting.len() as u64) as usize) % waiting.len();
            order.push(waiting[next].remove(0));
            if waiting[next].is_empty() {
                waiting.swap_remove(next);
                next = 0;
            }
        }
        let db = empty(shape);
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + random.below(4) as usize).min(rest.len()));
            db.commit_deferred(&changes(now), Durability::Pipelined).unwrap();
            rest = later;
        }
        assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
        db.check(CheckLevel::Full).unwrap();
    });
}

/// There and back: the old root. All the way back: the empty trie.
#[test]
fn what_is_undone_was_never_done() {
    each_case(|shape, random| {
        let (state, all) = grown(shape, random, 6);
        let db = empty(shape);
        all.iter().for_each(|steps| _ = commit(&db, &changes(steps)));
        let root = state.roots(shape.plain).state;
        for _ in 0..6 {
            let (other, steps) = shape.next(&state, random, 30);
            assert_eq!(commit(&db, &changes(&steps)), other.roots(shape.plain).state);
            if random.one_in(3) {
                checkpoint::checkpoint(&db.store, Thoroughness::Automatic).unwrap();
            }
            assert_eq!(commit(&db, &changes(&between(&other, &state))), root);
        }
        let nothing = State::default();
        assert_eq!(commit(&db, &changes(&between(&state, &nothing))), nothing.roots(shape.plain).state);
        db.check(CheckLevel::Full).unwrap();
    });
}

/// A chain of proposals, one proposal of all, a commit of all and single commits lead to one root.
#[test]
fn proposing_is_as_committing() {
    each_case(|shape, random| {
        let (below, all) = grown(shape, random, 4);
        let db = empty(shape);
        all.iter().for_each(|steps| _ = commit(&db, &changes(steps)));
        let snapshot = db.snapshot().unwrap();
        let mut state = below.clone();
        let mut chain = Vec::new();
        for _ in 0..5 {
            let (next, steps) = shape.next(&state, random, 15);
            let changes = changes(&steps);
            let proposal = match chain.last() {
                None => db.propose(&snapshot, &changes).unwrap(),
                Some((above, _)) => crate::Proposal::propose(above, &changes).unwrap(),
            };
            assert_eq!(proposal.root(), next.roots(shape.plain).state);
            chain.push((proposal, changes));
            state = next;
        }
        let root = state.roots(shape.plain).state;
        let whole = changes(&between(&below, &state));
        assert_eq!(db.propose(&snapshot, &whole).unwrap().root(), root);
        if random.one_in(2) {
            db.checkpoint().unwrap();
        }
        let other = empty(shape);
        all.iter().for_each(|steps| _ = commit(&other, &changes(steps)));
        for (proposal, changes) in &chain {
            assert_eq!(commit(&other, changes), proposal.root());
            proposal.commit(Durability::Pipelined).unwrap();
            assert_eq!(db.snapshot().unwrap().root().unwrap(), proposal.root());
            if random.one_in(3) {
                checkpoint::checkpoint(&db.store, Thoroughness::Requested).unwrap();
            }
        }
        assert_eq!(commit(&db, &Changes::new()), root);
        db.check(CheckLevel::Full).unwrap();
    });
}

/// Snapshots are read, proved and gone through on one thread while another commits and takes checkpoints.
#[test]
fn what_is_held_stays_right_beside_a_writer() {
    for seed in seeds(6) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let shape = Shape::hashed(60);
        let options = small().retain_versions(if seed % 2 == 0 { 3 } else { 100 });
        let db = options.max_unwritten_trie_bytes(1 << 16).create_on(disk(seed)).unwrap();
        let (mut state, all) = grown(&shape, &mut random, 8);
        let mut states = Vec::new();
        let mut held = Vec::new();
        let mut growing = State::default();
        for steps in &all {
            steps.iter().for_each(|step| growing.apply(step));
            commit(&db, &changes(steps));
            states.push(growing.clone());
            held.push(db.snapshot().unwrap());
        }
        let mut reading = Random(seed + 1);
        let reader = || {
            let at = reading.below(held.len() as u64) as usize;
            // Another handle of the version has no trie yet: if it can be had, its trie is made beside the writer.
            let snapshot = held[at].at(held[at].version()).unwrap_or_else(|_| held[at].clone());
            shape.compare(&snapshot, &states[at]);
            shape.compare_proof(&snapshot, &states[at], B256::ZERO, &mut reading);
            shape.compare_iteration(&snapshot, &states[at], &mut reading);
        };
        beside(reader, || {
            for round in 0..250 {
                let (next, steps) = shape.next(&state, &mut random, 40);
                state = next;
                if round % 3 == 0 {
                    db.commit_deferred(&changes(&steps), Durability::Pipelined).unwrap();
                } else {
                    assert_eq!(commit(&db, &changes(&steps)), state.roots(false).state);
                }
                match random.below(8) {
                    0 => db.checkpoint().unwrap(),
                    1 | 2 => checkpoint::checkpoint(&db.store, Thoroughness::Automatic).unwrap(),
                    _ => {}
                }
            }
        });
        db.check(CheckLevel::Full).unwrap();
    }
}
