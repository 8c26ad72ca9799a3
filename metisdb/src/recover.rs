//! Opening: from files to a running store.
//!
//! ```text
//! superblock -> segments -> image, or nothing -> replay -> repair the tail -> publish
//! ```
//!
//! Invariants:
//! * V1 (rule 4): after an unclean end every frame above the last durable mark is written again and synced, in log order, before
//!   anything is published: the page cache can hold, as clean, what the disk does not.
//! * V2 (rule 3): what stands behind the end of the log is durably overwritten before anything is appended.
//! * V3: recovering a recovered database writes nothing.

use std::sync::Arc;

use crate::{
    checkpoint,
    error::{Error, Result},
    image,
    log::{
        Damage,
        append::{CreateFailure, create_segment},
        scan::{self, Cursor, SegmentFile},
        segment::{self, Identity, SegmentHeader},
    },
    options::Options,
    probe,
    replay::Replay,
    storage::{Lock, Storage, StorageFile},
    store::Store,
    superblock::{self, SegmentRow, Superblock, TopReference, TrieReference},
    trie::arena,
};

/// How a handle is opened.
#[derive(Debug)]
pub(crate) enum Access {
    /// Repairs what a crash left, then writes.
    Write(Box<dyn Lock>),
    /// Writes nothing. `beside_writer`: only what is known to be durable is read.
    Read { beside_writer: bool },
}

/// Names in the folder.
#[derive(Debug, Default)]
struct Folder {
    /// Numbers of segment files, ascending.
    segments: Vec<u64>,
    /// Generations of image files.
    images: Vec<u64>,
}

impl Folder {
    fn list(storage: &dyn Storage) -> Result<Self> {
        let mut folder = Self::default();
        for name in storage.list()? {
            if let Some(number) = segment::parse_file_name(&name) {
                folder.segments.push(number);
            } else if let Some(generation) = image::parse_file_name(&name) {
                folder.images.push(generation);
            } else if arena::parse_file_name(&name).is_some() {
                // Which of them are in use is for the trie to say.
            } else if (0..2).all(|slot| superblock::file_name(slot) != name) && name != "lost+found" {
                return Err(Error::ForeignFile { path: storage.path().join(name) });
            }
        }
        folder.segments.sort_unstable();
        Ok(folder)
    }

    /// Whether a creation was interrupted, or never begun: no commit can be in such a folder.
    fn is_unborn(&self, storage: &dyn Storage) -> Result<bool> {
        let superblocks = superblock::read(storage);
        if matches!(superblocks, Ok(Some(_)) | Err(Error::FormatVersion { .. } | Error::Io { .. })) {
            return superblocks.map(|_| false);
        }
        let ([] | [1]) = self.segments[..] else { return Ok(false) };
        match storage.open(&segment::file_name(1))? {
            None => Ok(true),
            Some(file) => scan::holds_anything(&*file).map(|holds| !holds),
        }
    }
}

/// Makes the files of a new database: first segment, then both superblocks, each durable before the next.
pub(crate) fn create(storage: &dyn Storage, options: &Options) -> Result<()> {
    if !Folder::list(storage)?.is_unborn(storage)? {
        return Err(Error::AlreadyExists { path: storage.path() });
    }
    for slot in 0..2 {
        storage.remove(&superblock::file_name(slot))?;
    }
    storage.sync_directory()?;
    let mut identity = Identity { database_id: [0; 16], seed: [0; 32], segment_bytes: options.segment_bytes };
    storage.entropy(&mut identity.database_id)?;
    storage.entropy(&mut identity.seed)?;
    let header = SegmentHeader::new(&identity, 1, 1, 0, (0, 0));
    create_segment(storage, &header).map_err(CreateFailure::into_error)?;
    let mut superblock = Superblock {
        generation: 1,
        identity,
        checkpoint_position: SegmentHeader::BYTES as u64,
        checkpoint_version: 0,
        checkpoint_sequence: 0,
        checkpoint_chain: 0,
        durable_upto: SegmentHeader::BYTES as u64,
        horizon: 0,
        image: None,
        trie: TrieReference::empty(),
        segments: vec![SegmentRow { number: 1, end: 0 }],
    };
    superblock.write(storage)?;
    superblock.generation = 2;
    superblock.write(storage)
}

