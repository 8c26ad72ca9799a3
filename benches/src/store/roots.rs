//! Roots: proposals and commits of random updates, alone and beside checkpoints.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use metisdb::{Changes, Db, Durability, Options};
use serde::Serialize;

use super::keys::KeySpace;
use crate::{Result, progress, summary::Spread};

/// Slots that a block changes.
pub(crate) const UPDATES: u64 = 10_000;
/// Blocks of each kind.
const BLOCKS: usize = 30;
/// Proposals on one trie: the first of them meet pages of its files that this process has not mapped yet.
const PROPOSALS: u64 = 100;
/// What an endless reader reads each millisecond.
const READS_AT_ONCE: u64 = 64;
/// Streams of draws that nothing else uses.
const FIRST_STREAM: u64 = 1 << 20;

/// What computing roots takes, in milliseconds for a block of [`UPDATES`] slots.
#[derive(Debug, Serialize)]
pub(crate) struct Roots {
    /// `Db::propose`, from changes to the root, on the trie that a checkpoint wrote.
    pub(crate) root: Spread,
    /// The same while blocks are committed, so that more and more of the trie is in memory.
    pub(crate) propose: Spread,
    /// `Proposal::commit`, durable.
    pub(crate) commit: Spread,
    /// Both, with no checkpoint under way.
    pub(crate) block: Spread,
    /// Both, with one automatic checkpoint after the other under way.
    pub(crate) block_beside_checkpoints: Spread,
    /// Both, while a thread reads a snapshot from before, a little each millisecond.
    pub(crate) block_beside_endless_reader: Spread,
    /// How many checkpoints that were.
    pub(crate) checkpoints: u64,
    /// The last checkpoint's time, alone.
    pub(crate) checkpoint_milliseconds: f64,
}

/// Measures on a database that is loaded. Overwrites values.
pub(crate) fn measure(path: &Path, space: &KeySpace) -> Result<Roots> {
    progress("roots: alone");
    let db = Options::new().checkpoint_log_bytes(u64::MAX).max_unwritten_trie_bytes(u64::MAX).open(path)?;
    let root = proposals(&db, space, FIRST_STREAM)?;
    let mut streams = FIRST_STREAM + PROPOSALS..;
    // Before and after: the trie grows in memory meanwhile.
    let mut alone = blocks(&db, space, streams.by_ref().take(BLOCKS / 2))?;
    let endless = beside_endless_reader(&db, space, streams.by_ref().take(BLOCKS))?;
    alone.extend(blocks(&db, space, streams.by_ref().take(BLOCKS / 2))?);
    let started = Instant::now();
    db.checkpoint()?;
    let checkpoint_milliseconds = started.elapsed().as_secs_f64() * 1e3;
    db.close()?;
    progress("roots: beside checkpoints");
    // The next one begins with the first commit after the last one ended.
    let db = Options::new().checkpoint_log_bytes(1).open(path)?;
    let beside = blocks(&db, space, streams.take(BLOCKS))?;
    let checkpoints = db.stats().checkpoints;
    db.close()?;
    Ok(Roots {
        root,
        propose: spread(&alone, |block| block.propose),
        commit: spread(&alone, |block| block.commit),
        block: spread(&alone, Block::total),
        block_beside_checkpoints: spread(&beside, Block::total),
        block_beside_endless_reader: spread(&endless, Block::total),
        checkpoints,
        checkpoint_milliseconds,
    })
}

/// Blocks beside a reader that never ends. It reads now and then: what its snapshot holds back is measured, not the processor that it takes.
fn beside_endless_reader(db: &Db, space: &KeySpace, streams: impl Iterator<Item = u64>) -> Result<Vec<Block>> {
    let snapshot = db.snapshot()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                for _ in 0..READS_AT_ONCE {
                    let (address, slot) = space.key(space.draw(FIRST_STREAM - 1, reads));
                    snapshot.storage(&address, slot)?;
                    reads += 1;
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, metisdb::Error>(())
        });
        let blocks = blocks(db, space, streams);
        done.store(true, Ordering::Relaxed);
        reader.join().expect("the reader does not panic")?;
        blocks
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

/// The changes of one block.
fn changes_of(space: &KeySpace, stream: u64) -> Changes {
    let mut changes = Changes::new();
    for turn in 0..UPDATES.min(space.keys) {
        let number = space.draw(stream, turn);
        let (address, slot) = space.key(number);
        changes.set_storage(address, slot, space.value(number, stream));
    }
    changes
}

/// Proposals that are dropped again.
fn proposals(db: &Db, space: &KeySpace, first_stream: u64) -> Result<Spread> {
    let mut propose = Vec::new();
    for stream in first_stream..first_stream + PROPOSALS {
        let changes = changes_of(space, stream);
        let started = Instant::now();
        let proposal = db.propose(&db.snapshot()?, &changes)?;
        propose.push(started.elapsed().as_secs_f64() * 1e3);
        drop(proposal);
    }
    Ok(Spread::of(propose))
}

fn blocks(db: &Db, space: &KeySpace, streams: impl Iterator<Item = u64>) -> Result<Vec<Block>> {
    streams
        .map(|stream| {
            let changes = changes_of(space, stream);
            let started = Instant::now();
            let proposal = db.propose(&db.snapshot()?, &changes)?;
            let proposed = started.elapsed();
            proposal.commit(Durability::Durable)?;
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            Ok(Block { propose: milliseconds(proposed), commit: milliseconds(started.elapsed() - proposed) })
        })
        .collect()
}
