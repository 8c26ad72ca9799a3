//! A run of blocks: each is executed by the EVM, gets its root, and is durable before the next one begins.

use std::{collections::VecDeque, time::Instant};

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_primitives::{Address, B256};
use metisdb::{Db, Durability};
use metisdb_execution::{
    Chain, Executed, ExecutionError, metadata,
    tokens::{self, Model, Size, Task, Workload},
};
use metisdb_revm::Base;
use serde::Serialize;

use super::{
    checks::{Outcome, same},
    ground::MAINNET_HASH,
    histogram::{Histogram, in_ns},
};
use crate::{failure::Failure, interrupt::Interrupt, output::count, progress::Bar};

/// Seconds between blocks.
const SLOT_SECONDS: u64 = 12;
/// What each block takes its time for, in order.
pub(super) const STEPS: [&str; 5] = ["execution", "root", "seal", "append", "sync"];
/// The steps that are the database's, beside the reads of the execution.
const STORAGE: [bool; 5] = [false, true, false, true, true];

/// How long, and how much in each block.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Length {
    pub(super) blocks: usize,
    pub(super) transactions_per_block: usize,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) model: Model,
    pub(super) newest: Header,
    pub(super) hash: B256,
    pub(super) timing: Timing,
    /// What the receipts say, compared with what must have happened.
    pub(super) outcome: Outcome,
    /// The roots of the newest versions, by version.
    pub(super) roots: VecDeque<(u64, B256)>,
}

/// The times of all blocks.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Timing {
    pub(super) length: Length,
    pub(super) gas: u64,
    pub(super) steps: Vec<Step>,
    pub(super) total_p50_ns: u64,
    pub(super) total_p99_ns: u64,
    pub(super) transactions_per_second: u64,
    pub(super) gas_per_second: u64,
    /// Root, append and sync, of all the time.
    pub(super) storage_share: f64,
}

/// The times of one step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) share: f64,
}

/// Executes a block that the database refuses to execute only if the block is wrong, which this one is not.
pub(super) fn execute(
    chain: &Chain,
    base: Base,
    (block, senders): (&Block<TxEnvelope>, &[Address]),
) -> Result<Outcome<Executed>, Failure> {
    match chain.execute(base, block, senders) {
        Ok(executed) => Ok(Ok(executed)),
        Err(ExecutionError::Database(error)) => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// Executes and commits blocks on a state that was only loaded.
pub(super) fn run(db: &Db, (size, seed): (Size, u64), length: Length, interrupt: &Interrupt) -> Result<Run, Failure> {
    let chain = tokens::chain();
    let mut workload = Workload::new(size, seed);
    let mut model = Model::new(size);
    // On Ethereum's genesis, but with today's rules for gas.
    let (mut newest, mut hash) = (tokens::parent(length.transactions_per_block as u64), MAINNET_HASH);
    let mut times = Vec::with_capacity(length.blocks);
    let (mut gas, mut refused, mut outcome) = (0, 0, Ok(()));
    let mut roots = VecDeque::new();
    let mut bar = Bar::new("executes", length.blocks as u64);
    for done in 0..length.blocks {
        interrupt.check()?;
        let header = chain.next_header(&newest, hash, newest.timestamp + SLOT_SECONDS);
        let mut task = workload.block(header, length.transactions_per_block, &mut model);
        let Done { executed, version, time } = match step(db, &chain, &mut task)? {
            Ok(done) => done,
            Err(wrong) => {
                outcome = outcome.and(Err(format!("block {} is not executed: {wrong}", newest.number + 1)));
                break;
            }
        };
        outcome = outcome.and(compare(&task, &executed));
        refused += task.outcomes.iter().filter(|succeeds| !**succeeds).count();
        gas += executed.gas_used;
        times.push(time);
        newest = task.block.header;
        hash = newest.hash_slow();
        roots.push_back((version, newest.state_root));
        if roots.len() > 32 {
            roots.pop_front();
        }
        bar.advance(done as u64, format_args!("blocks of {} transactions", length.transactions_per_block));
    }
    let timing = Timing::new(length, gas, &times);
    let told = format!(
        "{} blocks, {} transactions executed by the EVM, {} of them refused as they must be",
        count(times.len() as u64),
        count((times.len() * length.transactions_per_block) as u64),
        count(refused as u64),
    );
    Ok(Run { model, newest, hash, timing, outcome: outcome.map(|()| told), roots })
}

/// A block that is durable.
struct Done {
    executed: Executed,
    version: u64,
    /// Of each step, in nanoseconds.
    time: [u64; 5],
}

/// Executes a block, seals it and makes it durable.
fn step(db: &Db, chain: &Chain, task: &mut Task) -> Result<Outcome<Done>, Failure> {
    let base: Base = db.snapshot()?.into();
    let mut time = [0; 5];
    let mut begun = Instant::now();
    let mut lap = |step: usize| time[step] += in_ns(std::mem::replace(&mut begun, Instant::now()).elapsed());
    let executed = match execute(chain, base.clone(), (&task.block, &task.senders))? {
        Ok(executed) => executed,
        Err(wrong) => return Ok(Err(wrong)),
    };
    lap(0);
    let state = base.propose(db, &executed.changes)?;
    lap(1);
    chain.seal(&mut task.block, &executed, state.root());
    let hash = task.block.header.hash_slow();
    state.seal(metadata(&task.block.header, hash))?;
    lap(2);
    let commit = state.commit(Durability::Pipelined)?;
    lap(3);
    commit.wait_durable()?;
    lap(4);
    Ok(Ok(Done { executed, version: commit.version(), time }))
}

/// Whether the receipts say what must have happened.
fn compare(task: &Task, executed: &Executed) -> Outcome<()> {
    let number = task.block.header.number;
    let what = |index| format!("the success of transaction {index} in block {number}");
    same(format_args!("the number of receipts of block {number}"), executed.receipts.len(), task.outcomes.len())?;
    let mut pairs = executed.receipts.iter().zip(&task.outcomes).enumerate();
    pairs.try_for_each(|(index, (receipt, succeeds))| same(what(index), receipt.is_success(), *succeeds))
}

impl Timing {
    /// Of the steps of each block.
    pub(super) fn new(length: Length, gas: u64, times: &[[u64; 5]]) -> Self {
        let totals: Vec<u64> = times.iter().map(|time| time.iter().sum()).collect();
        let all = totals.iter().sum::<u64>().max(1) as f64;
        let sum = |step: usize| times.iter().map(|time| time[step]).sum::<u64>() as f64;
        let steps = STEPS.iter().enumerate().map(|(step, name)| {
            let histogram = Histogram::new(times.iter().map(|time| time[step]).collect());
            let (p50_ns, p99_ns) = (histogram.per_mille(500), histogram.per_mille(990));
            Step { name, p50_ns, p99_ns, share: sum(step) / all }
        });
        let steps = steps.collect();
        let storage: f64 = (0..STEPS.len()).filter(|step| STORAGE[*step]).map(sum).sum();
        let total = Histogram::new(totals);
        let per_second = |number: f64| (number * 1e9 / all) as u64;
        Self {
            length,
            gas,
            steps,
            total_p50_ns: total.per_mille(500),
            total_p99_ns: total.per_mille(990),
            transactions_per_second: per_second((times.len() * length.transactions_per_block) as f64),
            gas_per_second: per_second(gas as f64),
            storage_share: storage / all,
        }
    }
}
