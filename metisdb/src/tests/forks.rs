//! Random histories with all that the trie is for: proposals in forks and chains, deferred roots, held snapshots, proofs, iteration; and
//! every way to open again. Every root is judged by the naive trie, that of newest versions by `alloy-trie`, too.
//!
//! A failing test prints its seed last. `METISDB_SEED=<seed> cargo test -p metisdb forks` runs that one alone; threads that the
//! product starts by itself are not part of the seed. A range of them runs more than usual: `METISDB_SEED=1000..2000`.

use std::{cell::Cell, rc::Rc, sync::Arc};

mod reopening;

use super::{
    Random, disk,
    model::{State, Step, changes},
    small,
    tries::{Shape, Tally, alloy_root},
};
use crate::{
    Block, Changes, CheckLevel, Db, DeferredRoot, Durability, Error, Options, Proposal, Snapshot,
    checkpoint::{self, Thoroughness},
    storage::SimulatedDisk,
};

const RETAIN: u64 = 5;
/// Proposals that are kept at once.
const PROPOSALS: usize = 8;

/// A proposal as the model sees it.
struct Forked {
    proposal: Proposal,
    state: State,
    parent: Parent,
    committed: Cell<Option<u64>>,
    depth: u64,
}

enum Parent {
    Version(u64),
    Proposal(Rc<Forked>),
}

impl Forked {
    fn parent_version(&self) -> Option<u64> {
        match &self.parent {
            Parent::Version(version) => Some(*version),
            Parent::Proposal(parent) => parent.committed.get(),
        }
    }
}

/// What happened in histories, so that a test knows that it tested something.
#[derive(Debug, Default)]
struct Counts {
    commits: u64,
    deferred: u64,
    /// Most roots that were outstanding at once.
    most_outstanding: u64,
    proposals: u64,
    sealed: u64,
    deepest: u64,
    proposals_committed: u64,
    proposals_refused: u64,
    reopened: u64,
    /// Arenas whose damage was found only by reading.
    rebuilt: u64,
    reused_pages: u64,
    reused_beside_holds: u64,
    proofs: u64,
    tally: Tally,
}

struct Machine {
    random: Random,
    disk: Arc<SimulatedDisk>,
    options: Options,
    shape: Shape,
    db: Option<Db>,
    /// Index is the version.
    states: Vec<State>,
    held: Vec<Snapshot>,
    proposals: Vec<Rc<Forked>>,
    deferred: Vec<DeferredRoot>,
    counts: Counts,
}