/// Opens what is in the folder.
pub(crate) fn open(storage: Arc<dyn Storage>, options: Options, access: Access) -> Result<Store> {
    let folder = Folder::list(&*storage)?;
    if folder.is_unborn(&*storage)? {
        return Err(Error::NotADatabase { path: storage.path() });
    }
    let mut superblocks = superblock::read(&*storage)?.ok_or_else(|| Error::NotADatabase { path: storage.path() })?;
    let on_disk = superblocks.newest.clone();
    if options.rebuild {
        superblocks.newest.image = None;
        superblocks.newest.trie.top = TopReference::Absent;
    }
    let newest = &superblocks.newest.clone();
    let files = open_files(&*storage, &folder, newest)?;
    let last_known = newest.segments.last().map_or(0, |row| row.number);
    let known_end = |number| {
        let row = newest.segments.iter().find(|row| row.number == number)?;
        (row.end != 0).then_some(row.end)
    };
    let segments = scan::open_segments(files, &newest.identity, last_known, known_end)?;
    let mut replay = Replay::begin(storage.clone(), options, newest, &segments)?;
    let mut end = replay.run(newest, &segments)?;
    // Frames that carry nothing readable any more may be gone with their segments; their numbers are not used again.
    end.version = end.version.max(newest.checkpoint_version);
    end.sequence = end.sequence.max(newest.checkpoint_sequence);
    if !replay.from_image {
        // The next checkpoint writes one anew.
        superblocks.newest.image = None;
    }
    match access {
        Access::Write(lock) => {
            let unsynced = rewrite_from(newest, &segments, &replay, &end);
            if let Some(from) = unsynced
                && !probe::skip("rewrite-unsynced")
            {
                rewrite_unsynced(&*storage, &segments, from, end.position)?;
                end.durable_upto = end.position;
            }
            let leaving = repair(&*storage, &folder, &on_disk, superblocks.older.as_ref(), &segments, &replay, &end)?;
            if superblocks.older.is_none() {
                // The other one is damaged or was never written: without a reserve the next damage would be the end.
                superblocks.newest.generation += 1;
                match superblocks.newest.write(&*storage) {
                    Err(error) if error.is_out_of_space() => tracing::warn!(%error, "one superblock stays damaged"),
                    other => other?,
                }
            }
            let store =
                replay.finish(superblocks.newest, &segments, end, superblocks.older.as_ref(), Some(lock), leaving)?;
            if unsynced.is_some() && !probe::skip("recovery-mark") {
                match checkpoint::append_mark(&store, &mut store.writer.lock()) {
                    // Without the mark the next open writes the same end again.
                    Err(error) if error.is_out_of_space() => tracing::warn!(%error, "the recovery is not marked"),
                    other => other?,
                }
            }
            Ok(store)
        }
        Access::Read { beside_writer } => {
            if beside_writer {
                end.version = replay.version_at(end.durable_upto).unwrap_or(superblocks.newest.checkpoint_version);
            }
            replay.finish(superblocks.newest, &segments, end, superblocks.older.as_ref(), None, Vec::new())
        }
    }
}

/// From where on the end of the log is not known to be durable; `None` where nothing but marks is in doubt, which
/// [`Log::reserve`] sees to when they matter.
fn rewrite_from(newest: &Superblock, segments: &[SegmentFile], replay: &Replay, end: &Cursor) -> Option<u64> {
    let last = segments.last()?;
    // The last segment may be in the page cache only, its directory entry included, until a mark in it or a superblock
    // tells otherwise.
    let known = newest.segments.last().is_some_and(|row| row.number >= last.number);
    let first = last.header.start + SegmentHeader::BYTES as u64;
    if !known && end.durable_upto < first {
        return Some(end.durable_upto.min(last.header.start));
    }
    (replay.last_change_end() > end.durable_upto).then_some(end.durable_upto)
}

