//! Failing operations: one at every place of a history, as an error of the device and as a full disk; and a disk that fills up.

use std::{io::ErrorKind, sync::Arc};

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{
    Random, assert_proves, disk,
    model::{State, changes},
    small, wide,
};
use crate::{
    Account, Changes, CheckLevel, Commit, Db, Durability, Error, Options, proof::EMPTY_ROOT, storage::SimulatedDisk,
};

const COMMITS: u64 = 20;
const RETAIN: u64 = 4;

fn options() -> Options {
    small().retain_versions(RETAIN)
}

/// A history that goes on after failures as a careful user would.
struct User {
    case: String,
    kind: Option<ErrorKind>,
    random: Random,
    disk: Arc<SimulatedDisk>,
    db: Option<Db>,
    /// States of the versions that were made; the index is the version.
    states: Vec<State>,
    /// Their roots, as they were told when they were made.
    roots: Vec<B256>,
    /// The state of a commit that failed in such a way that it may come back.
    doubtful: Option<State>,
    acknowledged: u64,
    /// A pipelined commit that nobody waited for yet.
    waiting: Option<Commit>,
    failures: u64,
    /// Those of operations on the arena.
    arena_failures: u64,
    /// Steps after the failure whose power losses are still looked at.
    watched: u64,
}

