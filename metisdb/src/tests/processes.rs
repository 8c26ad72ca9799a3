//! Several handles at one database: in one process, in several, and in a child after `fork`.

use std::{
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use alloy_primitives::{Address, U256};
use parking_lot::Mutex;

use super::{
    End, Random,
    bad_input::{History, assert_says},
    beside,
    children::{child, part, play},
    disk,
    model::changes,
    small, wide,
};
use crate::{Account, Changes, CheckLevel, Durability, Error};

#[test]
fn a_second_writer_in_the_process_is_told_who_holds_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let db = small().create(folder.path()).unwrap();
    let mut history = History::begin(&db, 3);
    for second in [small().open(folder.path()), small().create(folder.path())] {
        let error = second.unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        assert_says(&error, "is in use by another handle of this process; close it there first");
    }
    history.extend(&db, 3);
    let snapshot = db.snapshot().unwrap();
    db.close().unwrap();
    assert!(matches!(small().open(folder.path()), Err(Error::Locked { .. })), "a snapshot holds the folder");
    drop(snapshot);
    history.assert_opens(folder.path());
}

#[test]
fn a_second_process_is_told_who_holds_the_database() {
    if let Some((folder, _)) = part() {
        let error = small().open(&folder).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        println!("answer: {error}");
        let seen = small().open_read_only(&folder).unwrap().stats().version;
        assert!((2..=3).contains(&seen), "{seen}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = small().create(folder.path()).unwrap();
    let history = History::begin(&db, 3);
    let answer = play("processes::a_second_process_is_told_who_holds_the_database", folder.path(), "");
    let expected = format!("is in use by process {}; close it there first", std::process::id());
    assert!(answer.contains(&expected), "{answer}");
    drop(db);
    history.assert_opens(folder.path());
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_durable_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = small().create(folder.path()).unwrap();
    let mut history = History::begin(&db, 3);
    let reader = small().open_read_only(folder.path()).unwrap();
    // What is known to be durable beside a writer lags by one commit at most: its own mark follows in the next.
    let seen = reader.stats().version;
    assert!((2..=3).contains(&seen), "{seen}");
    history.0[seen as usize].assert_equals(&reader.snapshot().unwrap());
    for refused in [reader.commit(&Changes::new(), Durability::Durable).map(drop), reader.checkpoint()] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::ReadOnly), "{error}");
        assert_says(&error, "open read-only");
    }
    history.extend(&db, 3);
    db.checkpoint().unwrap();
    assert_eq!(reader.stats().version, seen, "a reader stays at what it opened");
    history.0[seen as usize].assert_equals(&reader.snapshot().unwrap());
    reader.close().unwrap();
    history.assert_reads(&small().open_read_only(folder.path()).unwrap());
    db.close().unwrap();
    history.assert_opens(folder.path());
}

#[test]
fn readers_open_beside_a_writer_that_commits_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let db = small().retain_versions(2).create(folder.path()).unwrap();
    let done = AtomicBool::new(false);
    let slot_of = |number: u64| U256::from(number);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut opened, mut last) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let reader = small().open_read_only(folder.path()).unwrap_or_else(|error| panic!("{opened}: {error}"));
                let snapshot = reader.snapshot().unwrap();
                let version = snapshot.version();
                assert!(version >= last, "{version} after {last}");
                if version > 0 {
                    for number in [0, 199] {
                        let value = snapshot.storage(&Address::ZERO, slot_of(number)).unwrap();
                        assert_eq!(value, wide(version), "slot {number} at version {version}");
                    }
                }
                (opened, last) = (opened + 1, version);
            }
            opened
        });
        let end = End(&done);
        for version in 1..=600 {
            let mut changes = Changes::new();
            changes.set_account(Address::ZERO, Account { nonce: version, ..Account::default() });
            (0..200).for_each(|number| {
                changes.set_storage(Address::ZERO, slot_of(number), wide(version));
            });
            db.commit(&changes, Durability::Durable).unwrap();
            if version % 3 == 0 {
                db.checkpoint().unwrap();
            }
        }
        drop(end);
        let opened = reader.join().unwrap();
        assert!(opened > 3, "{opened}");
        println!("opened {opened} times, {} segments dropped meanwhile", db.stats().dropped_segments);
    });
}

