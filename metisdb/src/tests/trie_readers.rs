//! Readers of older tries beside a writer with forks, deferred roots and checkpoints that write pages of the arena again; and
//! that neither superblock ever loses a page (T1).

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{Address, B256, U256};

use super::{
    End, Random, beside, disk,
    interrupted::Interrupted,
    mix,
    naive_trie::{self, NaiveAccount},
    small, wide,
};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Error, Options, Proposal, Snapshot,
    checkpoint::{self, Thoroughness},
    regrow, roots,
    storage::{SimulatedDisk, Storage},
    superblock::{self, Superblock},
    trie::arena::Arena,
};

const COMMITS: u64 = 15_000;
const READERS: u64 = 3;
const RETAIN: u64 = 12;
const ACCOUNTS: u64 = 64;
const SLOTS: u64 = 24;
const CHANGES: u64 = 10;

/// What every version does, computed ahead.
struct Script {
    /// Slots that a version sets, by key.
    sets: Vec<Vec<u64>>,
    /// Versions that set a slot, ascending.
    set_by: Vec<Vec<u64>>,
    /// The same for any slot of an account.
    touched_by: Vec<Vec<u64>>,
}

impl Script {
    fn new(commits: u64, accounts: u64, changes: u64) -> Self {
        let keys = accounts * SLOTS;
        let mut script = Self {
            sets: vec![Vec::new()],
            set_by: vec![Vec::new(); keys as usize],
            touched_by: vec![Vec::new(); accounts as usize],
        };
        for version in 1..=commits {
            let some = (0..changes).map(|index| mix(version * changes + index) % keys);
            let mut own: Vec<u64> = if version == 1 { (0..keys).collect() } else { some.collect() };
            own.sort_unstable();
            own.dedup();
            for key in &own {
                script.set_by[*key as usize].push(version);
                let touched = &mut script.touched_by[(key / SLOTS) as usize];
                if touched.last() != Some(&version) {
                    touched.push(version);
                }
            }
            script.sets.push(own);
        }
        script
    }

    fn accounts(&self) -> u64 {
        self.touched_by.len() as u64
    }

    fn last(settings: &[u64], version: u64) -> Option<u64> {
        settings[..settings.partition_point(|by| *by <= version)].last().copied()
    }

    /// An account's nonce at a version is the version that touched it last.
    fn account(&self, number: u64, version: u64) -> Option<Account> {
        let nonce = Self::last(&self.touched_by[number as usize], version)?;
        Some(Account { nonce, ..Account::default() })
    }

    fn value(&self, key: u64, version: u64) -> U256 {
        Self::last(&self.set_by[key as usize], version).map_or(U256::ZERO, |by| set_value(key, by))
    }

    fn changes(&self, version: u64) -> Changes {
        let mut changes = Changes::new();
        for key in &self.sets[version as usize] {
            let own = address(key / SLOTS);
            changes.set_account(own, Account { nonce: version, ..Account::default() });
            changes.set_storage(own, U256::from(key % SLOTS), set_value(*key, version));
        }
        changes
    }

    /// Changes that no version has.
    fn other_changes(&self, version: u64) -> Changes {
        let mut changes = Changes::new();
        let own = address(mix(version) % self.accounts());
        changes.set_account(own, Account { nonce: u64::MAX - version, ..Account::default() });
        for slot in 0..SLOTS / 2 {
            changes.set_storage(own, U256::from(slot), wide(version << 20 | slot));
        }
        changes
    }

    fn naive_root(&self, version: u64) -> B256 {
        let slots: Vec<_> = (0..self.accounts())
            .map(|number| {
                (0..SLOTS).map(|slot| (U256::from(slot), self.value(number * SLOTS + slot, version))).collect()
            })
            .collect();
        let accounts = (0..self.accounts()).zip(&slots).filter_map(|(number, slots)| {
            let Account { nonce, balance, code_hash } = self.account(number, version)?;
            Some((address(number), NaiveAccount { nonce, balance, code_hash, slots }))
        });
        naive_trie::state_root(accounts, naive_trie::hashed)
    }
}

