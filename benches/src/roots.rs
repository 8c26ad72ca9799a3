//! Roots: proposals and commits of random updates, alone and beside checkpoints.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use metisdb::{Changes, Db, Durability, Options};
use serde::Serialize;

use crate::{KeySpace, Progress, Result, Spread, updates};

/// Slots that a block changes.
pub const UPDATES: u64 = 10_000;
/// Blocks of each kind, for each round.
const BLOCKS: u64 = 6;
/// Proposals on one trie, for each round: the first of them meet pages of its files that this process has not mapped yet.
const PROPOSALS: u64 = 20;
/// What an endless reader reads each millisecond.
const READS_AT_ONCE: u64 = 64;
/// Streams of draws that nothing else uses.
const FIRST_STREAM: u64 = 1 << 20;

/// What computing roots takes, in milliseconds for a block of [`UPDATES`] slots.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Roots {
    /// `Db::propose`, from changes to the root, on the trie that a checkpoint wrote.
    pub root: Spread,
    /// The same by one thread.
    pub root_by_one_thread: Spread,
    /// The same by all of them while blocks are committed, so that more and more of the trie is in memory.
    pub propose: Spread,
    /// `Proposal::commit`, durable.
    pub commit: Spread,
    /// Both, with no checkpoint under way.
    pub block: Spread,
    /// Both, with one automatic checkpoint after the other under way.
    pub block_beside_checkpoints: Spread,
    /// Both, while a thread reads a snapshot from before, a little each millisecond.
    pub block_beside_endless_reader: Spread,
    /// How many checkpoints that were.
    pub checkpoints: u64,
    /// The last checkpoint's time, alone.
    pub checkpoint_milliseconds: f64,
}

/// Measures on a database that is loaded. Overwrites values.
pub(crate) fn measure(path: &Path, space: &KeySpace, rounds: u64, progress: &mut dyn Progress) -> Result<Roots> {
    let mut workload = Workload { space, next_stream: FIRST_STREAM, progress };
    let (blocks, proposals) = (BLOCKS * rounds, PROPOSALS * rounds);
    let no_checkpoints = Options::new().checkpoint_log_bytes(u64::MAX).max_unwritten_trie_bytes(u64::MAX);
    let db = no_checkpoints.clone().threads(1).open(path)?;
    let root_by_one_thread = workload.proposals("roots by one thread", &db, proposals)?;
    db.close()?;
    let db = no_checkpoints.open(path)?;
    let root = workload.proposals("roots", &db, proposals)?;
    // Before and after: the trie grows in memory meanwhile.
    let mut alone = workload.blocks("blocks", &db, blocks / 2)?;
    let endless = workload.blocks_beside_endless_reader(&db, blocks)?;
    alone.extend(workload.blocks("blocks", &db, blocks / 2)?);
    let started = Instant::now();
    db.checkpoint()?;
    let checkpoint_milliseconds = milliseconds(started.elapsed());
    db.close()?;
    // The next one begins with the first commit after the last one ended.
    let db = Options::new().checkpoint_log_bytes(1).open(path)?;
    let beside = workload.blocks("blocks beside checkpoints", &db, blocks)?;
    let checkpoints = db.stats().checkpoints;
    db.close()?;
    Ok(Roots {
        root,
        root_by_one_thread,
        propose: spread(&alone, |block| block.propose),
        commit: spread(&alone, |block| block.commit),
        block: spread(&alone, Block::total),
        block_beside_checkpoints: spread(&beside, Block::total),
        block_beside_endless_reader: spread(&endless, Block::total),
        checkpoints,
        checkpoint_milliseconds,
    })
}

/// Milliseconds of one block.
struct Block {
    propose: f64,
    commit: f64,
}

impl Block {
    fn total(&self) -> f64 {
        self.propose + self.commit
    }
}

fn spread(blocks: &[Block], figure: impl Fn(&Block) -> f64) -> Spread {
    Spread::of(blocks.iter().map(figure).collect())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Random updates, block by block, never the same ones.
struct Workload<'a> {
    space: &'a KeySpace,
    next_stream: u64,
    progress: &'a mut dyn Progress,
}

impl Workload<'_> {
    fn next_block(&mut self) -> Changes {
        self.next_stream += 1;
        updates(self.space, self.next_stream, UPDATES)
    }

    /// Proposals that are dropped again.
    fn proposals(&mut self, step: &'static str, db: &Db, count: u64) -> Result<Spread> {
        self.progress.begin(step, count);
        let mut propose = Vec::new();
        for done in 1..=count {
            let changes = self.next_block();
            let started = Instant::now();
            let proposal = db.propose(&db.snapshot()?, &changes)?;
            propose.push(milliseconds(started.elapsed()));
            drop(proposal);
            self.progress.advance(done)?;
        }
        Ok(Spread::of(propose))
    }

    fn blocks(&mut self, step: &'static str, db: &Db, count: u64) -> Result<Vec<Block>> {
        self.progress.begin(step, count);
        let mut blocks = Vec::new();
        for done in 1..=count {
            let changes = self.next_block();
            let started = Instant::now();
            let proposal = db.propose(&db.snapshot()?, &changes)?;
            let proposed = started.elapsed();
            proposal.commit(Durability::Durable)?;
            let commit = started.elapsed() - proposed;
            blocks.push(Block { propose: milliseconds(proposed), commit: milliseconds(commit) });
            self.progress.advance(done)?;
        }
        Ok(blocks)
    }

    /// Blocks beside a reader that never ends. It reads now and then: what its snapshot holds back is measured, not the processor that it takes.
    fn blocks_beside_endless_reader(&mut self, db: &Db, count: u64) -> Result<Vec<Block>> {
        let snapshot = db.snapshot()?;
        let space = self.space;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    for _ in 0..READS_AT_ONCE {
                        let (address, slot) = space.key(space.draw(FIRST_STREAM, reads));
                        snapshot.storage(&address, slot)?;
                        reads += 1;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Ok::<_, metisdb::Error>(())
            });
            let blocks = self.blocks("blocks beside a reader", db, count);
            done.store(true, Ordering::Relaxed);
            reader.join().expect("the reader does not panic")?;
            blocks
        })
    }
}