impl Machine {
    fn begin(seed: u64, shape: fn(&mut Random) -> Shape, account_id_mask: u64) -> Self {
        let mut random = Random(seed);
        let mut options = small().retain_versions(RETAIN).max_deferred_roots(1 + random.below(8) as usize);
        if random.one_in(4) {
            // Commits wait for checkpoints of their own, and a rebuild writes nodes early.
            options = options.max_unwritten_trie_bytes(1 << 14);
        }
        if random.one_in(4) {
            options = options.checkpoint_log_bytes(1 << 13);
        }
        let shape = shape(&mut random);
        options.account_id_mask = account_id_mask;
        options.plain_paths = shape.plain;
        let disk = disk(seed);
        let db = Some(options.clone().create_on(disk.clone()).unwrap());
        let states = vec![State::default()];
        let (held, proposals, deferred) = (Vec::new(), Vec::new(), Vec::new());
        Self { random, disk, options, shape, db, states, held, proposals, deferred, counts: Counts::default() }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn durability(&mut self) -> Durability {
        if self.random.one_in(3) { Durability::Durable } else { Durability::Pipelined }
    }

    fn step(&mut self) {
        match self.random.below(60) {
            0..=6 => self.commit(),
            7..=11 => self.commit_deferred(),
            12..=13 => self.wait(),
            14..=29 => self.propose(),
            30..=37 => {
                self.commit_proposal();
                while self.random.one_in(2) {
                    self.commit_proposal();
                }
            }
            38..=40 => self.read_proposal(),
            41 => self.drop_proposal(),
            42..=45 => self.hold(),
            46..=47 => self.read_held(),
            48 => self.db().checkpoint().unwrap(),
            49..=51 => checkpoint::checkpoint(&self.db().store, Thoroughness::Automatic).unwrap(),
            52..=54 => self.prove(),
            55 | 56 => self.iterate(),
            57 => self.check_retained(),
            _ => self.reopen(),
        }
        self.assert_invariants();
    }

    /// What is cheap, and does not make roots that are outstanding known, most of the time.
    fn assert_invariants(&mut self) {
        let stats = self.db().stats();
        assert_eq!(stats.version, self.newest());
        assert_eq!(stats.oldest_version, self.newest().saturating_sub(RETAIN));
        assert!(stats.deferred_roots <= self.options.max_deferred_roots as u64);
        self.counts.most_outstanding = self.counts.most_outstanding.max(stats.deferred_roots);
        for forked in &self.proposals {
            assert_eq!(forked.proposal.root(), forked.state.roots(self.shape.plain).state, "a proposal's root stays");
        }
        if self.random.one_in(4) {
            self.assert_newest();
        }
        if let Some(snapshot) = self.held.last() {
            let state = &self.states[snapshot.version() as usize];
            assert_eq!(snapshot.root().unwrap(), state.roots(self.shape.plain).state, "a held snapshot's root stays");
        }
    }

    /// The newest root is that of both other implementations.
    fn assert_newest(&mut self) {
        let newest = self.states.last().unwrap();
        let root = self.db().snapshot().unwrap().root().unwrap();
        assert_eq!(root, newest.roots(self.shape.plain).state, "version {}", self.newest());
        assert_eq!(root, alloy_root(newest, self.shape.plain), "version {}", self.newest());
        let db = self.db.as_ref().unwrap();
        if self.options.account_id_mask == u64::MAX {
            self.counts.tally.look(db);
        }
    }

    fn next(&mut self) -> (State, Changes) {
        let most = if self.random.one_in(6) { self.shape.burst } else { 8.max(self.shape.burst / 16) };
        let (next, steps) = self.shape.next(self.states.last().unwrap(), &mut self.random, most);
        (next, changes(&steps))
    }

    fn commit(&mut self) {
        let (next, changes) = self.next();
        let durability = self.durability();
        let commit = self.db().commit(&changes, durability).unwrap();
        assert_eq!(commit.version(), self.newest() + 1);
        self.states.push(next);
        self.counts.commits += 1;
        self.assert_newest();
    }

    /// A few at once, so that some are outstanding.
    fn commit_deferred(&mut self) {
        for _ in 0..1 + self.random.below(5) {
            let (next, changes) = self.next();
            let durability = self.durability();
            let (commit, root) = self.db().commit_deferred(&changes, durability).unwrap();
            assert_eq!((commit.version(), root.version()), (self.newest() + 1, self.newest() + 1));
            self.states.push(next);
            self.deferred.push(root);
            self.counts.deferred += 1;
            let outstanding = self.db().stats().deferred_roots;
            self.counts.most_outstanding = self.counts.most_outstanding.max(outstanding);
        }
        if self.random.one_in(2) {
            self.wait();
        }
    }

    /// Waits for some handles, in any order.
    fn wait(&mut self) {
        for _ in 0..self.random.below(4) {
            if self.deferred.is_empty() {
                return;
            }
            let index = self.random.below(self.deferred.len() as u64) as usize;
            let handle = self.deferred.swap_remove(index);
            match handle.wait() {
                Ok(root) => assert_eq!(root, self.states[handle.version() as usize].roots(self.shape.plain).state),
                Err(Error::VersionNotRetained { requested, .. }) => {
                    assert!(requested == handle.version() && requested < self.newest().saturating_sub(RETAIN));
                }
                Err(error) => panic!("deferred root of version {}: {error}", handle.version()),
            }
            assert!(handle.is_ready());
        }
    }

    fn some_proposal(&mut self) -> Option<Rc<Forked>> {
        let index = self.random.below(self.proposals.len().max(1) as u64) as usize;
        self.proposals.get(index).cloned()
    }

    fn propose(&mut self) {
        let parent = match self.random.below(4) {
            0 => self.some_proposal(),
            1 => self.proposals.last().cloned(),
            _ => None,
        };
        let some_held = self.random.below(12) as usize;
        let (parent, below, depth, snapshot) = match parent {
            Some(parent) => (Parent::Proposal(parent.clone()), parent.state.clone(), parent.depth + 1, None),
            None => {
                let newest = || self.db().snapshot().unwrap();
                let snapshot = self.held.get(some_held).cloned().unwrap_or_else(newest);
                let below = self.states[snapshot.version() as usize].clone();
                (Parent::Version(snapshot.version()), below, 1, Some(snapshot))
            }
        };
        let (mut state, steps) = self.shape.next(&below, &mut self.random, 8);
        let propose = |changes: &Changes| match (&parent, &snapshot) {
            (Parent::Proposal(parent), _) => parent.proposal.propose(changes),
            (_, Some(snapshot)) => self.db().propose(snapshot, changes),
            _ => unreachable!("a version has a snapshot"),
        };
        let proposal = propose(&changes(&steps)).unwrap();
        if let Some(missing) = self.shape.addresses.iter().find(|address| !below.accounts.contains_key(*address)) {
            let mut wrong = Changes::new();
            wrong.set_storage(*missing, self.shape.slots[0], self.shape.slots[1]);
            assert!(matches!(propose(&wrong), Err(Error::SlotWithoutAccount { address }) if address == *missing));
        }
        self.shape.compare(&proposal, &state);
        if self.random.one_in(2) {
            self.seal(&proposal, &mut state, steps.iter().any(|step| matches!(step, Step::Block(_))));
        }
        self.counts.proposals += 1;
        self.counts.deepest = self.counts.deepest.max(depth);
        let forked = Rc::new(Forked { proposal, state, parent, committed: Cell::new(None), depth });
        if self.proposals.len() == PROPOSALS {
            self.drop_proposal();
        }
        self.proposals.push(forked);
    }

    /// Metadata come once: with the changes or after them.
    fn seal(&mut self, proposal: &Proposal, state: &mut State, has_block: bool) {
        let (number, timestamp) = (self.random.below(4), self.random.next());
        let block = Block { number, timestamp, ..Block::default() };
        if !has_block {
            proposal.seal(block).unwrap();
            state.apply(&Step::Block(block));
            self.counts.sealed += 1;
            self.shape.compare(proposal, state);
        }
        assert!(matches!(proposal.seal(block), Err(Error::CannotSeal { number: told, .. }) if told == number));
    }

    /// Only a child of the newest version can be committed, once.
    fn commit_proposal(&mut self) {
        let newest = self.newest();
        let is_child =
            |forked: &&Rc<Forked>| forked.parent_version() == Some(newest) && forked.committed.get().is_none();
        let child = self.proposals.iter().find(is_child).cloned();
        let chosen = if self.random.one_in(3) { self.some_proposal() } else { child };
        let Some(forked) = chosen else { return };
        let durability = self.durability();
        let outcome = forked.proposal.commit(durability);
        if is_child(&&forked) {
            let commit = outcome.unwrap();
            assert_eq!(commit.version(), newest + 1);
            assert!(durability == Durability::Pipelined || commit.is_durable());
            forked.committed.set(Some(newest + 1));
            self.states.push(forked.state.clone());
            self.counts.proposals_committed += 1;
            self.assert_newest();
            self.shape.compare(&self.db().snapshot().unwrap(), self.states.last().unwrap());
            assert!(matches!(forked.proposal.commit(durability), Err(Error::NotChildOfNewest { .. })), "twice");
        } else {
            match outcome {
                Err(Error::NotChildOfNewest { parent, newest: told }) => {
                    assert_eq!((parent, told), (forked.parent_version(), newest));
                }
                other => panic!("a proposal that is no child was committed: {other:?}"),
            }
            self.counts.proposals_refused += 1;
            self.assert_newest();
        }
    }

    fn read_proposal(&mut self) {
        if let Some(forked) = self.some_proposal() {
            self.shape.compare(&forked.proposal, &forked.state);
        }
    }

    fn drop_proposal(&mut self) {
        if !self.proposals.is_empty() {
            let index = self.random.below(self.proposals.len() as u64) as usize;
            self.proposals.swap_remove(index);
        }
    }

    fn hold(&mut self) {
        if self.held.len() > 4 {
            let index = self.random.below(self.held.len() as u64) as usize;
            self.held.swap_remove(index);
        }
        let version = self.newest().saturating_sub(self.random.below(RETAIN + 1));
        self.held.push(self.db().snapshot_at(version).unwrap());
    }

    fn read_held(&mut self) {
        for snapshot in &self.held {
            self.shape.compare(snapshot, &self.states[snapshot.version() as usize]);
        }
    }

    /// Hashed paths only: verifiers know no others.
    fn prove(&mut self) {
        if self.shape.plain {
            return;
        }
        let other = self.states[self.random.below(self.states.len() as u64) as usize].roots(false).state;
        let some = self.random.below(8) as usize;
        let newest = self.db().snapshot().unwrap();
        let snapshot = self.held.get(some).unwrap_or(&newest);
        let state = &self.states[snapshot.version() as usize];
        self.shape.compare_proof(snapshot, state, other, &mut self.random);
        if let Some(forked) = self.some_proposal() {
            self.shape.compare_proof(&forked.proposal, &forked.state, other, &mut self.random);
        }
        self.counts.proofs += 2;
    }

    fn iterate(&mut self) {
        let some = self.random.below(8) as usize;
        let newest = self.db().snapshot().unwrap();
        let snapshot = self.held.get(some).unwrap_or(&newest);
        for _ in 0..4 {
            let state = &self.states[snapshot.version() as usize];
            self.shape.compare_iteration(snapshot, state, &mut self.random);
        }
    }

    /// Every retained version has its root, and the database is sound.
    fn check_retained(&mut self) {
        self.check_roots();
        let report = self.db().check(CheckLevel::Full).unwrap();
        assert_eq!(report.roots, self.newest().min(RETAIN) + 1);
    }

    fn check_roots(&mut self) {
        let newest = self.newest();
        for version in newest.saturating_sub(RETAIN)..=newest {
            let state = &self.states[version as usize];
            let snapshot = self.db().snapshot_at(version).unwrap();
            assert_eq!(snapshot.root().unwrap(), state.roots(self.shape.plain).state, "version {version}");
            if self.random.one_in(2) {
                self.shape.compare(&snapshot, state);
            }
        }
        assert_eq!(self.db().stats().version, newest);
        self.assert_newest();
    }
}

fn run(seed: u64, shape: fn(&mut Random) -> Shape, account_id_mask: u64, steps: usize) -> Counts {
    println!("seed {seed}");
    let mut machine = Machine::begin(seed, shape, account_id_mask);
    for _ in 0..steps {
        machine.step();
    }
    machine.check_retained();
    machine.shut(true);
    machine.counts
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.deferred += other.deferred;
        self.most_outstanding = self.most_outstanding.max(other.most_outstanding);
        self.proposals += other.proposals;
        self.sealed += other.sealed;
        self.deepest = self.deepest.max(other.deepest);
        self.proposals_committed += other.proposals_committed;
        self.proposals_refused += other.proposals_refused;
        self.reopened += other.reopened;
        self.rebuilt += other.rebuilt;
        self.reused_pages += other.reused_pages;
        self.reused_beside_holds += other.reused_beside_holds;
        self.proofs += other.proofs;
        self.tally.embedded += other.tally.embedded;
        self.tally.long += other.tally.long;
        self.tally.grown += other.tally.grown;
        self.tally.shrunk += other.tally.shrunk;
    }
}