fn address(number: u64) -> Address {
    Address::from_word(B256::from(wide(number << 8)))
}

fn set_value(key: u64, version: u64) -> U256 {
    if mix(key ^ version << 32).is_multiple_of(7) { U256::ZERO } else { wide(key << 20 | version) }
}

/// What the threads share.
struct Scene {
    db: Db,
    script: Script,
    /// By version, once the writer knows them.
    roots: Vec<OnceLock<B256>>,
    done: AtomicBool,
    checks: AtomicU64,
}

/// Forks that were not committed, with the number of the version that they lost against.
type Forks = VecDeque<(u64, Proposal)>;

impl Scene {
    fn know(&self, version: u64, root: B256) {
        if version.is_multiple_of(500) {
            assert_eq!(root, self.script.naive_root(version), "version {version}");
        }
        self.roots[version as usize].set(root).unwrap();
    }

    fn write(&self) {
        let mut forks = Forks::new();
        let mut version = 1;
        while version <= COMMITS {
            let count = match version % 7 {
                0 | 3 if version > 1 && version + 2 <= COMMITS => self.propose(version, &mut forks),
                5 if version + 3 <= COMMITS => self.defer(version),
                _ => {
                    self.db.commit(&self.script.changes(version), Durability::Pipelined).unwrap();
                    self.know(version, self.db.snapshot().unwrap().root().unwrap());
                    1
                }
            };
            version += count;
            while let Some((_, fork)) = forks.pop_front_if(|(lost, _)| *lost + 25 < version) {
                let proof = fork.proof(&address(version % ACCOUNTS), &[U256::from(version % SLOTS)]).unwrap();
                proof.verify(fork.root()).unwrap_or_else(|error| panic!("a fork of {version}: {error}"));
            }
        }
    }

    /// Two forks with a child each; one line of them becomes two versions.
    fn propose(&self, version: u64, forks: &mut Forks) -> u64 {
        let parent = self.db.snapshot().unwrap();
        let first = self.db.propose(&parent, &self.script.changes(version)).unwrap();
        let lost = self.db.propose(&parent, &self.script.other_changes(version)).unwrap();
        let second = first.propose(&self.script.changes(version + 1)).unwrap();
        let orphan = lost.propose(&self.script.other_changes(version + 1)).unwrap();
        for (proposal, version) in [(&first, version), (&second, version + 1)] {
            let commit = proposal.commit(Durability::Pipelined).unwrap();
            assert_eq!(commit.version(), version);
            self.know(version, proposal.root());
            for refused in [&lost, &orphan, proposal] {
                let error = refused.commit(Durability::Pipelined).unwrap_err();
                assert!(matches!(error, Error::NotChildOfNewest { .. }), "{error}");
            }
        }
        forks.extend([(version, lost), (version, orphan)]);
        2
    }

    fn defer(&self, version: u64) -> u64 {
        let commit = |version| self.db.commit_deferred(&self.script.changes(version), Durability::Pipelined).unwrap().1;
        let deferred: Vec<_> = (version..version + 3).map(commit).collect();
        for root in deferred {
            self.know(root.version(), root.wait().unwrap());
        }
        3
    }

    /// Looks at snapshots until the writer is done; holds some of them for long.
    fn read(&self, seed: u64) {
        let mut random = Random(seed);
        let mut held: Vec<Snapshot> = Vec::new();
        while !self.done.load(Ordering::Relaxed) {
            let newest = self.db.snapshot().unwrap();
            let version = newest.version();
            let snapshot = match random.below(4) {
                0 => match self.db.snapshot_at(version.saturating_sub(random.below(RETAIN))) {
                    Ok(older) => older,
                    Err(Error::VersionNotRetained { .. }) => newest,
                    Err(error) => panic!("{version}: {error}"),
                },
                1 | 2 if !held.is_empty() => held[random.below(held.len() as u64) as usize].clone(),
                _ => newest,
            };
            self.check(&snapshot, &mut random, seed);
            // What is held stays through several checkpoints.
            held.retain(|own| own.version() + 60 + random.below(60) >= version);
            if held.len() < 4 && random.one_in(10) {
                held.push(snapshot);
            }
        }
    }

