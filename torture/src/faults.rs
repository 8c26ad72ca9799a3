//! A storage that fails at every call of a history: once, or at all from there on.
//!
//! Each failure is told as what it is, readers go on, nothing is acknowledged that a power loss takes back, and once the storage is mended
//! all goes on, on the same handle or, where that is poisoned, on another one.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use metisdb::{
    Changes, CheckLevel, Db, Durability, Error, Options,
    storage::{DiskStorage, SimulatedDisk, Storage},
};
use serde::Serialize;

use crate::{
    allocator,
    injector::{Fault, Injector, Plan, class_of},
    model::{Profile, State, ensure},
    random::Random,
};

/// What a user does, again and again.
#[derive(Clone, Copy, Debug)]
enum Step {
    Commit(Durability),
    Checkpoint,
    Close,
    /// The handle is dropped; the next one replays the log.
    Drop,
}

const SCRIPT: [Step; 18] = [
    Step::Commit(Durability::Durable),
    Step::Commit(Durability::Pipelined),
    Step::Commit(Durability::Durable),
    Step::Checkpoint,
    Step::Commit(Durability::Durable),
    Step::Commit(Durability::Durable),
    Step::Drop,
    Step::Commit(Durability::Pipelined),
    Step::Commit(Durability::Durable),
    Step::Checkpoint,
    Step::Commit(Durability::Durable),
    Step::Commit(Durability::Durable),
    Step::Commit(Durability::Durable),
    Step::Commit(Durability::Durable),
    Step::Checkpoint,
    Step::Close,
    Step::Commit(Durability::Durable),
    Step::Close,
];

const FAULTS: [Fault; 4] = [
    Fault::Error(ErrorKind::Other),
    Fault::Error(ErrorKind::StorageFull),
    Fault::Short(ErrorKind::Other),
    Fault::Short(ErrorKind::StorageFull),
];

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Histories, each with failing calls.
    pub histories: u64,
    /// Failures by the call that failed first and what came of it.
    pub outcomes: BTreeMap<String, u64>,
    /// The history that ended it, and what was wrong.
    pub failure: Option<(String, String)>,
}

/// Fails every call of the histories of some seeds, in each way; and some calls of one on a real folder.
///
/// # Errors
/// Where the folder cannot be written to.
pub fn inject(seeds: std::ops::Range<u64>, folder: &Path) -> Result<Report, String> {
    allocator::tune();
    let mut report = Report::default();
    for seed in seeds {
        let states = states(seed);
        let calls = calls(&states, seed)?;
        for at in 0..calls {
            for (fault, sticky) in FAULTS.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
                let plan = Plan { fault, at, sticky };
                let disk = Arc::new(SimulatedDisk::new(seed));
                run(&states, disk.clone(), Some(disk), plan, &mut report);
                if at % 16 == seed % 16 && report.failure.is_none() {
                    let path = folder.join(format!("{seed}-{at}-{sticky}-{fault:?}"));
                    let real = DiskStorage::create(&path, false).map_err(|error| error.to_string())?;
                    run(&states, Arc::new(real), None, plan, &mut report);
                    std::fs::remove_dir_all(&path).map_err(|error| error.to_string())?;
                }
                if report.failure.is_some() {
                    return Ok(report);
                }
            }
        }
    }
    Ok(report)
}

/// The states of a history, and the changes that lead to each.
fn states(seed: u64) -> Vec<(State, Changes)> {
    let mut random = Random::new(seed);
    let mut states = vec![(State::empty(), Changes::new())];
    let commits = SCRIPT.iter().filter(|step| matches!(step, Step::Commit(_))).count();
    for _ in 0..commits {
        let next = states[states.len() - 1].0.next(&mut random, Profile::Churning);
        states.push(next);
    }
    states
}

/// How many calls a history takes in which none fails.
fn calls(states: &[(State, Changes)], seed: u64) -> Result<u64, String> {
    let none = Plan { fault: FAULTS[0], at: u64::MAX, sticky: false };
    let disk = Arc::new(SimulatedDisk::new(seed));
    let mut user = User::new(states, disk.clone(), Some(disk), none);
    user.run()?;
    Ok(user.injector.classes().values().map(|numbers| numbers.len() as u64).sum())
}

