//! `store`: databases are loaded, opened in all ways, and read beside a hash map; roots are computed.

mod keys;
mod load;
mod open;
mod reads;
mod report;
mod roots;

use std::path::{Path, PathBuf};

use clap::Args;

pub(crate) use self::open::write_until_killed;
use self::{
    keys::KeySpace,
    reads::Plan,
    report::{DatabaseReport, Report},
};
use crate::{Result, progress, system::Hardware};

/// Slots of the smaller database that is measured beside a larger one.
const SMALL_KEYS: u64 = 1_000_000;

/// How much is measured, and where.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// Storage slots to load; beyond a million, a database of a million is measured, too.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    keys: u64,
    /// Accounts that the slots are spread over.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    accounts: u64,
    /// Folder for the temporary databases; the system's by default.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Rounds of each kind of read.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..1_000))]
    rounds: u64,
    /// Reads in a round.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..1 << 32))]
    reads: u64,
    /// Where all keys and values come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// What the process that is to be killed does.
#[derive(Debug, Args)]
pub(crate) struct ChildArguments {
    path: PathBuf,
    keys: u64,
    accounts: u64,
    seed: u64,
    generation: u64,
}

/// Measures, and prints the table.
pub(crate) fn store(arguments: &StoreArguments) -> Result<()> {
    let hardware = Hardware::read();
    let parent = arguments.path.clone().unwrap_or_else(std::env::temp_dir);
    let mut sizes = vec![arguments.keys];
    if arguments.keys > SMALL_KEYS {
        sizes.push(SMALL_KEYS);
    }
    let mut databases = Vec::new();
    for keys in sizes {
        let space = KeySpace { keys, accounts: arguments.accounts, seed: arguments.seed };
        let plan = Plan { rounds: arguments.rounds, reads: arguments.reads };
        databases.push(measure_database(&parent, &space, plan)?);
    }
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let report = Report { command, hardware, databases };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

/// Loads a database, reads from it, and opens it in all ways; the folder is gone afterwards.
fn measure_database(parent: &Path, space: &KeySpace, plan: Plan) -> Result<DatabaseReport> {
    let folder = tempfile::Builder::new().prefix("metisdb-bench-").tempdir_in(parent)?;
    let path = folder.path().join("state");
    progress(&format!("load: {} keys", space.keys));
    let load = load::load(&path, space)?;
    let reads = {
        let peer = reads::build_peer(space);
        vec![reads::measure(&path, space, &peer, plan, false)?, reads::measure(&path, space, &peer, plan, true)?]
    };
    let roots = roots::measure(&path, space)?;
    let opens = open::measure(&path, space)?;
    folder.close()?;
    Ok(DatabaseReport { keys: space.keys, accounts: space.accounts, load, reads, roots, opens })
}
