//! The benchmark of MetisDB: databases are loaded, read beside a hash map, proven, written, killed, and opened in all ways.
//!
//! | module | what lives there |
//! |---|---|
//! | `error`, `progress` | why a measurement ends early; who is told how far it is |
//! | `summary`, `hardware` | several measurements of the same thing; the machine that they hold for |
//! | `keys`, `changes` | keys, values and blocks, all made of numbers |
//! | `append` | an append and its sync by themselves |
//! | `load`, `reads`, `proofs`, `roots`, `blocks`, `open` | what is measured, in this order |

mod append;
mod blocks;
mod changes;
mod error;
mod hardware;
mod keys;
mod load;
mod open;
mod progress;
mod proofs;
mod reads;
mod roots;
mod summary;

use std::path::Path;

use serde::Serialize;

pub use self::{
    blocks::{BLOCK_DELETES, BLOCK_INSERTS, Blocks, SMALL_BLOCK_UPDATES},
    changes::updates,
    error::{Error, Result},
    hardware::Hardware,
    keys::KeySpace,
    load::{COMMIT_CHANGES, Load, load},
    open::{Opened, Opens, ToBeKilled, write_until_killed},
    progress::Progress,
    proofs::Proofs,
    reads::{BATCH, Comparison, Reads},
    roots::{Roots, UPDATES},
    summary::Spread,
};

/// Accounts that the slots of a large database are spread over.
const MOST_ACCOUNTS: u64 = 100_000;
/// Slots of an account of a small one.
const SLOTS_AN_ACCOUNT: u64 = 10;

/// The least slots that a database can have: blocks change other keys each.
pub const LEAST_KEYS: u64 = 2 * UPDATES;

/// What was measured on the database of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Database {
    /// Slots that were loaded.
    pub keys: u64,
    /// Accounts that they belong to.
    pub accounts: u64,
    /// Loading them.
    pub load: Load,
    /// Reading.
    pub reads: Reads,
    /// Reading with every read verified.
    pub verified_reads: Reads,
    /// Proving some.
    pub proofs: Proofs,
    /// Roots of many updates.
    pub roots: Roots,
    /// Blocks, by the options that a user has by default.
    pub blocks: Blocks,
    /// Opening.
    pub opens: Opens,
}

/// What the keys of a database of so many slots are, [`LEAST_KEYS`] or more.
pub fn key_space(keys: u64, seed: u64) -> KeySpace {
    KeySpace { keys, accounts: (keys / SLOTS_AN_ACCOUNT).min(MOST_ACCOUNTS), seed }
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// More make more of each figure's measurements.
    pub rounds: u64,
    /// Whether to read a hash map with all keys beside the database.
    pub hash_map: bool,
}

/// Makes a database at the path, where nothing is, and measures everything on it.
///
/// # Errors
/// As [`Error`] says; what was made stays where it is.
pub fn measure(
    path: &Path,
    space: &KeySpace,
    plan: Plan,
    to_be_killed: ToBeKilled<'_>,
    progress: &mut dyn Progress,
) -> Result<Database> {
    let rounds = plan.rounds;
    let load = load(path, space, progress)?;
    let (reads, verified_reads) = reads::measure(path, space, plan, progress)?;
    let proofs = proofs::measure(path, space, rounds, progress)?;
    let roots = roots::measure(path, space, rounds, progress)?;
    let blocks = blocks::measure(path, space, rounds, progress)?;
    let opens = open::measure(path, space, to_be_killed, progress)?;
    Ok(Database {
        keys: space.keys,
        accounts: space.accounts,
        load,
        reads,
        verified_reads,
        proofs,
        roots,
        blocks,
        opens,
    })
}
