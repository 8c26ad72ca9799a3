//! The commits of a history, and the state that they lead to.
//!
//! What a commit changes follows from the seed, from its version, and from the *round*: how often the power was cut before. So a version that was lost and made again has
//! another content than the one that was lost.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use metisdb::{Account, Changes, Snapshot};

const ACCOUNTS: u64 = 12;
const SLOTS: u64 = 120;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Those of one thing among many that have the seed.
    pub fn of(seed: u64, numbers: &[u64]) -> Self {
        let mut random = Self(seed);
        for number in numbers {
            random.0 ^= *number;
            random.0 = random.draw();
        }
        random
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }
}

/// What one commit does to an account.
#[derive(Clone, Debug)]
enum Step {
    Delete,
    Wipe,
    Set { nonce: u64, slots: Vec<(U256, U256)> },
}

fn address(number: u64) -> Address {
    Address::repeat_byte(number as u8 + 1)
}

fn steps(seed: u64, round: u64, version: u64) -> Vec<(Address, Step)> {
    let mut random = Random::of(seed, &[round, version]);
    let count = 1 + random.below(4);
    let step = |random: &mut Random| match random.below(12) {
        0 => Step::Delete,
        1 => Step::Wipe,
        _ => {
            let slots = (0..random.below(120)).map(|_| {
                let value = if random.below(6) == 0 { U256::ZERO } else { U256::from(random.draw()) << 190 };
                (U256::from(random.below(SLOTS)), value)
            });
            let slots = slots.collect();
            Step::Set { nonce: 1 + random.draw() / 2, slots }
        }
    };
    (0..count).map(|_| (address(random.below(ACCOUNTS)), step(&mut random))).collect()
}

/// The changes of a version that is made in a round.
pub fn changes(seed: u64, round: u64, version: u64) -> Changes {
    let mut changes = Changes::new();
    for (address, step) in steps(seed, round, version) {
        match step {
            Step::Delete => drop(changes.delete_account(address)),
            Step::Wipe => drop(changes.wipe_storage(address)),
            Step::Set { nonce, slots } => {
                changes.set_account(address, Account { nonce, ..Account::default() });
                for (slot, value) in slots {
                    changes.set_storage(address, slot, value);
                }
            }
        };
    }
    changes
}

/// The state of a version.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The version.
    pub version: u64,
    nonces: BTreeMap<Address, u64>,
    slots: BTreeMap<(Address, U256), U256>,
}

impl State {
    /// Becomes the state of a later version, all of whose commits since were made in this round.
    pub fn advance(&mut self, seed: u64, round: u64, version: u64) {
        for version in self.version + 1..=version {
            for (address, step) in steps(seed, round, version) {
                self.apply(address, step);
            }
        }
        self.version = version;
    }

    fn apply(&mut self, address: Address, step: Step) {
        if matches!(step, Step::Delete | Step::Wipe) {
            self.slots.retain(|(own, _), _| *own != address);
        }
        match step {
            Step::Delete => drop(self.nonces.remove(&address)),
            Step::Wipe => {}
            Step::Set { nonce, slots } => {
                self.nonces.insert(address, nonce);
                self.slots.extend(slots.into_iter().map(|(slot, value)| ((address, slot), value)));
            }
        }
    }

    /// The first difference between the state and a snapshot of it.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn difference(&self, snapshot: &Snapshot) -> metisdb::Result<Option<String>> {
        for address in (0..ACCOUNTS).map(address) {
            let (expected, found) = (self.nonces.get(&address).copied(), snapshot.account(&address)?);
            if found.map(|account| account.nonce) != expected {
                return Ok(Some(format!("account {address}: {found:?} instead of nonce {expected:?}")));
            }
            for slot in (0..SLOTS).map(U256::from) {
                let expected = self.slots.get(&(address, slot)).copied().unwrap_or_default();
                let found = snapshot.storage(&address, slot)?;
                if found != expected {
                    return Ok(Some(format!("slot {slot} of {address}: {found} instead of {expected}")));
                }
            }
        }
        Ok(None)
    }
}
