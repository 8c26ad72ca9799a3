//! Times of many single operations: percentiles, and a picture of text.

use std::time::Duration;

use serde::Serialize;

/// Widest bar of the picture.
const WIDTH: usize = 40;

/// Times, from the shortest to the longest.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Vec<u64>);

/// A few numbers that say much of many, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
}

impl Histogram {
    /// Of times in nanoseconds, in any order.
    pub(super) fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many of a thousand operations do not exceed.
    pub(super) fn per_mille(&self, part: usize) -> u64 {
        let rank = (self.0.len() * part).div_ceil(1_000);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The usual ones.
    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50_ns: self.per_mille(500),
            p99_ns: self.per_mille(990),
            p999_ns: self.per_mille(999),
            max_ns: self.per_mille(1_000),
        }
    }

    /// How many operations took how long: for each of `limits` those below it and not below the one before, then the rest.
    pub(super) fn counts(&self, limits: &[u64]) -> Vec<u64> {
        let ends = limits.iter().map(|limit| self.0.partition_point(|time| time < limit)).chain([self.0.len()]);
        let mut before = 0;
        ends.map(|end| (end - std::mem::replace(&mut before, end)) as u64).collect()
    }

    /// A line for each of [`Histogram::counts`].
    pub(super) fn draw(&self, limits: &[u64]) -> Vec<String> {
        let counts = self.counts(limits);
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let labels = limits.iter().map(|limit| ("below", *limit)).chain(limits.last().map(|limit| (" from", *limit)));
        let draw = |((word, limit), count): ((&str, u64), &u64)| {
            let filled = (*count as usize * WIDTH).div_ceil(most as usize);
            let percent = *count as f64 * 100.0 / self.0.len().max(1) as f64;
            format!("{word} {:>8} {percent:>7.3} % {}", nanoseconds(limit), "#".repeat(filled))
        };
        labels.zip(&counts).map(draw).collect()
    }
}

/// A short time, readable.
pub(super) fn nanoseconds(time: u64) -> String {
    match time {
        0..1_000 => format!("{time} ns"),
        1_000..1_000_000 => format!("{:.1} \u{b5}s", time as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", time as f64 / 1e6),
        _ => format!("{:.1} s", time as f64 / 1e9),
    }
}

/// A duration as a number of nanoseconds.
pub(super) fn in_ns(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let histogram = Histogram::new((1..=2_000).rev().collect());
        let expected = Percentiles { p50_ns: 1_000, p99_ns: 1_980, p999_ns: 1_998, max_ns: 2_000 };
        assert_eq!(histogram.percentiles(), expected);
        assert_eq!(Histogram::new(vec![5]).percentiles().p50_ns, 5);
        assert_eq!(Histogram::new(vec![]).percentiles().max_ns, 0);
    }

    #[test]
    fn every_time_is_counted_once() {
        let histogram = Histogram::new(vec![1, 9, 10, 10, 11, 100, 7_000]);
        assert_eq!(histogram.counts(&[10, 100]), [2, 3, 2]);
        let expected = [
            "below    10 ns  28.571 % ###########################",
            "below   100 ns  42.857 % ########################################",
            " from   100 ns  28.571 % ###########################",
        ];
        assert_eq!(histogram.draw(&[10, 100]), expected);
    }

    #[test]
    fn times_are_readable() {
        assert_eq!([999, 1_250, 12_340_000].map(nanoseconds), ["999 ns", "1.2 \u{b5}s", "12.3 ms"]);
    }
}