    /// The root of a version, once the writer knows it.
    fn root(&self, version: u64) -> Option<B256> {
        loop {
            match self.roots[version as usize].get() {
                Some(root) => return Some(*root),
                None if version == 0 || self.done.load(Ordering::Relaxed) => return None,
                None => std::thread::yield_now(),
            }
        }
    }

    fn check(&self, snapshot: &Snapshot, random: &mut Random, seed: u64) {
        let version = snapshot.version();
        let case = format!("version {version}, reader {seed}");
        let number = random.below(ACCOUNTS);
        // The trie of a version that has just become visible, before the writer goes on.
        let storage_root = snapshot.storage_root(&address(number)).unwrap();
        let Some(root) = self.root(version) else { return };
        assert_eq!(snapshot.root().unwrap(), root, "{case}");
        let slots = [random.below(SLOTS), random.below(SLOTS)];
        let proof = snapshot.proof(&address(number), &slots.map(U256::from)).unwrap();
        proof.verify(root).unwrap_or_else(|error| panic!("{case}, account {number}: {error}"));
        assert_eq!(proof.account, self.script.account(number, version), "{case}");
        for (slot, proof) in slots.iter().zip(&proof.slots) {
            assert_eq!(proof.value, self.script.value(number * SLOTS + slot, version), "{case}");
        }
        assert_eq!(storage_root, proof.storage_root, "{case}");
        if random.one_in(4) {
            let limit = if random.one_in(8) { usize::MAX } else { 5 };
            self.iterate(snapshot, random, limit, &case);
        }
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    /// From the beginning to the end, or a few from somewhere on.
    fn iterate(&self, snapshot: &Snapshot, random: &mut Random, limit: usize, case: &str) {
        let from = if limit == usize::MAX { B256::ZERO } else { B256::from(wide(random.next() >> 1)) };
        let mut accounts = 0;
        let mut last = None;
        for item in snapshot.accounts(from).unwrap().take(limit) {
            let (path, own, account) = item.unwrap();
            let number = (0..ACCOUNTS).find(|number| address(*number) == own).unwrap();
            assert_eq!(Some(account), self.script.account(number, snapshot.version()), "{case}");
            assert!(path >= from && last < Some(path), "{case}: in order");
            last = Some(path);
            accounts += 1;
        }
        assert!(limit < usize::MAX || accounts == ACCOUNTS, "{case}: {accounts} accounts");
        let number = random.below(ACCOUNTS);
        let value = |slot| self.script.value(number * SLOTS + slot, snapshot.version());
        let mut slots = 0;
        for item in snapshot.slots(&address(number), from).unwrap().take(limit) {
            let (_, slot, own) = item.unwrap();
            assert_eq!(own, value(slot.to::<u64>()), "{case}");
            slots += 1;
        }
        let set = (0..SLOTS).filter(|slot| !value(*slot).is_zero()).count();
        assert!(limit < usize::MAX || slots == set, "{case}: {slots} of {set} slots");
    }
}

fn options() -> Options {
    small().retain_versions(RETAIN)
}

/// T1: a page that a held trie leads to is not written again.
#[test]
fn readers_prove_their_version_while_pages_are_written_again() {
    let disk = disk(7);
    // Slow enough that commits fall into every checkpoint.
    let options = options().checkpoint_log_bytes(1 << 15).checkpoint_bytes_per_second(8 << 20);
    let scene = Scene {
        db: options.create_on(disk.clone()).unwrap(),
        script: Script::new(COMMITS, ACCOUNTS, CHANGES),
        roots: (0..=COMMITS).map(|_| OnceLock::new()).collect(),
        done: AtomicBool::new(false),
        checks: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let own = &scene;
        let _end = End(&scene.done);
        (0..READERS).for_each(|seed| _ = scope.spawn(move || own.read(seed)));
        let checkpoints = || {
            scene.db.checkpoint().unwrap();
            std::thread::sleep(Duration::from_millis(30));
        };
        beside(checkpoints, || scene.write());
    });
    let db = scene.db;
    db.checkpoint().unwrap();
    let stats = db.stats();
    println!(
        "{} checks beside {COMMITS} commits and {} checkpoints; {} pages of the arena written again, {} of them while an \
         older trie was held; {} extents, {} bytes live",
        scene.checks.load(Ordering::Relaxed),
        stats.checkpoints,
        stats.arena_reused_pages,
        stats.arena_pages_reused_beside_holds,
        stats.arena_extents,
        stats.arena_live_bytes
    );
    assert!(scene.checks.load(Ordering::Relaxed) > 1_000, "readers were at work");
    assert!(stats.arena_reused_pages > 500 && stats.arena_pages_reused_beside_holds > 200, "reuse was at work");
    db.check(CheckLevel::Full).unwrap();
    assert_eq!(stats.arena_live_bytes, recounted(&disk), "every node that was replaced was retired, once");
}

