//! The state that blocks are executed on: Ethereum's genesis, and upon it the contracts and the many who hold their tokens.

use std::time::Instant;

use alloy_primitives::{B256, b256};
use metisdb::{Db, Durability};
use metisdb_execution::tokens::{self, Size};
use serde::Serialize;

use super::checks::{Outcome, same};
use crate::{
    failure::Failure,
    genesis::{self, Loader},
    interrupt::Interrupt,
    output::count,
    progress::Bar,
};

const MAINNET_ROOT: B256 = b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
pub(super) const MAINNET_HASH: B256 = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
/// Slots of one commit of the load.
const BATCH: usize = 100_000;
/// How the state came to be.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    pub(super) size: Size,
    pub(super) seconds: f64,
    pub(super) slots_per_second: u64,
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

/// Adds the contracts and all who hold their tokens.
pub(super) fn load_tokens(db: &Db, size: Size, interrupt: &Interrupt) -> Result<Load, Failure> {
    let begun = Instant::now();
    let mut bar = Bar::new("loads", size.holders);
    let mut changes = tokens::contracts();
    for number in 0..size.holders {
        if changes.len() >= BATCH {
            interrupt.check()?;
            db.commit(&std::mem::take(&mut changes), Durability::Pipelined)?;
            bar.advance(number, format_args!("{} holders of two tokens", count(size.holders)));
        }
        tokens::add_holder(&mut changes, number, size);
    }
    db.commit(&changes, Durability::Durable)?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Load { size, seconds, slots_per_second: (size.slots as f64 / seconds) as u64 })
}
