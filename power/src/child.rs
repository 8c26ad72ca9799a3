//! The process that commits, until the power goes.

use std::{
    io::{self, Write},
    path::Path,
};

use metisdb::{Db, Durability, Error, Options};

use crate::{
    Result,
    history::{Random, changes},
    told::Word,
};

/// Small, so that the log grows with every few commits.
const SEGMENT_BYTES: u64 = 1 << 16;
/// Bytes of a commit, at most.
const COMMIT_BYTES: u64 = 24 << 10;

/// The options of the database.
pub fn options() -> Options {
    Options::new().segment_bytes(SEGMENT_BYTES).expected_keys(0).retain_versions(16).checkpoint_log_bytes(1 << 18)
}

/// Commits for as long as it can.
///
/// # Errors
/// What stops it: the cut, mostly.
pub fn commit_until_cut(path: &Path, seed: u64, round: u64) -> Result<()> {
    let mut random = Random::of(seed, &[round, u64::MAX]);
    tell(Word::Opening)?;
    let db = match options().open(path) {
        Err(Error::NotADatabase { .. }) => options().create(path)?,
        other => other?,
    };
    let first = db.stats().version + 1;
    tell(Word::Opened(first - 1))?;
    let mut waiting = Vec::new();
    for version in first.. {
        let stats = db.stats();
        tell(Word::Submitted(version))?;
        if stats.log_position % SEGMENT_BYTES + COMMIT_BYTES > SEGMENT_BYTES {
            tell(Word::Growing)?;
        }
        let changes = changes(seed, round, version);
        match random.below(4) {
            0 => waiting.push(db.commit(&changes, Durability::Pipelined)?),
            1 => waiting.push(db.commit_deferred(&changes, Durability::Pipelined)?.0),
            _ => drop(db.commit(&changes, Durability::Durable)?),
        }
        if waiting.len() < 4 && random.below(3) > 0 {
            continue;
        }
        for commit in waiting.drain(..) {
            commit.wait_durable()?;
        }
        // This one, and with it all before.
        acknowledge(&db, version)?;
        if random.below(8) == 0 {
            tell(Word::Checkpoint)?;
            db.checkpoint()?;
        }
    }
    Ok(())
}

fn acknowledge(db: &Db, version: u64) -> Result<()> {
    let snapshot = db.snapshot_at(version)?;
    tell(Word::Durable(version, snapshot.root()?))
}

/// One line to the parent, at once.
fn tell(word: Word) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}")?;
    Ok(out.flush()?)
}
