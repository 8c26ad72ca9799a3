//! The writer's books: what they count is the same after every way to come by them, and every file that they give up
//! goes.

use std::{io::ErrorKind, sync::Arc};

use alloy_primitives::{Address, B256, U256};

use super::{
    Random, beside, disk,
    model::{State, changes},
    small, wide,
};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Options,
    ledger::Ledger,
    storage::{SimulatedDisk, Storage},
};

const CHURNED: Address = Address::repeat_byte(0x77);
const CLEARED: Address = Address::repeat_byte(1);

/// Nothing but the newest version is kept, so that records die at once.
fn forgetful() -> Options {
    small().retain_versions(0)
}

fn set_account(changes: &mut Changes, address: Address, nonce: u64) {
    changes.set_account(address, Account { nonce, ..Account::default() });
}

fn account_changes(address: Address, nonce: u64) -> Changes {
    let mut changes = Changes::new();
    set_account(&mut changes, address, nonce);
    changes
}

/// Sets all that the rounds before set, so that whole segments die.
fn churn(changes: &mut Changes, round: u64) {
    set_account(changes, CHURNED, round);
    for slot in 0..350 {
        changes.set_storage(CHURNED, U256::from(slot), wide(1000 * round + slot));
    }
}

fn churned(round: u64) -> Changes {
    let mut changes = Changes::new();
    churn(&mut changes, round);
    changes
}

fn commit(db: &Db, changes: &Changes) -> u64 {
    db.commit(changes, Durability::Durable).unwrap().version()
}

fn books(db: &Db) -> Ledger {
    db.store.writer.lock().ledger.clone()
}

/// Names of the segment files, ascending.
fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with("segment."));
    names.sort();
    names
}

/// A slot is set in the first segment, set again in one that is dropped, and cleared in a later one that stays. Then
/// the image is lost and the index is rebuilt. Returns the books before that with the database.
fn rebuilt_around_a_dropped_segment() -> (Ledger, Db) {
    let disk = disk(1);
    let db = forgetful().create_on(disk.clone()).unwrap();
    let slot = U256::from(5);
    for round in 1..30 {
        let mut changes = Changes::new();
        match round {
            1 => {
                // The second account keeps the first segment.
                set_account(&mut changes, CLEARED, 1);
                set_account(&mut changes, Address::repeat_byte(2), 1);
                changes.set_storage(CLEARED, slot, U256::from(1));
            }
            5 => _ = changes.set_storage(CLEARED, slot, U256::from(2)),
            12 => _ = changes.set_storage(CLEARED, slot, U256::ZERO),
            _ => {}
        }
        churn(&mut changes, round);
        commit(&db, &changes);
    }
    db.checkpoint().unwrap();
    commit(&db, &account_changes(Address::repeat_byte(3), 3));
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    let left = segments(&disk);
    assert_eq!(left[0], "segment.0000000001");
    assert!(left[1].as_str() > "segment.0000000002", "segments in between are gone: {left:?}");
    assert!(!db.snapshot().unwrap().has_storage(&CLEARED).unwrap());
    let before = books(&db);
    db.close().unwrap();
    for image in disk.list().unwrap().iter().filter(|name| name.starts_with("index.")) {
        disk.remove_file(image);
    }
    let db = forgetful().open_on(disk).unwrap();
    (before, db)
}

/// A rebuild took for superseded what a record's `previous` names, also where that segment was gone: the older record
/// that is still there stayed alive in the books, and its slot counted as set for ever.
#[test]
fn a_rebuild_without_a_segment_in_between_counts_as_before() {
    let (before, db) = rebuilt_around_a_dropped_segment();
    let rebuilt = books(&db);
    assert_eq!(rebuilt.live, before.live);
}

/// With the books of such a rebuild, the next commit of the account wrote down that it has storage though its last slot
/// was cleared long ago.
#[test]
fn a_commit_after_such_a_rebuild_knows_that_no_slot_is_set() {
    let (_, db) = rebuilt_around_a_dropped_segment();
    commit(&db, &account_changes(CLEARED, 7));
    assert!(!db.snapshot().unwrap().has_storage(&CLEARED).unwrap());
}

/// What a checkpoint, and all that came after it, left behind.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    segments: Vec<String>,
    /// Number of files of all kinds.
    files: usize,
}

