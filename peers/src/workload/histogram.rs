//! Times of millions of reads in little memory, to within three percent.

use std::time::Duration;

/// Each power of two has this many buckets.
const STEPS_LOG2: u32 = 5;
const STEPS: u64 = 1 << STEPS_LOG2;

/// How many times fell into which bucket.
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    worst: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1], count: 0, worst: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.buckets[bucket(time.as_nanos() as u64)] += 1;
        self.count += 1;
        self.worst = self.worst.max(time);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn worst(&self) -> Duration {
        self.worst
    }

    /// The nanoseconds that this share of the times does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(f64::NAN, |bucket| limit(bucket) as f64)
    }
}

/// The bucket of a number of nanoseconds.
fn bucket(nanoseconds: u64) -> usize {
    let log2 = (nanoseconds | STEPS).ilog2();
    let exponent = log2 - STEPS_LOG2;
    let step = nanoseconds >> exponent;
    (u64::from(exponent) * STEPS + step) as usize
}

/// The largest number of nanoseconds in a bucket.
fn limit(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let exponent = bucket / STEPS - 1;
    let step = bucket - exponent * STEPS;
    (step << exponent) + ((1 << exponent) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_near_its_limit() {
        for shift in 0..60 {
            for number in [1_u64, 3, 33, 37].map(|number| number << shift >> 6) {
                let limit = limit(bucket(number));
                assert!(limit >= number && (limit - number) * STEPS <= number.max(1), "{number} {limit}");
                assert_eq!(bucket(limit), bucket(number));
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::new();
        (1..=1_000).for_each(|time| histogram.add(Duration::from_nanos(time)));
        assert_eq!((histogram.count(), histogram.worst().as_nanos()), (1_000, 1_000));
        assert!((500.0..516.0).contains(&histogram.quantile(0.5)));
        assert!((990.0..1_024.0).contains(&histogram.quantile(0.99)));
    }
}
