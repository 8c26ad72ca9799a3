//! The benchmarks of MetisDB: one command, one table.
//!
//! ```text
//! cargo run --release -p metisdb-benches -- store
//! cargo run --release -p metisdb-benches -- execute --blocks FOLDER
//! ```

mod execute;
mod store;
mod summary;
mod system;

use clap::{Parser, Subcommand};

use self::{
    execute::ExecuteArguments,
    store::{ChildArguments, StoreArguments},
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
    /// Loads databases, opens them, and reads from them beside a hash map.
    Store(StoreArguments),
    /// Executes blocks on a large database, and on the same state in revm's own maps in memory.
    Execute(ExecuteArguments),
    /// What `store` starts in order to kill it.
    #[command(hide = true)]
    WriteUntilKilled(ChildArguments),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Store(arguments) => store::store(&arguments),
        Command::Execute(arguments) => execute::execute(&arguments),
        Command::WriteUntilKilled(arguments) => store::write_until_killed(&arguments),
    }
}

/// Says on the standard error what goes on.
fn progress(message: &str) {
    eprintln!("{message}");
}
