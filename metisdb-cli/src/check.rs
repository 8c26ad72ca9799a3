//! `metisdb check`: whether the files are sound.

use clap::Args;
use metisdb::CheckLevel;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, bytes, count, line},
    progress::Clock,
    target::Target,
};

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
pub(crate) fn check(arguments: &CheckArguments) -> Result<Answer, Failure> {
    let db = arguments.target.open()?;
    let (level, name) =
        if arguments.full { (CheckLevel::Full, "full") } else { (CheckLevel::Quick, "quick (--full reads the log)") };
    let clock = Clock::start(format_args!("checks {}", bytes(db.stats().log_disk_bytes)));
    let report = db.check(level)?;
    drop(clock);
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
            line("commits read", count(report.commits)),
            line("records read", count(report.records)),
            line("  of them newest of their key", count(report.newest_records)),
            line("log read", bytes(report.log_bytes)),
        ]);
    }
    let json = json!({
        "path": arguments.target.path.display().to_string(),
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
    Ok(Answer::new(lines, json))
}
