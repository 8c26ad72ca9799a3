//! `metisdb import`: a database of a genesis file.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use clap::Args;
use metisdb::{Block, Db, Options};
use serde_json::json;

use crate::{
    construction::Construction,
    failure::Failure,
    genesis::{self, Loaded, Loader, Preamble},
    interrupt::Interrupt,
    output::{Answer, count, line, time},
    target::Target,
};

/// What is imported, and what must come out.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Genesis file, JSON as geth writes it; may be compressed with zstd.
    #[arg(required_unless_present = "mainnet")]
    file: Option<PathBuf>,
    /// Import Ethereum's genesis, which the program carries.
    #[arg(long, conflicts_with = "file")]
    mainnet: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The state root that must come out, else nothing is left.
    #[arg(long, value_name = "HASH")]
    expect_root: Option<B256>,
    /// The hash of the first block that must come out, else nothing is left.
    #[arg(long, value_name = "HASH")]
    expect_hash: Option<B256>,
}

/// What came out.
struct Imported {
    root: B256,
    block: Result<Block, String>,
    loaded: Loaded,
    version: u64,
    ignored: Vec<String>,
    elapsed: Duration,
}

/// Makes a database of a genesis state. Nobody sees it before it is whole, and nothing is left if it fails.
pub(crate) fn import(arguments: &ImportArguments) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let interrupt = Interrupt::watch()?;
    let construction = Construction::begin(&arguments.target.path)?;
    // The versions on the way to the state are nobody's business.
    let db = Options::new().retain_versions(0).create(construction.path())?;
    let mut imported = arguments.load(&db, &interrupt)?;
    db.close()?;
    interrupt.check()?;
    construction.publish()?;
    imported.elapsed = begun.elapsed();
    for name in &imported.ignored {
        eprintln!("warning: the field {name} is ignored");
    }
    Ok(arguments.answer(&imported))
}

impl ImportArguments {
    fn load(&self, db: &Db, interrupt: &Interrupt) -> Result<Imported, Failure> {
        let mut loader = Loader::new(db, interrupt.clone())?;
        let Preamble { header, ignored } = match &self.file {
            Some(file) => genesis::read_file(file, &mut loader, interrupt)?,
            None => genesis::read_mainnet(&mut loader)?,
        };
        let mut block = Err(String::new());
        let (root, loaded) = loader.finish(|root| {
            require("state root", self.expect_root, root)?;
            block = header.block(root);
            match &block {
                Ok(block) => require("block hash", self.expect_hash, block.hash)?,
                Err(reason) if self.expect_hash.is_some() => {
                    return Err(Failure::Refused(format!("the hash of the block is not known: {reason}")));
                }
                Err(_) => {}
            }
            Ok(block.clone().ok())
        })?;
        let version = db.stats().version;
        Ok(Imported { root, block, loaded, version, ignored, elapsed: Duration::ZERO })
    }

    fn answer(&self, imported: &Imported) -> Answer {
        let Imported { root, block, loaded, version, ignored, elapsed } = imported;
        let Loaded { accounts, slots, codes } = *loaded;
        let path = &self.target.path;
        let rate = ((accounts + slots) as f64 / elapsed.as_secs_f64()) as u64;
        let lines = vec![
            line("database", path.display()),
            line("version", version),
            line("state root", root),
            line(
                "block hash",
                block.as_ref().map_or_else(|reason| format!("not known: {reason}"), |block| block.hash.to_string()),
            ),
            line("accounts", count(accounts)),
            line("slots", count(slots)),
            line("accounts with code", count(codes)),
            line("time", format!("{}, {} keys a second", time(*elapsed), count(rate))),
        ];
        let json = json!({
            "path": path.display().to_string(),
            "version": version,
            "root": root.to_string(),
            "block_number": block.as_ref().ok().map(|block| block.number),
            "block_hash": block.as_ref().ok().map(|block| block.hash.to_string()),
            "accounts": accounts,
            "slots": slots,
            "accounts_with_code": codes,
            "ignored_fields": ignored,
            "seconds": elapsed.as_secs_f64(),
            "keys_per_second": rate,
        });
        Answer::new(lines, json)
    }
}

fn require(what: &str, expected: Option<B256>, actual: B256) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != actual => {
            Err(Failure::Refused(format!("the {what} is {actual}, expected was {expected}; nothing was kept")))
        }
        _ => Ok(()),
    }
}
