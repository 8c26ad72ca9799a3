//! Hurts MetisDB and says what came of it.
//!
//! ```text
//! cargo run --release -p metisdb-torture -- crash --states 300000
//! ```

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod commands;

/// Hurts MetisDB in every way that a disk can, and compares it with a model.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print the figures as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Cuts the power at every operation of random histories, and during recovery.
    Crash(commands::CrashArguments),
    /// Fails every call of the storage, once and for good: errors, full disks, writes that are done in part.
    Faults(commands::FaultsArguments),
    /// All of it, one behind the other, again and again with new seeds.
    All(commands::AllArguments),
    /// Flips every bit of a small database, some of a larger one, and damages files in other ways.
    Damage(commands::DamageArguments),
    /// Forges proofs in their nodes, their claims and every byte, and compares verdicts with those of others.
    Proofs(commands::ProofsArguments),
}

fn main() -> ExitCode {
    let Cli { command, json } = Cli::parse();
    let outcome = match command {
        Command::Crash(arguments) => commands::crash(&arguments, json),
        Command::Faults(arguments) => commands::faults(&arguments, json),
        Command::All(arguments) => commands::all(&arguments, json),
        Command::Damage(arguments) => commands::damage(&arguments, json),
        Command::Proofs(arguments) => commands::proofs(&arguments, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