/// Fails one operation of a checkpoint that drops segments, goes on as a careful user would, and takes further
/// checkpoints. Returns the number of operations of the one that was to fail, too.
fn remains_after_failing(failing: Option<u64>) -> (Remains, u64) {
    let disk = disk(2);
    let mut db = forgetful().create_on(disk.clone()).unwrap();
    (1..8).for_each(|round| _ = commit(&db, &churned(round)));
    db.checkpoint().unwrap();
    (8..14).for_each(|round| _ = commit(&db, &churned(round)));
    let first = disk.operations();
    if let Some(failing) = failing {
        disk.fail_operation(first + failing, ErrorKind::Other);
    }
    let taken = db.checkpoint();
    let operations = disk.operations() - first;
    match failing {
        Some(failing) => assert!(failing < operations, "operation {failing} of {operations} was there to fail"),
        None => taken.unwrap(),
    }
    let own = Address::repeat_byte(1);
    if db.commit(&account_changes(own, 1), Durability::Durable).is_err() {
        drop(db);
        db = forgetful().open_on(disk.clone()).unwrap();
    }
    for nonce in 0..4 {
        commit(&db, &account_changes(own, nonce));
        db.checkpoint().unwrap();
    }
    let remains = Remains { segments: segments(&disk), files: disk.list().unwrap().len() };
    db.check(CheckLevel::Full).unwrap();
    let version = db.stats().version;
    let after_loss = forgetful().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(after_loss.stats().version, version, "failing {failing:?}");
    after_loss.check(CheckLevel::Full).unwrap();
    (remains, operations)
}

/// A checkpoint that failed between its superblock and its last removal forgot the files that it had not removed yet:
/// no later one did, and they took their space until the next open, or for ever.
#[test]
fn a_failure_anywhere_in_a_checkpoint_leaks_no_file() {
    let (expected, operations) = remains_after_failing(None);
    for failing in 0..operations {
        assert_eq!(remains_after_failing(Some(failing)).0, expected, "operation {failing} of {operations}");
    }
    println!("{operations} operations");
}

/// The books without what is not part of the state: bytes counted since opening, and rows of segments that hold
/// nothing.
fn essence(mut books: Ledger) -> Ledger {
    books.reclaimed_bytes = 0;
    books.live.retain(|_, bytes| *bytes != 0);
    books
}

/// An image is written while commits go on, so that its index can be ahead of the books beside it. Replay over it took
/// what the index named for superseded, which can be the very record or a later one, and the books drifted away from
/// the log.
#[test]
fn replay_over_an_image_that_is_ahead_gives_the_same_books() {
    let options = || small().retain_versions(3);
    for seed in 0..25 {
        let disk = disk(100 + seed);
        let db = options().create_on(disk.clone()).unwrap();
        db.checkpoint().unwrap();
        let mut random = Random(seed);
        let mut state = State::default();
        let write = || {
            for number in 0..120 {
                let (next, steps) =
                    if number % 4 == 0 { state.churn(&mut random) } else { state.next(&mut random, 3000) };
                let durability = if number % 3 == 0 { Durability::Durable } else { Durability::Pipelined };
                db.commit(&changes(&steps), durability).unwrap();
                state = next;
            }
            Arc::new(disk.after_power_loss(1))
        };
        let left = beside(|| db.checkpoint().unwrap(), write);
        let before = books(&db);
        drop(db);
        let db = options().open_on(left).unwrap();
        assert!(db.store.checkpoint.lock().newest.image.is_some(), "seed {seed}: opened from an image");
        state.assert_equals(&db.snapshot().unwrap());
        db.check(CheckLevel::Full).unwrap();
        assert_eq!(essence(books(&db)), essence(before), "seed {seed}");
    }
}

/// A checkpoint needed space for its image before it dropped anything: a disk that was full of dead segments could not
/// be freed.
#[test]
fn a_full_disk_is_freed_of_dead_segments() {
    let disk = disk(3);
    let db = forgetful().create_on(disk.clone()).unwrap();
    disk.set_capacity(Some(1 << 20));
    let refused = (1..).find_map(|round| db.commit(&churned(round), Durability::Durable).err()).unwrap();
    assert!(refused.is_out_of_space(), "{refused}");
    let dead = books(&db).live.values().filter(|bytes| **bytes == 0).count();
    assert!(dead > 0);
    // Small commits take what is left.
    let mut nonces = 0..;
    while db.commit(&account_changes(Address::repeat_byte(1), nonces.next().unwrap()), Durability::Durable).is_ok() {}
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    assert!(db.stats().dropped_segments > 0, "{dead} dead segments are still there");
    commit(&db, &churned(99));
}

