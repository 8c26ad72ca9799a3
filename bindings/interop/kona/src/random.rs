//! Numbers that look random and follow from a seed alone.

use alloy_primitives::{Address, B256, U256, keccak256};

/// The hashes of a seed and a counter.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(crate) fn hash(&mut self) -> B256 {
        self.drawn += 1;
        keccak256([self.seed.to_be_bytes(), self.drawn.to_be_bytes()].concat())
    }

    pub(crate) fn address(&mut self) -> Address {
        Address::from_word(self.hash())
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        U256::from_be_bytes(self.hash().0).wrapping_rem(U256::from(end)).to()
    }
}
