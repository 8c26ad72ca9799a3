//! Writing the state of a snapshot as a file: its codes, then its accounts with their slots.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
    path::Path,
};

use alloy_primitives::{Address, B256, KECCAK256_EMPTY};

use super::{
    chunk::{Entry, Kind},
    cursor::SnapshotTally,
    header::{MAX_BLOCKS, SnapshotHeader},
    place::{claim, io_error, sibling, sync_folder_of},
    read::{SnapshotFile, report},
    write::Writer,
};
use crate::{
    error::{Error, Result},
    snapshot::Snapshot,
    types::Account,
};

/// Most hashes of codes that are held at a time.
const MAX_CODES_HELD: usize = if cfg!(test) { 5 } else { 1 << 20 };
/// After how many accounts that are only looked at progress is reported.
const REPORT_ACCOUNTS: usize = 1 << 16;

impl Snapshot {
    /// Writes the complete state of the version to a snapshot file (`spec/snapshot-file.md`): all accounts, slots and codes by plain keys,
    /// with the root, in chunks that are verified each alone. [`SnapshotFile`] reads it. The same state gives the same bytes.
    ///
    /// It stands at `path` when it is whole and durable, and at `path` with `.partial` behind its name before. A call that was stopped,
    /// failed or was killed is gone on with by the same call on the same version, behind the last whole chunk. Commits and checkpoints go
    /// on beside it. `progress` is told after each chunk how far it is, and ends the call with [`ControlFlow::Break`].
    ///
    /// Memory: one chunk of at most 4 MiB, and at most 2^20 hashes of codes. The version stays pinned: what it needs is held back on disk
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::FileExists`]; [`Error::OtherSnapshot`] where the partial file is of another state; [`Error::Locked`] where another call
    /// writes it; [`Error::CodeMissing`] where the database does not have the code of an account; [`Error::Io`], also where the disk is
    /// full: repeat the call once there is space; [`Error::Stopped`]; those of every read of a snapshot.
    pub fn export(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(&SnapshotTally) -> ControlFlow<()>,
    ) -> Result<SnapshotTally> {
        // A slash behind the name would be found to be wrong when all is written.
        let path = &sibling(path.as_ref(), "")?;
        let partial = sibling(path, ".partial")?;
        require_nothing(path)?;
        let file = claim(&partial)?;
        // Whoever had the file before may have finished it meanwhile.
        require_nothing(path)?;
        let mut writer = resume(&file, &partial, &header(self)?, &mut progress)?;
        write(self, &mut writer, &mut progress)?;
        file.sync_all().map_err(io_error("sync", &partial, 0))?;
        fs::rename(&partial, path).map_err(io_error("rename", &partial, 0))?;
        sync_folder_of(path)?;
        Ok(writer.cursor.tally)
    }

    /// [`Snapshot::export`] to a stream, from the beginning: to a pipe, to an object store. Nothing is synced; blocks where the stream
    /// does.
    ///
    /// # Errors
    /// As [`Snapshot::export`], but for those of its files.
    pub fn export_to(
        &self,
        stream: impl Write,
        mut progress: impl FnMut(&SnapshotTally) -> ControlFlow<()>,
    ) -> Result<SnapshotTally> {
        let name = Path::new("the stream");
        let mut writer = Writer::begin(stream, name, &header(self)?)?;
        write(self, &mut writer, &mut progress)?;
        writer.output.flush().map_err(io_error("write", name, writer.cursor.tally.bytes))?;
        Ok(writer.cursor.tally)
    }
}

/// What the file is of.
fn header(snapshot: &Snapshot) -> Result<SnapshotHeader> {
    let mut blocks: Vec<_> = snapshot.committed_block()?.into_iter().collect();
    while let Some(earliest) = blocks.last()
        && blocks.len() < MAX_BLOCKS
        && let Some(number) = earliest.number.checked_sub(1)
        && let Some(block) = snapshot.block(number)?
    {
        blocks.push(block);
    }
    blocks.reverse();
    Ok(SnapshotHeader { version: snapshot.version(), root: snapshot.root()?, blocks })
}

/// Writes all that stands behind the cursor.
fn write(
    snapshot: &Snapshot,
    writer: &mut Writer<impl Write>,
    progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
) -> Result<()> {
    report(progress, &writer.cursor.tally)?;
    if writer.cursor.kind == Kind::Codes {
        write_codes(snapshot, writer, progress)?;
    }
    if writer.cursor.kind != Kind::End {
        write_state(snapshot, writer, progress)?;
        writer.finish()?;
        report(progress, &writer.cursor.tally)?;
    }
    Ok(())
}

fn write_codes(
    snapshot: &Snapshot,
    writer: &mut Writer<impl Write>,
    progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
) -> Result<()> {
    loop {
        let (codes, is_all) = next_codes(snapshot, writer.cursor.code, || report(progress, &writer.cursor.tally))?;
        for (code_hash, address) in codes {
            let code = snapshot.code(&code_hash)?.ok_or(Error::CodeMissing { address, code_hash })?;
            if writer.push(&Entry::Code(&code), code_hash)? {
                report(progress, &writer.cursor.tally)?;
            }
        }
        if is_all {
            return Ok(());
        }
    }
}

/// The smallest hashes of codes behind `last`, each with an account that has it, and whether there are no more.
fn next_codes(
    snapshot: &Snapshot,
    last: Option<B256>,
    mut report: impl FnMut() -> Result<()>,
) -> Result<(BTreeMap<B256, Address>, bool)> {
    let (mut codes, mut is_all) = (BTreeMap::new(), true);
    for (number, item) in snapshot.accounts(B256::ZERO)?.enumerate() {
        let (_, address, Account { code_hash, .. }) = item?;
        if number % REPORT_ACCOUNTS == REPORT_ACCOUNTS - 1 {
            report()?;
        }
        if code_hash == KECCAK256_EMPTY || last.is_some_and(|last| code_hash <= last) {
            continue;
        }
        codes.insert(code_hash, address);
        if codes.len() > MAX_CODES_HELD {
            codes.pop_last();
            is_all = false;
        }
    }
    Ok((codes, is_all))
}

fn write_state(
    snapshot: &Snapshot,
    writer: &mut Writer<impl Write>,
    progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
) -> Result<()> {
    let begun = writer.cursor.account.map(|(path, _)| path);
    for item in snapshot.accounts(begun.unwrap_or(B256::ZERO))? {
        let (path, address, account) = item?;
        // The account that an earlier call has begun stands there already.
        if Some(path) != begun && writer.push(&Entry::Account(address, account), path)? {
            report(progress, &writer.cursor.tally)?;
        }
        let last = writer.cursor.slot;
        for item in snapshot.slots(&address, last.unwrap_or(B256::ZERO))? {
            let (path, slot, value) = item?;
            if Some(path) != last && writer.push(&Entry::Slot(slot, value), path)? {
                report(progress, &writer.cursor.tally)?;
            }
        }
    }
    Ok(())
}

fn require_nothing(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(Error::FileExists { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Goes on behind the last whole chunk of a partial file, or begins it.
fn resume<'f>(
    file: &'f File,
    partial: &Path,
    header: &SnapshotHeader,
    progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
) -> Result<Writer<&'f File>> {
    let encoded = header.encode();
    let other = |found: String| Error::OtherSnapshot { path: partial.to_owned(), found, wanted: header.to_string() };
    let mut begun = Vec::new();
    file.take(encoded.len() as u64).read_to_end(&mut begun).map_err(io_error("read", partial, 0))?;
    let cut = |length| {
        file.set_len(length).map_err(io_error("cut", partial, length))?;
        (&*file).seek(SeekFrom::Start(length)).map_err(io_error("seek", partial, length))
    };
    if begun.len() < encoded.len() && encoded.starts_with(&begun) {
        cut(0)?;
        return Writer::begin(file, partial, header);
    }
    (&*file).rewind().map_err(io_error("seek", partial, 0))?;
    let mut read = match SnapshotFile::begin(file, partial.to_owned()) {
        Ok(read) if read.header == *header => read,
        Ok(read) => return Err(other(read.header.to_string())),
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(_) => return Err(other("something that is no snapshot file of this format".to_owned())),
    };
    loop {
        match read.next_chunk() {
            Ok(Some(_)) => report(progress, &read.cursor.tally)?,
            Err(error) if !error.is_corruption() => return Err(error),
            Ok(None) | Err(_) => break,
        }
    }
    cut(read.cursor.tally.bytes)?;
    Ok(Writer::resume(file, partial, &read))
}