impl User {
    fn new(seed: u64, failure: Option<(u64, ErrorKind)>) -> Self {
        let disk = disk(seed);
        if let Some((number, kind)) = failure {
            disk.fail_operation(number, kind);
        }
        Self {
            case: format!("seed {seed}, failure {failure:?}"),
            kind: failure.map(|(_, kind)| kind),
            random: Random(seed),
            disk,
            db: None,
            states: vec![State::default()],
            roots: vec![EMPTY_ROOT],
            doubtful: None,
            acknowledged: 0,
            waiting: None,
            failures: 0,
            arena_failures: 0,
            watched: 3,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// The whole history. Returns the number of dropped segments.
    fn run(&mut self) -> u64 {
        self.create();
        let mut dropped = 0;
        for step in 0..COMMITS {
            let durability = if step % 3 == 1 { Durability::Pipelined } else { Durability::Durable };
            self.commit(durability, step % 4 != 3);
            match step {
                4 | 9 | 11 | 12 => self.checkpoint(),
                7 => self.wait(),
                14 => self.close_and_reopen(),
                16 => self.drop_and_reopen(),
                _ => {}
            }
            dropped += self.db().stats().dropped_segments;
            if self.failures > 0 && self.watched > 0 {
                self.watched -= 1;
                self.check_after_power_loss();
            }
        }
        self.close_and_reopen();
        self.check_reads();
        self.db().check(CheckLevel::Full).unwrap_or_else(|error| panic!("{}: {error}", self.case));
        self.check_after_power_loss();
        dropped
    }

    fn create(&mut self) {
        match options().create_on(self.disk.clone()) {
            Ok(db) => self.db = Some(db),
            Err(error) => {
                self.count_failure(&error);
                match options().create_on(self.disk.clone()) {
                    Ok(db) => self.db = Some(db),
                    Err(Error::AlreadyExists { .. }) => self.open(),
                    Err(error) => panic!("{}: creating again: {error}", self.case),
                }
            }
        }
    }

    /// Opens, at the second attempt if the first one met the failure.
    fn open(&mut self) {
        let opened = options().open_on(self.disk.clone()).or_else(|error| {
            self.count_failure(&error);
            self.check_after_power_loss();
            options().open_on(self.disk.clone())
        });
        self.db = Some(opened.unwrap_or_else(|error| panic!("{}: opening again: {error}", self.case)));
        let version = self.db().stats().version;
        if let Some(state) = self.doubtful.take()
            && version > self.newest()
        {
            self.states.push(state);
            self.roots.push(self.db().snapshot().unwrap().root().unwrap());
        }
        assert_eq!(version, self.newest(), "{}: what was visible comes back without a power loss", self.case);
        self.acknowledged = version;
        self.check_reads();
    }

    fn commit(&mut self, durability: Durability, churn: bool) {
        let newest = self.states.last().unwrap();
        let (next, steps) = if churn { newest.churn(&mut self.random) } else { newest.next(&mut self.random, 9000) };
        let changes = changes(&steps);
        if let Err(error) = self.try_commit(&changes, &next, durability) {
            let poisoned = self.after_failure(&error, Some(&next));
            if poisoned && *self.states.last().unwrap() == next {
                return;
            }
            let again = self.try_commit(&changes, &next, durability);
            again.unwrap_or_else(|error| panic!("{}: committing again: {error}", self.case));
        }
    }

    fn try_commit(&mut self, changes: &Changes, next: &State, durability: Durability) -> Result<(), Error> {
        let commit = self.db().commit(changes, durability)?;
        self.states.push(next.clone());
        self.roots.push(self.db().snapshot().unwrap().root().unwrap());
        assert_eq!(commit.version(), self.newest(), "{}", self.case);
        match durability {
            Durability::Durable => {
                assert!(commit.is_durable(), "{}", self.case);
                self.acknowledged = commit.version();
            }
            Durability::Pipelined => self.waiting = Some(commit),
        }
        Ok(())
    }

    fn wait(&mut self) {
        let Some(commit) = self.waiting.take() else { return };
        match commit.wait_durable() {
            Ok(()) => self.acknowledged = self.acknowledged.max(commit.version()),
            Err(error) => {
                self.waiting = Some(commit);
                assert!(self.after_failure(&error, None), "{}: a failed wait poisons: {error}", self.case);
            }
        }
    }

    fn checkpoint(&mut self) {
        match self.db().checkpoint() {
            Ok(()) => self.acknowledged = self.newest(),
            Err(error) => {
                self.after_failure(&error, None);
                let again = self.db().checkpoint();
                again.unwrap_or_else(|error| panic!("{}: checkpoint again: {error}", self.case));
                self.acknowledged = self.newest();
            }
        }
    }

    fn close_and_reopen(&mut self) {
        self.waiting = None;
        match self.db.take().unwrap().close() {
            Ok(()) => self.acknowledged = self.newest(),
            Err(error) => {
                self.count_failure(&error);
                self.check_after_power_loss();
            }
        }
        self.open();
    }

    fn drop_and_reopen(&mut self) {
        self.waiting = None;
        self.db = None;
        self.open();
    }

    /// A call on the open database failed: the state is as before, and the handle is poisoned or goes on. A poisoned one
    /// is opened anew. Returns whether it was.
    fn after_failure(&mut self, error: &Error, attempted: Option<&State>) -> bool {
        self.count_failure(error);
        self.check_reads();
        let poisoned = matches!(error, Error::Poisoned { .. });
        if poisoned {
            self.doubtful = attempted.cloned();
            self.check_poisoned();
        } else if attempted.is_some() {
            let sync = matches!(error, Error::Io { operation, .. } if operation.starts_with("sync"));
            assert!(!sync, "{}: a failed sync of the log poisons: {error}", self.case);
        }
        self.check_after_power_loss();
        if poisoned {
            self.drop_and_reopen();
        }
        poisoned
    }

    /// The one planned failure, and told as it is.
    fn count_failure(&mut self, error: &Error) {
        self.failures += 1;
        assert_eq!(self.failures, 1, "{}: a second failure: {error}", self.case);
        self.arena_failures += u64::from(error.to_string().contains("/arena.0"));
        match error {
            Error::Io { source, .. } => {
                assert_eq!(Some(source.kind()), self.kind, "{}: {error}", self.case);
                assert_eq!(
                    error.is_out_of_space(),
                    self.kind == Some(ErrorKind::StorageFull),
                    "{}: {error}",
                    self.case
                );
            }
            Error::Poisoned { cause } => {
                let Error::Io { operation, .. } = **cause else { panic!("{}: {error}", self.case) };
                let full = self.kind == Some(ErrorKind::StorageFull);
                assert!(!full || operation.starts_with("sync"), "{}: a full disk does not poison: {error}", self.case);
                assert!(error.to_string().contains("close the database and open it again"), "{}: {error}", self.case);
            }
            other => panic!("{}: {other}", self.case),
        }
    }

    /// Nothing is written or acknowledged any more.
    fn check_poisoned(&self) {
        let operations = self.disk.operations();
        for durability in [Durability::Durable, Durability::Pipelined] {
            let refused = self.db().commit(&Changes::new(), durability).unwrap_err();
            assert!(matches!(refused, Error::Poisoned { .. }), "{}: {refused}", self.case);
        }
        let refused = self.db().checkpoint().unwrap_err();
        assert!(matches!(refused, Error::Poisoned { .. }), "{}: {refused}", self.case);
        if let Some(commit) = &self.waiting
            && !commit.is_durable()
        {
            let refused = commit.wait_durable().unwrap_err();
            assert!(matches!(refused, Error::Poisoned { .. }), "{}: {refused}", self.case);
        }
        assert_eq!(self.disk.operations(), operations, "{}: a poisoned handle writes nothing", self.case);
    }

    fn check_reads(&self) {
        let stats = self.db().stats();
        assert_eq!(stats.version, self.newest(), "{}", self.case);
        assert_eq!(stats.oldest_version, self.newest().saturating_sub(RETAIN), "{}", self.case);
        self.compare(self.db(), &self.states);
    }

    fn compare(&self, db: &Db, states: &[State]) {
        let stats = db.stats();
        for version in stats.oldest_version..=stats.version {
            let snapshot = db.snapshot_at(version).unwrap_or_else(|error| panic!("{}: {error}", self.case));
            states[version as usize].assert_equals(&snapshot);
            // That of a doubtful version is not known.
            let root = self.roots.get(version as usize).copied().unwrap_or_else(|| snapshot.root().unwrap());
            assert_eq!(snapshot.root().unwrap(), root, "{}: root of {version}", self.case);
            assert_proves(&snapshot, root, &self.case);
        }
    }

    /// What a power loss at this moment leaves.
    fn check_after_power_loss(&self) {
        let mut states = self.states.clone();
        states.extend(self.doubtful.clone());
        for loss in [0, 2 + self.disk.operations()] {
            let left = Arc::new(self.disk.after_power_loss(loss));
            let db = match options().open_on(left) {
                Ok(db) => db,
                Err(error) => panic!("{}, power loss {loss}: {error}", self.case),
            };
            let version = db.stats().version;
            let possible = self.acknowledged..=states.len() as u64 - 1;
            assert!(possible.contains(&version), "{}, power loss {loss}: {version} of {possible:?}", self.case);
            self.compare(&db, &states);
            db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{}, power loss {loss}: {error}", self.case));
        }
    }
}

/// Runs the history of a seed with a failure at each of its operations.
fn enumerate(seed: u64, kind: ErrorKind) {
    let mut whole = User::new(seed, None);
    let dropped = whole.run();
    assert!(dropped > 0, "segments roll and are dropped");
    let total = whole.disk.operations();
    let (mut reported, mut of_arena) = (0, 0);
    for number in 0..total {
        // What fails is told in the panic's message; what panics inside the library or the model is told here.
        println!("seed {seed}, operation {number} of {total}, {kind:?}");
        let mut user = User::new(seed, Some((number, kind)));
        user.run();
        reported += user.failures;
        of_arena += user.arena_failures;
    }
    println!("seed {seed}, {kind:?}: {reported} of {total} failures were reported, {of_arena} of the arena");
    assert!(of_arena >= 8, "{of_arena} failures of the arena");
    assert!(reported > total / 2, "{reported} of {total} failures were reported");
}

#[test]
fn an_error_of_the_device_at_any_operation_loses_nothing_acknowledged() {
    enumerate(1, ErrorKind::Other);
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing_and_writing_resumes() {
    enumerate(2, ErrorKind::StorageFull);
}

/// Commits until one fails; returns it with its state and its error.
fn fill(db: &Db, states: &mut Vec<State>, random: &mut Random) -> (State, Changes, Error) {
    for _ in 0..1000 {
        let (next, steps) = states.last().unwrap().churn(random);
        let changes = changes(&steps);
        match db.commit(&changes, Durability::Durable) {
            Ok(_) => states.push(next),
            Err(error) => return (next, changes, error),
        }
    }
    panic!("the disk never filled up");
}

fn assert_retained(db: &Db, states: &[State]) {
    let stats = db.stats();
    assert_eq!(stats.version, states.len() as u64 - 1);
    for version in stats.oldest_version..=stats.version {
        states[version as usize].assert_equals(&db.snapshot_at(version).unwrap());
    }
}

#[test]
fn a_disk_that_fills_up_is_read_on_and_written_again_once_there_is_space() {
    for kilobytes in (400..440).step_by(4) {
        println!("{kilobytes} KiB");
        let disk = disk(kilobytes);
        let mut random = Random(kilobytes);
        let mut states = vec![State::default()];
        let db = options().create_on(disk.clone()).unwrap();
        disk.set_capacity(Some(kilobytes << 10));
        let (next, refused, error) = fill(&db, &mut states, &mut random);
        assert!(error.is_out_of_space(), "{error}");
        assert_retained(&db, &states);
        let again = db.commit(&refused, Durability::Durable).unwrap_err();
        assert!(again.is_out_of_space(), "not poisoned: {again}");
        if let Err(error) = db.checkpoint() {
            assert!(error.is_out_of_space(), "{error}");
        }
        assert_retained(&db, &states);
        let left = Arc::new(disk.after_power_loss(0));
        let reopened = options().open_on(left).unwrap();
        assert_retained(&reopened, &states);
        disk.set_capacity(None);
        db.commit(&refused, Durability::Durable).unwrap();
        states.push(next);
        assert_retained(&db, &states);
        db.check(CheckLevel::Full).unwrap();
        drop(db);
        let db = options().open_on(disk.clone()).unwrap();
        assert_retained(&db, &states);
        db.close().unwrap();
        assert_retained(&options().open_on(disk).unwrap(), &states);
    }
}

#[test]
fn closing_on_a_full_disk_loses_nothing() {
    for kilobytes in (300..340).step_by(4) {
        println!("{kilobytes} KiB");
        let disk = disk(kilobytes);
        let mut states = vec![State::default()];
        let db = options().create_on(disk.clone()).unwrap();
        disk.set_capacity(Some(kilobytes << 10));
        fill(&db, &mut states, &mut Random(kilobytes));
        if let Err(error) = db.close() {
            assert!(error.is_out_of_space(), "{error}");
        }
        assert_retained(&options().open_on(disk.clone()).unwrap(), &states);
        disk.set_capacity(None);
        assert_retained(&options().open_on(disk.clone()).unwrap(), &states);
        assert_retained(&options().open_on(Arc::new(disk.after_power_loss(0))).unwrap(), &states);
    }
}

/// A commit whose pages reached the file, but not the disk, is written again by the next open: a later power loss does
/// not take it back once it was acknowledged there.
#[test]
fn a_commit_whose_sync_failed_is_durable_once_a_later_open_shows_it() {
    let code = vec![7; 3000];
    let mut changes = Changes::new();
    changes.set_code(keccak256(&code), code.into());
    let disk = disk(5);
    let db = options().create_on(disk.clone()).unwrap();
    db.commit(&Changes::new(), Durability::Durable).unwrap();
    db.commit(&changes, Durability::Pipelined).unwrap();
    disk.fail_operation(disk.operations(), ErrorKind::Other);
    let error = db.close().unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    let db = options().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, 2);
    drop(db);
    let left = options().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(left.stats().version, 2);
}

/// Slots of an account, enough for several pages of the arena.
fn many_slots(round: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for slot in 0..1200 {
        changes.set_storage(Address::ZERO, U256::from(slot), wide(round << 20 | slot));
    }
    changes
}

/// What a failing write to the arena was to fill is free again: however often a checkpoint fails, a later one needs no more space
/// than one would have needed at once.
#[test]
fn checkpoints_that_fail_on_the_arena_leave_all_usable_and_leak_no_page() {
    let prepare = || {
        let disk = disk(6);
        let db = options().create_on(disk.clone()).unwrap();
        db.commit(&many_slots(1), Durability::Durable).unwrap();
        db.checkpoint().unwrap();
        db.commit(&many_slots(2), Durability::Durable).unwrap();
        let root = db.snapshot().unwrap().root().unwrap();
        (disk, db, root)
    };
    let (_, db, _) = prepare();
    db.checkpoint().unwrap();
    let expected = db.stats().arena_extents;
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let (disk, db, root) = prepare();
        let mut failures = 0;
        // Creating an extent, its length, its header and its nodes fail in turn; then it is there, and its nodes fail again.
        for operation in (0..4).chain([0, 1].repeat(20)) {
            disk.fail_operation(disk.operations() + operation, kind);
            let error = db.checkpoint().unwrap_err();
            assert!(error.to_string().contains("/arena.0"), "operation {operation}: {error}");
            assert!(matches!(error, Error::Io { .. }), "operation {operation}: not poisoned: {error}");
            failures += 1;
            let snapshot = db.snapshot().unwrap();
            assert_eq!(snapshot.root().unwrap(), root);
            assert_proves(&snapshot, root, &format!("operation {operation}"));
        }
        println!("{kind:?}: {failures} checkpoints failed");
        db.checkpoint().unwrap();
        assert_eq!(db.stats().arena_extents, expected, "{kind:?}: pages were lost");
        db.check(CheckLevel::Full).unwrap();
        drop(db);
        let db = options().open_on(disk).unwrap();
        assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
        db.check(CheckLevel::Full).unwrap();
    }
}
