//! Reading a snapshot file: a stream of chunks, each verified before anything in it is believed.

use std::{
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;

use super::{
    chunk::{self, ChunkHeader, End, Entry, Kind},
    cursor::{Cursor, SnapshotTally},
    header::{FORMAT_VERSION, FixedHeader, IDENTITY_BYTES, SnapshotHeader},
    place::io_error,
    root::StateRoot,
};
use crate::{
    error::{Error, Result},
    log::Damage,
    trie::commitment::ethereum::Ethereum,
};

/// A snapshot file that is being read, from a file or from any stream: a pipe, an object store.
///
/// Each chunk is verified before anything in it is used. Memory: one chunk, of at most 4 MiB and 65,536 records.
///
/// ```
/// use std::ops::ControlFlow;
/// use metisdb::{Options, SnapshotFile};
///
/// # fn main() -> metisdb::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let db = Options::new().create(folder.join("state"))?;
/// db.snapshot()?.export(folder.join("state.snapshot"), |_| ControlFlow::Continue(()))?;
///
/// let file = SnapshotFile::open(folder.join("state.snapshot"))?;
/// assert_eq!(file.header().root(), db.snapshot()?.root()?);
/// file.import(folder.join("copy"), Options::new(), |_| ControlFlow::Continue(()))?;
/// let copy = Options::new().open(folder.join("copy"))?;
/// # assert_eq!(copy.snapshot()?.root()?, db.snapshot()?.root()?);
/// # db.close()?;
/// # copy.close()
/// # }
/// ```
#[derive(Debug)]
pub struct SnapshotFile<R> {
    input: R,
    /// For messages.
    pub(super) name: PathBuf,
    pub(super) header: SnapshotHeader,
    pub(super) identity: [u8; IDENTITY_BYTES],
    pub(super) cursor: Cursor,
    /// Of the hashes of the chunks so far.
    pub(super) chunks: blake3::Hasher,
    body: Vec<u8>,
}

/// A chunk that was verified.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub(super) index: u64,
    pub(super) kind: Kind,
    pub(super) entries: Vec<Entry<'a>>,
    /// Of their keys; of codes the hashes.
    pub(super) paths: Vec<B256>,
    /// Where it stands, for messages.
    offset: u64,
    name: &'a Path,
}

impl Chunk<'_> {
    /// The error for what is wrong in it.
    pub(super) fn damage(&self, damage: Damage) -> Error {
        Refused::Damage(damage).at(&part(self.index), self.name.to_owned(), self.offset)
    }
}

/// What a chunk is called in messages.
fn part(index: u64) -> String {
    format!("chunk {index}")
}

