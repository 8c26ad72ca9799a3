//! What the tokens must hold, by plain arithmetic in memory: it knows nothing of the EVM or the database, which are compared with it.

use std::collections::HashMap;

use alloy_primitives::U256;
use metisdb::{Key, Snapshot, Value};

use super::{
    checks::{Outcome, same},
    contracts::{self, Call, PAIR_ADDRESS, TOKENS},
    ground::{self, Size, holder},
};
use crate::output::count;

/// A call that somebody makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) sender: u64,
    /// Who receives a transfer.
    pub(super) recipient: u64,
    pub(super) call: Call,
}

/// Balances, reserves and nonces, as they must be.
#[derive(Clone, Debug)]
pub(super) struct Model {
    size: Size,
    /// Balances that have changed, by token and holder.
    balances: HashMap<(usize, u64), U256>,
    reserves: [U256; 2],
    nonces: Vec<u64>,
}

impl Model {
    /// Of a state that was only loaded.
    pub(super) fn new(size: Size) -> Self {
        let nonces = vec![0; size.senders as usize];
        Self { size, balances: HashMap::new(), reserves: [ground::first_reserve(); 2], nonces }
    }

    /// What a holder has of a token.
    pub(super) fn balance(&self, token: usize, number: u64) -> U256 {
        let touched = self.balances.get(&(token, number)).copied();
        touched.unwrap_or_else(|| ground::first_balance(token, number))
    }

    /// What comes out of a swap now.
    pub(super) fn output(&self, paid: usize, amount: U256) -> U256 {
        contracts::output(amount, self.reserves[paid], self.reserves[1 - paid])
    }

    /// How many transactions a sender has sent.
    pub(super) fn nonce(&self, sender: u64) -> u64 {
        self.nonces[sender as usize]
    }

    /// Does what the call must do; whether it succeeds.
    pub(super) fn apply(&mut self, planned: &Planned) -> bool {
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

    /// Reads the balances of everybody and compares each with what it must be, and their sum with the supply.
    pub(super) fn compare_balances(&self, snapshot: &Snapshot) -> metisdb::Result<Outcome> {
        for (token, address) in TOKENS.iter().enumerate() {
            let mut sum = snapshot.storage(address, contracts::balance_slot(&PAIR_ADDRESS))?;
            let mut supply = ground::first_reserve();
            let numbers: Vec<u64> = (0..self.size.holders).collect();
            for some in numbers.chunks(64) {
                let key = |number: &u64| Key::Storage(*address, contracts::balance_slot(&holder(*number)));
                let keys: Vec<Key> = some.iter().map(key).collect();
                for (number, value) in some.iter().zip(snapshot.get_many(&keys)?) {
                    let Value::Storage(found) = value else { unreachable!("slots were asked for") };
                    let who = format_args!("the balance of holder {number} in token {token}");
                    if let Err(wrong) = same(who, found, self.balance(token, *number)) {
                        return Ok(Err(wrong));
                    }
                    sum += found;
                    supply += ground::first_balance(token, *number);
                }
            }
            if let Err(wrong) = same(format_args!("the sum of all balances of token {token}"), sum, supply) {
                return Ok(Err(wrong));
            }
        }
        let (all, changed) = (count(2 * self.size.holders), count(self.balances.len() as u64));
        Ok(Ok(format!("all {all} balances as computed apart, {changed} changed; their sums kept")))
    }

    /// Compares the pair's reserves with its balances and with what they must be; their product never falls.
    pub(super) fn compare_pair(&self, snapshot: &Snapshot) -> metisdb::Result<Outcome> {
        let mut product = U256::ONE;
        for (token, address) in TOKENS.iter().enumerate() {
            let reserve = snapshot.storage(&PAIR_ADDRESS, contracts::reserve_slot(token))?;
            let balance = snapshot.storage(address, contracts::balance_slot(&PAIR_ADDRESS))?;
            let compared = same(format_args!("the pair's reserve of token {token}"), reserve, self.reserves[token])
                .and_then(|()| same(format_args!("the pair's balance in token {token}"), balance, reserve));
            if let Err(wrong) = compared {
                return Ok(Err(wrong));
            }
            product *= reserve;
        }
        let first = ground::first_reserve() * ground::first_reserve();
        Ok(if product >= first {
            Ok("the pair's reserves are its balances, and their product did not fall".to_owned())
        } else {
            Err(format!("the product of the pair's reserves fell from {first} to {product}"))
        })
    }
}
