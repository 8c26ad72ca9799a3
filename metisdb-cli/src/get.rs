//! `metisdb get`: one value.

use alloy_primitives::{Address, B256, U256};
use clap::Subcommand;
use metisdb::Snapshot;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, line},
    target::{At, Target},
};

/// What is to be shown.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// An account: nonce, balance, code hash.
    Account {
        #[command(flatten)]
        target: Target,
        /// Address of the account, 0x and 40 digits.
        address: Address,
        #[command(flatten)]
        at: At,
    },
    /// A storage slot; zero where it is not set.
    Storage {
        #[command(flatten)]
        target: Target,
        /// Address of the account, 0x and 40 digits.
        address: Address,
        /// Number of the slot, decimal or 0x and hexadecimal.
        slot: U256,
        #[command(flatten)]
        at: At,
    },
    /// Code by its Keccak-256 hash.
    Code {
        #[command(flatten)]
        target: Target,
        /// Hash of the code, 0x and 64 digits.
        hash: B256,
        #[command(flatten)]
        at: At,
    },
    /// The metadata of a block.
    Block {
        #[command(flatten)]
        target: Target,
        /// Number of the block.
        number: u64,
        #[command(flatten)]
        at: At,
    },
}

impl What {
    /// The database.
    pub(crate) fn target(&self) -> &Target {
        self.target_and_version().0
    }

    fn target_and_version(&self) -> (&Target, &At) {
        match self {
            Self::Account { target, at, .. }
            | Self::Storage { target, at, .. }
            | Self::Code { target, at, .. }
            | Self::Block { target, at, .. } => (target, at),
        }
    }
}

/// Reads one value.
pub(crate) fn get(what: &What) -> Result<Answer, Failure> {
    let (target, at) = what.target_and_version();
    let db = target.open()?;
    let snapshot = at.snapshot(&db)?;
    let answer = match what {
        What::Account { address, .. } => account(&snapshot, address)?,
        What::Storage { address, slot, .. } => storage(&snapshot, address, *slot)?,
        What::Code { hash, .. } => code(&snapshot, hash)?,
        What::Block { number, .. } => block(&snapshot, *number)?,
    };
    Ok(answer.with_version(snapshot.version()))
}

fn account(snapshot: &Snapshot, address: &Address) -> metisdb::Result<Answer> {
    let Some(account) = snapshot.account(address)? else {
        let lines = vec![line("account", format!("{address} does not exist"))];
        return Ok(Answer::new(lines, json!({ "address": address.to_string(), "exists": false })).absent());
    };
    let has_storage = snapshot.has_storage(address)?;
    let lines = vec![
        line("account", address),
        line("nonce", account.nonce),
        line("balance", format!("{} wei", account.balance)),
        line("code hash", account.code_hash),
        line("storage", if has_storage { "some slots are set" } else { "empty" }),
    ];
    let json = json!({
        "address": address.to_string(),
        "exists": true,
        "nonce": account.nonce,
        "balance": format!("{:#x}", account.balance),
        "code_hash": account.code_hash.to_string(),
        "has_storage": has_storage,
    });
    Ok(Answer::new(lines, json))
}

fn storage(snapshot: &Snapshot, address: &Address, slot: U256) -> metisdb::Result<Answer> {
    let value = snapshot.storage(address, slot)?;
    let lines =
        vec![line("account", address), line("slot", format!("{slot:#x}")), line("value", format!("{value:#x}"))];
    let json = json!({
        "address": address.to_string(),
        "slot": format!("{slot:#x}"),
        "value": format!("{value:#x}"),
    });
    Ok(Answer::new(lines, json))
}

fn code(snapshot: &Snapshot, hash: &B256) -> metisdb::Result<Answer> {
    let Some(code) = snapshot.code(hash)? else {
        let lines = vec![line("code", format!("{hash} is not stored"))];
        return Ok(Answer::new(lines, json!({ "code_hash": hash.to_string(), "exists": false })).absent());
    };
    let lines = vec![line("code hash", hash), line("length", format!("{} bytes", code.len())), line("code", &code)];
    let json = json!({ "code_hash": hash.to_string(), "exists": true, "code": code.to_string() });
    Ok(Answer::new(lines, json))
}

fn block(snapshot: &Snapshot, number: u64) -> metisdb::Result<Answer> {
    let Some(block) = snapshot.block(number)? else {
        let lines = vec![line("block", format!("{number} is not stored"))];
        return Ok(Answer::new(lines, json!({ "number": number, "exists": false })).absent());
    };
    let lines = vec![
        line("block", block.number),
        line("hash", block.hash),
        line("parent hash", block.parent_hash),
        line("timestamp", block.timestamp),
    ];
    let json = json!({
        "number": block.number,
        "exists": true,
        "hash": block.hash.to_string(),
        "parent_hash": block.parent_hash.to_string(),
        "timestamp": block.timestamp,
    });
    Ok(Answer::new(lines, json))
}