/// Bytes of live nodes, counted node by node.
fn recounted(disk: &SimulatedDisk) -> u64 {
    let left = Arc::new(disk.after_power_loss(1));
    let images: Vec<String> = left.list().unwrap().into_iter().filter(|name| name.starts_with("index.")).collect();
    images.iter().for_each(|image| left.remove_file(image));
    options().open_on(left).unwrap().stats().arena_live_bytes
}

const FEW_COMMITS: u64 = 20;
const FEW_ACCOUNTS: u64 = 60;
/// So many that whole pages die.
const MANY_CHANGES: u64 = 1400;

/// A history with a checkpoint behind every other commit; the operations that belong to the later ones.
fn history_with_checkpoints(disk: &Arc<SimulatedDisk>, script: &Script) -> crate::Result<Vec<u64>> {
    let mut operations = Vec::new();
    let db = options().create_on(disk.clone())?;
    for version in 1..=FEW_COMMITS {
        db.commit(&script.changes(version), Durability::Durable)?;
        if version % 2 == 0 {
            let first = disk.operations();
            let thoroughness = if version % 10 == 0 { Thoroughness::Requested } else { Thoroughness::Automatic };
            checkpoint::checkpoint(&db.store, thoroughness)?;
            operations.extend((first..disk.operations()).filter(|_| version > 6));
        }
    }
    assert!(db.stats().arena_reused_pages > 10, "{} pages reused", db.stats().arena_reused_pages);
    Ok(operations)
}

/// All nodes of the trie that a superblock names are where it says.
fn assert_whole(disk: &Arc<SimulatedDisk>, superblock: &Superblock, case: &str) {
    let arena = Arena::open(disk.clone(), superblock.identity, None).unwrap();
    let counted = regrow::count_pages(&arena, &regrow::trie_of(&superblock.trie), 0);
    counted.unwrap_or_else(|error| panic!("{case}, superblock {}: {error}", superblock.generation));
}

