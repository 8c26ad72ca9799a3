//! Opening: from files to a running store.
//!
//! ```text
//! superblock -> segments -> image, or nothing -> replay -> repair the tail -> publish
//! ```
//!
//! Replay and rebuild are one: without an image the replay begins at the oldest segment.
//!
//! Invariants:
//! * V1 (rule 4): after an unclean end every frame above the last durable mark is written again and synced, in log order, before
//!   anything is published: the page cache can hold, as clean, what the disk does not.
//! * V2 (rule 3): what stands behind the end of the log is durably overwritten before anything is appended.
//! * V3: recovering a recovered database writes nothing.
//! * V4 (rule 5): of two records of a key the one with the higher version is newer, wherever it stands.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    checkpoint,
    error::{Error, Result},
    image,
    index::Index,
    key::KeyHasher,
    ledger::Ledger,
    log::{
        Damage,
        append::{CreateFailure, Log, Tail, create_segment},
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        scan::{self, Cursor, SegmentFile},
        segment::{self, Identity, Segment, SegmentHeader, SegmentTable},
    },
    lookup::{Found, Lookup, WipeFilter},
    options::Options,
    pins::Pins,
    probe,
    storage::{Lock, Storage, StorageFile},
    store::{CheckpointState, Counters, Store, Writer},
    superblock::{self, SegmentRow, Superblock, Superblocks},
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
    superblocks: usize,
}

