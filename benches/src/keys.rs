//! The keys and values of the benchmark: pure functions of a number, so that nothing has to be stored.

use alloy_primitives::{Address, U256};

/// Rounds of the Feistel network: enough for an order without visible structure.
const FEISTEL_ROUNDS: u64 = 4;

/// What the numbers of different purposes are mixed with.
#[derive(Clone, Copy)]
enum Purpose {
    Address = 1,
    Slot = 2,
    Value = 3,
    Order = 4,
    Draw = 5,
    Generation = 6,
}

/// The keys `0..keys`, spread evenly over `accounts` accounts.
#[derive(Clone, Copy, Debug)]
pub struct KeySpace {
    /// How many keys there are.
    pub keys: u64,
    /// How many accounts.
    pub accounts: u64,
    /// What all of them follow from.
    pub seed: u64,
}

impl KeySpace {
    /// The address of an account by its number.
    pub fn address(&self, account: u64) -> Address {
        let bytes = self.wide(Purpose::Address, account).to_be_bytes::<32>();
        Address::from_slice(&bytes[12..])
    }

    /// The account and slot of a key by its number; numbers from `keys` on are absent slots of the same accounts.
    pub fn key(&self, number: u64) -> (Address, U256) {
        (self.address(number % self.accounts), self.wide(Purpose::Slot, number))
    }

    /// The value of a key by its number; `generation` 0 is the one that is loaded. All 32 bytes are in use: the highest
    /// bit is set.
    pub fn value(&self, number: u64, generation: u64) -> U256 {
        self.wide(Purpose::Value, self.mix(Purpose::Generation, generation) ^ number) | U256::ONE << 255
    }

    /// The key that has its turn at `turn`: a permutation of the keys in random order.
    pub fn in_random_order(&self, turn: u64) -> u64 {
        let half_bits = (64 - (self.keys - 1).leading_zeros()).div_ceil(2).max(1);
        let mask = (1 << half_bits) - 1;
        let mut number = turn;
        loop {
            let (mut left, mut right) = (number >> half_bits, number & mask);
            for round in 0..FEISTEL_ROUNDS {
                (left, right) = (right, left ^ (self.mix(Purpose::Order, right ^ round << 60) & mask));
            }
            number = left << half_bits | right;
            if number < self.keys {
                return number;
            }
        }
    }

    /// A key drawn at random: the `turn`-th of the stream `stream`.
    pub fn draw(&self, stream: u64, turn: u64) -> u64 {
        self.mix(Purpose::Draw, stream.rotate_left(32) ^ turn) % self.keys
    }

    fn wide(&self, purpose: Purpose, number: u64) -> U256 {
        let first = self.mix(purpose, number);
        U256::from_limbs([first, splitmix(first ^ 1), splitmix(first ^ 2), splitmix(first ^ 3)])
    }

    fn mix(&self, purpose: Purpose, number: u64) -> u64 {
        splitmix(splitmix(self.seed ^ (purpose as u64) << 56) ^ number)
    }
}

/// An account and a slot in one array, as a key of a hash map.
pub(crate) fn packed((address, slot): &(Address, U256)) -> [u8; 52] {
    let mut bytes = [0; 52];
    bytes[..20].copy_from_slice(address.as_slice());
    bytes[20..].copy_from_slice(&slot.to_le_bytes::<32>());
    bytes
}

/// The finaliser of SplitMix64: a bijection.
fn splitmix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_order_is_a_permutation() {
        for keys in [1, 2, 3, 1_000, 4_097] {
            let space = KeySpace { keys, accounts: 1, seed: 7 };
            let mut seen: Vec<u64> = (0..keys).map(|turn| space.in_random_order(turn)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..keys).collect::<Vec<_>>());
        }
    }

    #[test]
    fn values_have_their_full_width_and_differ_by_generation() {
        let space = KeySpace { keys: 10, accounts: 2, seed: 7 };
        assert_eq!(space.value(3, 0).bit_len(), 256);
        assert_ne!(space.value(3, 0), space.value(3, 1));
        assert_eq!(space.key(3).0, space.key(5).0);
    }
}