/// T1: whatever a checkpoint was doing when the power went, the tries of both superblocks are whole, and either one opens.
#[test]
fn both_superblocks_have_their_tries_at_every_moment() {
    let script = Script::new(FEW_COMMITS, FEW_ACCOUNTS, MANY_CHANGES);
    let operations = history_with_checkpoints(&disk(8), &script).unwrap();
    println!("{} operations in checkpoints", operations.len());
    for cut in operations {
        let cut_disk = disk(8);
        cut_disk.cut_after(cut);
        history_with_checkpoints(&cut_disk, &script).unwrap_err();
        for loss in [0, 1, 2 + cut] {
            let case = format!("cut {cut}, loss {loss}");
            let left = Arc::new(cut_disk.after_power_loss(loss));
            let superblocks = superblock::read(&*left).unwrap().unwrap();
            assert_whole(&left, &superblocks.newest, &case);
            let Some(older) = superblocks.older else { continue };
            assert_whole(&left, &older, &case);
            left.damage(&superblock::file_name(superblocks.newest.generation), 100, 1);
            let db = options().open_on(left).unwrap_or_else(|error| panic!("{case}: {error}"));
            let snapshot = db.snapshot().unwrap();
            assert_eq!(snapshot.root().unwrap(), script.naive_root(snapshot.version()), "{case}");
            db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    }
}

/// A read-only handle took whatever a writer had put in the place of its trie's nodes for them: roots and slots of later versions were shown as its
/// own, or nodes that were gone as damage.
#[test]
fn a_read_only_handle_shows_no_trie_of_a_later_version() {
    show_no_later_trie(FEW_ACCOUNTS, MANY_CHANGES);
    // So small that its topmost node comes to stand where the old one did.
    show_no_later_trie(2, 4);
}

fn show_no_later_trie(accounts: u64, changes: u64) {
    const OPENED: u64 = 2;
    const COMMITTED: u64 = 12;
    let script = Script::new(COMMITTED, accounts, changes);
    let disk = disk(11);
    let db = options().create_on(disk.clone()).unwrap();
    (1..=OPENED).for_each(|version| {
        db.commit(&script.changes(version), Durability::Durable).unwrap();
    });
    db.checkpoint().unwrap();
    let reader = options().open_read_only_on(disk.clone()).unwrap();
    let root = script.naive_root(OPENED);
    let count = |snapshot: &Snapshot, number| {
        snapshot.slots(&address(number), B256::ZERO)?.try_fold(0, |count, slot| slot.map(|_| count + 1))
    };
    let snapshot = reader.snapshot().unwrap();
    let first: Vec<(B256, u64)> = (0..accounts)
        .map(|number| (snapshot.storage_root(&address(number)).unwrap(), count(&snapshot, number).unwrap()))
        .collect();
    drop(snapshot);
    let mut replaced = Vec::new();
    for version in OPENED + 1..=COMMITTED {
        db.commit(&script.changes(version), Durability::Durable).unwrap();
        db.checkpoint().unwrap();
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.root().unwrap(), root);
        let mut told = 0;
        let mut expect = |outcome: crate::Result<bool>| match outcome {
            Ok(right) => assert!(right, "beside version {version}"),
            Err(Error::TrieReplaced { .. }) => told += 1,
            Err(error) => panic!("beside version {version}: {error}"),
        };
        for number in 0..accounts {
            let own = address(number);
            let (storage_root, slots) = first[number as usize];
            expect(snapshot.storage_root(&own).map(|own| own == storage_root));
            expect(snapshot.proof(&own, &[U256::from(number % SLOTS)]).map(|proof| proof.verify(root).is_ok()));
            expect(count(&snapshot, number).map(|count| count == slots));
            let key = number * SLOTS + number % SLOTS;
            let value = snapshot.storage(&own, U256::from(number % SLOTS)).unwrap();
            assert_eq!(value, script.value(key, OPENED), "values are read on");
        }
        replaced.push(told);
        let again = options().open_read_only_on(disk.clone()).unwrap().snapshot().unwrap();
        again.proof(&address(1), &[]).unwrap().verify(script.naive_root(version)).unwrap();
    }
    println!("told {replaced:?}");
    assert!(replaced.last().is_some_and(|told| *told > 0), "{replaced:?}");
}

/// Versions behind it do not take away what an outstanding root is computed from.
#[test]
fn a_deferred_root_is_delivered_however_many_versions_follow() {
    let script = Script::new(8, FEW_ACCOUNTS, CHANGES);
    let db = small().retain_versions(0).create_on(disk(9)).unwrap();
    let stalled = db.store.pending.stall();
    let commit = |version| db.commit_deferred(&script.changes(version), Durability::Pipelined).unwrap().1;
    let roots: Vec<_> = (1..=8).map(commit).collect();
    drop(stalled);
    for root in roots {
        assert_eq!(root.wait().unwrap(), script.naive_root(root.version()), "version {}", root.version());
    }
}

