//! The benchmarks of executing blocks, and of a database larger than memory; that of the database alone is `metisdb bench`, which calls the library.
//!
//! ```text
//! cargo run --release -p metisdb-benches -- execute --blocks FOLDER
//! cargo run --release -p metisdb-benches -- limited --keys 10000000 --memory 500
//! ```

mod execute;
mod limited;

use clap::{Parser, Subcommand};

use self::{
    execute::ExecuteArguments,
    limited::{LimitedArguments, VisitArguments},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures MetisDB.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Executes blocks on a large database, and on the same state in revm's own maps in memory.
    Execute(ExecuteArguments),
    /// Reads and writes a database larger than the memory that it may use; needs Linux's control groups, and root.
    Limited(LimitedArguments),
    /// The process of `limited` whose memory is bounded.
    #[command(hide = true)]
    LimitedVisit(VisitArguments),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Execute(arguments) => execute::execute(&arguments),
        Command::Limited(arguments) => limited::limited(&arguments),
        Command::LimitedVisit(arguments) => limited::visit(&arguments),
    }
}

/// Says on the standard error what goes on.
fn progress(message: &str) {
    eprintln!("{message}");
}
