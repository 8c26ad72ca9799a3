//! `execute`: blocks on a state inside a large database, beside the same state in `CacheDB`, revm's maps in memory. The executor
//! is the same, and begins with empty caches at every block; so do the processor's caches.

mod executor;
mod peer;
mod report;

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy_consensus::{Block, TxEnvelope};
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, B256};
use clap::Args;
use metisdb::{Changes, Db, Durability, Options, Snapshot};
use metisdb_benches::Hardware;
use metisdb_execution::{
    Chain, Forks, Recorded,
    tokens::{self, Model, Size, Task, Workload},
};
use metisdb_revm::StateReader;

use self::{
    executor::{Outcome, on_overlay, on_state},
    peer::Peer,
    report::{Comparison, Report},
};
use crate::{Result, progress};

/// Holders that are loaded in one commit.
const BATCH: usize = 100_000;
/// More than the processor's caches hold, in bytes.
const SWEPT_BYTES: usize = 512 << 20;

/// How much is executed, and where.
#[derive(Debug, Args)]
pub(crate) struct ExecuteArguments {
    /// Storage slots of the state.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..1 << 32))]
    slots: u64,
    /// Made-up blocks, all on the same state.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..10_000))]
    generated: u64,
    /// Transactions in each of them.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..100_000))]
    transactions: u64,
    /// Recorded blocks of Ethereum's mainnet (Shanghai): files, or folders of them.
    #[arg(long, value_name = "PATH")]
    blocks: Vec<PathBuf>,
    /// How often each block is executed in each way.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u64).range(1..10_000))]
    rounds: u64,
    /// Folder for the temporary database; the system's by default.
    #[arg(long)]
    path: Option<PathBuf>,
    /// What all random choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// A way to execute a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// revm's `State` over `CacheDB`.
    Peer,
    /// revm's `State` over MetisDB, whose cache of analysed code is as empty as all others.
    Empty,
    /// The same, but that code stays analysed from block to block.
    Kept,
    /// The adapter's own overlay instead of `State`; code stays analysed.
    Overlay,
}

impl Way {
    const ALL: [Self; 4] = [Self::Peer, Self::Empty, Self::Kept, Self::Overlay];
}

/// A block to execute.
type Given = (Block<TxEnvelope>, Vec<Address>);

/// The state that a block is executed on, both times.
struct Ground<'a> {
    chain: &'a Chain,
    snapshot: &'a Snapshot,
    peer: &'a Peer,
}

impl Ground<'_> {
    fn execute(&self, way: Way, given: &Given) -> Result<(Duration, Outcome)> {
        match way {
            Way::Peer => on_state(self.chain, &self.peer.0, given),
            Way::Empty => on_state(self.chain, StateReader::new(self.snapshot.clone()), given),
            Way::Kept => on_state(self.chain, self.chain.reader(self.snapshot.clone()), given),
            Way::Overlay => on_overlay(self.chain, self.snapshot.clone(), given),
        }
    }

    /// All ways must come to the same.
    fn compare(&self, given: &Given) -> Result<Outcome> {
        let (_, expected) = self.execute(Way::Peer, given)?;
        for way in Way::ALL {
            if self.execute(way, given)?.1 != expected {
                return Err(format!("block {}: {way:?} came to something else", given.0.header.number).into());
            }
        }
        Ok(expected)
    }

    /// Milliseconds for all blocks together in each round and way. The ways take turns in being first.
    fn measure(&self, blocks: &[Given], rounds: u64) -> Result<[Vec<f64>; Way::ALL.len()]> {
        let mut times = Way::ALL.map(|_| Vec::new());
        let mut swept = vec![1_u8; SWEPT_BYTES];
        for round in 0..rounds as usize {
            let mut sums = Way::ALL.map(|_| 0.0);
            for given in blocks {
                for turn in 0..Way::ALL.len() {
                    let way = (turn + round) % Way::ALL.len();
                    empty_caches(&mut swept);
                    let (time, outcome) = self.execute(Way::ALL[way], given)?;
                    drop(black_box(outcome));
                    sums[way] += time.as_secs_f64() * 1e3;
                }
            }
            times.iter_mut().zip(sums).for_each(|(times, sum)| times.push(sum));
        }
        Ok(times)
    }
}