/// The seeds of a test, or what is asked for: one, or a range.
pub(super) fn seeds(count: u64) -> Vec<u64> {
    let Ok(asked) = std::env::var("METISDB_SEED") else { return (0..count).collect() };
    let number = |text: &str| text.parse::<u64>().expect("METISDB_SEED is a number, or two with .. between");
    match asked.split_once("..") {
        Some((first, end)) => (number(first)..number(end)).collect(),
        None => vec![number(&asked)],
    }
}

/// Whether the tests count what happened: a seed alone need not make all of it happen.
fn counting() -> bool {
    std::env::var_os("METISDB_SEED").is_none()
}

fn run_all(count: u64, shape: fn(&mut Random) -> Shape, account_id_mask: u64, steps: usize) -> Counts {
    let mut counts = Counts::default();
    let seeds = seeds(count);
    seeds.iter().for_each(|seed| counts.add(&run(*seed, shape, account_id_mask, steps)));
    println!("{counts:#?}");
    counts
}

#[test]
fn forks_and_deferred_roots_are_as_the_model() {
    let counts = run_all(50, |_| Shape::hashed(14), u64::MAX, 250);
    if counting() {
        assert!(
            counts.deepest > 4
                && counts.sealed > 300
                && counts.proposals_committed > 300
                && counts.proposals_refused > 300
        );
        assert!(counts.most_outstanding > 2 && counts.rebuilt > 10 && counts.reused_pages > 100);
        assert!(counts.proofs > 1000);
    }
}

