//! Random numbers from a seed: the same on every machine, so that a run can be had again.

use std::num::Wrapping;

/// A generator (SplitMix64). Good enough to choose by; nothing secret depends on it.
#[derive(Clone, Debug)]
pub struct Random(Wrapping<u64>);

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(Wrapping(seed))
    }

    /// All 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 += 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)) * Wrapping(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)) * Wrapping(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).0
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number below `bound` by Zipf's law: the number n comes up half as often as n/2 does.
    pub fn popular(&mut self, bound: u64) -> u64 {
        let part = self.bits() as f64 / (u64::MAX as f64);
        ((bound as f64).powf(part) as u64 - 1).min(bound - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_algorithm() {
        // The first of seed 1234567, as they are commonly given for SplitMix64.
        let mut random = Random::new(1_234_567);
        assert_eq!(
            [(); 3].map(|()| random.bits()),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn few_are_popular() {
        let mut random = Random::new(7);
        let mut hits = [0_u32; 1_000];
        for _ in 0..100_000 {
            hits[random.popular(1_000) as usize] += 1;
        }
        // The first of a thousand has ln 2 / ln 1000 of all, about a tenth; so have those from 500 on together.
        assert!((9_000..11_000).contains(&hits[0]), "{}", hits[0]);
        let last: u32 = hits[499..].iter().sum();
        assert!((9_000..11_000).contains(&last), "{last}");
    }
}
