//! One thread reads, alone at first and then beside another one that commits blocks without pause.

use std::{
    collections::VecDeque,
    error::Error,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    commits::{Roots, note_root},
    figure::Figure,
    histogram::Histogram,
    ledger::{Ledger, Size, block_of, prepare},
};
use crate::{
    Result,
    keys::KeySpace,
    store::{Change, Durability, Reader, Store},
};

/// How long the reader reads alone, and beside the writer.
const ALONE: Duration = Duration::from_secs(1);
const BESIDE: Duration = Duration::from_secs(3);

/// Reads in one view of the store; then a new one is taken, on the time of the next read.
const VIEW_READS: usize = 256;

/// Blocks that are made ready before the clock starts; a store that needs more waits for them to be made.
const READY_BLOCKS: usize = 40;

/// Stream of draws of the first visit's reader.
const FIRST_STREAM: u64 = 1 << 18;

/// The reader's keys, and what it may find.
struct Reading<'a, S: Store> {
    store: &'a S,
    space: &'a KeySpace,
    keys: Vec<(u64, S::Key)>,
    /// The newest block that may be visible.
    newest: AtomicU64,
}

/// Measures, on a store that holds what the ledger says.
pub(crate) fn measure<S: Store>(
    store: &S,
    space: &KeySpace,
    ledger: &mut Ledger,
    reads: u64,
    visit: u64,
    samples: &mut Vec<(Figure, f64)>,
    roots: &mut Roots,
) -> Result<()> {
    let keys = (0..reads).map(|turn| space.draw(FIRST_STREAM + visit, turn));
    let keys = keys.map(|number| (number, S::key(space, number))).collect();
    let reading = Reading { store, space, keys, newest: AtomicU64::new(ledger.newest()) };
    let (_, rate_alone) = read_for(&reading, ALONE)?;

    let mut writing = Writing::prepare(&reading, ledger);
    let done = AtomicBool::new(false);
    let (beside, rate_beside, rate_of_blocks) = thread::scope(|scope| {
        let writer = scope.spawn(|| writing.write_until(&done));
        let beside = read_for(&reading, BESIDE);
        done.store(true, Ordering::Relaxed);
        let rate_of_blocks = writer.join().expect("the writer does not panic")?;
        let (beside, rate_beside) = beside?;
        Ok::<_, Box<dyn Error + Send + Sync>>((beside, rate_beside, rate_of_blocks))
    })?;
    *ledger = writing.ledger;
    roots.append(&mut writing.roots);
    samples.extend([
        (Figure::RateAlone, rate_alone / 1e3),
        (Figure::RateBeside, rate_beside / 1e3),
        (Figure::RateShare, rate_beside / rate_alone * 1e2),
        (Figure::BesideMedian, beside.quantile(0.5)),
        (Figure::Beside99, beside.quantile(0.99)),
        (Figure::Beside999, beside.quantile(0.999)),
        (Figure::BesideWorst, beside.worst().as_secs_f64() * 1e6),
        (Figure::BlocksBeside, rate_of_blocks),
    ]);
    Ok(())
}

/// Reads the keys in turn, again and again, and checks that each value is one that a block so far gave to its key. Returns
/// the reads' times, and how many there were in a second.
fn read_for<S: Store>(reading: &Reading<'_, S>, time: Duration) -> Result<(Histogram, f64)> {
    let mut times = Histogram::new();
    let beginning = Instant::now();
    for view in reading.keys.chunks(VIEW_READS).cycle() {
        let mut started = Instant::now();
        if started - beginning >= time {
            break;
        }
        let reader = reading.store.reader()?;
        for (number, key) in view {
            let words = reader.get(key)?;
            times.add(started.elapsed());
            let newest = reading.newest.load(Ordering::Acquire);
            if block_of(reading.space, *number, words).is_none_or(|block| block > newest) {
                return Err(format!("{}: key {number} is {words:x?} beside a writer", S::TITLE).into());
            }
            started = Instant::now();
        }
    }
    let rate = times.count() as f64 / beginning.elapsed().as_secs_f64();
    Ok((times, rate))
}

/// What the writer writes, and has written.
struct Writing<'a, S: Store> {
    reading: &'a Reading<'a, S>,
    ready: VecDeque<Vec<Change<S::Key>>>,
    /// Behind the last block that is ready.
    ahead: Ledger,
    /// Behind the last block that was committed.
    ledger: Ledger,
    roots: Roots,
}

impl<'a, S: Store> Writing<'a, S> {
    fn prepare(reading: &'a Reading<'a, S>, ledger: &Ledger) -> Self {
        let mut ahead = ledger.clone();
        let ready = (0..READY_BLOCKS).map(|_| prepare::<S>(reading.space, &ahead.advance(Size::Large))).collect();
        Self { reading, ready, ahead, ledger: ledger.clone(), roots: Roots::new() }
    }

    /// Commits large blocks, durable ones where the store has them, until told to stop. Returns the blocks in a second.
    fn write_until(&mut self, done: &AtomicBool) -> Result<f64> {
        let Reading { store, space, newest, .. } = self.reading;
        let before = self.ledger.newest();
        let mut block = before;
        let started = Instant::now();
        while !done.load(Ordering::Relaxed) {
            let ready = self.ready.pop_front();
            let changes = ready.unwrap_or_else(|| prepare::<S>(space, &self.ahead.advance(Size::Large)));
            block += 1;
            newest.store(block, Ordering::Release);
            store.commit(&changes, Durability::Durable)?;
            note_root(*store, block, &mut self.roots)?;
        }
        let rate = (block - before) as f64 / started.elapsed().as_secs_f64();
        for _ in before..block {
            self.ledger.advance(Size::Large);
        }
        Ok(rate)
    }
}
