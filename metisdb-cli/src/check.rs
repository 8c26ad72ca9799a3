//! `metisdb check`: whether the files are sound.

use clap::Args;
use metisdb::CheckLevel;
use serde_json::json;

use crate::{Answer, Target, bytes, line, open};

/// What to examine, and how thoroughly.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read the whole log: every frame, every record, and whether the index leads to each.
    #[arg(long)]
    full: bool,
}

/// Opens the database, which examines a good part of it already, and checks the rest.
pub(crate) fn check(arguments: &CheckArguments) -> metisdb::Result<Answer> {
    let db = open(&arguments.target.path)?;
    let (level, name) =
        if arguments.full { (CheckLevel::Full, "full") } else { (CheckLevel::Quick, "quick (--full reads the log)") };
    let report = db.check(level)?;
    let mut lines = vec![
        line("database", arguments.target.path.display()),
        line("result", "sound"),
        line("check", name),
        line("log files", report.segments),
        line("superblocks", format!("{} of 2 sound", report.superblocks)),
        line("image of the index", if report.image { "sound" } else { "none in force" }),
    ];
    if arguments.full {
        lines.extend([
            line("commits read", report.commits),
            line("records read", report.records),
            line("  of them newest of their key", report.newest_records),
            line("log read", bytes(report.log_bytes)),
        ]);
    }
    let json = json!({
        "path": arguments.target.path,
        "sound": true,
        "full": arguments.full,
        "segments": report.segments,
        "superblocks": report.superblocks,
        "image": report.image,
        "commits": report.commits,
        "records": report.records,
        "newest_records": report.newest_records,
        "log_bytes": report.log_bytes,
    });
    Ok(Answer { lines, json })
}