fn run(
    states: &[(State, Changes)],
    storage: Arc<dyn Storage>,
    disk: Option<Arc<SimulatedDisk>>,
    plan: Plan,
    report: &mut Report,
) {
    let place = if disk.is_some() { "simulated" } else { "real" };
    let mut user = User::new(states, storage, disk, plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| user.run())).unwrap_or_else(|_| Err("a panic".to_string()));
    let failed = user.injector.failed().map(|(operation, path)| class_of(operation, &path));
    let class = failed.unwrap_or_else(|| "nothing".to_string());
    if let Err(wrong) = outcome {
        report.failure = Some((format!("{plan:?} on a {place} disk, which failed at {class}"), wrong));
    }
    report.histories += 1;
    *report.outcomes.entry(format!("{class}: {}", user.outcome)).or_default() += 1;
}

/// Who goes on after failures as a careful user would.
struct User<'s> {
    /// All states there will be.
    states: &'s [(State, Changes)],
    plan: Plan,
    injector: Injector,
    /// The disk below, if it is a simulated one.
    disk: Option<Arc<SimulatedDisk>>,
    db: Option<Db>,
    /// Versions that were made.
    made: u64,
    acknowledged: u64,
    created: bool,
    outcome: &'static str,
}

fn options() -> Options {
    let options = Options::new().segment_bytes(1 << 16).expected_keys(0).retain_versions(2);
    options.checkpoint_log_bytes(u64::MAX).checkpoint_bytes_per_second(u64::MAX)
}

