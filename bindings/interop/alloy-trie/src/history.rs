//! A state that changes: accounts and slots come, change and go.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256, keccak256};
use metisdb::{Account, Changes};

/// Addresses, a third of which have an account at a time.
const ADDRESSES: u64 = 300;
/// Slots of an account, of which as many are set.
const SLOTS: u64 = 30;
/// Changes from one version to the next.
const CHANGES: u64 = 400;

/// Accounts, each with the slots that are set.
pub(crate) type State = BTreeMap<Address, (Account, BTreeMap<U256, U256>)>;

/// All that may ever exist.
pub(crate) fn addresses() -> impl Iterator<Item = Address> {
    (0..ADDRESSES).map(address)
}

/// All that may ever be set.
pub(crate) fn slots() -> impl Iterator<Item = U256> {
    (0..SLOTS).map(U256::from)
}

fn address(number: u64) -> Address {
    Address::from_slice(&keccak256(number.to_be_bytes())[12..])
}

/// The state, and what its changes follow from.
#[derive(Debug)]
pub(crate) struct History {
    seed: u64,
    drawn: u64,
    state: State,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0, state: State::new() }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Makes the next version, and gives what led to it.
    pub(crate) fn advance(&mut self) -> Changes {
        let mut changes = Changes::new();
        for _ in 0..CHANGES {
            let address = address(self.below(ADDRESSES));
            match self.below(30) {
                0 => {
                    self.state.remove(&address);
                    changes.delete_account(address);
                }
                1..6 => {
                    let account = Account { nonce: self.below(1 << 40), balance: self.wide(), ..Account::default() };
                    self.state.entry(address).or_default().0 = account;
                    changes.set_account(address, account);
                }
                _ => self.set_slot(address, &mut changes),
            }
        }
        changes
    }

    /// Of an account that exists: others have no storage.
    fn set_slot(&mut self, address: Address, changes: &mut Changes) {
        let slot = U256::from(self.below(SLOTS));
        let value = if self.below(2) == 0 { U256::ZERO } else { self.wide() >> self.below(250) as usize };
        let Some((_, slots)) = self.state.get_mut(&address) else { return };
        if value.is_zero() {
            slots.remove(&slot)
        } else {
            slots.insert(slot, value)
        };
        changes.set_storage(address, slot, value);
    }

    fn wide(&mut self) -> U256 {
        self.drawn += 1;
        U256::from_be_bytes(keccak256([self.seed.to_be_bytes(), self.drawn.to_be_bytes()].concat()).0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.wide() % U256::from(limit)).to()
    }
}
