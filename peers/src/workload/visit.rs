//! One visit to one store, in a process of its own: memory is the store's alone, and no allocator is warm from another.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::{
    beside,
    commits::{self, Roots, note_root},
    figure::Figure,
    kill,
    ledger::{History, Ledger},
    load, reads,
};
use crate::{
    Result,
    keys::KeySpace,
    store::{Reader, Store},
    stores,
};

/// What a visit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    Load,
    Measure,
    Beside,
    WriteUntilKilled,
    OpenAfterKill,
}

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) peer: String,
    pub(crate) path: PathBuf,
    pub(crate) keys: u64,
    pub(crate) accounts: u64,
    pub(crate) seed: u64,
    pub(crate) reads: u64,
    /// Which visit of its kind this is: each draws keys of its own.
    pub(crate) visit: u64,
    pub(crate) history: History,
    pub(crate) task: Task,
}

/// What the child answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<(Figure, f64)>,
    pub(crate) roots: Roots,
    /// All blocks that the store holds now.
    pub(crate) history: History,
}

/// The child: reads an order, carries it out, and writes the outcome.
pub(crate) fn obey() -> Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let peer = stores::all().into_iter().find(|peer| peer.name == order.peer).ok_or("no such store")?;
    let outcome = (peer.visit)(&order)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// One visit to one kind of store.
pub(crate) fn visit<S: Store>(order: &Order) -> Result<Outcome> {
    let space = KeySpace { keys: order.keys, accounts: order.accounts, seed: order.seed };
    let ledger = Ledger::after(space, &order.history);
    match order.task {
        Task::Load => first_load::<S>(&order.path, &space, &ledger),
        Task::Measure | Task::Beside => measure::<S>(order, &space, ledger),
        Task::WriteUntilKilled => kill::write_until_killed::<S>(&order.path, &space, ledger),
        Task::OpenAfterKill => kill::open_after_kill::<S>(&order.path, &space, &ledger),
    }
}

/// From nothing to a closed store with all keys.
fn first_load<S: Store>(path: &Path, space: &KeySpace, ledger: &Ledger) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let started = Instant::now();
    let store = S::open(path, space)?;
    let opening = started.elapsed();
    let filling = load::fill(&store, space, ledger)?;
    note_root(&store, ledger.newest(), &mut outcome.roots)?;
    let started = Instant::now();
    store.close()?;
    let seconds = (opening + filling + started.elapsed()).as_secs_f64();
    outcome.samples.push((Figure::Load, seconds));
    if S::PERSISTENT {
        outcome.samples.push((Figure::DiskLoaded, megabytes(disk_bytes(path)?)));
    }
    Ok(outcome)
}

fn measure<S: Store>(order: &Order, space: &KeySpace, mut ledger: Ledger) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let Outcome { samples, roots, .. } = &mut outcome;
    let before = Resident::now()?;
    let store = if S::PERSISTENT {
        let (store, milliseconds) = open_and_read::<S>(&order.path, space, &ledger)?;
        samples.push((Figure::OpenClosed, milliseconds));
        store
    } else {
        let store = S::open(&order.path, space)?;
        load::fill(&store, space, &ledger)?;
        store
    };
    load::check_all(&store, space, &ledger)?;
    let now = Resident::now()?;
    samples.push((Figure::Anonymous, megabytes(now.anonymous.saturating_sub(before.anonymous))));
    samples.push((Figure::Mapped, megabytes(now.mapped.saturating_sub(before.mapped))));
    if order.task == Task::Measure {
        reads::measure(&store, space, &ledger, order.reads, order.visit, samples)?;
        commits::prove(&store, space, &ledger, order.visit, samples)?;
        commits::measure(&store, space, &mut ledger, samples, roots)?;
    } else {
        beside::measure(&store, space, &mut ledger, order.reads, order.visit, samples, roots)?;
    }
    store.close()?;
    if S::PERSISTENT && order.task == Task::Beside {
        samples.push((Figure::DiskWritten, megabytes(disk_bytes(&order.path)?)));
    }
    outcome.history = ledger.history().clone();
    Ok(outcome)
}

/// Opens a store and reads one key, for stores that put work off until then. Returns the milliseconds, too.
pub(crate) fn open_and_read<S: Store>(path: &Path, space: &KeySpace, ledger: &Ledger) -> Result<(S, f64)> {
    let key = S::key(space, ledger.present(0, 0).0);
    let started = Instant::now();
    let store = S::open(path, space)?;
    store.reader()?.get(&key)?;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    Ok((store, milliseconds))
}

/// Memory of this process.
struct Resident {
    /// Heap, stacks, and whatever else has no file.
    anonymous: u64,
    /// Pages of mapped files, which the system may take back.
    mapped: u64,
}

impl Resident {
    fn now() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<u64> {
            let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            Ok(kib.ok_or_else(|| format!("/proc/self/status has no {name}"))?.parse::<u64>()? << 10)
        };
        Ok(Self { anonymous: field("RssAnon:")?, mapped: field("RssFile:")? + field("RssShmem:")? })
    }
}

/// What the files take on disk; holes in them take nothing.
fn disk_bytes(path: &Path) -> Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let metadata = fs::symlink_metadata(path)?;
    let mut bytes = metadata.blocks() * BLOCK_BYTES;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += disk_bytes(&entry?.path())?;
        }
    }
    Ok(bytes)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
