//! Which database and version a command is about.

use std::path::PathBuf;

use clap::Args;
use metisdb::{Db, Options, Snapshot};

use crate::{failure::Failure, progress::Clock};

/// A database, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Folder of the database.
    #[arg(long = "db", value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which version is read.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// An older version that is still readable; the newest by default.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
}

impl Target {
    /// Opens the database for reading.
    pub(crate) fn open(&self) -> Result<Db, Failure> {
        let _clock = Clock::start("opens the database");
        Ok(Options::new().open_read_only(&self.path)?)
    }
}

impl At {
    /// Pins the version.
    pub(crate) fn snapshot(&self, db: &Db) -> Result<Snapshot, Failure> {
        Ok(match self.version {
            Some(version) => db.snapshot_at(version)?,
            None => db.snapshot()?,
        })
    }
}
