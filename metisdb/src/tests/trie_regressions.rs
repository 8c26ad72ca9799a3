//! Bugs that were found around the trie, each told by the test that shows it.

use std::{io::ErrorKind, sync::Arc};

use alloy_primitives::{Address, B256, U256};

use super::{disk, small, wide};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Options,
    log::{
        frame::{FrameBuilder, FrameHeader, FrameKind, Link},
        record::{Body, Record},
    },
    storage::SimulatedDisk,
};

const OWNER: Address = Address::repeat_byte(1);

/// Sets slots of one account, so many that a trie has several branches.
fn slots(round: u64, count: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(OWNER, Account { nonce: round, ..Account::default() });
    for slot in 0..count {
        changes.set_storage(OWNER, U256::from(slot), wide(1000 * round + slot));
    }
    changes
}

fn commit(db: &Db, changes: &Changes) -> B256 {
    db.commit(changes, Durability::Durable).unwrap();
    db.snapshot().unwrap().root().unwrap()
}

/// Opens without having to make the trie anew, and with this root.
fn assert_opens_from_arena(options: Options, disk: &Arc<SimulatedDisk>, root: B256, case: &str) {
    let db = options.open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().unwritten_trie_bytes, 0, "{case}: the trie of the checkpoint was not usable");
    assert_eq!(db.snapshot().unwrap().root().unwrap(), root, "{case}");
    db.check(CheckLevel::Full).unwrap();
}

/// A checkpoint wrote the trie and failed afterwards (at its image, say). The next one had nothing left to write and named the
/// birth of the trie before: opening took the topmost node for one of the future, and made the whole trie anew from the log.
#[test]
fn a_checkpoint_after_a_failed_one_names_the_birth_of_what_that_one_wrote() {
    let prepare = || {
        let disk = disk(1);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &slots(1, 300));
        db.checkpoint().unwrap();
        let root = commit(&db, &slots(2, 20));
        let first = disk.operations();
        (disk, db, root, first)
    };
    let (disk, db, ..) = prepare();
    let first = disk.operations();
    db.checkpoint().unwrap();
    let operations = disk.operations() - first;
    drop(db);
    let mut failed = 0;
    for operation in 0..operations {
        let (disk, db, root, first) = prepare();
        disk.fail_operation(first + operation, ErrorKind::StorageFull);
        failed += u64::from(db.checkpoint().is_err());
        if db.checkpoint().is_err() {
            // Poisoned.
            continue;
        }
        drop(db);
        assert_opens_from_arena(small(), &disk, root, &format!("operation {operation} of {operations}"));
    }
    assert!(failed > 3, "{failed} of {operations}");
}

/// The same with nodes that opening wrote because they took too much memory.
#[test]
fn a_checkpoint_after_a_rebuild_names_the_birth_of_what_that_one_wrote() {
    let disk = disk(2);
    let db = small().create_on(disk.clone()).unwrap();
    commit(&db, &slots(1, 300));
    let root = commit(&db, &slots(2, 20));
    db.close().unwrap();
    small().max_unwritten_trie_bytes(1).rebuild(true).open_on(disk.clone()).unwrap().close().unwrap();
    assert_opens_from_arena(small(), &disk, root, "after a rebuild");
}

/// The trie of an older version was made by reading the log beyond its end where an account had been wiped since: a frame that
/// another thread was writing just then, or one that had found no space, was taken for damage.
#[test]
fn an_older_trie_is_made_beside_a_frame_that_is_being_written() {
    let disk = disk(3);
    let db = small().create_on(disk).unwrap();
    let first = commit(&db, &slots(1, 30));
    commit(&db, Changes::new().wipe_storage(OWNER).set_storage(OWNER, U256::from(3), U256::from(7)));
    commit(&db, &slots(3, 3));
    let tail = db.store.writer.lock().tail.clone();
    let mut frame = FrameBuilder::new(tail.position, 1000);
    let body = Body::Slot { account: crate::key::AccountId(1), slot: U256::MAX, value: U256::MAX };
    frame.push(&Record { version: 4, previous: None, body });
    let link = Link {
        secret: 0,
        version: 4,
        sequence: tail.sequence + 1,
        durable_upto: 0,
        nonce: tail.nonce,
        previous_chain: tail.chain,
        opens_session: false,
    };
    let (bytes, _) = frame.finish(FrameKind::Changes, &link);
    // Its header is there, its records are not yet.
    tail.segment.file.write_all_at(&bytes[..FrameHeader::BYTES], tail.position - tail.segment.start).unwrap();
    let older = db.snapshot_at(1).unwrap();
    let proof = older.proof(&OWNER, &[U256::from(3)]).unwrap();
    proof.verify(first).unwrap();
    assert_eq!(proof.slots[0].value, wide(1003));
}

/// The frame with a deferred root names the version whose root it is. Recovery took that for the newest version, though the changes
/// of later ones stand in front of it: a power cut between the roots of two versions took back the second, acknowledged one, whose
/// records were in the index all the same.
#[test]
fn a_deferred_root_behind_the_changes_of_later_versions_takes_none_back() {
    for cut in 0..6 {
        let disk = disk(4);
        let db = small().create_on(disk.clone()).unwrap();
        let stalled = db.store.pending.stall();
        let commit = |round| db.commit_deferred(&slots(round, 5), Durability::Durable).unwrap().1;
        let roots: Vec<_> = (1..=3).map(commit).collect();
        disk.cut_after(disk.operations() + cut);
        drop(stalled);
        let expected: Vec<B256> = roots.iter().map(|root| root.wait().unwrap()).collect();
        drop((roots, db));
        for loss in [0, 1, 2 + cut] {
            let db = small().open_on(Arc::new(disk.after_power_loss(loss))).unwrap();
            assert_eq!(db.stats().version, 3, "cut {cut}, loss {loss}: what was acknowledged survives");
            for (version, root) in (1..).zip(&expected) {
                assert_eq!(
                    db.snapshot_at(version).unwrap().root().unwrap(),
                    *root,
                    "cut {cut}, loss {loss}: {version}"
                );
            }
            db.check(CheckLevel::Full).unwrap();
        }
    }
}

/// Opening without a usable trie wrote nodes to the arena that no superblock names. If no checkpoint followed, the next such open
/// did not know that these pages were free, and took new ones: the arena grew with every open.
#[test]
fn opens_that_make_the_trie_anew_take_no_more_space_each_time() {
    let disk = disk(10);
    let options = || small().max_unwritten_trie_bytes(1);
    let db = options().create_on(disk.clone()).unwrap();
    for round in 0..10 {
        commit(&db, &slots(round, 400));
    }
    let root = db.snapshot().unwrap().root().unwrap();
    db.close().unwrap();
    let mut extents = Vec::new();
    for _ in 0..5 {
        let db = options().rebuild(true).open_on(disk.clone()).unwrap();
        assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
        extents.push(db.stats().arena_extents);
    }
    assert!(extents[4] <= extents[0], "{extents:?}");
    // What the superblocks name is still there.
    assert_opens_from_arena(options(), &disk, root, "after the rebuilds");
}
