//! `metisdb proof` and `metisdb verify-proof`: what the state holds, for those who trust nothing but its root.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use alloy_primitives::{Address, B256, Bytes, U256};
use clap::Args;
use metisdb::proof::{Account, AccountProof};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, line},
    target::{At, Target},
};

/// A file with a longer proof is not read: thousands of slots take less.
const MOST_BYTES: u64 = 64 << 20;

/// What is proven.
#[derive(Debug, Args)]
pub(crate) struct ProofArguments {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Address of the account, 0x and 40 digits.
    address: Address,
    /// Numbers of slots, decimal or 0x and hexadecimal.
    slots: Vec<U256>,
    #[command(flatten)]
    at: At,
}

/// What is verified.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// State root that is trusted, 0x and 64 digits.
    #[arg(long)]
    root: B256,
    /// File with the answer of eth_getProof, as `proof --json` prints it; - reads the standard input.
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Proves an account and slots, present or absent. The JSON form is the answer of `eth_getProof` and nothing else, so that it can be
/// handed on.
pub(crate) fn prove(arguments: &ProofArguments) -> Result<Answer, Failure> {
    let db = arguments.target.open()?;
    let snapshot = arguments.at.snapshot(&db)?;
    let proof = snapshot.proof(&arguments.address, &arguments.slots)?;
    let root = snapshot.root()?;
    let mut lines = vec![line("version", snapshot.version()), line("state root", root)];
    lines.extend(describe(&proof));
    lines.push(line("verify", format!("metisdb proof --json ... | metisdb verify-proof --root {root} -")));
    let json = serde_json::to_value(&proof).map_err(|error| Failure::Refused(format!("write the proof: {error}")))?;
    Ok(Answer::new(lines, json))
}

/// Verifies a proof without a database.
pub(crate) fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let VerifyArguments { root, file, .. } = arguments;
    let refused = |reason: String| Failure::Refused(format!("{}: {reason}", file.display()));
    let text = read(arguments)?;
    let proof: AccountProof = serde_json::from_slice(&text)
        .map_err(|error| refused(format!("{error}; an answer of eth_getProof is expected, its result alone")))?;
    proof.verify(*root).map_err(|error| refused(format!("not proven under {root}: {error}")))?;
    let mut lines = vec![line("proven under", root)];
    lines.extend(describe(&proof));
    let slot = |slot: &metisdb::proof::SlotProof| json!({ "slot": format!("{:#x}", slot.slot), "value": format!("{:#x}", slot.value) });
    let mut json = json!({
        "root": root.to_string(),
        "address": proof.address.to_string(),
        "exists": proof.account.is_some(),
        "storage_root": proof.storage_root.to_string(),
        "slots": proof.slots.iter().map(slot).collect::<Vec<_>>(),
    });
    if let Some(Account { nonce, balance, code_hash }) = proof.account {
        json["nonce"] = nonce.into();
        json["balance"] = format!("{balance:#x}").into();
        json["code_hash"] = code_hash.to_string().into();
    }
    Ok(Answer::new(lines, json))
}

fn read(arguments: &VerifyArguments) -> Result<Vec<u8>, Failure> {
    let VerifyArguments { file, .. } = arguments;
    let failed = Failure::system("read", file);
    let mut text = Vec::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut text)
    } else {
        File::open(file).and_then(|open| open.take(MOST_BYTES + 1).read_to_end(&mut text))
    };
    read.map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Failure::Refused(format!("{}: longer than {MOST_BYTES} bytes, which no proof is", file.display())));
    }
    Ok(text)
}

/// What a proof says, for people.
fn describe(proof: &AccountProof) -> Vec<(String, String)> {
    let nodes = |nodes: &[Bytes]| {
        format!("{} nodes, {} bytes", nodes.len(), nodes.iter().map(|node| node.len()).sum::<usize>())
    };
    let mut lines = Vec::new();
    match &proof.account {
        Some(Account { nonce, balance, code_hash }) => lines.extend([
            line("account", proof.address),
            line("nonce", nonce),
            line("balance", format!("{balance} wei")),
            line("code hash", code_hash),
            line("storage root", proof.storage_root),
        ]),
        None => lines.push(line("account", format!("{} does not exist", proof.address))),
    }
    lines.push(line("proof", nodes(&proof.nodes)));
    for slot in &proof.slots {
        lines.push(line("slot", format!("{:#x} is {:#x}: {}", slot.slot, slot.value, nodes(&slot.nodes))));
    }
    lines
}
