//! The database that is damaged, and what it must give.

use std::{collections::BTreeMap, sync::Arc};

use metisdb::{
    CheckLevel, Durability, Error, Key, Options, Snapshot, Value,
    storage::{SimulatedDisk, Storage},
};

use super::wound::Wound;
use crate::{
    model::{Filling, State, ensure},
    random::Random,
};

/// What came of a wound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The database does not open.
    Refused,
    /// A read tells it.
    Told,
    /// Everything reads as it was written, but `check` tells it.
    Found,
    Harmless,
}

/// A closed database.
#[derive(Debug)]
pub(crate) struct Subject {
    disk: SimulatedDisk,
    /// The names of its files, and their bytes.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Superblocks and images as checkpoints before left them.
    pub(crate) stale: Vec<(String, Vec<u8>)>,
    segment_bytes: u64,
    version: u64,
    state: State,
    /// That of the version before, which is retained.
    before: State,
    keys: Vec<Key>,
}

impl Subject {
    /// One with about 24 KiB in use beside the code.
    pub(crate) fn small(code_bytes: usize) -> Result<Self, String> {
        Self::build(1, 1 << 16, &Filling { accounts: 6, slots: 8, commits: 5, code_bytes })
    }

    /// One of several segments.
    pub(crate) fn large(seed: u64) -> Result<Self, String> {
        Self::build(seed, 1 << 18, &Filling { accounts: 60, slots: 40, commits: 4, code_bytes: 100_000 })
    }

    fn build(seed: u64, segment_bytes: u64, filling: &Filling) -> Result<Self, String> {
        let failed = |error: Error| error.to_string();
        let disk = Arc::new(SimulatedDisk::new(seed));
        let db = options(segment_bytes).create_on(disk.clone()).map_err(failed)?;
        let (mut state, mut before) = (State::empty(), State::empty());
        let (mut random, mut stale) = (Random::new(seed), Vec::new());
        for round in 0..filling.commits {
            let (next, changes) = state.fill(&mut random, filling, round);
            db.commit(&changes, Durability::Durable).map_err(failed)?;
            before = std::mem::replace(&mut state, next);
            if round % 2 == 1 {
                db.checkpoint().map_err(failed)?;
                let derived = files_of(&disk)?.into_iter().filter(|(name, _)| is_replaced(name));
                stale.extend(derived);
            }
        }
        let version = db.stats().version;
        db.close().map_err(failed)?;
        let files = files_of(&disk)?;
        let keys = state.own_keys();
        Ok(Self { disk: disk.after_power_loss(1), files, stale, segment_bytes, version, state, before, keys })
    }

    /// Inflicts the wound on a copy, opens it, and reads everything; of some wounds also the version before, which has its trie made, and `check`.
    ///
    /// # Errors
    /// A wrong value, a missing key, damage of a live record that no read tells.
    pub(crate) fn suffer(&self, wound: &Wound) -> Result<Verdict, String> {
        let disk = Arc::new(self.disk.after_power_loss(1));
        wound.inflict(&disk, &self.files);
        let db = match options(self.segment_bytes).open_on(disk) {
            Ok(db) => db,
            Err(error) => {
                ensure!(
                    !wound.costs_time_only(),
                    "the database stays closed for the loss of what can be made anew: {error}"
                );
                return refusal(&error);
            }
        };
        let version = db.stats().version;
        ensure!(version == self.version, "version {version} is the newest, not {}", self.version);
        let newest = db.snapshot().map_err(|error| error.to_string())?;
        let mut told = self.read(&newest, &self.state, wound.is_of_derived())?;
        ensure!(told || !wound.must_be_told(), "a live record is damaged, and no read tells it");
        if wound.is_checked() {
            let before = db.snapshot_at(version - 1).map_err(|error| error.to_string())?;
            told |= self.read(&before, &self.before, true).map_err(|error| format!("the version before: {error}"))?;
        }
        if told {
            return Ok(Verdict::Told);
        }
        match wound.is_checked().then(|| db.check(CheckLevel::Full)) {
            Some(Err(error)) => refusal(&error).map(|_| Verdict::Found),
            _ => Ok(Verdict::Harmless),
        }
    }

    /// Reads every key, and proves it if asked to. Returns whether a read failed; one that does not must be right.
    fn read(&self, snapshot: &Snapshot, state: &State, prove: bool) -> Result<bool, String> {
        let mut told = false;
        match snapshot.root() {
            Ok(root) => ensure!(root == state.root(), "root {root}"),
            Err(error) => told |= is_corruption(&error)?,
        }
        for key in &self.keys {
            match one(snapshot, key) {
                Ok(value) => {
                    let expected = state.value(key);
                    ensure!(value == expected, "{key:?}: {value:?}, not {expected:?}");
                }
                Err(error) => told |= is_corruption(&error)?,
            }
        }
        for (number, block) in state.blocks() {
            match snapshot.block(*number) {
                Ok(got) => ensure!(got == Some(*block), "block {number}: {got:?}"),
                Err(error) => told |= is_corruption(&error)?,
            }
        }
        if prove {
            for (address, slots) in state.storages() {
                match snapshot.proof(&address, &slots) {
                    Ok(proof) => {
                        let verified = proof.verify(state.root());
                        ensure!(verified.is_ok(), "the proof of {address}: {verified:?}");
                        ensure!(proof.account == state.account(&address), "{address}: {:?} proved", proof.account);
                    }
                    Err(error) => told |= is_corruption(&error)?,
                }
            }
        }
        Ok(told)
    }
}

fn one(snapshot: &Snapshot, key: &Key) -> metisdb::Result<Value> {
    Ok(match key {
        Key::Account(address) => Value::Account(snapshot.account(address)?),
        Key::Storage(address, slot) => Value::Storage(snapshot.storage(address, *slot)?),
        Key::Code(hash) => Value::Code(snapshot.code(hash)?),
    })
}

fn options(segment_bytes: u64) -> Options {
    Options::new().segment_bytes(segment_bytes).expected_keys(0).checkpoint_log_bytes(u64::MAX).retain_versions(1)
}

fn files_of(disk: &SimulatedDisk) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let names = disk.list().map_err(|error| error.to_string())?;
    Ok(names.into_iter().filter_map(|name| Some((name.clone(), disk.file_bytes(&name)?))).collect())
}

/// Whether checkpoints replace the file.
fn is_replaced(name: &str) -> bool {
    name.starts_with("superblock.") || name.starts_with("index.")
}

/// An open, or `check`, may refuse with what tells of damage.
fn refusal(error: &Error) -> Result<Verdict, String> {
    match error {
        Error::Corruption { .. } | Error::FormatVersion { .. } | Error::ForeignFile { .. } => Ok(Verdict::Refused),
        other => Err(format!("not an error of damage: {other}")),
    }
}

fn is_corruption(error: &Error) -> Result<bool, String> {
    if error.is_corruption() { Ok(true) } else { Err(format!("not an error of damage: {error}")) }
}
