//! MetisDB: an embedded, crash-safe, multi-version state database for EVM chains.
//!
//! Accounts, storage slots, code and block metadata by plain keys. A commit makes a new version; a [`Snapshot`] reads
//! one version, without locks, while commits go on; what was acknowledged survives a power cut.
//!
//! ```text
//! Options -> Db::snapshot -> Snapshot::storage
//!            Changes -> Db::commit -> Commit::wait_durable
//! ```
//!
//! How it works, bottom up (each module uses only what stands above it):
//!
//! | module | what lives there |
//! |---|---|
//! | `error`, `types`, `changes`, `layout`, `key`, `anonymous`, `prefetch`, `probe`, `sync` | plain values, keyed hashes, small helps |
//! | `storage` | the seam: real files and maps, the simulated disk; the only place that knows the operating system |
//! | `log` | the truth: records, frames, segments; appending and sequential reading |
//! | `index` | from a key's hash to its newest record |
//! | `hash`, `trie` | hashing in lanes; nodes, the arena of pages, updates, the commitment to it all |
//! | `ledger`, `history`, `pins`, `options` | what is still readable, and by whom; what the user chose |
//! | `superblock`, `image` | the files that recovery starts from |
//! | `lookup`, `view`, `stage` | how a record is found; the same with what is not committed yet; from changes to records |
//! | `tries`, `store` | the tries of versions, and what holds them; what an open database consists of |
//! | `difference`, `retrace`, `regrow` | from the trie of one version to another's; the trie when a database is opened |
//! | `prove`, `witness` | what convinces those who trust nothing; they verify it with the crate `metisdb-proof` |
//! | `snapshot`, `range`, `commit`, `proposal`, `roots`, `checkpoint`, `checkpointer`, `replay`, `recover`, `check`, `audit`, `stats` | one straight line of steps each |
//! | `recorder`, `db` | the face |
//! | `snapshot_file` | the state as a file: written from a snapshot, read into a new database |
//!
//! The bytes and the rules are owned by `spec/`.

#[cfg(not(unix))]
compile_error!("MetisDB needs a Unix: Linux for production, others for development");
#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("MetisDB needs a 64-bit little-endian target");

mod anonymous;
mod audit;
mod changes;
mod check;
mod checkpoint;
mod checkpointer;
mod commit;
mod db;
mod difference;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hash;
mod history;
mod image;
mod index;
mod key;
mod layout;
mod ledger;
mod log;
mod lookup;
mod options;
mod pins;
mod prefetch;
mod probe;
mod proposal;
mod prove;
mod range;
mod recorder;
mod recover;
mod regrow;
mod replay;
mod retrace;
mod roots;
mod snapshot;
mod snapshot_file;
mod stage;
mod stats;
pub mod storage;
mod store;
mod superblock;
mod sync;
#[cfg(test)]
mod tests;
mod trie;
mod tries;
mod types;
mod view;
mod witness;

/// Verification of what a snapshot proves, without a database: the crate `metisdb-proof`.
pub use metisdb_proof as proof;

pub use self::{
    changes::Changes,
    check::{CheckLevel, CheckReport},
    commit::{Commit, Durability},
    db::Db,
    error::{Error, Result},
    options::Options,
    proposal::Proposal,
    range::{Accounts, Slots},
    recorder::Recorder,
    roots::DeferredRoot,
    snapshot::Snapshot,
    snapshot_file::{SnapshotFile, SnapshotHeader, SnapshotTally},
    stats::Stats,
    types::{Account, Block, Key, MAX_CODE_BYTES, Value},
};

/// The README's example, so that it compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExample;
