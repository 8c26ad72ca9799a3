//! A history: sessions of one database, one behind the other, that depend on a seed alone.
//!
//! A session begins with a folder at rest (empty, closed, or as a power loss left it) and runs its actions until they end or the power is
//! cut. In half of them the process ends on the way, killed or after a sync that failed:
//! what it wrote stays in the page cache, and another one goes on.

use std::{cell::RefCell, collections::BTreeMap, io::ErrorKind, rc::Rc, sync::Arc};

use alloy_primitives::B256;
use metisdb::{
    Changes, Commit, Db, Durability, Error, Options, Snapshot,
    storage::{SimulatedDisk, Storage},
};

use crate::{
    injector::{Fault, Injector, Plan},
    model::{Profile, State},
    random::Random,
};

/// Histories retain fewer versions than this before the newest.
const RETAIN: u64 = 3;
/// Sessions of a history.
pub(crate) const SESSIONS: u64 = 7;

/// Operations that change nothing: being killed there is like being killed at the next one.
const LOOKING: [&str; 8] = ["list", "open", "lock", "read", "stat", "map", "entropy", "reserve"];

/// What a user does.
#[derive(Clone, Debug)]
enum Action {
    /// Makes a version, unless it is there already.
    Commit {
        version: u64,
        way: Way,
        durability: Durability,
        wait: bool,
        changes: Box<Changes>,
    },
    Checkpoint,
    /// Takes a snapshot and keeps it.
    Hold,
    /// Compares the oldest snapshot with the model and drops it.
    Release,
    /// Closes the database, or just drops it, and opens it again.
    Reopen {
        close: bool,
    },
}

/// How a commit is made.
#[derive(Clone, Debug)]
enum Way {
    Plain,
    Deferred,
    /// As a proposal, beside another one on the same parent that is dropped.
    Proposal {
        lost: Box<Changes>,
    },
}

/// What the user is doing when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Activity {
    Creating,
    Opening,
    Committing,
    Proposing,
    DeferringRoot,
    Checkpoint,
    CheckpointUnderPins,
    Closing,
}

impl Activity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Opening => "opening",
            Self::Committing => "committing",
            Self::Proposing => "committing a proposal",
            Self::DeferringRoot => "deferring a root",
            Self::Checkpoint => "checkpoint",
            Self::CheckpointUnderPins => "checkpoint under pins",
            Self::Closing => "closing",
        }
    }
}

/// How the first process of a session ends before its actions do.
#[derive(Clone, Copy, Debug)]
enum End {
    None,
    /// At this call of the storage.
    Killed(u64),
    /// This operation of the disk, a sync, fails.
    SyncFailed(u64),
}

/// What is known at the moment of the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    pub(crate) created: bool,
    /// The newest version that was acknowledged as durable.
    pub(crate) acknowledged: u64,
    /// The newest version that was submitted.
    pub(crate) submitted: u64,
    pub(crate) activity: Activity,
}

/// What came of a session.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) known: Known,
    /// Calls of the storage by their class, if it was killed on the way or could have been.
    classes: BTreeMap<String, Vec<u64>>,
    pub(crate) dropped_segments: u64,
    pub(crate) index_growths: u64,
}

/// Why a run ended early.
#[derive(Debug)]
enum Stop {
    /// The disk failed.
    Failed(Error),
    /// The database is wrong.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<String> for Stop {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

/// A database's life up to one session.
#[derive(Debug)]
pub(crate) struct History {
    random: Random,
    profile: Profile,
    retain: u64,
    /// The state of every version up to the end of the session.
    pub(crate) states: Vec<State>,
    /// What could come next, version by version, once it was asked for.
    after: RefCell<BTreeMap<u64, Rc<(State, Changes)>>>,
    /// Of all codes in the states.
    pub(crate) codes: Vec<B256>,
    /// The folder at rest when the session begins.
    start: SimulatedDisk,
    /// What is known then.
    before: Known,
    actions: Vec<Action>,
    /// How the first process of the session ends.
    end: End,
}

impl History {
    /// How the database is opened each time.
    pub(crate) fn options(&self) -> Options {
        Options::new()
            .segment_bytes(1 << 16)
            .expected_keys(0)
            .retain_versions(self.retain)
            .checkpoint_log_bytes(u64::MAX)
            .checkpoint_bytes_per_second(u64::MAX)
    }

