//! The state before the first block: the contracts, and the many who hold their tokens.

use alloy_consensus::Header;
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use metisdb::{Account, Changes};
use serde::Serialize;

use super::{
    contracts::{self, PAIR_ADDRESS, TOKENS},
    random::Random,
};
use crate::{Chain, Forks};

/// What one who sends transactions has for their gas: a thousand ether.
const ETHER: U256 = U256::from_limbs([3875820019684212736, 54, 0, 0]);
/// The pair's reserve of each token.
const RESERVE: u128 = 1_000_000_000_000_000_000_000_000_000;

/// How large the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Slots in all: a balance in each token for every holder, an allowance in each for every sender, and the pair's.
    pub slots: u64,
    /// Who hold both tokens.
    pub holders: u64,
    /// The first of them, who also have ether and send transactions.
    pub senders: u64,
}

impl Size {
    /// About so many slots.
    pub fn of_slots(slots: u64) -> Self {
        let senders = (slots / 20).max(1);
        let holders = senders * 9;
        Self { slots: 2 * holders + 2 * senders + 6, holders, senders }
    }
}

/// The chain's rules.
pub fn chain() -> Chain {
    Chain::new(Forks::since_genesis(EthereumHardfork::Cancun), 1)
}

/// The header on which the first block is built: its blocks are half full of transactions as [`Workload`](super::Workload) makes them.
pub fn parent(transactions_per_block: u64) -> Header {
    let gas_limit = 2 * super::GAS * transactions_per_block;
    let base_fee_per_gas = Some(1_000_000_000);
    Header { gas_limit, gas_used: gas_limit / 2, base_fee_per_gas, ..Header::default() }
}

/// The address of a holder.
pub fn holder(number: u64) -> Address {
    Address::from_slice(&keccak256(number.to_le_bytes())[..20])
}

/// What a holder has of a token at first, between one and two million: a number of eighteen decimals.
pub fn first_balance(token: usize, number: u64) -> U256 {
    const MILLION: u128 = 1_000_000_000_000_000_000_000_000;
    let more = Random::new(number * 2 + token as u64).bits();
    U256::from(MILLION + u128::from(more) * (MILLION >> 64))
}

/// What the pair has of a token at first.
pub fn first_reserve() -> U256 {
    U256::from(RESERVE)
}

/// The contracts, which are as if they had been deployed and the pair had been given its reserves.
pub fn contracts() -> Changes {
    let mut changes = Changes::new();
    let (token, pair) = contracts::codes().expect("a test assembles the same sources");
    let mut deploy = |address, code: &Bytes| {
        let code_hash: B256 = keccak256(code);
        changes.set_code(code_hash, code.clone());
        changes.set_account(address, Account { nonce: 1, balance: U256::ZERO, code_hash });
    };
    deploy(TOKENS[0], &token);
    deploy(TOKENS[1], &token);
    deploy(PAIR_ADDRESS, &pair);
    for (number, token) in TOKENS.iter().enumerate() {
        changes.set_storage(PAIR_ADDRESS, contracts::token_slot(number), token.into_word().into());
        changes.set_storage(PAIR_ADDRESS, contracts::reserve_slot(number), first_reserve());
        changes.set_storage(*token, contracts::balance_slot(&PAIR_ADDRESS), first_reserve());
    }
    changes
}

/// A holder with the first balances; one of the senders of this size also has ether, and lets the pair take tokens.
pub fn add_holder(changes: &mut Changes, number: u64, size: Size) {
    let address = holder(number);
    let balance = contracts::balance_slot(&address);
    for (index, token) in TOKENS.iter().enumerate() {
        changes.set_storage(*token, balance, first_balance(index, number));
    }
    if number < size.senders {
        changes.set_account(address, Account { balance: ETHER, ..Account::default() });
        let allowance = contracts::allowance_slot(&address, &PAIR_ADDRESS);
        for token in &TOKENS {
            changes.set_storage(*token, allowance, U256::MAX);
        }
    }
}
