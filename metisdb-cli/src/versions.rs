//! `metisdb versions`: the versions that can be read, with their roots and blocks.

use std::fmt;

use alloy_primitives::B256;
use clap::Args;
use metisdb::Block;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, line},
    target::Target,
};

/// How many versions.
#[derive(Debug, Args)]
pub(crate) struct VersionsArguments {
    #[command(flatten)]
    pub(crate) target: Target,
    /// List so many of the newest.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "all")]
    last: u64,
    /// List all of them.
    #[arg(long)]
    all: bool,
}

/// One version.
struct Listed {
    version: u64,
    root: B256,
    /// The block that was committed as this version, if it said so.
    block: Option<Block>,
}

impl Listed {
    fn json(&self) -> serde_json::Value {
        let block = self.block.map(|block| json!({ "number": block.number, "hash": block.hash.to_string() }));
        json!({ "version": self.version, "root": self.root.to_string(), "block": block })
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.block {
            // Shortened, as a line is long enough; the JSON form has it whole.
            Some(block) => write!(f, "{}  {} {:#}", self.root, block.number, block.hash),
            None => write!(f, "{}  -", self.root),
        }
    }
}

/// Lists versions, newest first.
pub(crate) fn versions(arguments: &VersionsArguments) -> Result<Answer, Failure> {
    let db = arguments.target.open()?;
    let stats = db.stats();
    let (oldest, newest) = (stats.oldest_version, stats.version);
    let limit = if arguments.all { u64::MAX } else { arguments.last };
    let mut listed = Vec::new();
    for version in (oldest..=newest).rev().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let snapshot = db.snapshot_at(version)?;
        listed.push(Listed { version, root: snapshot.root()?, block: snapshot.committed_block()? });
    }
    let mut lines = vec![line("version", format!("{:66}  block", "state root"))];
    lines.extend(listed.iter().map(|row| line(&row.version.to_string(), row)));
    let rest = newest - oldest + 1 - listed.len() as u64;
    if rest > 0 {
        lines.push(line("...", format!("{rest} more, down to version {oldest}; --all lists them")));
    }
    let listed: Vec<_> = listed.iter().map(Listed::json).collect();
    let json = json!({ "oldest_version": oldest, "newest_version": newest, "versions": listed });
    Ok(Answer::new(lines, json))
}
