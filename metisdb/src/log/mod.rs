//! The log: the truth. Every changed key as a checksummed record, in commit order, and the write-ahead log too.
//!
//! * `record`, `frame`: the bytes, as pure functions.
//! * `segment`: the files, and the table that takes a reader from a position to the record in memory.
//! * `append`: the writer's end: reserve, append, roll, sync.
//! * `scan`: the sequential reader of recovery and check, which finds where the log ends.

pub(crate) mod append;
pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod segment;

use std::path::PathBuf;

use crc_fast::{CrcAlgorithm, Digest};

use crate::error::Error;

/// Bytes that are not what was written; the caller knows the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Damage {
    #[cold]
    pub(crate) fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { expected: expected.into(), got: got.into() }
    }

    /// The error that names the place.
    #[cold]
    pub(crate) fn at(self, what: &'static str, path: PathBuf, offset: u64) -> Error {
        Error::Corruption { what, path, offset, expected: self.expected, got: self.got }
    }
}

/// CRC-32C of one run of bytes.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of several runs of bytes as if they were one.
pub(crate) fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}