impl SnapshotFile<File> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corruption`] where it is no snapshot file, or its header is damaged; [`Error::FormatVersion`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::begin(File::open(path).map_err(io_error("open", path, 0))?, path.to_owned())
    }
}

impl<R: Read> SnapshotFile<R> {
    /// Reads the header from a stream. The stream ends with the file: what follows is refused.
    ///
    /// # Errors
    /// As [`SnapshotFile::open`].
    pub fn from_stream(stream: R) -> Result<Self> {
        Self::begin(stream, PathBuf::from("the stream"))
    }

    pub(super) fn begin(mut input: R, name: PathBuf) -> Result<Self> {
        let (header, rest) = read_header(&mut input, &name).map_err(|refused| refused.at("header", name.clone(), 0))?;
        let identity = *rest.last_chunk().expect("the identity is the end");
        let mut cursor = Cursor::new();
        cursor.tally.bytes = (FixedHeader::BYTES + rest.len()) as u64;
        let chunks = blake3::Hasher::new_keyed(&identity);
        Ok(Self { input, name, header, identity, cursor, chunks, body: Vec::new() })
    }

    /// What the file is of. Only its own hash was checked: [`SnapshotFile::verify`] and [`SnapshotFile::import`] find out whether the state
    /// has the root. Whether it is the root that one wants, only the caller knows.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Reads the whole file and verifies every chunk, the order of the keys, the totals, and that the state has the root. Needs no
    /// database, and the memory of one chunk: so whether the code of each account is in the file, only [`SnapshotFile::import`] tells.
    /// `progress` is told after each chunk how far it is, and ends it with [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`Error::Corruption`], which names the first chunk that is not as it must be, or says that the root is another; [`Error::Io`];
    /// [`Error::Stopped`].
    pub fn verify(mut self, mut progress: impl FnMut(&SnapshotTally) -> ControlFlow<()>) -> Result<SnapshotTally> {
        let expected = self.header.root;
        let scheme = Ethereum::default();
        let mut state = StateRoot::new(&scheme);
        while let Some(chunk) = self.next_chunk()? {
            chunk.entries.iter().zip(&chunk.paths).for_each(|(entry, path)| state.push(entry, *path));
            report(&mut progress, &self.cursor.tally)?;
        }
        let actual = state.finish();
        if actual == expected { Ok(self.cursor.tally) } else { Err(other_root(expected, actual, &self.name)) }
    }

    /// The next chunk; `None` behind the last one, which has been checked then with all that it says. After an error the cursor and the
    /// hash of the hashes are those of the chunk before.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        let SnapshotTally { chunks: index, bytes: offset, .. } = self.cursor.tally;
        let name = self.name.clone();
        self.read_chunk().map_err(|refused| refused.at(&part(index), name, offset))
    }

    fn read_chunk(&mut self) -> Result<Option<Chunk<'_>>, Refused> {
        let Self { input, name, cursor, chunks, body, identity, .. } = self;
        let SnapshotTally { chunks: index, bytes: offset, .. } = cursor.tally;
        if cursor.kind == Kind::End {
            return Ok(None);
        }
        let mut bytes = [0; ChunkHeader::BYTES];
        read_whole(input, &mut bytes, name, offset)?;
        let header = ChunkHeader::decode(&bytes);
        let kind = header.check(index)?;
        // The length is within its bound.
        body.resize(header.body_bytes as usize, 0);
        read_whole(input, body, name, offset + ChunkHeader::BYTES as u64)?;
        header.verify(body, identity)?;
        let mut next = *cursor;
        next.tally.chunks += 1;
        next.tally.bytes += (ChunkHeader::BYTES + body.len()) as u64;
        let (mut entries, mut paths) = (Vec::new(), Vec::new());
        if kind == Kind::End {
            check_end(body, cursor, chunks)?;
            if read_some(input, &mut [0], name, next.tally.bytes)? != 0 {
                return Err(Damage::new("the end of the file", "more bytes").into());
            }
            next.kind = kind;
        } else {
            entries = chunk::decode(kind, header.record_count, body)?;
            paths = next.pass(kind, &entries, &Ethereum::default())?;
        }
        *cursor = next;
        chunks.update(&header.hash);
        Ok(Some(Chunk { index, kind, entries, paths, offset, name }))
    }
}

/// The error for a state that does not have the root of the file.
pub(super) fn other_root(expected: B256, actual: B256, path: &Path) -> Error {
    let damage = Damage::new(format!("the state root {expected}"), actual.to_string());
    damage.at("state of the snapshot file", path.to_owned(), 0)
}

/// Tells how far it is.
pub(super) fn report(
    progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
    tally: &SnapshotTally,
) -> Result<()> {
    match progress(tally) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Stopped),
    }
}

/// Why reading ends.
enum Refused {
    Damage(Damage),
    Error(Error),
}

impl Refused {
    /// The error that names the part of the file.
    fn at(self, part: &str, path: PathBuf, offset: u64) -> Error {
        match self {
            Self::Damage(Damage { expected, got }) => {
                Damage::new(format!("{part}: {expected}"), got).at("snapshot file", path, offset)
            }
            Self::Error(error) => error,
        }
    }
}

impl From<Damage> for Refused {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The header, and the bytes behind its fixed part.
fn read_header(input: &mut impl Read, name: &Path) -> Result<(SnapshotHeader, Vec<u8>), Refused> {
    let mut bytes = [0; FixedHeader::BYTES];
    read_whole(input, &mut bytes, name, 0)?;
    let fixed = FixedHeader::decode(&bytes);
    if let Some(found) = fixed.other_version() {
        return Err(Error::FormatVersion { path: name.to_owned(), found, supported: FORMAT_VERSION }.into());
    }
    let mut rest = vec![0; fixed.rest_bytes()?];
    read_whole(input, &mut rest, name, FixedHeader::BYTES as u64)?;
    Ok((SnapshotHeader::decode(&fixed, &rest)?, rest))
}

/// Checks what the last chunk says of those before.
fn check_end(body: &[u8], cursor: &Cursor, chunks: &blake3::Hasher) -> Result<(), Damage> {
    let SnapshotTally { codes, accounts, slots, .. } = cursor.tally;
    let totals = End { codes, accounts, slots, chunks: *chunks.finalize().as_bytes() };
    let end = End::decode(body.first_chunk().expect("its length was checked"));
    if end == totals { Ok(()) } else { Err(Damage::new(format!("{totals:?}"), format!("{end:?}"))) }
}

/// Fills `bytes`; damage where the stream ends before.
fn read_whole(input: &mut impl Read, bytes: &mut [u8], name: &Path, offset: u64) -> Result<(), Refused> {
    let mut filled = 0;
    while filled < bytes.len() {
        match read_some(input, &mut bytes[filled..], name, offset + filled as u64)? {
            0 => return Err(Damage::new(format!("{} bytes", bytes.len()), format!("{filled}, then the end")).into()),
            count => filled += count,
        }
    }
    Ok(())
}

fn read_some(input: &mut impl Read, bytes: &mut [u8], name: &Path, offset: u64) -> Result<usize> {
    loop {
        match input.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(io_error("read", name, offset)),
        }
    }
}
