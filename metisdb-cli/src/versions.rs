//! `metisdb versions`: the versions that can be read, with their roots.

use clap::Args;
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

/// Lists versions, newest first.
pub(crate) fn versions(arguments: &VersionsArguments) -> Result<Answer, Failure> {
    let db = arguments.target.open()?;
    let stats = db.stats();
    let (oldest, newest) = (stats.oldest_version, stats.version);
    let limit = if arguments.all { u64::MAX } else { arguments.last };
    let mut listed = Vec::new();
    for version in (oldest..=newest).rev().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        listed.push((version, db.snapshot_at(version)?.root()?.to_string()));
    }
    let mut lines = vec![line("version", "state root")];
    lines.extend(listed.iter().map(|(version, root)| line(&version.to_string(), root)));
    let rest = newest - oldest + 1 - listed.len() as u64;
    if rest > 0 {
        lines.push(line("...", format!("{rest} more, down to version {oldest}; --all lists them")));
    }
    let listed: Vec<_> =
        listed.into_iter().map(|(version, root)| json!({ "version": version, "root": root })).collect();
    let json = json!({ "oldest_version": oldest, "newest_version": newest, "versions": listed });
    Ok(Answer::new(lines, json))
}
