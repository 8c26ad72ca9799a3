//! How fast slots are read through a snapshot.

use std::{hint::black_box, time::Instant};

use alloy_primitives::{Address, U256};
use metisdb::{Key, Snapshot};
use metisdb_execution::tokens::{Random, Size, TOKENS, balance_slot, holder};
use serde::Serialize;

use super::histogram::{Histogram, Percentiles, in_ns};
use crate::{failure::Failure, interrupt::Interrupt, progress::Clock};

/// Keys that are read at once with `get_many`.
const BATCH: usize = 64;
/// Where the bars of the picture end, in nanoseconds.
pub(super) const LIMITS: [u64; 8] = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 1_000_000];

/// How fast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reads {
    pub(super) count: usize,
    /// One after the other, by one thread.
    pub(super) per_second: u64,
    /// The same by `get_many` of 64.
    pub(super) per_second_in_batches: u64,
    /// Of single reads, each between two looks at the clock.
    #[serde(flatten)]
    pub(super) percentiles: Percentiles,
    /// What the two looks take by themselves, in the middle.
    pub(super) clock_ns: u64,
    /// The picture.
    pub(super) picture: Vec<String>,
}

/// Reads balances of random holders. Each way reads others, so that none finds them read already.
pub(super) fn measure(
    snapshot: &Snapshot,
    (size, seed): (Size, u64),
    number: usize,
    interrupt: &Interrupt,
) -> Result<Reads, Failure> {
    let _clock = Clock::start("reads");
    let mut random = Random::new(seed ^ 0x7265_6164);
    let mut choose = || -> Vec<(Address, U256)> {
        let mut key = |_| {
            let address = holder(random.below(size.holders));
            (TOKENS[random.below(2) as usize], balance_slot(&address))
        };
        (0..number).map(&mut key).collect()
    };
    let rate = |begun: Instant| (number as f64 / begun.elapsed().as_secs_f64()) as u64;
    let slots = choose();
    let begun = Instant::now();
    for (token, slot) in &slots {
        black_box(snapshot.storage(token, *slot)?);
    }
    let per_second = rate(begun);
    interrupt.check()?;
    let keys: Vec<Key> = choose().into_iter().map(|(token, slot)| Key::Storage(token, slot)).collect();
    let begun = Instant::now();
    for batch in keys.chunks(BATCH) {
        black_box(snapshot.get_many(batch)?);
    }
    let per_second_in_batches = rate(begun);
    interrupt.check()?;
    let mut times = Vec::with_capacity(number);
    for (token, slot) in &choose() {
        let begun = Instant::now();
        black_box(snapshot.storage(token, *slot)?);
        times.push(in_ns(begun.elapsed()));
    }
    let clock = Histogram::new((0..number).map(|_| in_ns(Instant::now().elapsed())).collect());
    let histogram = Histogram::new(times);
    Ok(Reads {
        count: number,
        per_second,
        per_second_in_batches,
        percentiles: histogram.percentiles(),
        clock_ns: clock.per_mille(500),
        picture: histogram.draw(&LIMITS),
    })
}
