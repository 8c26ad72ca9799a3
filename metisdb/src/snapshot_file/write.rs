//! Writing a snapshot file: records are gathered into chunks, chunks go out as soon as they are whole.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;

use super::{
    chunk::{ChunkHeader, End, Entry, Kind, MAX_BODY_BYTES, MAX_RECORDS},
    cursor::{Cursor, SnapshotTally},
    header::{IDENTITY_BYTES, SnapshotHeader},
    place::io_error,
    read::SnapshotFile,
};
use crate::error::Result;

/// Records of a chunk. Tests make many chunks of few records.
const CHUNK_RECORDS: usize = if cfg!(test) { 16 } else { MAX_RECORDS };

/// Writes chunks behind each other.
#[derive(Debug)]
pub(super) struct Writer<W> {
    pub(super) output: W,
    /// For messages.
    name: PathBuf,
    identity: [u8; IDENTITY_BYTES],
    /// Of the hashes of the chunks so far.
    chunks: blake3::Hasher,
    /// Behind the last record, gathered or written.
    pub(super) cursor: Cursor,
    /// Of the chunk that is being gathered.
    record_count: usize,
    body: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(super) fn begin(mut output: W, name: &Path, header: &SnapshotHeader) -> Result<Self> {
        let bytes = header.encode();
        output.write_all(&bytes).map_err(io_error("write", name, 0))?;
        let identity = *bytes.last_chunk().expect("the identity is the end");
        let mut cursor = Cursor::new();
        cursor.tally.bytes = bytes.len() as u64;
        let chunks = blake3::Hasher::new_keyed(&identity);
        Ok(Self { output, name: name.to_owned(), identity, chunks, cursor, record_count: 0, body: Vec::new() })
    }

    /// Goes on behind the chunks of a file that were read.
    pub(super) fn resume<R>(output: W, name: &Path, read: &SnapshotFile<R>) -> Self {
        let mut cursor = read.cursor;
        cursor.tally.found_chunks = cursor.tally.chunks;
        let (identity, chunks) = (read.identity, read.chunks.clone());
        Self { output, name: name.to_owned(), identity, chunks, cursor, record_count: 0, body: Vec::new() }
    }

    /// Adds a record; `path` is the hash by which it has its place. Returns whether a chunk was written for that.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); [`Error::Corruption`](crate::Error::Corruption) where it does not belong behind the one before.
    pub(super) fn push(&mut self, entry: &Entry<'_>, path: B256) -> Result<bool> {
        let is_full = self.record_count == CHUNK_RECORDS || self.body.len() + entry.bytes() > MAX_BODY_BYTES;
        let is_sealed = self.record_count > 0 && (is_full || entry.kind() != self.cursor.kind);
        if is_sealed {
            self.seal()?;
        }
        self.cursor.kind = entry.kind();
        if let (Entry::Slot(..), 0, Some((_, address))) = (entry, self.record_count, self.cursor.account) {
            self.gather(&Entry::Continued(address));
        }
        self.gather(entry);
        self.cursor.step(entry, path).map_err(|damage| damage.at("trie", self.name.clone(), 0))?;
        Ok(is_sealed)
    }

    fn gather(&mut self, entry: &Entry<'_>) {
        entry.encode(&mut self.body);
        self.record_count += 1;
    }

    /// Writes what is gathered, and the end.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.record_count > 0 {
            self.seal()?;
        }
        let SnapshotTally { codes, accounts, slots, .. } = self.cursor.tally;
        let end = End { codes, accounts, slots, chunks: *self.chunks.finalize().as_bytes() };
        self.body.extend_from_slice(&end.encode());
        self.cursor.kind = Kind::End;
        self.seal()
    }

    /// Writes what is gathered as a chunk.
    fn seal(&mut self) -> Result<()> {
        let Cursor { kind, tally, .. } = &mut self.cursor;
        let header = ChunkHeader::of(*kind, self.record_count, tally.chunks, &self.body, &self.identity);
        for bytes in [&header.encode(), &*self.body] {
            self.output.write_all(bytes).map_err(io_error("write", &self.name, tally.bytes))?;
            tally.bytes += bytes.len() as u64;
        }
        self.chunks.update(&header.hash);
        tally.chunks += 1;
        self.record_count = 0;
        self.body.clear();
        Ok(())
    }
}