    /// The first session, which creates the database.
    pub(crate) fn begin(seed: u64) -> Result<Self, String> {
        let mut history = Self {
            random: Random::new(seed),
            profile: if seed.is_multiple_of(2) { Profile::Mixed } else { Profile::Churning },
            retain: seed / 2 % RETAIN,
            states: vec![State::empty()],
            after: RefCell::default(),
            codes: Vec::new(),
            start: SimulatedDisk::new(seed),
            before: Known { created: false, acknowledged: 0, submitted: 0, activity: Activity::Creating },
            actions: Vec::new(),
            end: End::None,
        };
        history.plan()?;
        Ok(history)
    }

    /// Goes on to the next session: with what the last one left when it was closed, or when the power was lost.
    pub(crate) fn advance(&mut self) -> Result<(), String> {
        let disk = self.disk();
        let known = self.run(&disk)?.known;
        let seed = if self.random.one_in(2) { 1 } else { self.random.next() };
        self.start = disk.after_power_loss(seed);
        let shown = Arc::new(self.start.after_power_loss(1));
        let db = self.options().open_on(shown).map_err(|error| format!("the next session: {error}"))?;
        let version = db.stats().version;
        if !(known.acknowledged..=known.submitted).contains(&version) {
            return Err(format!("the next session: version {version}, not one of {known:?}"));
        }
        self.before = Known { submitted: version, activity: Activity::Opening, ..known };
        self.states.truncate(version as usize + 1);
        self.plan()
    }

    /// The disk at the session's beginning.
    pub(crate) fn disk(&self) -> Arc<SimulatedDisk> {
        Arc::new(self.start.after_power_loss(1))
    }

    /// A state that could come next behind a version, and the changes that lead to it.
    pub(crate) fn next(&self, version: u64) -> Rc<(State, Changes)> {
        let next = || self.states[version as usize].next(&mut Random::new(version), Profile::Mixed);
        self.after.borrow_mut().entry(version).or_insert_with(|| Rc::new(next())).clone()
    }

    /// Makes up the actions of the session, and when it is killed.
    fn plan(&mut self) -> Result<(), String> {
        self.actions.clear();
        self.after.borrow_mut().clear();
        self.end = End::None;
        for _ in 0..5 + self.random.below(5) {
            let action = match self.random.below(12) {
                0 | 1 => Action::Checkpoint,
                2 => Action::Hold,
                3 => Action::Release,
                4 => Action::Reopen { close: self.random.one_in(2) },
                _ => self.plan_commit(),
            };
            self.actions.push(action);
        }
        if self.random.one_in(2) {
            self.actions.push(Action::Reopen { close: true });
        }
        self.codes = self.states.last().map(State::code_hashes).unwrap_or_default();
        match self.random.below(6) {
            0..=2 => Ok(()),
            3 => self.plan_failing_sync(),
            kind => self.plan_kill(kind == 4),
        }
    }

    /// The process is killed at a call that changes something: in the making of a segment, or anywhere.
    fn plan_kill(&mut self, growing: bool) -> Result<(), String> {
        self.end = End::Killed(u64::MAX);
        let mut classes = self.run(&self.disk())?.classes;
        classes.retain(|class, _| !LOOKING.iter().any(|looking| class.starts_with(looking)));
        if classes.is_empty() {
            self.end = End::None;
            return Ok(());
        }
        // Rare ones as often as those of each commit.
        let class = self.random.below(classes.len() as u64) as usize;
        let numbers = match classes.get("create segment") {
            Some(created) if growing => created.iter().flat_map(|number| number + 1..number + 7).collect(),
            _ => classes.into_values().nth(class).unwrap_or_default(),
        };
        self.end = End::Killed(numbers[self.random.below(numbers.len() as u64) as usize]);
        Ok(())
    }

