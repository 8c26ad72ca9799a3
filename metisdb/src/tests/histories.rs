//! Random histories against the model: held snapshots, checkpoints, reopening in every way, loss and damage of what is derived.

use std::sync::Arc;

use super::{
    Random, disk,
    model::{State, changes},
    small,
};
use crate::{CheckLevel, Db, Durability, Error, Options, Snapshot, storage::SimulatedDisk};

const RETAIN: u64 = 6;

struct History {
    seed: u64,
    random: Random,
    disk: Arc<SimulatedDisk>,
    options: Options,
    db: Option<Db>,
    /// Index is the version.
    states: Vec<State>,
    held: Vec<Snapshot>,
    /// Segments dropped in earlier sessions.
    dropped: u64,
}

impl History {
    fn begin(seed: u64, account_id_mask: u64) -> Self {
        let mut options = small().retain_versions(RETAIN);
        options.account_id_mask = account_id_mask;
        let disk = disk(seed);
        let db = options.clone().create_on(disk.clone()).unwrap();
        Self {
            seed,
            random: Random(seed),
            disk,
            options,
            db: Some(db),
            states: vec![State::default()],
            held: Vec::new(),
            dropped: 0,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0 => self.reopen(true),
            1 => self.reopen(false),
            2 => self.lose_image(),
            3 => self.damage_superblock(),
            4 | 15 => self.db().checkpoint().unwrap(),
            5..=8 => self.hold(),
            9..=11 => self.check_all(),
            12..=14 => self.commit(true),
            _ => self.commit(false),
        }
    }

    fn commit(&mut self, churn: bool) {
        let newest = self.states.last().unwrap();
        let (next, steps) = if churn { newest.churn(&mut self.random) } else { newest.next(&mut self.random, 6000) };
        let durability = if self.random.one_in(2) { Durability::Durable } else { Durability::Pipelined };
        let commit = self.db().commit(&changes(&steps), durability).unwrap();
        assert_eq!(commit.version(), self.states.len() as u64);
        if durability == Durability::Durable {
            assert!(commit.is_durable());
        }
        self.states.push(next);
    }

    fn hold(&mut self) {
        if self.held.len() > 3 {
            let index = self.random.below(self.held.len() as u64) as usize;
            self.held.swap_remove(index);
        }
        let newest = self.states.len() as u64 - 1;
        let version = newest.saturating_sub(self.random.below(RETAIN + 1));
        self.held.push(self.db().snapshot_at(version).unwrap());
    }

    fn reopen(&mut self, clean: bool) {
        self.held.clear();
        let db = self.db.take().unwrap();
        self.dropped += db.stats().dropped_segments;
        if clean {
            db.close().unwrap();
            let operations = self.disk.operations();
            drop(self.options.clone().open_on(self.disk.clone()).unwrap());
            assert_eq!(
                self.disk.operations(),
                operations,
                "opening what was closed writes nothing (seed {})",
                self.seed
            );
        } else {
            drop(db);
        }
        self.open();
    }

    fn lose_image(&mut self) {
        self.held.clear();
        self.db().checkpoint().unwrap();
        self.dropped += self.db().stats().dropped_segments;
        self.db = None;
        let images = crate::storage::Storage::list(&*self.disk).unwrap();
        let image = images.into_iter().find(|name| name.starts_with("index.")).unwrap();
        match self.random.below(3) {
            0 => self.disk.remove_file(&image),
            1 => self.disk.truncate_file(&image, self.random.below(200)),
            _ => {
                let length = self.disk.file_bytes(&image).unwrap().len() as u64;
                self.disk.damage(&image, self.random.below(length), 1 << self.random.below(8));
            }
        }
        self.open();
    }

    /// The older superblock takes over: nothing that it needs is gone (K1).
    fn damage_superblock(&mut self) {
        self.held.clear();
        let db = self.db.take().unwrap();
        self.dropped += db.stats().dropped_segments;
        let newest = crate::superblock::file_name(db.store.checkpoint.lock().newest.generation);
        drop(db);
        self.disk.damage(&newest, self.random.below(256), 1 << self.random.below(8));
        self.open();
    }

    fn open(&mut self) {
        self.db = Some(self.options.clone().open_on(self.disk.clone()).unwrap());
        self.check_all();
    }

    /// Every readable version reads as the model's, and no other is readable.
    fn check_all(&mut self) {
        let newest = self.states.len() as u64 - 1;
        let stats = self.db().stats();
        assert_eq!(stats.version, newest);
        assert_eq!(stats.oldest_version, newest.saturating_sub(RETAIN));
        for version in stats.oldest_version..=newest {
            self.states[version as usize].assert_equals(&self.db().snapshot_at(version).unwrap());
        }
        for snapshot in &self.held {
            self.states[snapshot.version() as usize].assert_equals(snapshot);
        }
        if stats.oldest_version > 0 {
            let refused = self.db().snapshot_at(stats.oldest_version - 1).unwrap_err();
            assert!(matches!(refused, Error::VersionNotRetained { .. }), "{refused}");
        }
        assert!(self.db().snapshot_at(newest + 1).is_err());
        self.db().check(CheckLevel::Full).unwrap();
    }
}

fn run(seed: u64, account_id_mask: u64, steps: usize) -> u64 {
    println!("seed {seed}");
    let mut history = History::begin(seed, account_id_mask);
    for _ in 0..steps {
        history.step();
    }
    history.check_all();
    history.held.clear();
    let dropped = history.dropped + history.db().stats().dropped_segments;
    history.db.take().unwrap().close().unwrap();
    dropped
}

#[test]
fn random_histories_read_as_the_model() {
    let dropped: u64 = (0..40).map(|seed| run(seed, u64::MAX, 250)).sum();
    println!("{dropped} segments dropped");
    assert!(dropped >= 10, "reclaim was at work");
}

/// Ids of four bits: nearly every account shares its hash with another, and is told apart by its salt.
#[test]
fn accounts_with_colliding_ids_are_kept_apart() {
    for seed in 1000..1020 {
        run(seed, 0xf, 120);
    }
}