/// A commit that sets an account and 350 of its slots.
fn churn(round: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for slot in 0..350 {
        changes.set_storage(Address::ZERO, U256::from(slot), wide(1000 * round + slot));
    }
    changes
}

/// A read-only open read the log in pieces while the writer appended, then found a durable mark behind the end of the
/// piece that it held: it took its own stale piece for corruption, and beside a busy writer all of its tries failed.
#[test]
fn a_reader_opens_beside_a_writer_that_never_pauses() {
    const FILLED: u64 = 60;
    let options = || small().segment_bytes(1 << 24);
    let disk = disk(1);
    let db = options().create_on(disk.clone()).unwrap();
    for round in 0..FILLED {
        db.commit(&churn(round), Durability::Durable).unwrap();
    }
    let mut nonce = 0;
    let write = || {
        nonce += 1;
        let mut changes = Changes::new();
        changes.set_account(Address::repeat_byte(1), Account { nonce, ..Account::default() });
        db.commit(&changes, Durability::Durable).unwrap();
        thread::sleep(Duration::from_micros(300));
    };
    beside(write, || {
        let mut last = FILLED - 1;
        for opened in 0..20 {
            let reader = options().open_read_only_on(disk.clone());
            let version = reader.unwrap_or_else(|error| panic!("{opened}: {error}")).stats().version;
            assert!(version >= last, "{version} after {last}");
            last = version;
        }
    });
    println!("{nonce} commits beside 20 readers");
}

/// While the log rolled, the next segment was the one to sync before the end of the old one counted as durable. A sync
/// by another thread at that moment saw durability out of order (A1), and panicked.
#[test]
fn syncs_go_on_while_the_log_rolls() {
    let db = small().create_on(disk(2)).unwrap();
    let log = &db.store.log;
    beside(
        || log.sync_upto(log.appended_upto()).unwrap(),
        || {
            for round in 0..1500 {
                db.commit(&churn(round), Durability::Pipelined).unwrap();
            }
        },
    );
    db.check(CheckLevel::Quick).unwrap();
}

/// A child after `fork` has a copy of the handle: used there, it would write into the parent's log, and dropping it
/// could release the lock that parent and child share.
#[test]
fn a_forked_child_gets_an_error_and_leaves_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let db = small().create(folder.path()).unwrap();
    let mut history = History::begin(&db, 3);
    let commit = db.commit(&Changes::new(), Durability::Pipelined).unwrap();
    history.0.push(history.0.last().unwrap().clone());
    let (handle, changes) = (Arc::new(Mutex::new(Some((db, commit)))), Changes::new());
    let inherited = handle.clone();
    let in_child = move || {
        let (db, commit) = inherited.lock().take().ok_or(io::ErrorKind::NotFound)?;
        let mut answers = [
            db.snapshot().map(drop),
            db.snapshot_at(1).map(drop),
            db.commit(&changes, Durability::Durable).map(drop),
            db.checkpoint(),
            commit.wait_durable(),
            Ok(()),
        ];
        drop(commit);
        answers[5] = db.close();
        let refused = answers.iter().filter(|answer| matches!(answer, Err(Error::ForkedProcess))).count();
        // Told to the parent as the reason why the child could not be started.
        if refused == answers.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(200 + refused as i32)) }
    };
    let mut child = Command::new("true");
    // SAFETY: the closure runs in the child between `fork` and `exec`, where no other thread exists. It waits for none:
    // no other thread knows this handle's locks, its calls are refused before they allocate, and to free memory, which
    // dropping the handle does, works after a fork in the allocators of Linux and macOS, and in the pool of branches. Closing files and unmapping
    // are system calls.
    unsafe { child.pre_exec(in_child) };
    assert!(child.status().unwrap().success());
    let error = small().open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "the parent's lock outlives the child's copy: {error}");
    let (db, commit) = handle.lock().take().expect("the child took its own copy");
    commit.wait_durable().unwrap();
    drop(commit);
    history.extend(&db, 3);
    history.assert_reads(&db);
    db.close().unwrap();
    history.assert_opens(folder.path());
}

/// The most bytes that a file of this process may have; what it was.
#[cfg(target_os = "linux")]
fn limit_files(bytes: Option<u64>) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: bytes, ..before }).unwrap();
    before.current
}

