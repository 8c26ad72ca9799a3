//! What the tokens must hold, by plain arithmetic in memory: it knows nothing of the EVM or the database, which are compared with it.

use std::collections::HashMap;

use alloy_primitives::U256;

use super::{
    contracts::{self, Call},
    holders::{self, Size},
};

/// A call that somebody makes.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Who makes it.
    pub sender: u64,
    /// Who receives a transfer.
    pub recipient: u64,
    /// Which.
    pub call: Call,
}

/// Balances, reserves and nonces, as they must be.
#[derive(Clone, Debug)]
pub struct Model {
    size: Size,
    /// Balances that have changed, by token and holder.
    balances: HashMap<(usize, u64), U256>,
    reserves: [U256; 2],
    nonces: Vec<u64>,
}

impl Model {
    /// Of a state that was only loaded.
    pub fn new(size: Size) -> Self {
        let nonces = vec![0; size.senders as usize];
        Self { size, balances: HashMap::new(), reserves: [holders::first_reserve(); 2], nonces }
    }

    /// What a holder has of a token.
    pub fn balance(&self, token: usize, number: u64) -> U256 {
        let touched = self.balances.get(&(token, number)).copied();
        touched.unwrap_or_else(|| holders::first_balance(token, number))
    }

    /// How many balances have changed.
    pub fn changed(&self) -> usize {
        self.balances.len()
    }

    /// How large the state is.
    pub fn size(&self) -> Size {
        self.size
    }

    /// What the pair has of a token.
    pub fn reserve(&self, token: usize) -> U256 {
        self.reserves[token]
    }

    /// What comes out of a swap now.
    pub fn output(&self, paid: usize, amount: U256) -> U256 {
        contracts::output(amount, self.reserves[paid], self.reserves[1 - paid])
    }

    /// How many transactions a sender has sent.
    pub fn nonce(&self, sender: u64) -> u64 {
        self.nonces[sender as usize]
    }

    /// Does what the call must do; whether it succeeds.
    pub fn apply(&mut self, planned: &Planned) -> bool {
        let Planned { sender, recipient, call } = *planned;
        self.nonces[sender as usize] += 1;
        match call {
            Call::Transfer { token, amount, .. } => {
                let is_covered = self.balance(token, sender) >= amount;
                if is_covered {
                    self.add(token, sender, U256::ZERO.wrapping_sub(amount));
                    self.add(token, recipient, amount);
                }
                is_covered
            }
            Call::Swap { paid, amount, least } => {
                let out = self.output(paid, amount);
                let succeeds = out >= least && self.balance(paid, sender) >= amount;
                if succeeds {
                    self.add(paid, sender, U256::ZERO.wrapping_sub(amount));
                    self.add(1 - paid, sender, out);
                    self.reserves[paid] += amount;
                    self.reserves[1 - paid] -= out;
                }
                succeeds
            }
        }
    }

    fn add(&mut self, token: usize, number: u64, amount: U256) {
        let sum = self.balance(token, number).wrapping_add(amount);
        self.balances.insert((token, number), sum);
    }
}
