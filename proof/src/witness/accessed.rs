//! What an execution has read.

use alloc::collections::BTreeSet;

use alloy_primitives::{Address, B256, U256};

/// What an execution has read of the state before it. What it has changed need not be here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accessed {
    /// Accounts, whether or not they exist.
    pub accounts: BTreeSet<Address>,
    /// Slots, whether or not they are set.
    pub slots: BTreeSet<(Address, U256)>,
    /// Code, by its hash.
    pub codes: BTreeSet<B256>,
    /// Blocks whose hashes were asked for, by number. A witness needs the headers from the lowest of them up to the block's parent.
    pub blocks: BTreeSet<u64>,
}

impl Accessed {
    /// Adds what another execution has read.
    pub fn extend(&mut self, other: Self) {
        let Self { accounts, slots, codes, blocks } = other;
        self.accounts.extend(accounts);
        self.slots.extend(slots);
        self.codes.extend(codes);
        self.blocks.extend(blocks);
    }
}
