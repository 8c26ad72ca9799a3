//! Examining a database: the files against their checksums, the index against the log.

use crate::{
    audit,
    error::{Error, Result},
    image,
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        scan::{self, Cursor, SegmentFile},
        segment::SegmentHeader,
    },
    snapshot::Snapshot,
    store::{Shared, Store},
    superblock::{self, SegmentRow},
};

/// Records that are looked for at once, so that the waits for memory overlap.
const BATCH: usize = 64;

/// How thoroughly [`Db::check`](crate::Db::check) looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CheckLevel {
    /// Superblocks, the headers of all files, and the image of the index. Reads little.
    #[default]
    Quick,
    /// All of that; every frame and every record of the log; and for every record that a readable version can reach, that
    /// the index leads to it. Then the trie: every node against its hash, every leaf against its record, and the root of every
    /// version that can be read, computed and compared with the one that was committed. Reads the whole log and the whole trie.
    Full,
}

/// What was examined and found sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Files of the log.
    pub segments: u64,
    /// Sound superblocks; with one of two the database is sound but has lost its reserve.
    pub superblocks: u64,
    /// Whether an image of the index is in force and sound. Without one the next open reads the whole log.
    pub image: bool,
    /// Commits read in the log.
    pub commits: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the frames read.
    pub log_bytes: u64,
    /// Records that are the newest of their key.
    pub newest_records: u64,
    /// Branches of the newest version's trie, each read and hashed.
    pub trie_nodes: u64,
    /// Accounts in it, each compared with its record.
    pub accounts: u64,
    /// Slots in it, each compared with its record.
    pub slots: u64,
    /// Versions whose root was computed and compared with the one that was committed.
    pub roots: u64,
}

pub(crate) fn check(store: &Shared, level: CheckLevel) -> Result<CheckReport> {
    // Holding it keeps every file where it is.
    let _files = store.files.read();
    let storage = &*store.lookup.storage;
    let (newest, superblocks) = {
        // Neither is being written.
        let state = store.checkpoint.lock();
        (state.newest.clone(), superblock::read(storage)?)
    };
    let superblocks = superblocks.ok_or_else(|| Error::NotADatabase { path: storage.path() })?;
    let mut report = CheckReport { superblocks: 1 + u64::from(superblocks.older.is_some()), ..CheckReport::default() };
    if let Some(reference) = newest.image {
        report.image = match image::read(storage, &newest, reference) {
            Ok(_) => true,
            Err(error) if image::is_mendable(&error) => false,
            Err(error) => return Err(error),
        };
    }
    let (files, snapshot, floor) = files(store, &newest.segments)?;
    report.segments = files.len() as u64;
    if level == CheckLevel::Full {
        let version = snapshot.version();
        let mut examination =
            Examination { store, version, floor, live_accounts: 0, live_slots: 0, report: &mut report };
        examination.run(&files)?;
        let live = (examination.live_accounts, examination.live_slots);
        audit_trie(store, &snapshot, live, &mut report)?;
    }
    Ok(report)
}

/// The trie, and the roots of all versions that stay readable while they are looked at.
fn audit_trie(store: &Shared, snapshot: &Snapshot, live: (u64, u64), report: &mut CheckReport) -> Result<()> {
    let oldest = (store.pins.horizon()..=snapshot.version()).find_map(|version| snapshot.at(version).ok());
    // Neither expires meanwhile.
    let _reading = (snapshot.begin_read()?, oldest.as_ref().map(Snapshot::begin_read).transpose()?);
    let oldest_version = oldest.as_ref().map_or(snapshot.version(), Snapshot::version);
    let found = audit::audit(store, snapshot, oldest_version)?;
    report.trie_nodes = found.nodes;
    report.accounts = found.accounts;
    report.slots = found.slots;
    report.roots = found.roots;
    if (found.accounts, found.slots) != live {
        let expected = format!("{} accounts and {} slots, as in the log", live.0, live.1);
        let damage = Damage::new(expected, format!("{} and {}", found.accounts, found.slots));
        return Err(damage.at("trie", store.lookup.storage.path(), 0));
    }
    Ok(())
}

