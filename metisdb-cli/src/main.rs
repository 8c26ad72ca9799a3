//! `metisdb`: looks into a database. Everything here reads; nothing is written.
//!
//! Exit codes: 0 all is well, 1 an error or damage, 2 the command line is wrong.

mod check;
mod get;
mod info;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use metisdb::{Db, Options};

/// Looks into a MetisDB database, beside its writer or without one. Writes nothing.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit codes: 0 all is well, 1 an error or damage, 2 the command line is wrong.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what the database holds: versions, keys, sizes.
    Info(Target),
    /// Examines the files for damage.
    Check(check::CheckArguments),
    /// Shows one value.
    Get {
        /// What is to be shown.
        #[command(subcommand)]
        what: get::What,
    },
}

/// A database, and how to answer.
#[derive(Debug, Args)]
struct Target {
    /// Folder of the database.
    path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// An answer in both forms.
struct Answer {
    /// For people: labels and values.
    lines: Vec<(String, String)>,
    /// For programs.
    json: serde_json::Value,
}

impl Answer {
    fn print(&self, as_json: bool) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if as_json {
            return writeln!(output, "{:#}", self.json);
        }
        let width = self.lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (label, value) in &self.lines {
            writeln!(output, "{label:<width$}  {value}")?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let (answer, json) = match Cli::parse().command {
        Command::Info(target) => (info::info(&target.path), target.json),
        Command::Check(arguments) => (check::check(&arguments), arguments.target.json),
        Command::Get { what } => (get::get(&what), what.json()),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match answer.print(json) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: write the answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open(path: &Path) -> metisdb::Result<Db> {
    Options::new().open_read_only(path)
}

/// A label and a value.
fn line(label: &str, value: impl ToString) -> (String, String) {
    (label.to_string(), value.to_string())
}

/// A number of bytes, readable and exact.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = number as f64;
    let mut unit = None;
    for name in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = Some(name);
    }
    match unit {
        Some(unit) => format!("{scaled:.1} {unit} ({number} bytes)"),
        None => format!("{number} bytes"),
    }
}