/// Writes the unsynced end of the log again and syncs it, with the folder (V1).
fn rewrite_unsynced(storage: &dyn Storage, segments: &[SegmentFile], from: u64, to: u64) -> Result<()> {
    tracing::info!(from, to, "making the unsynced end of the log durable");
    scan::rewrite(segments, from, to)?;
    if probe::skip("rewrite-directory-sync") { Ok(()) } else { storage.sync_directory() }
}

/// Opens the segment files that the superblock lists and those made since.
fn open_files(
    storage: &dyn Storage,
    folder: &Folder,
    superblock: &Superblock,
) -> Result<Vec<(u64, Arc<dyn StorageFile>)>> {
    let listed = superblock.segments.iter().map(|row| row.number);
    let last = superblock.segments.last().map_or(0, |row| row.number);
    let mut numbers: Vec<u64> = listed.collect();
    numbers.extend((last + 1..).take_while(|number| folder.segments.binary_search(number).is_ok()));
    if let Some(stray) = folder.segments.last().filter(|number| numbers.last().is_some_and(|last| *number > last)) {
        let got = format!("segment {stray} without the one before it");
        let path = storage.path().join(segment::file_name(*stray));
        return Err(Damage::new("segments without a gap", got).at("log", path, 0));
    }
    let open = |number: u64| {
        let name = segment::file_name(number);
        let file = storage.open(&name)?.ok_or_else(|| {
            Damage::new(format!("segment {number}"), "no such file").at("log", storage.path().join(&name), 0)
        })?;
        Ok((number, file))
    };
    numbers.into_iter().map(open).collect()
}

/// Removes what does not belong to the log that was found (V2). Returns segments that leave with the next checkpoint.
fn repair(
    storage: &dyn Storage,
    folder: &Folder,
    newest: &Superblock,
    older: Option<&Superblock>,
    segments: &[SegmentFile],
    replay: &Replay,
    end: &Cursor,
) -> Result<Vec<u64>> {
    if let Some(last) = segments.last()
        && !probe::skip("erase-behind")
        && scan::erase_behind(last, end.position)?
    {
        tracing::info!(position = end.position, "cut off what an interrupted commit left behind the end of the log");
    }
    let known = |number: &u64| segments.iter().any(|file| file.number == *number);
    let listed = |superblock: &Superblock, number: u64| superblock.segments.iter().any(|row| row.number == number);
    // Behind the last segment stands at most one whose making was interrupted: it holds nothing, and its number is next.
    let last = segments.last().map_or(0, |file| file.number);
    let made_since =
        |older: &Superblock, number: u64| number < last && older.segments.last().is_some_and(|row| row.number < number);
    // K1: a segment that an open by the older superblock would need, one that it lists or that was made since, stays until
    // the next checkpoint.
    let in_older = |number: &u64| older.is_some_and(|older| listed(older, *number) || made_since(older, *number));
    let unknown = folder.segments.iter().copied().filter(|number| !known(number));
    let (leaving, unneeded): (Vec<u64>, Vec<u64>) = unknown.partition(in_older);
    let in_force = if replay.from_image { newest.image.map(|image| image.generation) } else { None };
    let images = folder.images.iter().copied().filter(|generation| Some(*generation) != in_force);
    let names: Vec<String> = unneeded.into_iter().map(segment::file_name).chain(images.map(image::file_name)).collect();
    if !names.is_empty() {
        // The superblock that leaves them out may be in the page cache only.
        newest.write(storage)?;
        for name in names {
            storage.remove(&name)?;
        }
        storage.sync_directory()?;
    }
    Ok(leaving)
}

/// # Errors
/// [`Error::ForeignFile`]; asked before the lock is taken, which makes a file.
pub(crate) fn require_no_foreign_file(storage: &dyn Storage) -> Result<()> {
    Folder::list(storage).map(|_| ())
}

/// # Errors
/// [`Error::NotADatabase`] unless the folder holds one; asked before the lock is taken, which makes a file.
pub(crate) fn require_database(storage: &dyn Storage) -> Result<()> {
    if Folder::list(storage)?.is_unborn(storage)? {
        return Err(Error::NotADatabase { path: storage.path() });
    }
    Ok(())
}