/// The files of the log as they are now, the last one up to its newest frame; a snapshot of the newest version in them; and the oldest
/// that is readable.
fn files(store: &Shared, rows: &[SegmentRow]) -> Result<(Vec<SegmentFile>, Snapshot, u64)> {
    let writer = store.writer.lock();
    let segments = store.lookup.table.all();
    let mut files: Vec<SegmentFile> = Vec::with_capacity(segments.len());
    for segment in &segments {
        let header = SegmentHeader::read(&*segment.file, &store.log.identity, segment.number)?;
        if let Some(before) = files.last_mut()
            && before.number + 1 == segment.number
        {
            before.known_end = Some(header.previous_end);
        }
        let row = rows.iter().find(|row| row.number == segment.number && row.end != 0);
        let known_end = row.map(|row| row.end);
        files.push(SegmentFile { number: segment.number, file: segment.file.clone(), header, known_end });
    }
    if let Some(last) = files.last_mut() {
        last.known_end = Some(writer.tail.position);
    }
    let floor = store.pins.oldest_pinned().unwrap_or(u64::MAX).min(store.pins.horizon());
    Ok((files, Snapshot::new(store.clone(), store.pins.pin_newest()), floor))
}

struct Examination<'s> {
    store: &'s Store,
    version: u64,
    floor: u64,
    live_accounts: u64,
    live_slots: u64,
    report: &'s mut CheckReport,
}

impl Examination<'_> {
    fn run(&mut self, files: &[SegmentFile]) -> Result<()> {
        let Some(first) = files.first() else { return Ok(()) };
        let start = Cursor::at_start_of(&first.header);
        scan::frames(files, start, |header, bytes| self.frame(header, bytes))?;
        Ok(())
    }

    fn frame(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<()> {
        self.report.log_bytes += bytes.len() as u64;
        if header.known_kind() != Ok(FrameKind::Changes) {
            return Ok(());
        }
        self.report.commits += 1;
        let (mut batch, mut outcome) = (Vec::with_capacity(BATCH), Ok(()));
        frame::records(header, bytes, |position, record, _| -> Result<(), Damage> {
            batch.push((position, record));
            if batch.len() == BATCH {
                outcome = std::mem::replace(&mut outcome, Ok(())).and_then(|()| self.records(&batch));
                batch.clear();
            }
            Ok(())
        })
        .map_err(|damage| self.store.lookup.damage(damage, header.position))?;
        outcome.and_then(|()| self.records(&batch))
    }

    fn records(&mut self, batch: &[(u64, Record<'_>)]) -> Result<()> {
        let lookup = &self.store.lookup;
        let hashes: Vec<u64> = batch.iter().map(|(_, record)| lookup.hasher.record(&record.body.key())).collect();
        lookup.prefetch(&hashes);
        batch.iter().try_for_each(|(position, record)| self.record(*position, record))
    }

    /// The index leads to the newest record of each key, and from there to each that a readable version needs.
    fn record(&mut self, position: u64, record: &Record<'_>) -> Result<()> {
        self.report.records += 1;
        if record.version > self.version {
            return Ok(());
        }
        let lookup = &self.store.lookup;
        let key = record.body.key();
        match lookup.find_key(&key, self.version)? {
            Some(newest) if newest.position == position => {
                self.report.newest_records += 1;
                self.count_live(record)
            }
            Some(newest) if newest.record.version > record.version => {
                if record.version < self.floor {
                    return Ok(());
                }
                let found = lookup.find_key(&key, record.version)?;
                self.expect(found.map(|found| found.position), position)
            }
            other => self.expect(other.map(|other| other.position), position),
        }
    }

    /// Counts what has a leaf in the trie.
    fn count_live(&mut self, newest: &Record<'_>) -> Result<()> {
        let lookup = &self.store.lookup;
        match newest.body {
            Body::Account { .. } => self.live_accounts += 1,
            Body::Slot { account, value, .. } if !value.is_zero() => {
                let hidden =
                    lookup.wipes.may_contain(account) && lookup.is_wiped(account, newest.version, self.version)?;
                self.live_slots += u64::from(!hidden);
            }
            _ => {}
        }
        Ok(())
    }

    fn expect(&self, found: Option<u64>, position: u64) -> Result<()> {
        if found == Some(position) {
            return Ok(());
        }
        let got = found.map_or("nothing".to_string(), |other| format!("position {other}"));
        Err(self.store.lookup.damage(Damage::new("an index that leads to this record", got), position))
    }
}