/// A limit below the end of the log refused the first byte of a frame, and then the zeros that were to erase it: the handle was poisoned, though nothing
/// had been written. The limit holds for all threads, so the whole part is a child's.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let Some((folder, _)) = part() else {
        let folder = tempfile::tempdir().unwrap();
        play("processes::a_limit_on_the_size_of_files_is_a_full_disk", folder.path(), "");
        return;
    };
    // SAFETY: to ignore a signal installs no code. By default this one ends the process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let db = small().create(&folder).unwrap();
    let mut history = History::begin(&db, 3);
    for limit in [1 << 15, 1 << 12, 1 << 14] {
        let before = limit_files(Some(limit));
        let refused = (0..100).find_map(|round| {
            let (next, steps) = history.0.last().unwrap().next(&mut Random(round), 9000);
            let outcome = db.commit(&changes(&steps), Durability::Durable);
            outcome.map(|_| history.0.push(next)).err()
        });
        let error = refused.expect("the limit is met");
        assert!(error.is_out_of_space(), "{error}");
        if let Err(error) = db.checkpoint() {
            assert!(error.is_out_of_space(), "{error}");
        }
        history.assert_reads(&db);
        limit_files(before);
        history.extend(&db, 3);
        db.checkpoint().unwrap();
        history.assert_reads(&db);
    }
    db.close().unwrap();
    history.assert_opens(&folder);
}

/// A child that lives on after `fork` has a copy of the lock's file, and kept the folder locked when the parent had closed the database.
#[test]
fn a_forked_child_does_not_keep_the_lock() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let db = small().create(folder.path()).unwrap();
    let (mut forked, tell) = io::pipe().unwrap();
    let (wait, mut go_on) = io::pipe().unwrap();
    let mut child = Command::new("true");
    // SAFETY: the closure runs in the child between `fork` and `exec`; it makes two system calls.
    unsafe { child.pre_exec(move || (&tell).write_all(&[1]).and_then(|()| (&wait).read_exact(&mut [0]))) };
    thread::scope(|scope| {
        let ended = scope.spawn(move || child.status().unwrap());
        forked.read_exact(&mut [0]).unwrap();
        db.close().unwrap();
        let outcome = small().open(folder.path()).map(drop);
        go_on.write_all(&[1]).unwrap();
        outcome.unwrap();
        assert!(ended.join().unwrap().success());
    });
}

/// Where the system gave no thread, a commit of many changes panicked, which poisoned the handle, though it had written nothing.
#[test]
fn without_threads_everything_takes_longer_and_nothing_else() {
    let Some((folder, _)) = part() else {
        let folder = tempfile::tempdir().unwrap();
        let mut child = child("processes::without_threads_everything_takes_longer_and_nothing_else", folder.path(), "");
        // No thread gets a stack of a petabyte.
        let output = child.env("RUST_MIN_STACK", (1_u64 << 50).to_string()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    };
    thread::Builder::new().spawn(|| ()).unwrap_err();
    let options = || small().segment_bytes(1 << 22).threads(4).checkpoint_log_bytes(1 << 10);
    let db = options().create(&folder).unwrap();
    let mut history = History::begin(&db, 1);
    for round in 0..3 {
        let (next, steps) = history.0.last().unwrap().next(&mut Random(round), 9_000);
        db.commit(&changes(&steps), Durability::Durable).unwrap();
        history.0.push(next);
        let mut many = Changes::new();
        for number in 0..3_000 {
            let address = Address::from_word(wide(number).into());
            many.set_account(address, Account { nonce: round + 1, ..Account::default() });
            many.set_storage(address, U256::from(round), wide(number));
        }
        let proposal = db.propose(&db.snapshot().unwrap(), &many).unwrap();
        assert_eq!(proposal.root(), db.propose(&db.snapshot().unwrap(), &many).unwrap().root());
        drop(proposal);
    }
    history.assert_reads(&db);
    db.check(CheckLevel::Full).unwrap();
    let (commit, deferred) = db.commit_deferred(&churn(1), Durability::Pipelined).unwrap();
    commit.wait_durable().unwrap();
    let root = deferred.wait().unwrap();
    drop((commit, deferred));
    db.close().unwrap();
    let db = options().open(&folder).unwrap();
    assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
}
