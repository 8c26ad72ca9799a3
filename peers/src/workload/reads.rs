//! Random reads by one thread or two. Keys are made before the clock starts.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use super::{figure::Figure, ledger::Ledger};
use crate::{
    Result,
    keys::KeySpace,
    store::{Reader, Store, Words},
};

/// Keys in a call of `get_many`.
const BATCH: usize = 64;

/// One way of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A plain loop: the processor overlaps neighbouring reads.
    Independent,
    /// Each read is fenced off: which key is next depends on the value read.
    Fenced,
    /// Batches of 64.
    Batches,
}

/// Which keys are read how, by how many threads.
#[derive(Clone, Copy, Debug)]
struct Round {
    figure: Figure,
    mode: Mode,
    present: bool,
    threads: usize,
}

const fn round(figure: Figure, mode: Mode, present: bool, threads: usize) -> Round {
    Round { figure, mode, present, threads }
}

const ROUNDS: [Round; 9] = [
    round(Figure::Present, Mode::Independent, true, 1),
    round(Figure::PresentFenced, Mode::Fenced, true, 1),
    round(Figure::Absent, Mode::Independent, false, 1),
    round(Figure::AbsentFenced, Mode::Fenced, false, 1),
    round(Figure::PresentTwo, Mode::Independent, true, 2),
    round(Figure::PresentFencedTwo, Mode::Fenced, true, 2),
    round(Figure::AbsentTwo, Mode::Independent, false, 2),
    round(Figure::AbsentFencedTwo, Mode::Fenced, false, 2),
    round(Figure::Batches, Mode::Batches, true, 1),
];

/// What a pass over keys gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    words: Words,
    found: u64,
}

impl Sum {
    /// Adds a value and says whether there was one: all that are stored have their highest bit set.
    #[inline]
    fn add(&mut self, words: Words) -> usize {
        for (sum, word) in self.words.iter_mut().zip(words) {
            *sum ^= word;
        }
        self.found += words[3] >> 63;
        (words[3] >> 63) as usize
    }

    fn join(mut self, other: Self) -> Self {
        self.words.iter_mut().zip(other.words).for_each(|(sum, word)| *sum ^= word);
        Self { words: self.words, found: self.found + other.found }
    }
}

/// Reads in all ways. `visit` chooses the keys.
pub(crate) fn measure<S: Store>(
    store: &S,
    space: &KeySpace,
    ledger: &Ledger,
    reads: u64,
    visit: u64,
    samples: &mut Vec<(Figure, f64)>,
) -> Result<()> {
    for (index, round) in ROUNDS.iter().enumerate() {
        let stream = visit * ROUNDS.len() as u64 + index as u64;
        let mut expected = Sum::default();
        let keys: Vec<S::Key> = (0..reads)
            .map(|turn| {
                if !round.present {
                    return S::key(space, ledger.absent(stream, turn));
                }
                let (number, value) = ledger.present(stream, turn);
                expected.add(value);
                S::key(space, number)
            })
            .collect();
        let (elapsed, sum) = read(store, &keys, *round)?;
        if sum != expected {
            let (title, figure) = (S::TITLE, round.figure);
            return Err(format!("{title}, {figure:?}: read {sum:x?} instead of {expected:x?}").into());
        }
        samples.push((round.figure, elapsed.as_nanos() as f64 / keys.len() as f64));
    }
    Ok(())
}

/// All threads begin at once; the time is that of the last one.
fn read<S: Store>(store: &S, keys: &[S::Key], round: Round) -> Result<(Duration, Sum)> {
    let barrier = Barrier::new(round.threads);
    thread::scope(|scope| {
        let share = keys.len().div_ceil(round.threads);
        let threads: Vec<_> =
            keys.chunks(share).map(|keys| scope.spawn(|| read_alone(store, keys, round, &barrier))).collect();
        let mut all = (Duration::ZERO, Sum::default());
        for thread in threads {
            let (elapsed, sum) = thread.join().expect("a reader does not panic")?;
            all = (all.0.max(elapsed), all.1.join(sum));
        }
        Ok(all)
    })
}

fn read_alone<S: Store>(store: &S, keys: &[S::Key], round: Round, barrier: &Barrier) -> Result<(Duration, Sum)> {
    let reader = store.reader();
    barrier.wait();
    let reader = reader?;
    let started = Instant::now();
    let sum = match (round.mode, round.present) {
        (Mode::Independent, _) => independent(&reader, keys)?,
        (Mode::Fenced, true) => fenced::<_, _, true>(&reader, keys)?,
        (Mode::Fenced, false) => fenced::<_, _, false>(&reader, keys)?,
        (Mode::Batches, _) => batches(&reader, keys)?,
    };
    Ok((started.elapsed(), sum))
}

fn independent<K, R: Reader<K>>(reader: &R, keys: &[K]) -> Result<Sum> {
    let mut sum = Sum::default();
    for key in keys {
        sum.add(reader.get(key)?);
    }
    Ok(sum)
}

/// Which key is next depends on what was read: one further, or two where the answer was wrong.
fn fenced<K, R: Reader<K>, const PRESENT: bool>(reader: &R, keys: &[K]) -> Result<Sum> {
    let mut sum = Sum::default();
    let mut next = 0;
    while let Some(key) = keys.get(next) {
        let found = sum.add(reader.get(key)?);
        fence();
        next += 1 + (found ^ usize::from(PRESENT));
    }
    Ok(sum)
}

fn batches<K, R: Reader<K>>(reader: &R, keys: &[K]) -> Result<Sum> {
    let mut sum = Sum::default();
    for batch in keys.chunks(BATCH) {
        reader.get_many(batch, |words| {
            sum.add(words);
        })?;
    }
    Ok(sum)
}

/// Lets nothing behind it begin before all in front of it has ended.
#[inline(always)]
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64 processor and touches no memory.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}
