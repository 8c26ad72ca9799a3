//! Snapshot files: the complete state of a version by plain keys, as a stream of chunks that are verified each alone.
//!
//! The bytes and the rules are owned by `spec/snapshot-file.md`.
//!
//! Bottom up:
//!
//! * `place`: files and folders, claimed and named.
//! * `header`, `chunk`: the bytes, as pure functions.
//! * `cursor`: how far a file was gone through, and what may come next.
//! * `root`: the root of the state that goes by.
//! * `read`: the chunks of a stream, verified.
//! * `write`: records into chunks.
//! * `site`: where a database is made until it is whole.
//! * `export`, `import`: from a snapshot to a file, from a file to a database. Both go on where they were stopped: an export knows by the chunks
//!   in the file, an import by the versions of the database, as each chunk is one commit.

mod chunk;
mod cursor;
mod export;
mod header;
mod import;
mod place;
mod read;
mod root;
mod site;
mod write;

#[cfg(test)]
pub(crate) use self::{
    chunk::{ChunkHeader, End, MAX_BODY_BYTES, MAX_RECORDS},
    header::{FixedHeader, MAX_BLOCKS},
};
pub use self::{cursor::SnapshotTally, header::SnapshotHeader, read::SnapshotFile};