impl Folder {
    fn list(storage: &dyn Storage) -> Result<Self> {
        let mut folder = Self::default();
        for name in storage.list()? {
            if let Some(number) = segment::parse_file_name(&name) {
                folder.segments.push(number);
            } else if let Some(generation) = image::parse_file_name(&name) {
                folder.images.push(generation);
            } else if (0..2).any(|slot| superblock::file_name(slot) == name) {
                folder.superblocks += 1;
            } else if name != "lost+found" {
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
    let newest = &superblocks.newest.clone();
    let files = open_files(&*storage, &folder, newest)?;
    let last_known = newest.segments.last().map_or(0, |row| row.number);
    let known_end = |number| {
        let row = newest.segments.iter().find(|row| row.number == number)?;
        (row.end != 0).then_some(row.end)
    };
    let segments = scan::open_segments(files, &newest.identity, last_known, known_end)?;
    let mut recovery = Recovery::begin(storage.clone(), options, newest, &segments)?;
    let mut end = recovery.replay(newest, &segments)?;
    // Frames that carry nothing readable any more may be gone with their segments; their numbers are not used again.
    end.version = end.version.max(newest.checkpoint_version);
    end.sequence = end.sequence.max(newest.checkpoint_sequence);
    if !recovery.from_image {
        // The next checkpoint writes one anew.
        superblocks.newest.image = None;
    }
    match access {
        Access::Write(lock) => {
            let unsynced = rewrite_from(newest, &segments, &recovery, &end);
            if let Some(from) = unsynced
                && !probe::skip("rewrite-unsynced")
            {
                rewrite_unsynced(&*storage, &segments, from, end.position)?;
                end.durable_upto = end.position;
            }
            let leaving = repair(&*storage, &folder, &superblocks, &segments, &end)?;
            if superblocks.older.is_none() {
                // The other one is damaged or was never written: without a reserve the next damage would be the end.
                superblocks.newest.generation += 1;
                match superblocks.newest.write(&*storage) {
                    Err(error) if error.is_out_of_space() => tracing::warn!(%error, "one superblock stays damaged"),
                    other => other?,
                }
            }
            let store = recovery.finish(superblocks.newest, &segments, end, Some(lock), leaving)?;
            if unsynced.is_some() {
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
                end.version = recovery.version_at(end.durable_upto).unwrap_or(superblocks.newest.checkpoint_version);
            }
            recovery.finish(superblocks.newest, &segments, end, None, Vec::new())
        }
    }
}

/// From where on the end of the log is not known to be durable; `None` where nothing but marks is in doubt, which
/// [`Log::reserve`] sees to when they matter.
fn rewrite_from(newest: &Superblock, segments: &[SegmentFile], recovery: &Recovery, end: &Cursor) -> Option<u64> {
    let last = segments.last()?;
    // The last segment may be in the page cache only, its directory entry included, until a mark in it or a superblock
    // tells otherwise.
    let known = newest.segments.last().is_some_and(|row| row.number >= last.number);
    let first = last.header.start + SegmentHeader::BYTES as u64;
    if !known && end.durable_upto < first {
        return Some(end.durable_upto.min(last.header.start));
    }
    (recovery.last_change_end() > end.durable_upto).then_some(end.durable_upto)
}

/// Writes the unsynced end of the log again and syncs it, with the folder (V1).
fn rewrite_unsynced(storage: &dyn Storage, segments: &[SegmentFile], from: u64, to: u64) -> Result<()> {
    tracing::info!(from, to, "making the unsynced end of the log durable");
    scan::rewrite(segments, from, to)?;
    storage.sync_directory()
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

/// A store being brought up to date.
struct Recovery {
    options: Options,
    lookup: Lookup,
    ledger: Ledger,
    /// Where replay begins: at the checkpoint if its image was loaded.
    from_image: bool,
    /// Version and end of each frame with changes that was replayed.
    replayed: Vec<(u64, u64)>,
    /// Nothing older was readable at the checkpoint.
    horizon: u64,
}

impl Recovery {
    /// Maps the segments and loads the image, or begins with nothing.
    fn begin(
        storage: Arc<dyn Storage>,
        options: Options,
        newest: &Superblock,
        segments: &[SegmentFile],
    ) -> Result<Self> {
        let loaded = newest.image.map(|reference| image::read(&*storage, newest, reference));
        let (index, ledger, from_image) = match loaded {
            Some(Ok((index, ledger))) => (index, ledger, true),
            Some(Err(error)) if !image::is_mendable(&error) => return Err(error),
            other => {
                if let Some(Err(error)) = other {
                    tracing::warn!(%error, "the index image is not usable; rebuilding the index from the log");
                }
                (Index::new(options.initial_lines_log2())?, Ledger::default(), false)
            }
        };
        let table = SegmentTable::new(newest.identity.segment_bytes);
        for file in segments {
            table.insert(Arc::new(Segment::map(file.file.clone(), &file.header)?));
        }
        let hasher = KeyHasher::new(&newest.identity.seed);
        #[cfg(test)]
        let hasher = hasher.with_weak_ids(options.account_id_mask);
        let wipes = WipeFilter::new();
        for account in ledger.wiped.keys() {
            wipes.insert(*account);
        }
        let lookup = Lookup {
            index,
            table,
            salted: AtomicBool::new(ledger.salted || hasher.has_weak_ids()),
            hasher,
            wipes,
            verify_every_read: options.verify_every_read,
            storage,
        };
        Ok(Self { options, lookup, ledger, from_image, replayed: Vec::new(), horizon: newest.horizon })
    }

    /// Reads the log from the checkpoint, or from its oldest segment, to its end.
    fn replay(&mut self, newest: &Superblock, segments: &[SegmentFile]) -> Result<Cursor> {
        let first = segments
            .first()
            .ok_or_else(|| Damage::new("at least one segment", "none").at("log", self.lookup.storage.path(), 0))?;
        let (skipped, cursor) = if self.from_image {
            let holds = |file: &SegmentFile| (file.header.start + 1..=file.end()).contains(&newest.checkpoint_position);
            let skipped = segments.iter().position(holds).ok_or_else(|| {
                let expected = format!("a segment with position {}", newest.checkpoint_position);
                Damage::new(expected, "none").at("log", self.lookup.storage.path(), 0)
            })?;
            let cursor = Cursor {
                position: newest.checkpoint_position,
                version: newest.checkpoint_version,
                sequence: newest.checkpoint_sequence,
                chain: newest.checkpoint_chain,
                nonce: None,
                durable_upto: newest.durable_upto,
            };
            (skipped, cursor)
        } else {
            let start = Cursor::at_start_of(&first.header);
            (0, Cursor { durable_upto: start.durable_upto.max(newest.durable_upto), ..start })
        };
        scan::frames(&segments[skipped..], cursor, |header, bytes| self.replay_frame(header, bytes))
    }

    fn replay_frame(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<()> {
        if header.known_kind() != Ok(FrameKind::Changes) {
            return Ok(());
        }
        self.replayed.push((header.version, header.position + header.frame_bytes() as u64));
        self.ledger.bury(self.horizon);
        self.lookup.index.reserve(header.record_count as usize)?;
        let segment = self.lookup.table.segment_of(header.position).map_or(0, |segment| segment.number);
        frame::records(header, bytes, |position, record, padded| -> Result<(), Replayed> {
            self.replay_record(segment, position, &record, padded).map_err(Replayed::Failed)
        })
        .map_err(|failure| match failure {
            Replayed::Failed(error) => error,
            Replayed::Damage(damage) => self.lookup.damage(damage, header.position),
        })
    }

    /// Enters one record in the books and, if it is newer than what the index has, in the index.
    fn replay_record(&mut self, segment: u64, position: u64, record: &Record<'_>, padded: usize) -> Result<()> {
        self.ledger.add(segment, padded);
        let key = record.body.key();
        let indexed = self.lookup.find_key(&key, u64::MAX)?;
        let previous = Self::superseded(&self.lookup, self.from_image, record, indexed)?;
        if let Some((old, superseded)) = &previous {
            self.ledger.retire(record.version, *old, superseded.body.padded_bytes());
        }
        match record.body {
            Body::Slot { account, value, .. } => {
                let was_set = previous.is_some_and(|(_, old)| {
                    matches!(old.body, Body::Slot { value, .. } if !value.is_zero())
                        && !self.ledger.is_wiped(account, old.version)
                });
                self.ledger.count_slot(account, was_set, !value.is_zero());
            }
            Body::Wipe { account } => {
                self.ledger.wipe(account, record.version);
                self.lookup.wipes.insert(account);
            }
            Body::Account { stored, .. } if stored.salt != 0 => {
                self.ledger.salted = true;
                self.lookup.salted.store(true, Ordering::Release);
            }
            _ => {}
        }
        // V4: the index names the record with the highest version.
        let hash = self.lookup.hasher.record(&key);
        match indexed {
            Some(found) if (found.record.version, found.position) >= (record.version, position) => {}
            Some(found) => {
                self.lookup.index.replace(hash, found.position, position);
            }
            None => self.lookup.index.insert(hash, position),
        }
        Ok(())
    }

    /// The record that this one supersedes, with its segment. Over an image, which may be ahead, it is the one that
    /// `previous` names. In a rebuild it is the newest that was read: `previous` may lead to a segment that is gone, and past records
    /// that are still there.
    fn superseded<'l>(
        lookup: &'l Lookup,
        from_image: bool,
        record: &Record<'_>,
        indexed: Option<Found<'l>>,
    ) -> Result<Option<(u64, Record<'l>)>> {
        let older = if from_image {
            match record.previous {
                Some(at) if lookup.table.segment_of(at).is_some() => Some((at, lookup.load(at, false)?)),
                _ => None,
            }
        } else {
            indexed.filter(|found| found.record.version < record.version).map(|found| (found.position, found.record))
        };
        Ok(older.and_then(|(at, older)| Some((lookup.table.segment_of(at)?.number, older))))
    }

    /// End of the last frame with changes; 0 where none was replayed.
    fn last_change_end(&self) -> u64 {
        self.replayed.last().map_or(0, |(_, end)| *end)
    }

    /// The newest version all of whose bytes lie below a position, among those replayed.
    fn version_at(&self, position: u64) -> Option<u64> {
        let count = self.replayed.partition_point(|(_, end)| *end <= position);
        self.replayed[..count].last().map(|(version, _)| *version)
    }

    /// Puts the store together.
    fn finish(
        mut self,
        newest: Superblock,
        segments: &[SegmentFile],
        end: Cursor,
        lock: Option<Box<dyn Lock>>,
        leaving: Vec<u64>,
    ) -> Result<Store> {
        let horizon = newest.horizon.max(end.version.saturating_sub(self.options.retain_versions)).min(end.version);
        self.ledger.bury(horizon);
        self.ledger.reclaimed_bytes = 0;
        let last = segments.last().map_or(0, |file| file.header.start);
        let segment =
            self.lookup.table.segment_of(last).ok_or(Error::NotADatabase { path: self.lookup.storage.path() })?;
        let mut nonce = [0; 8];
        self.lookup.storage.entropy(&mut nonce)?;
        let tail = Tail {
            segment,
            position: end.position,
            reserved_upto: end.position,
            chain: end.chain,
            sequence: end.sequence,
            nonce: u64::from_le_bytes(nonce),
            session_opened: false,
        };
        let log = Log::new(self.lookup.storage.clone(), newest.identity, &tail, end.durable_upto.min(end.position));
        let checkpoint_position = if self.from_image { newest.checkpoint_position } else { 0 };
        tracing::info!(version = end.version, keys = self.lookup.index.entries(), from_image = self.from_image, "open");
        Ok(Store {
            options: self.options,
            pins: Pins::new(end.version, horizon),
            log,
            lookup: self.lookup,
            writer: Writer { tail, ledger: self.ledger, checkpoint_position }.into(),
            checkpoint: CheckpointState { newest, leaving, proven: false }.into(),
            counters: Counters::default(),
            lock,
            process: std::process::id(),
        })
    }
}

/// Why replaying a frame stopped.
enum Replayed {
    Damage(Damage),
    Failed(Error),
}

impl From<Damage> for Replayed {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Removes what does not belong to the log that was found (V2). Returns segments that leave with the next checkpoint.
fn repair(
    storage: &dyn Storage,
    folder: &Folder,
    superblocks: &Superblocks,
    segments: &[SegmentFile],
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
    let in_older = |number: &u64| superblocks.older.as_ref().is_some_and(|older| listed(older, *number));
    // K1: a segment that the older superblock still lists stays until the next checkpoint.
    let unknown = folder.segments.iter().copied().filter(|number| !known(number));
    let (leaving, unneeded): (Vec<u64>, Vec<u64>) = unknown.partition(in_older);
    let in_force = superblocks.newest.image.map(|image| image.generation);
    let images = folder.images.iter().copied().filter(|generation| Some(*generation) != in_force);
    let names: Vec<String> = unneeded.into_iter().map(segment::file_name).chain(images.map(image::file_name)).collect();
    if !names.is_empty() {
        // The superblock that leaves them out may be in the page cache only.
        superblocks.newest.write(storage)?;
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