    /// A sync fails, which leaves in the page cache, as clean, what the disk does not have; often that of a mark, when the database is closed.
    fn plan_failing_sync(&mut self) -> Result<(), String> {
        self.actions.insert(2, Action::Reopen { close: true });
        let closing = self.random.one_in(2);
        let whole = self.disk();
        self.run(&whole)?;
        if whole.operations() == 0 {
            return Ok(());
        }
        for _ in 0..40 {
            let at = self.random.below(whole.operations());
            let disk = self.disk();
            disk.cut_after(at);
            let activity = self.run(&disk)?.known.activity;
            let is_sync = disk.interrupted().is_some_and(|(operation, _)| operation == "sync");
            if is_sync && (activity == Activity::Closing || !closing) {
                self.end = End::SyncFailed(at);
                break;
            }
        }
        Ok(())
    }

    fn plan_commit(&mut self) -> Action {
        let before = self.states.last().expect("the empty state is always there");
        let way = match self.random.below(8) {
            0 => Way::Deferred,
            1 | 2 => Way::Proposal { lost: Box::new(before.next(&mut self.random, Profile::Mixed).1) },
            _ => Way::Plain,
        };
        let (next, changes) = before.next(&mut self.random, self.profile);
        self.states.push(next);
        let durability = if self.random.one_in(2) { Durability::Durable } else { Durability::Pipelined };
        let (version, changes) = (self.states.len() as u64 - 1, Box::new(changes));
        Action::Commit { version, way, durability, wait: self.random.one_in(3), changes }
    }

    /// Runs the session on a disk, until it ends or the power is cut.
    ///
    /// # Errors
    /// What the database did wrong.
    pub(crate) fn run(&self, disk: &Arc<SimulatedDisk>) -> Result<Outcome, String> {
        let kill = |at| Plan { fault: Fault::Short(ErrorKind::Other), at, sticky: true };
        let (storage, injector): (Arc<dyn Storage>, _) = match self.end {
            End::Killed(at) => {
                let injector = Injector::new(disk.clone(), Some(kill(at)));
                (Arc::new(injector.clone()), Some(injector))
            }
            End::SyncFailed(at) => {
                disk.fail_operation(at, ErrorKind::Other);
                (disk.clone(), None)
            }
            End::None => (disk.clone(), None),
        };
        let user = User { history: self, storage, held: Vec::new(), db: None, known: self.before, index_bytes: 0 };
        let mut run = Run { user, dropped_segments: 0, index_growths: 0, done: 0 };
        let mut stopped = run.go_on();
        let ended = matches!(stopped, Err(Stop::Failed(_))) && disk.interrupted().is_none();
        if ended && !matches!(self.end, End::None) {
            stopped = run.start_again(disk.clone()).and_then(|()| run.go_on());
        }
        match stopped {
            Err(Stop::Wrong(wrong)) => return Err(wrong),
            Err(Stop::Failed(error)) if disk.interrupted().is_none() => return Err(format!("without a cut: {error}")),
            _ => {}
        }
        let classes = injector.map(|injector| injector.classes()).unwrap_or_default();
        let Run { user, dropped_segments, index_growths, .. } = run;
        Ok(Outcome { known: user.known, classes, dropped_segments, index_growths })
    }
}

/// A session under way.
struct Run<'h> {
    user: User<'h>,
    dropped_segments: u64,
    index_growths: u64,
    /// Actions that are done.
    done: usize,
}

impl Run<'_> {
    fn go_on(&mut self) -> Result<(), Stop> {
        if self.user.db.is_none() {
            self.user.open()?;
        }
        while let Some(action) = self.user.history.actions.get(self.done) {
            self.user.act(action)?;
            self.done += 1;
            let stats = self.user.db().stats();
            self.dropped_segments = self.dropped_segments.max(stats.dropped_segments);
            self.index_growths += u64::from(stats.index_bytes > self.user.index_bytes);
            self.user.index_bytes = stats.index_bytes;
        }
        Ok(())
    }

    /// The process was killed: another one opens what it left, and does again what is not there.
    fn start_again(&mut self, disk: Arc<SimulatedDisk>) -> Result<(), Stop> {
        let before = self.user.known;
        self.user.held.clear();
        self.user.db = None;
        self.user.storage = disk;
        self.user.open()?;
        let version = self.user.known.acknowledged;
        if !(before.acknowledged..=before.submitted).contains(&version) || version + 1 < before.submitted {
            return Err(Stop::Wrong(format!("after a kill: version {version}, before it {before:?}")));
        }
        self.user.known.submitted = version;
        // It is open again, and what it was closed for is done.
        self.done += usize::from(matches!(self.user.history.actions.get(self.done), Some(Action::Reopen { .. })));
        Ok(())
    }
}

