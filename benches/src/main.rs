//! The benchmark of executing blocks; that of the database alone is `metisdb bench`, which calls the library.
//!
//! ```text
//! cargo run --release -p metisdb-benches -- execute --blocks FOLDER
//! ```

mod execute;

use clap::{Parser, Subcommand};

use self::execute::ExecuteArguments;

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
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Execute(arguments) => execute::execute(&arguments),
    }
}

/// Says on the standard error what goes on.
fn progress(message: &str) {
    eprintln!("{message}");
}
