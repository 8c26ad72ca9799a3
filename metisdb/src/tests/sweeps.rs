//! Sweeps of the trie, and nodes that are written ahead of a checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, U256};

use super::{Random, disk, small, wide};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, checkpointer,
    trie::{
        Loaded, Trie,
        arena::{Arena, Place, pages::PAGE_BYTES},
        node::{Child, Leaf, Link, NodeRef, nibbles_of},
        sweep::{Moved, Swept, sweep},
        update::Retired,
    },
};

/// What stands in a trie: the places of its branches, with those of the branches above them, and the references of all nodes in order.
#[derive(Default)]
struct Found {
    places: BTreeMap<Place, Vec<Place>>,
    in_memory: usize,
    references: Vec<Vec<u8>>,
}

impl Found {
    fn of(arena: &Arena, trie: &Trie) -> Self {
        let mut found = Self::default();
        if let Some(top) = &trie.top {
            found.child(arena, top, (false, 0), u32::MAX, &[]);
        }
        found
    }

    fn child(&mut self, arena: &Arena, child: &Child, (in_storage, depth): (bool, usize), birth: u32, above: &[Place]) {
        self.references.push(child.reference.padded().to_vec());
        match &child.link {
            Link::Leaf(Leaf { storage: Some(storage), .. }) if !in_storage => {
                self.child(arena, storage, (true, 0), birth, above);
            }
            Link::Leaf(_) => {}
            Link::Branch(node) => {
                let loaded = Loaded::read(arena, node, birth, depth).unwrap();
                let mut above = above.to_vec();
                match node {
                    NodeRef::Arena(place) => {
                        assert!(self.places.insert(*place, above.clone()).is_none(), "{place:?} is used twice");
                        above.push(*place);
                    }
                    NodeRef::Memory(_) => self.in_memory += 1,
                }
                for nibble in nibbles_of(loaded.children.view().mask()) {
                    let child = loaded.children.view().get(nibble).unwrap();
                    self.child(arena, &child, (in_storage, depth + loaded.prefix.len() + 1), loaded.birth, &above);
                }
            }
        }
    }
}

/// A database whose trie is in the arena, with many accounts, few, or one, some of them with many slots; and with pages that are dead in part.
fn written(seed: u64, accounts: u64, slots: u64) -> Db {
    let disk = disk(seed);
    let db = small().retain_versions(0).create_on(disk.clone()).unwrap();
    let mut random = Random(seed);
    for round in 0..3 {
        for number in 0..accounts {
            let address = Address::from_word(B256::from(wide(number)));
            let mut changes = Changes::new();
            changes.set_account(address, Account { nonce: round + 1, ..Account::default() });
            let most = if random.one_in(4) { slots } else { slots / 64 };
            for _ in 0..most {
                changes.set_storage(address, U256::from(random.below(4 * slots)), wide(random.next()));
            }
            db.commit(&changes, Durability::Pipelined).unwrap();
        }
        db.checkpoint().unwrap();
    }
    let root = db.snapshot().unwrap().root().unwrap();
    db.close().unwrap();
    let db = small().open_on(disk).unwrap();
    assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
    db
}

/// Sweeps step by step to the end. Returns what was taken out of the arena, the trie that came of it, and the steps.
fn sweep_all(arena: &Arena, trie: &Trie, bytes: u64, full_bytes: u64) -> (BTreeSet<Place>, Trie, usize) {
    let mut swept = Trie { top: trie.top.clone(), root: trie.root };
    let (mut moved_places, mut from, mut steps) = (BTreeSet::new(), Vec::new(), 0);
    loop {
        steps += 1;
        let Swept { moved, next } = sweep(arena, &swept, &from, bytes, full_bytes).unwrap();
        if let Some(Moved { trie, retired, .. }) = moved {
            for node in retired {
                if let Retired::Written(place, _) = node {
                    assert!(moved_places.insert(place), "{place:?} was retired twice");
                }
            }
            swept = trie;
        }
        let Some(next) = next else { return (moved_places, swept, steps) };
        assert!(next > from, "{next:?} behind {from:?}");
        from = next;
    }
}