/// Drives everything else out of the processor's caches.
fn empty_caches(swept: &mut [u8]) {
    for byte in swept.iter_mut().step_by(64) {
        *byte = byte.wrapping_add(1);
    }
    black_box(swept);
}

/// Loads, executes, compares and prints.
pub(crate) fn execute(arguments: &ExecuteArguments) -> Result<()> {
    let hardware = Hardware::read();
    let parent = arguments.path.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("metisdb-bench-").tempdir_in(parent)?;
    let size = Size::of_slots(arguments.slots);
    let (db, mut peer) = load(&folder.path().join("state"), size)?;
    let mut comparisons = vec![generated((&db, &peer), size, arguments)?];
    for path in &arguments.blocks {
        for file in Recorded::files(path)? {
            for recorded in Recorded::read(&file)? {
                comparisons.push(mainnet((&db, &mut peer), &recorded, arguments.rounds)?);
            }
        }
    }
    let keys = db.stats().keys;
    db.close()?;
    folder.close()?;
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let report = Report { command, hardware, keys, comparisons };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

/// Makes the state, twice.
fn load(path: &Path, size: Size) -> Result<(Db, Peer)> {
    progress(&format!("load: {} slots", size.slots));
    let db = Options::new().create(path)?;
    let mut peer = Peer::default();
    let mut changes = tokens::contracts();
    for number in 0..size.holders {
        if changes.len() >= BATCH {
            commit((&db, &mut peer), &std::mem::take(&mut changes))?;
        }
        tokens::add_holder(&mut changes, number, size);
    }
    commit((&db, &mut peer), &changes)?;
    // As a user would find it.
    db.close()?;
    Ok((Options::new().open(path)?, peer))
}

/// Changes the state, both times.
fn commit((db, peer): (&Db, &mut Peer), changes: &Changes) -> Result<()> {
    db.commit(changes, Durability::Durable)?;
    peer.apply(changes);
    Ok(())
}

/// Blocks of transfers and swaps by senders of their own, all on the state as it was loaded.
fn generated((db, peer): (&Db, &Peer), size: Size, arguments: &ExecuteArguments) -> Result<Comparison> {
    progress("made-up blocks");
    let chain = tokens::chain();
    let parent = tokens::parent(arguments.transactions);
    let header = chain.next_header(&parent, B256::ZERO, 12);
    let mut blocks = Vec::new();
    for number in 0..arguments.generated {
        let mut workload = Workload::new(size, arguments.seed + number);
        let task = workload.block(header.clone(), arguments.transactions as usize, &mut Model::new(size));
        let Task { block, senders, .. } = task;
        blocks.push((block, senders));
    }
    let ground = Ground { chain: &chain, snapshot: &db.snapshot()?, peer };
    let outcomes = blocks.iter().map(|given| ground.compare(given)).collect::<Result<Vec<Outcome>>>()?;
    let gas = outcomes.iter().map(Outcome::gas).sum();
    let what = format!("{} made-up blocks of {} transactions", arguments.generated, arguments.transactions);
    let transactions = arguments.generated * arguments.transactions;
    Ok(Comparison::new(what, transactions, gas, ground.measure(&blocks, arguments.rounds)?))
}

/// A real block, on the part of the state before it that it touches, in the midst of the rest.
fn mainnet((db, peer): (&Db, &mut Peer), recorded: &Recorded, rounds: u64) -> Result<Comparison> {
    let number = recorded.number()?;
    progress(&format!("mainnet's block {number}"));
    for changes in recorded.earlier_blocks() {
        commit((db, peer), &changes)?;
    }
    commit((db, peer), &recorded.state_before()?)?;
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
    let given = recorded.block()?;
    let ground = Ground { chain: &chain, snapshot: &db.snapshot()?, peer };
    let outcome = ground.compare(&given)?;
    if outcome.logs() != recorded.logs() {
        return Err(format!("mainnet's block {number} left other logs than on mainnet").into());
    }
    let transactions = given.1.len() as u64;
    Ok(Comparison::new(
        format!("mainnet's block {number}"),
        transactions,
        outcome.gas(),
        ground.measure(&[given], rounds)?,
    ))
}