impl<'s> User<'s> {
    fn new(
        states: &'s [(State, Changes)],
        storage: Arc<dyn Storage>,
        disk: Option<Arc<SimulatedDisk>>,
        plan: Plan,
    ) -> Self {
        let injector = Injector::new(storage, Some(plan));
        Self {
            states,
            plan,
            injector,
            disk,
            db: None,
            made: 0,
            acknowledged: 0,
            created: false,
            outcome: "passed over",
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between steps")
    }

    fn run(&mut self) -> Result<(), String> {
        self.open()?;
        for step in SCRIPT {
            match step {
                Step::Commit(durability) => self.commit(durability)?,
                Step::Checkpoint => self.checkpoint()?,
                Step::Drop => {
                    self.db = None;
                    self.open()?;
                }
                Step::Close => self.close()?,
            }
        }
        self.injector.mend();
        self.compare(self.db(), self.made)?;
        self.db().check(CheckLevel::Full).map_err(|error| format!("check: {error}"))?;
        Ok(())
    }

    fn try_open(&self) -> metisdb::Result<Db> {
        let storage = Arc::new(self.injector.clone());
        if self.created {
            return options().open_on(storage);
        }
        match options().create_on(storage.clone()) {
            Err(Error::AlreadyExists { .. }) => options().open_on(storage),
            other => other,
        }
    }

    fn open(&mut self) -> Result<(), String> {
        let db = match self.try_open() {
            Ok(db) => db,
            Err(error) => {
                self.told(&error)?;
                self.injector.mend();
                self.try_open().map_err(|error| format!("opening again: {error}"))?
            }
        };
        let version = db.stats().version;
        ensure!((self.acknowledged..=self.made).contains(&version), "version {version} of {}", self.made);
        self.created = true;
        (self.made, self.acknowledged) = (version, version);
        self.db = Some(db);
        Ok(())
    }

    fn commit(&mut self, durability: Durability) -> Result<(), String> {
        let version = self.made + 1;
        match self.db().commit(&self.states[version as usize].1, durability) {
            Ok(_) => {}
            Err(error) => {
                self.after_failure(&error, version)?;
                if self.made < version {
                    let again = self.db().commit(&self.states[version as usize].1, durability);
                    again.map_err(|error| format!("committing again: {error}"))?;
                }
            }
        }
        self.made = version;
        if durability == Durability::Durable {
            self.acknowledged = version;
        }
        self.compare(self.db(), version)
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        if let Err(error) = self.db().checkpoint() {
            self.after_failure(&error, self.made)?;
            self.db().checkpoint().map_err(|error| format!("a checkpoint again: {error}"))?;
        }
        self.acknowledged = self.made;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        if let Some(Err(error)) = self.db.take().map(Db::close) {
            self.told(&error)?;
            self.survive(self.made)?;
            self.injector.mend();
        } else {
            self.acknowledged = self.made;
        }
        self.open()
    }

    /// A call on the open database failed while `submitted` was the newest version that could come of it.
    fn after_failure(&mut self, error: &Error, submitted: u64) -> Result<(), String> {
        self.told(error)?;
        self.compare(self.db(), self.made)?;
        let poisoned = matches!(error, Error::Poisoned { .. });
        // What was refused does not come back, unless it is unknown what the disk holds.
        self.survive(if poisoned { submitted } else { self.made })?;
        if poisoned || self.plan.sticky {
            // Nothing is acknowledged: by a handle that does not know what the disk holds, or one whose disk fails.
            let next = self.made + 1;
            let refused = self.db().commit(&self.states[next as usize].1, Durability::Durable);
            ensure!(refused.is_err(), "a commit was acknowledged behind {error}");
            self.compare(self.db(), self.made)?;
            let still = matches!(refused, Err(Error::Poisoned { .. }));
            ensure!(still || !poisoned, "the handle is poisoned no more: {refused:?}");
            self.injector.mend();
            if still {
                self.outcome = "poisoned";
                // It may have got as far as the log.
                self.made = if poisoned { submitted } else { next };
                self.db = None;
                self.open()?;
            }
        }
        Ok(())
    }

    /// The error names the call that failed, and what kind of failure it was.
    fn told(&mut self, error: &Error) -> Result<(), String> {
        let (Fault::Error(kind) | Fault::Short(kind)) = self.plan.fault;
        let (cause, outcome) = match error {
            Error::Poisoned { cause } => (&**cause, "poisoned"),
            other => (other, "an error"),
        };
        let Error::Io { operation, path, source, .. } = cause else { return Err(format!("not an I/O error: {error}")) };
        ensure!(source.kind() == kind, "{:?} where {kind:?} was injected: {error}", source.kind());
        let (failed, at) = self.injector.failed().ok_or("an error without a fault")?;
        let first = *operation == failed && *path == at;
        ensure!(first || self.plan.sticky, "{failed} of {} failed, told is: {error}", at.display());
        // A sync that fails leaves it unknown what the disk holds; a full disk does not, unless not even what was begun can be erased.
        let unknown = operation.starts_with("sync") || kind != ErrorKind::StorageFull || self.plan.sticky;
        ensure!(outcome != "poisoned" || unknown, "a full disk poisoned: {error}");
        self.outcome = outcome;
        Ok(())
    }

    /// What power losses leave holds everything that was acknowledged.
    fn survive(&self, submitted: u64) -> Result<(), String> {
        let Some(disk) = &self.disk else { return Ok(()) };
        for seed in [0, 1, 2 + disk.operations()] {
            let left = Arc::new(disk.after_power_loss(seed));
            let db = options().open_on(left).map_err(|error| format!("after power loss {seed}: {error}"))?;
            let version = db.stats().version;
            let possible = self.acknowledged..=submitted;
            ensure!(possible.contains(&version), "version {version} of {possible:?} after power loss {seed}");
            self.compare(&db, version)?;
        }
        Ok(())
    }

    /// All versions that can be read are as they were made.
    fn compare(&self, db: &Db, newest: u64) -> Result<(), String> {
        let stats = db.stats();
        ensure!(stats.version == newest, "version {} is the newest, not {newest}", stats.version);
        for version in stats.oldest_version..=newest {
            let snapshot = db.snapshot_at(version).map_err(|error| format!("a snapshot: {error}"))?;
            self.states[version as usize].0.compare(&snapshot, &[])?;
        }
        Ok(())
    }
}