#[test]
fn a_version_tells_its_block_after_every_kind_of_open() {
    let disk = disk(31);
    let options = || small().retain_versions(10);
    let block = |number: u64| crate::Block { number, timestamp: 7 * number, ..crate::Block::default() };
    let db = options().create_on(disk.clone()).unwrap();
    for number in 1..=6 {
        let mut changes = crate::Changes::new();
        changes.set_account(
            alloy_primitives::Address::repeat_byte(1),
            crate::Account { nonce: number, ..Default::default() },
        );
        if number != 4 {
            changes.set_block(block(number));
        }
        db.commit(&changes, crate::Durability::Durable).unwrap();
    }
    let assert_told = |db: &crate::Db, case: &str| {
        for version in 0..=6 {
            let told = db.snapshot_at(version).unwrap().committed_block().unwrap();
            assert_eq!(told, (version > 0 && version != 4).then(|| block(version)), "{case}: version {version}");
        }
    };
    assert_told(&db, "open");
    db.checkpoint().unwrap();
    assert_told(&db, "after a checkpoint");
    drop(db);
    assert_told(&options().open_read_only_on(disk.clone()).unwrap(), "read-only");
    assert_told(&options().open_on(disk.clone()).unwrap(), "opened again");
    assert_told(&options().rebuild(true).open_on(disk).unwrap(), "rebuilt");
}

#[test]
fn a_proposal_takes_its_block_when_the_root_is_known() {
    let disk = disk(32);
    let db = small().retain_versions(10).create_on(disk.clone()).unwrap();
    let block = |number: u64| crate::Block { number, timestamp: 7 * number, ..crate::Block::default() };
    let changes = |nonce| {
        let mut changes = crate::Changes::new();
        let account = crate::Account { nonce, ..Default::default() };
        changes.set_account(alloy_primitives::Address::repeat_byte(1), account);
        changes
    };
    let parent = db.propose(&db.snapshot().unwrap(), &changes(1)).unwrap();
    let child = parent.propose(&changes(2)).unwrap();
    let mut known = changes(3);
    known.set_block(block(3));
    let grandchild = child.propose(&known).unwrap();
    let root = parent.root();
    parent.seal(block(1)).unwrap();
    assert_eq!(parent.root(), root, "a block is no part of the state");
    for reader in [&parent, &child, &grandchild] {
        assert_eq!(reader.block(1).unwrap(), Some(block(1)), "made before the block was known, and reads it");
    }
    assert_eq!(db.snapshot().unwrap().block(1).unwrap(), None, "not committed yet");
    let refused = |outcome: crate::Result<()>| match outcome {
        Err(crate::Error::CannotSeal { reason, .. }) => reason,
        other => panic!("a second block was taken: {other:?}"),
    };
    assert_eq!(refused(parent.seal(block(9))), "it has block 1");
    assert_eq!(refused(grandchild.seal(block(9))), "it has block 3");
    for (proposal, number) in [(&parent, 1), (&child, 2), (&grandchild, 3)] {
        if number == 2 {
            // On one that is committed meanwhile, and over a number that has an older block.
            child.seal(block(1)).unwrap();
        }
        assert_eq!(proposal.commit(crate::Durability::Durable).unwrap().version(), number);
        assert_eq!(refused(proposal.seal(block(9))), format!("it is version {number}"));
    }
    drop((parent, child, grandchild));
    let assert_told = |db: &crate::Db| {
        for (version, number) in [(1, 1), (2, 1), (3, 3)] {
            assert_eq!(db.snapshot_at(version).unwrap().committed_block().unwrap(), Some(block(number)));
        }
        db.check(crate::CheckLevel::Full).unwrap();
    };
    assert_told(&db);
    drop(db);
    assert_told(&small().retain_versions(10).open_on(disk.clone()).unwrap());
    assert_told(&small().retain_versions(10).rebuild(true).open_on(disk).unwrap());
}

/// Where staging is spread over threads depends on the machine. What is written must not: neither the order of records, nor the salts of accounts
/// with the same id in different parts.
#[test]
fn the_log_does_not_depend_on_the_number_of_threads() {
    for mask in [u64::MAX, 0xff] {
        let history = |threads: usize| {
            let disk = disk(2027);
            let options = Options { account_id_mask: mask, ..small().threads(threads) };
            let db = options.create_on(disk.clone()).unwrap();
            for version in 1..=3 {
                let mut changes = Changes::new();
                for number in (0..300).step_by(version as usize) {
                    let own = Address::from_word(B256::from(wide(number)));
                    changes.set_account(own, Account { nonce: version, ..Account::default() });
                    (0..3).for_each(|slot| _ = changes.set_storage(own, U256::from(slot), wide(version + slot)));
                }
                db.commit(&changes, Durability::Durable).unwrap();
            }
            db.check(CheckLevel::Full).unwrap();
            let root = db.snapshot().unwrap().root().unwrap();
            drop(db);
            let names = disk.list().unwrap().into_iter().filter(|name| name.starts_with("segment."));
            (root, names.map(|name| disk.file_bytes(&name).unwrap()).collect::<Vec<_>>())
        };
        let one = history(1);
        for threads in 2..5 {
            let several = history(threads);
            assert_eq!(several.0, one.0, "{threads} threads, mask {mask:x}");
            assert!(several.1 == one.1, "{threads} threads, mask {mask:x}: other bytes");
        }
    }
}