/// A sweep took one of 256 parts of the trie at a time, by the first byte of the account's path, while commits waited: however large
/// the trie was, and all slots of an account at once.
#[test]
fn steps_of_a_sweep_go_through_each_node_once_however_small_they_are() {
    for (seed, accounts, slots) in [(1, 300, 64), (2, 40, 1_000), (3, 3, 6_000), (4, 1, 8_000)] {
        let db = written(seed, accounts, slots);
        let arena = &db.store.tries.arena;
        let (_, held) = db.store.tries.newest();
        let before = Found::of(arena, &held.trie);
        assert!(before.in_memory == 0 && before.places.len() > 100, "{} nodes", before.places.len());
        for bytes in [1, 400, 10_000, u64::MAX] {
            let case = format!("seed {seed}, steps of {bytes} bytes");
            let (moved, trie, steps) = sweep_all(arena, &held.trie, bytes, u64::MAX);
            assert!(moved.iter().eq(before.places.keys()), "{case}: {} of {}", moved.len(), before.places.len());
            match bytes {
                1 => assert_eq!(steps, before.places.len(), "{case}"),
                u64::MAX => assert_eq!(steps, 1, "{case}"),
                // A node has 1,100 bytes at most.
                _ => assert!(steps > before.places.len() * 60 / (bytes as usize + 1_100), "{case}: {steps}"),
            }
            let after = Found::of(arena, &trie);
            assert_eq!((after.places.len(), after.in_memory), (0, before.places.len()), "{case}");
            assert!(after.references == before.references && trie.root == held.trie.root, "{case}");

            // Of pages that are mostly dead, and what leads there.
            let full = PAGE_BYTES * 3 / 4;
            let is_sparse = |place: &&Place| arena.pages.lock().live_bytes_beside(**place) < full;
            let sparse = before.places.keys().filter(is_sparse);
            let expected: BTreeSet<Place> =
                sparse.flat_map(|place| before.places[place].iter().chain([place])).copied().collect();
            assert_eq!(sweep_all(arena, &held.trie, bytes, full).0, expected, "{case}");
        }
    }
}

/// To make room in memory for nodes, a checkpoint was taken each time, with an image of the whole index: of a hundred million keys, seven times
/// the bytes that it was taken for.
#[test]
fn nodes_that_take_memory_are_written_ahead_until_they_are_worth_an_image() {
    const KEYS: u64 = 60_000;
    const COMMITS: u64 = 120;
    let options = || small().retain_versions(2).segment_bytes(1 << 20).max_unwritten_trie_bytes(1 << 16);
    let disk = disk(5);
    let mut db = options().create_on(disk.clone()).unwrap();
    let keys: Vec<u64> = (0..KEYS).collect();
    for some in keys.chunks(2_000) {
        commit(&db, &slots(some.iter().copied(), 1));
    }
    db.checkpoint().unwrap();
    let mut random = Random(5);
    let loaded = db.stats().checkpoints;
    let (mut checkpoints, mut written_ahead, mut ahead_before) = (0, 0, 0);
    for number in 0..COMMITS {
        let root = commit(&db, &slots((0..40).map(|_| random.below(KEYS)), 2 + number));
        checkpointer::wait_for_started(&db.store);
        let ahead = db.store.checkpoint.lock().ahead_bytes;
        written_ahead += u64::from(ahead > ahead_before);
        ahead_before = ahead;
        let left = Arc::new(disk.after_power_loss(number));
        let after = options().open_on(left).unwrap();
        assert_eq!((after.stats().version, after.snapshot().unwrap().root().unwrap()), (db.stats().version, root));
        if number % 10 == 0 {
            after.check(CheckLevel::Full).unwrap();
        }
        if number == COMMITS / 2 {
            checkpoints = db.stats().checkpoints - loaded;
            drop(db);
            db = options().open_on(disk.clone()).unwrap();
            ahead_before = 0;
        }
    }
    checkpoints += db.stats().checkpoints;
    println!("{written_ahead} times nodes were written ahead, {checkpoints} checkpoints");
    assert!(checkpoints >= 4 && written_ahead >= 2 * checkpoints, "{written_ahead} times, {checkpoints} checkpoints");
    assert!(db.stats().unwritten_trie_bytes < 1 << 16);
    let root = db.snapshot().unwrap().root().unwrap();
    db.close().unwrap();
    let db = options().open_on(disk).unwrap();
    assert_eq!((db.stats().unwritten_trie_bytes, db.snapshot().unwrap().root().unwrap()), (0, root));
    db.check(CheckLevel::Full).unwrap();
}

fn slots(keys: impl Iterator<Item = u64>, value: u64) -> Changes {
    let mut changes = Changes::new();
    for key in keys {
        let owner = Address::with_last_byte((key % 200) as u8);
        changes.set_account(owner, Account { nonce: value, ..Account::default() });
        changes.set_storage(owner, U256::from(key), U256::from(value));
    }
    changes
}

fn commit(db: &Db, changes: &Changes) -> B256 {
    db.commit(changes, Durability::Durable).unwrap();
    db.snapshot().unwrap().root().unwrap()
}
