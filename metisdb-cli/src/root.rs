//! `metisdb root`: the state root, or the storage root of an account.

use alloy_primitives::Address;
use clap::Args;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, line},
    target::{At, Target},
};

/// Which root.
#[derive(Debug, Args)]
pub(crate) struct RootArguments {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    at: At,
    /// Show the root of this account's storage instead.
    #[arg(long, value_name = "ADDRESS")]
    storage: Option<Address>,
}

/// Reads a root.
pub(crate) fn root(arguments: &RootArguments) -> Result<Answer, Failure> {
    let db = arguments.target.open()?;
    let snapshot = arguments.at.snapshot(&db)?;
    let version = snapshot.version();
    let Some(address) = &arguments.storage else {
        let root = snapshot.root()?;
        let lines = vec![line("version", version), line("state root", root)];
        return Ok(Answer::new(lines, json!({ "version": version, "root": root.to_string() })));
    };
    let found = snapshot.account(address)?.is_some();
    let root = snapshot.storage_root(address)?;
    let shown = if found { address.to_string() } else { format!("{address} does not exist") };
    let lines = vec![line("version", version), line("account", shown), line("storage root", root)];
    let json = json!({
        "version": version,
        "address": address.to_string(),
        "exists": found,
        "storage_root": root.to_string(),
    });
    let answer = Answer::new(lines, json);
    Ok(if found { answer } else { answer.absent() })
}
