//! The state that blocks are executed on: Ethereum's genesis, and upon it the contracts and the many who hold their tokens.

use std::time::Instant;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use metisdb::{Account, Changes, Db, Durability};
use serde::Serialize;

use super::{
    checks::{Outcome, same},
    contracts::{self, PAIR_ADDRESS, TOKENS},
    random::Random,
};
use crate::{
    failure::Failure,
    genesis::{self, Loader},
    interrupt::Interrupt,
    output::count,
    progress::Bar,
};

const MAINNET_ROOT: B256 = b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
const MAINNET_HASH: B256 = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
/// Slots of one commit of the load.
const BATCH: usize = 100_000;
/// What one who sends transactions has for their gas: a thousand ether.
const ETHER: U256 = U256::from_limbs([3875820019684212736, 54, 0, 0]);
/// The pair's reserve of each token.
const RESERVE: u128 = 1_000_000_000_000_000_000_000_000_000;

/// How large the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    /// Slots in all: a balance in each token for every holder, an allowance in each for every sender, and the pair's.
    pub(super) slots: u64,
    /// Who hold both tokens.
    pub(super) holders: u64,
    /// The first of them, who also have ether and send transactions.
    pub(super) senders: u64,
}

/// How the state came to be.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    pub(super) size: Size,
    pub(super) seconds: f64,
    pub(super) slots_per_second: u64,
}

impl Size {
    /// About so many slots.
    pub(super) fn of_slots(slots: u64) -> Self {
        let senders = (slots / 20).max(1);
        let holders = senders * 9;
        Self { slots: 2 * holders + 2 * senders + 6, holders, senders }
    }
}

/// The address of a holder.
pub(super) fn holder(number: u64) -> Address {
    Address::from_slice(&keccak256(number.to_le_bytes())[..20])
}

/// What a holder has of a token at first, between one and two million: a number of eighteen decimals.
pub(super) fn first_balance(token: usize, number: u64) -> U256 {
    const MILLION: u128 = 1_000_000_000_000_000_000_000_000;
    let more = Random::new(number * 2 + token as u64).bits();
    U256::from(MILLION + u128::from(more) * (MILLION >> 64))
}

/// What the pair has of a token at first.
pub(super) fn first_reserve() -> U256 {
    U256::from(RESERVE)
}

/// Makes the database Ethereum's genesis, and compares its root and its block with what everybody knows.
pub(super) fn load_genesis(db: &Db, interrupt: &Interrupt) -> Result<Outcome, Failure> {
    let mut loader = Loader::new(db, interrupt.clone())?;
    let header = genesis::read_mainnet(&mut loader)?.header;
    let mut block = Err("it was not made".to_owned());
    let (root, loaded) = loader.finish(|root| {
        block = header.block(root);
        Ok(block.clone().ok())
    })?;
    let found = db.snapshot()?.root()?;
    Ok(same("the root of genesis", root, MAINNET_ROOT)
        .and_then(|()| same("the root that is read", found, MAINNET_ROOT))
        .and_then(|()| same("the hash of genesis", block?.hash, MAINNET_HASH))
        .map(|()| format!("Ethereum's genesis: {} accounts, its known root and hash", count(loaded.accounts))))
}

/// The header on which the demonstration's first block is built: Ethereum's genesis, but with today's rules for gas.
pub(super) fn parent(gas_limit: u64) -> (Header, B256) {
    let base_fee_per_gas = Some(1_000_000_000);
    (Header { gas_limit, gas_used: gas_limit / 2, base_fee_per_gas, ..Header::default() }, MAINNET_HASH)
}

/// Adds the contracts and all who hold their tokens.
pub(super) fn load_tokens(db: &Db, size: Size, interrupt: &Interrupt) -> Result<Load, Failure> {
    let begun = Instant::now();
    let mut bar = Bar::new("loads", size.holders);
    let mut changes = contracts();
    for number in 0..size.holders {
        if changes.len() >= BATCH {
            interrupt.check()?;
            db.commit(&std::mem::take(&mut changes), Durability::Pipelined)?;
            bar.advance(number, format_args!("{} holders of two tokens", count(size.holders)));
        }
        add_holder(&mut changes, number, number < size.senders);
    }
    db.commit(&changes, Durability::Durable)?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Load { size, seconds, slots_per_second: (size.slots as f64 / seconds) as u64 })
}

/// The contracts, which are as if they had been deployed and the pair had been given its reserves.
pub(super) fn contracts() -> Changes {
    let mut changes = Changes::new();
    let (token, pair) = contracts::codes().expect("a test assembles the same sources");
    let mut deploy = |address, code: &Bytes| {
        let code_hash = keccak256(code);
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

fn add_holder(changes: &mut Changes, number: u64, sends: bool) {
    let address = holder(number);
    let balance = contracts::balance_slot(&address);
    for (index, token) in TOKENS.iter().enumerate() {
        changes.set_storage(*token, balance, first_balance(index, number));
    }
    if sends {
        changes.set_account(address, Account { balance: ETHER, ..Account::default() });
        let allowance = contracts::allowance_slot(&address, &PAIR_ADDRESS);
        for token in &TOKENS {
            changes.set_storage(*token, allowance, U256::MAX);
        }
    }
}