/// Who acts, and what is known.
struct User<'h> {
    history: &'h History,
    storage: Arc<dyn Storage>,
    held: Vec<Snapshot>,
    db: Option<Db>,
    known: Known,
    /// Memory of the index after the last action.
    index_bytes: u64,
}

impl User<'_> {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between actions")
    }

    /// Opens the database, or creates it. What an open shows survives every power loss from then on.
    fn open(&mut self) -> Result<(), Stop> {
        if !self.known.created {
            self.known.activity = Activity::Creating;
            self.db = Some(match self.history.options().create_on(self.storage.clone()) {
                // A process that was killed may have got that far.
                Err(Error::AlreadyExists { .. }) => self.history.options().open_on(self.storage.clone())?,
                other => other?,
            });
            self.known.created = true;
            return Ok(());
        }
        self.known.activity = Activity::Opening;
        let db = self.history.options().open_on(self.storage.clone())?;
        self.known.acknowledged = db.stats().version;
        self.db = Some(db);
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), Stop> {
        match action {
            Action::Commit { version, .. } if self.db().stats().version >= *version => Ok(()),
            Action::Commit { version, way, durability, wait, changes } => {
                self.known.submitted = *version;
                let commit = self.commit(way, *durability, changes)?;
                if commit.version() != *version {
                    return Err(Stop::Wrong(format!("version {} where {version} was due", commit.version())));
                }
                if *durability == Durability::Durable || *wait {
                    commit.wait_durable()?;
                    self.known.acknowledged = *version;
                }
                Ok(())
            }
            Action::Checkpoint => {
                let under_pins = !self.held.is_empty();
                self.known.activity = if under_pins { Activity::CheckpointUnderPins } else { Activity::Checkpoint };
                self.db().checkpoint()?;
                self.known.acknowledged = self.known.submitted;
                Ok(())
            }
            Action::Hold => {
                self.held.push(self.db().snapshot()?);
                Ok(())
            }
            Action::Release if self.held.is_empty() => Ok(()),
            Action::Release => Ok(self.compare_held(&self.held[0]).map(|()| drop(self.held.remove(0)))?),
            Action::Reopen { close } => {
                self.held.iter().try_for_each(|snapshot| self.compare_held(snapshot))?;
                self.held.clear();
                if let Some(db) = self.db.take().filter(|_| *close) {
                    self.known.activity = Activity::Closing;
                    db.close()?;
                    self.known.acknowledged = self.known.submitted;
                }
                self.open()
            }
        }
    }

    fn commit(&mut self, way: &Way, durability: Durability, changes: &Changes) -> Result<Commit, Stop> {
        let root = self.history.states[self.known.submitted as usize].root();
        let (commit, got) = match way {
            Way::Plain => {
                self.known.activity = Activity::Committing;
                let commit = self.db().commit(changes, durability)?;
                (commit, self.db().snapshot()?.root()?)
            }
            Way::Deferred => {
                self.known.activity = Activity::DeferringRoot;
                let (commit, root) = self.db().commit_deferred(changes, durability)?;
                // Nothing else is done until it is there, so that all happens in one order.
                (commit, root.wait()?)
            }
            Way::Proposal { lost } => {
                self.known.activity = Activity::Proposing;
                let parent = self.db().snapshot()?;
                let lost = self.db().propose(&parent, lost)?;
                let won = self.db().propose(&parent, changes)?;
                let commit = won.commit(durability)?;
                drop(lost);
                (commit, won.root())
            }
        };
        if got != root {
            return Err(Stop::Wrong(format!("version {} has root {got}, not {root}", commit.version())));
        }
        Ok(commit)
    }

    fn compare_held(&self, snapshot: &Snapshot) -> Result<(), String> {
        let state = &self.history.states[snapshot.version() as usize];
        state.compare(snapshot, &self.history.codes).map_err(|wrong| format!("a snapshot that was held: {wrong}"))
    }
}
