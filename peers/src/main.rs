//! MetisDB beside other stores: the same workloads from the same seed, in one run, one table.
//!
//! ```text
//! cargo run --release -- --keys 1000000
//! ```

#[path = "../../benches/src/hardware.rs"]
#[expect(unreachable_pub, reason = "public in the benchmark's library, as the two below are")]
mod hardware;
#[path = "../../benches/src/keys.rs"]
#[expect(unreachable_pub, reason = "as above")]
mod keys;
mod store;
mod stores;
#[path = "../../benches/src/summary.rs"]
#[expect(unreachable_pub, reason = "as above")]
mod summary;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::workload::{run, visit};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures MetisDB and other stores in turn, each in processes of its own, and prints one table.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One visit to one store, ordered on the standard input: what the program starts for each.
    #[command(hide = true)]
    Visit,
}

/// How much is measured, and of which stores.
#[derive(Debug, clap::Args)]
struct Arguments {
    /// Keys to load, in a hundredth as many accounts.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(20_000..1 << 32))]
    keys: u64,
    /// Stores beside MetisDB, by name; all that were built by default.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Visits of each kind to each store.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..100))]
    rounds: u64,
    /// Reads of each kind in a visit.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1_000..1 << 32))]
    reads: u64,
    /// Where all keys and values come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the temporary databases; the system's by default.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Visit) => visit::obey(),
        None => run::run(&cli.arguments),
    }
}

/// Says on the standard error what goes on.
fn progress(message: &str) {
    eprintln!("{message}");
}
