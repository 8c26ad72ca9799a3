//! A panic in every operation of a history, in the thread that commits or takes a checkpoint: others go on reading, nothing half done is seen, and nothing
//! acknowledged is lost, whether the handle is used on or opened again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Random, disk,
    interrupted::Interrupted,
    model::{State, changes},
    small,
};
use crate::{CheckLevel, Db, Durability, Error, Options, Result};

const COMMITS: u64 = 14;
/// What a planted panic says.
const PLANTED: &str = "planted";

fn options() -> Options {
    small().retain_versions(3)
}

/// A history with one panic in it.
struct Panicking {
    case: String,
    random: Random,
    disk: Arc<Interrupted>,
    db: Option<Db>,
    /// By version.
    states: Vec<State>,
    /// That of a commit that panicked: it may come back when the database is opened again.
    doubtful: Option<State>,
    panics: u64,
    /// Handles that took no more writes after it.
    poisoned: u64,
}

impl Panicking {
    fn new(seed: u64, number: u64, in_middle: bool) -> Self {
        let at = AtomicU64::new(number);
        let disk = Interrupted::new((*disk(seed)).clone(), move |operation, middle| {
            // Once: what is tried again goes well.
            let is_it = operation >= at.load(Ordering::SeqCst) && middle == in_middle;
            if is_it && at.swap(u64::MAX, Ordering::SeqCst) != u64::MAX {
                panic!("{PLANTED}");
            }
        });
        Self {
            case: format!("seed {seed}, panic in operation {number}, middle: {in_middle}"),
            random: Random(seed),
            disk: Arc::new(disk),
            db: None,
            states: vec![State::default()],
            doubtful: None,
            panics: 0,
            poisoned: 0,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Calls on the database; `None` where it panicked as planned.
    fn attempt<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T>) -> Option<Result<T>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| call(self)));
        match outcome {
            Ok(outcome) => Some(outcome),
            Err(reason) => {
                assert_eq!(reason.downcast_ref::<String>().map(String::as_str), Some(PLANTED), "{}", self.case);
                self.panics += 1;
                None
            }
        }
    }

    /// Opens, again if that panicked.
    fn open(&mut self) {
        self.db = None;
        let open = |own: &mut Self| match options().open_on(own.disk.clone()) {
            Err(Error::NotADatabase { .. }) => options().create_on(own.disk.clone()),
            other => other,
        };
        let opened = match self.attempt(open) {
            Some(opened) => opened,
            None => open(self),
        };
        self.db = Some(opened.unwrap_or_else(|error| panic!("{}: {error}", self.case)));
        let version = self.db().stats().version;
        if let Some(state) = self.doubtful.take()
            && version == self.states.len() as u64
        {
            self.states.push(state);
        }
        assert_eq!(version, self.states.len() as u64 - 1, "{}", self.case);
        self.check();
    }

    /// Compares all that can be read.
    fn check(&self) {
        let stats = self.db().stats();
        assert_eq!(stats.version, self.states.len() as u64 - 1, "{}", self.case);
        for version in stats.oldest_version..=stats.version {
            self.states[version as usize].assert_equals(&self.db().snapshot_at(version).unwrap());
        }
    }

    /// Calls once more what panicked, on the same handle; on a new one where that takes no more writes.
    fn again(&mut self, call: impl Fn(&mut Self) -> Result<()>) {
        self.check();
        match call(self) {
            Ok(()) => {}
            Err(Error::Poisoned { .. }) => {
                self.poisoned += 1;
                self.check();
                let doubtful = self.states.len() as u64;
                self.open();
                // It may have come back.
                if self.states.len() as u64 == doubtful {
                    call(self).unwrap_or_else(|error| panic!("{}: {error}", self.case));
                }
            }
            Err(error) => panic!("{}: {error}", self.case),
        }
    }

    fn commit(&mut self, number: u64) {
        let newest = self.states.last().unwrap();
        let (next, steps) =
            if number % 3 == 1 { newest.churn(&mut self.random) } else { newest.next(&mut self.random, 6000) };
        let changes = changes(&steps);
        let durability = if number % 4 == 2 { Durability::Pipelined } else { Durability::Durable };
        let call = |own: &mut Self| {
            own.db().commit(&changes, durability)?;
            own.states.push(next.clone());
            Ok(())
        };
        match self.attempt(call) {
            Some(outcome) => outcome.unwrap_or_else(|error| panic!("{}: {error}", self.case)),
            None => {
                self.doubtful = Some(next.clone());
                self.again(call);
                self.doubtful = None;
            }
        }
    }

    fn checkpoint(&mut self) {
        let call = |own: &mut Self| own.db().checkpoint();
        match self.attempt(call) {
            Some(outcome) => outcome.unwrap_or_else(|error| panic!("{}: {error}", self.case)),
            None => self.again(call),
        }
    }

    fn run(&mut self) {
        self.open();
        for number in 0..COMMITS {
            self.commit(number);
            match number {
                4 | 8 | 9 => self.checkpoint(),
                6 => {
                    let db = self.db.take().unwrap();
                    // What a panic leaves is dropped with the handle.
                    if let Some(Err(error)) = self.attempt(|_| db.close()) {
                        assert!(matches!(error, Error::Poisoned { .. }), "{}: {error}", self.case);
                    }
                    self.open();
                }
                11 => self.open(),
                _ => {}
            }
        }
        self.db().check(CheckLevel::Full).unwrap_or_else(|error| panic!("{}: {error}", self.case));
        self.open();
        self.db().check(CheckLevel::Full).unwrap_or_else(|error| panic!("{}: {error}", self.case));
    }
}

/// A commit that panicked between its frame and its version left the frame in the log, and the lock open. The next commit made the same version once more
/// behind it, was acknowledged, and after reopening the version was a mixture of both.
#[test]
fn a_panic_in_any_operation_is_an_aborted_call_or_a_poisoned_handle() {
    const SEED: u64 = 5;
    // Planted panics are not worth a line each.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(PLANTED) {
            hook(info);
        }
    }));
    let (mut panics, mut poisoned) = (0, 0);
    for in_middle in [false, true] {
        for number in 0.. {
            let mut history = Panicking::new(SEED, number, in_middle);
            history.run();
            if history.panics == 0 {
                break;
            }
            (panics, poisoned) = (panics + history.panics, poisoned + history.poisoned);
        }
    }
    println!("{panics} panics, {poisoned} poisoned handles");
    assert!(panics > 150 && poisoned > 50, "{panics} panics, {poisoned} poisoned handles");
}
