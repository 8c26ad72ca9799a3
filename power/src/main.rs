//! Cuts the power of real filesystems under a database, and looks for what was acknowledged.

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand, ValueEnum};
use metisdb_power::{
    Result, child,
    cut::{self, Figures},
    volume::{Filesystem, Volume},
};
use serde::Serialize;

/// Cuts the power of filesystems in files on loop devices, under a process that commits. Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Part>,
    /// How often, on each filesystem.
    #[arg(long, default_value_t = 100)]
    cuts: u64,
    /// On which filesystems.
    #[arg(long, value_enum, default_value_t = Which::All)]
    filesystem: Which,
    /// What everything but the timing follows from.
    #[arg(long)]
    seed: Option<u64>,
    /// Write figures for scripts.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// What is under the cuts.
    #[command(hide = true)]
    Commit {
        /// The database.
        path: PathBuf,
        /// Of the history.
        seed: u64,
        /// How often the power was cut before.
        round: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Ext4,
    Xfs,
    All,
}

/// What came of one filesystem.
#[derive(Debug, Serialize)]
struct Report {
    filesystem: &'static str,
    seed: u64,
    /// Why nothing was done.
    skipped: Option<String>,
    #[serde(flatten)]
    figures: Option<Figures>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Part::Commit { path, seed, round }) = cli.command {
        child::commit_until_cut(&path, seed, round)?;
        return Ok(ExitCode::SUCCESS);
    }
    let filesystems: &[_] = match cli.filesystem {
        Which::Ext4 => &[Filesystem::Ext4],
        Which::Xfs => &[Filesystem::Xfs],
        Which::All => &[Filesystem::Ext4, Filesystem::Xfs],
    };
    let seed = match cli.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let (mut violated, mut was_cut) = (false, false);
    for filesystem in filesystems {
        let mut report =
            Report { filesystem: filesystem.name(), seed, skipped: Volume::missing(*filesystem), figures: None };
        if report.skipped.is_none() {
            was_cut = true;
            report.figures = Some(cut::cut_again_and_again(&env::current_exe()?, *filesystem, seed, cli.cuts)?);
        }
        violated |= report.figures.as_ref().is_some_and(|figures| !figures.violations.is_empty());
        if cli.json { println!("{}", serde_json::to_string(&report)?) } else { print(&report) }
    }
    Ok(if violated || !was_cut { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report) {
    let Report { filesystem, seed, skipped, figures } = report;
    if let Some(reason) = skipped {
        println!("{filesystem}: skipped: {reason}");
    }
    let Some(figures) = figures else { return };
    let Figures { cuts, at_growth, at_checkpoints, at_opening, acknowledged, found_beyond, gone, .. } = figures;
    println!(
        "{filesystem}, seed {seed}: {cuts} power cuts, {at_growth} at growth, {at_checkpoints} at checkpoints, {at_opening} at opening"
    );
    println!(
        "  {acknowledged} versions acknowledged; of those that were not, {found_beyond} were found and {gone} were not"
    );
    println!("  longest open {} ms; {} violations", figures.longest_open_milliseconds, figures.violations.len());
    for violation in &figures.violations {
        println!("  {violation}");
    }
}
