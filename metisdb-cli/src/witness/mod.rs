//! `metisdb witness`: what the replay of a block needs of the state before it; made of a database, looked at and replayed without one.

mod block;
mod form;
mod headers;

use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use clap::{Args, Subcommand};
use metisdb::proof::{PartialState, Witness, WitnessMode};
use metisdb_execution::Executed;
use metisdb_revm::Base;
use serde_json::json;

use self::{
    block::{Rules, read_block, read_header},
    form::Form,
};
use crate::{
    failure::Failure,
    output::{Answer, count, line},
    target::{At, Target},
};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Executes a block on the version that its parent left, and writes what a replay of it needs.
    Export(ExportArguments),
    /// Looks, without a database, at what a witness says of the state after a trusted block.
    Verify(VerifyArguments),
    /// Replays a block from a witness alone, and compares all that the block's header says.
    Replay(ReplayArguments),
}

/// What is exported.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    rules: Rules,
    /// File with the block in RLP, hexadecimal or as it is.
    #[arg(long, value_name = "FILE")]
    block: PathBuf,
    /// Files with headers in RLP, hexadecimal or as they are: the parent's, and those before it down to the oldest block that
    /// `BLOCKHASH` asks for. Their order does not matter, and those that are not needed are left out.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    headers: Vec<PathBuf>,
    /// Every node too that some order of the block's changes could need.
    #[arg(long)]
    superset: bool,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Form::Json)]
    form: Form,
    /// The file, or folder, that is made.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The witness: JSON, or geth's RLP, hexadecimal or as it is.
    file: PathBuf,
    /// Hash of the block that is trusted: the parent of the one that is to be replayed.
    #[arg(long, value_name = "HASH")]
    parent: B256,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is replayed.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The witness: JSON, or geth's RLP, hexadecimal or as it is.
    file: PathBuf,
    /// File with the block in RLP, hexadecimal or as it is. Its parent's hash is what is trusted.
    #[arg(long, value_name = "FILE")]
    block: PathBuf,
    #[command(flatten)]
    rules: Rules,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl What {
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Export(arguments) => arguments.target.json,
            Self::Verify(arguments) => arguments.json,
            Self::Replay(arguments) => arguments.json,
        }
    }
}

/// Does it.
pub(crate) fn witness(what: &What) -> Result<Answer, Failure> {
    match what {
        What::Export(arguments) => export(arguments),
        What::Verify(arguments) => verify(arguments),
        What::Replay(arguments) => replay(arguments),
    }
}

fn export(arguments: &ExportArguments) -> Result<Answer, Failure> {
    let ExportArguments { target, at, rules, block: file, headers, superset, form, out } = arguments;
    let refused = |reason: String| Failure::Refused(format!("{}: {reason}", file.display()));
    form::require_nothing(out)?;
    let block = read_block(file)?;
    let headers = headers.iter().map(|path| read_header(path)).collect::<Result<_, _>>()?;
    let ancestors = headers::ancestors(headers, block.header.parent_hash);
    let chain = rules.chain()?;
    chain.forks().check_form(&block).map_err(|error| refused(error.to_string()))?;
    let db = target.open()?;
    let snapshot = at.snapshot(&db)?;
    let (version, root) = (snapshot.version(), snapshot.root()?);
    let headers = ancestors.iter().map(|ancestor| ancestor.encoded.clone()).collect();
    let witness = Witness { headers, ..Witness::default() };
    let parent = PartialState::after_block(&witness, block.header.parent_hash)
        .map_err(|error| refused(format!("the headers do not tell the state before it: {error}")))?;
    if parent.root() != root {
        return Err(refused(format!(
            "the state before it has the root {}, version {version} has {root}; name the version that the parent left with --version",
            parent.root()
        )));
    }
    let recorder = headers::recorder(&snapshot, &ancestors)?;
    let senders = chain.senders(&block).map_err(|error| refused(error.to_string()))?;
    let executed = chain.execute(Base::from(recorder.clone()), &block, &senders);
    // First of all: whatever went wrong may come of a hash that was missing.
    let headers = headers::needed(&ancestors, &recorder.accessed().blocks).map_err(refused)?;
    let Executed { changes, .. } = executed.map_err(|error| match error.database() {
        Some(error) => Failure::Database(error.clone()),
        None => refused(error.to_string()),
    })?;
    let mode = if *superset { WitnessMode::Superset } else { WitnessMode::Canonical };
    let witness = Witness { headers, ..recorder.witness(&changes, mode)? };
    // What is handed on is known to suffice.
    chain.replay(&witness, &block).map_err(|error| refused(error.to_string()))?;
    let bytes = form::write(&witness, *form, out)?;
    let mut answer = describe(&witness);
    answer.0.insert(0, line("block", format!("{} {}", block.header.number, block.header.hash_slow())));
    answer.0.push(line("written", format!("{}, {} bytes", out.display(), count(bytes))));
    answer.1["bytes"] = bytes.into();
    Ok(Answer::new(answer.0, answer.1).with_version(version))
}

fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let VerifyArguments { file, parent, .. } = arguments;
    let witness = form::read(file)?;
    let refused = |error: metisdb::proof::WitnessError| Failure::Refused(format!("{}: {error}", file.display()));
    let state = PartialState::after_block(&witness, *parent).map_err(refused)?;
    let (mut present, mut absent) = (0_u64, 0_u64);
    for address in witness.keys.iter().filter(|key| key.len() == Address::len_bytes()) {
        match state.account(&Address::from_slice(address)).map_err(refused)? {
            Some(_) => present += 1,
            None => absent += 1,
        }
    }
    let (mut lines, mut json) = describe(&witness);
    lines.insert(0, line("state root", state.root()));
    lines.push(line("accounts", format!("{} proven to exist, {} not to", count(present), count(absent))));
    json["state_root"] = state.root().to_string().into();
    json["accounts"] = json!({ "present": present, "absent": absent });
    Ok(Answer::new(lines, json))
}

fn replay(arguments: &ReplayArguments) -> Result<Answer, Failure> {
    let ReplayArguments { file, block, rules, .. } = arguments;
    let (witness, block) = (form::read(file)?, read_block(block)?);
    let replayed = rules
        .chain()?
        .replay(&witness, &block)
        .map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
    let (hash, gas) = (block.header.hash_slow(), replayed.executed.gas_used);
    let transactions = block.body.transactions.len() as u64;
    let lines = vec![
        line("replayed", format!("block {} {hash}", block.header.number)),
        line("upon", block.header.parent_hash),
        line("state root", replayed.state_root),
        line("transactions", format!("{}, {} gas", count(transactions), count(gas))),
    ];
    let json = json!({
        "number": block.header.number,
        "hash": hash.to_string(),
        "parent_hash": block.header.parent_hash.to_string(),
        "state_root": replayed.state_root.to_string(),
        "transactions": transactions,
        "gas_used": gas,
    });
    Ok(Answer::new(lines, json))
}

/// What a witness has, for people and for programs.
fn describe(witness: &Witness) -> (Vec<(String, String)>, serde_json::Value) {
    let Witness { state, codes, keys, headers } = witness;
    let bytes = |parts: &[alloy_primitives::Bytes]| parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let part = |label: &str, parts: &[alloy_primitives::Bytes]| {
        line(label, format!("{}, {} bytes", count(parts.len() as u64), count(bytes(parts))))
    };
    let lines = vec![part("nodes", state), part("codes", codes), part("keys", keys), part("headers", headers)];
    let json = json!({ "nodes": state.len(), "codes": codes.len(), "keys": keys.len(), "headers": headers.len() });
    (lines, json)
}