/// The trie of what was recovered is made behind the open: reads do not wait for it; proofs, older versions' tries and further roots do,
/// and find the right one.
#[test]
fn a_recovered_state_is_read_before_its_trie_is_there() {
    const COMMITTED: u64 = 9;
    const CHECKPOINT: u64 = 4;
    let script = Script::new(COMMITTED + 3, FEW_ACCOUNTS, CHANGES);
    let killed = disk(10);
    let db = small().retain_versions(RETAIN).create_on(killed.clone()).unwrap();
    for version in 1..=COMMITTED {
        // The newest root stands in the log, some of those before do not.
        let stalled = (version % 2 == 0).then(|| db.store.pending.stall());
        db.commit_deferred(&script.changes(version), Durability::Durable).unwrap();
        drop(stalled);
        if version == CHECKPOINT {
            db.checkpoint().unwrap();
        }
    }
    roots::settle(&db.store, u64::MAX).unwrap();
    let left = || Arc::new(killed.after_power_loss(1));
    let options = || small().retain_versions(RETAIN);

    let db = options().open_read_only_on(left()).unwrap();
    let snapshot = db.snapshot().unwrap();
    for key in 0..script.accounts() * SLOTS {
        let value = snapshot.storage(&address(key / SLOTS), U256::from(key % SLOTS)).unwrap();
        assert_eq!(value, script.value(key, COMMITTED));
    }
    assert_eq!(snapshot.root().unwrap(), script.naive_root(COMMITTED));
    assert_eq!(db.stats().deferred_roots, 1, "nobody needed the trie");
    snapshot.proof(&address(1), &[]).unwrap().verify(script.naive_root(COMMITTED)).unwrap();
    assert_eq!(db.stats().deferred_roots, 0);
    drop(snapshot);

    let db = options().open_on(left()).unwrap();
    let before: Vec<_> = (1..=COMMITTED).map(|version| db.snapshot_at(version).unwrap()).collect();
    let commit = |version| db.commit_deferred(&script.changes(version), Durability::Pipelined).unwrap().1;
    let deferred: Vec<_> = (COMMITTED + 1..=COMMITTED + 2).map(commit).collect();
    for snapshot in &before {
        let root = script.naive_root(snapshot.version());
        assert_eq!(snapshot.root().unwrap(), root, "version {}", snapshot.version());
        snapshot.proof(&address(2), &[U256::from(3)]).unwrap().verify(root).unwrap();
    }
    for root in deferred {
        assert_eq!(root.wait().unwrap(), script.naive_root(root.version()), "version {}", root.version());
    }
    let last = COMMITTED + 3;
    db.commit(&script.changes(last), Durability::Durable).unwrap();
    assert_eq!(db.snapshot().unwrap().root().unwrap(), script.naive_root(last));
    drop(before);
    db.check(CheckLevel::Full).unwrap();
}

/// An outstanding root was out of the queue while it was computed: a panic then, in the thread that nobody waits for, lost it, and later roots were
/// computed on the trie of an earlier version.
#[test]
fn a_panic_while_a_root_is_computed_leaves_it_outstanding() {
    let script = Script::new(3, FEW_ACCOUNTS, CHANGES);
    let armed = Arc::new(AtomicBool::new(false));
    let own = armed.clone();
    let panics = move |_, _| assert!(!own.swap(false, Ordering::SeqCst), "planted: the root is not written");
    let db = small().create_on(Arc::new(Interrupted::new((*disk(11)).clone(), panics))).unwrap();
    db.commit(&script.changes(1), Durability::Durable).unwrap();
    let stalled = db.store.pending.stall();
    let commit = |version| db.commit_deferred(&script.changes(version), Durability::Durable).unwrap().1;
    let outstanding = [commit(2), commit(3)];
    armed.store(true, Ordering::SeqCst);
    drop(stalled);
    roots::wait_for_thread(&db.store);
    assert!(!armed.load(Ordering::SeqCst), "the thread met the panic");
    for root in outstanding {
        assert_eq!(root.wait().unwrap(), script.naive_root(root.version()), "version {}", root.version());
    }
    let snapshot = db.snapshot().unwrap();
    snapshot.proof(&address(1), &[U256::from(1)]).unwrap().verify(script.naive_root(3)).unwrap();
}