/// Tries of thousands of nodes: pages die one by one, are swept, and are written again beside what older tries hold.
#[test]
fn forks_of_large_tries_are_as_the_model() {
    let counts = run_all(4, |_| Shape::hashed(400).bursts(1500), u64::MAX, 150);
    assert!(counts.reused_beside_holds > 40 || !counting());
}

/// Paths are the plain keys: deep shared prefixes, nodes inside their parents, extensions of most of a path.
#[test]
fn forks_on_deep_tries_are_as_the_model() {
    let counts = run_all(50, Shape::plain, u64::MAX, 250);
    if counting() {
        let Tally { embedded, long, grown, shrunk, .. } = counts.tally;
        assert!(embedded > 10_000 && long > 10_000, "{:?}", counts.tally);
        assert!(grown > 200 && shrunk > 500, "{:?}", counts.tally);
    }
}

/// Ids and leaves' tags of four bits: nearly every account shares its own with others.
#[test]
fn forks_with_colliding_ids_are_as_the_model() {
    run_all(25, |_| Shape::hashed(24).restless(), 0xf, 200);
}

/// The same with plain paths, so that accounts with one tag share long prefixes, too.
#[test]
fn forks_with_colliding_ids_on_deep_tries_are_as_the_model() {
    run_all(25, |random| Shape::plain(random).restless(), 0x1, 200);
}
