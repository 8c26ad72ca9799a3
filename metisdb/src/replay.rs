//! From the log to what is in memory: index and books, brought up to date frame by frame.
//!
//! Replay and rebuild are one: over an image it begins at the checkpoint, without one at the oldest segment, with nothing.
//!
//! One thread reads, checks and decodes (`steps`), another one enters what was read (`enter`), in the same order; or one does both (`hand_over`).

mod enter;
mod hand_over;
mod steps;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use parking_lot::{Mutex, RwLock};

use self::{enter::Entering, hand_over::HandOver, steps::Reader};
use crate::{
    error::{Error, Result},
    history::{History, VersionRow},
    image::{self, Books},
    index::Index,
    key::KeyHasher,
    ledger::Ledger,
    log::{
        Damage,
        append::{Log, Tail},
        scan::{self, Cursor, SegmentFile},
        segment::{Segment, SegmentTable},
    },
    lookup::{Lookup, WipeFilter},
    options::Options,
    pins::Pins,
    regrow::{self, Known, Regrowth, State},
    roots::PendingRoots,
    storage::{Lock, Storage},
    store::{CheckpointState, Counters, Store, Writer},
    superblock::{self, Superblock},
    trie::{
        arena::{Arena, Beside, pages::Pages},
        sweep::Position,
    },
    tries::Tries,
};

/// A store being brought up to date.
#[derive(Debug)]
pub(crate) struct Replay {
    options: Options,
    lookup: Lookup,
    ledger: Ledger,
    /// Where replay begins: at the checkpoint if its image was loaded.
    pub(crate) from_image: bool,
    /// Version and end of each frame with changes that was replayed.
    replayed: Vec<(u64, u64)>,
    /// Nothing older was readable at the checkpoint.
    horizon: u64,
    versions: VecDeque<VersionRow>,
    /// Of the arena, at the checkpoint; `None` without an image.
    pages: Option<Pages>,
}

impl Replay {
    /// Maps the segments and loads the image, or begins with nothing.
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        options: Options,
        newest: &Superblock,
        segments: &[SegmentFile],
    ) -> Result<Self> {
        let loaded = newest.image.map(|reference| image::read(&*storage, newest, reference));
        let (index, books, from_image) = match loaded {
            Some(Ok((index, books))) => (index, Some(books), true),
            Some(Err(error)) if !image::is_mendable(&error) => return Err(error),
            other => {
                if let Some(Err(error)) = other {
                    tracing::warn!(%error, "the index image is not usable; rebuilding the index from the log");
                }
                (Index::new(options.initial_lines_log2())?, None, false)
            }
        };
        let (ledger, versions, pages) = match books {
            Some(Books { ledger, versions, pages }) => (ledger, versions, Some(pages)),
            None => (Ledger::default(), VecDeque::from([VersionRow::EMPTY]), None),
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
            salted: AtomicBool::new(!ledger.salted.is_empty() || hasher.has_weak_ids()),
            hasher,
            wipes,
            verify_every_read: options.verify_every_read,
            storage,
        };
        Ok(Self { options, lookup, ledger, from_image, replayed: Vec::new(), horizon: newest.horizon, versions, pages })
    }

    /// Reads the log from the checkpoint, or from its oldest segment, to its end.
    pub(crate) fn run(&mut self, newest: &Superblock, segments: &[SegmentFile]) -> Result<Cursor> {
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
        let (hasher, threads) = (self.lookup.hasher.clone(), self.options.most_threads());
        let entering = Mutex::new(Entering::new(self, segments));
        thread::scope(|scope| {
            let mut hand_over = HandOver::new(scope, &entering, threads);
            let mut reader = Reader::new(hasher, |portion| hand_over.portion(portion));
            let read = scan::frames(&segments[skipped..], cursor, |header, bytes| reader.frame(header, bytes));
            let rest = reader.rest();
            // What stands first in the log fails first.
            hand_over.finish(&rest)?;
            read
        })
    }

    /// End of the last frame with changes; 0 where none was replayed.
    pub(crate) fn last_change_end(&self) -> u64 {
        self.replayed.last().map_or(0, |(_, end)| *end)
    }

    /// The newest version all of whose bytes lie below a position, among those replayed.
    pub(crate) fn version_at(&self, position: u64) -> Option<u64> {
        let count = self.replayed.partition_point(|(_, end)| *end <= position);
        self.replayed[..count].last().map(|(version, _)| *version)
    }

    /// The tries to begin with, what is left to do for that of the version that is shown, and the rows of the versions up to it.
    fn begin_tries(
        &mut self,
        newest: &Superblock,
        segments: &[SegmentFile],
        end: &Cursor,
        writes: bool,
    ) -> Result<(Tries, Option<Regrowth>, History)> {
        while self.versions.back().is_some_and(|row| row.version > end.version) {
            self.versions.pop_back();
        }
        let mut segments = segments.to_vec();
        if let Some(last) = segments.last_mut() {
            last.known_end = Some(end.position);
        }
        let known = Known {
            superblock: newest.clone(),
            segments,
            version: end.version,
            root: self.versions.back().and_then(|row| row.root),
            spill_bytes: writes.then_some(self.options.max_unwritten_trie_bytes),
            threads: self.options.most_threads(),
        };
        let state = State { lookup: &self.lookup, salted: &self.ledger.salted };
        let beside = (!writes).then_some(Beside {
            newest_birth: newest.trie.generation,
            generation: newest.generation,
            newest_generation: superblock::newest_generation,
        });
        let arena = Arena::open(self.lookup.storage.clone(), newest.identity, beside)?;
        let scheme = self.options.scheme();
        let history = History::new(std::mem::take(&mut self.versions));
        let frames = history.positions(newest.checkpoint_version, end.version);
        let (tries, regrowth) = regrow::begin(known, state, frames, arena, (scheme, self.pages.take()))?;
        if regrowth.is_none() {
            history.set_root(end.version, tries.newest().1.trie.root);
        }
        Ok((tries, regrowth, history))
    }

    /// Puts the store together.
    pub(crate) fn finish(
        mut self,
        newest: Superblock,
        segments: &[SegmentFile],
        end: Cursor,
        older: Option<&Superblock>,
        lock: Option<Box<dyn Lock>>,
        leaving: Vec<u64>,
    ) -> Result<Store> {
        // Who only reads drops nothing, and sees what the writer has kept.
        let retained = if lock.is_some() { self.options.retain_versions } else { u64::MAX };
        let horizon = newest.horizon.max(end.version.saturating_sub(retained)).min(end.version);
        self.ledger.bury(horizon);
        self.ledger.reclaimed_bytes = 0;
        let older_trie_sequence = older.map_or(newest.trie.sequence, |older| older.trie.sequence);
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
        let (tries, regrowth, history) = self.begin_tries(&newest, segments, &end, lock.is_some())?;
        history.forget_before(horizon);
        let checkpoint_position = if self.from_image { newest.checkpoint_position } else { 0 };
        tracing::info!(version = end.version, keys = self.lookup.index.entries(), from_image = self.from_image, "open");
        Ok(Store {
            options: self.options,
            pins: Pins::new(end.version, horizon),
            tries,
            history,
            log,
            lookup: self.lookup,
            pending: PendingRoots::new(regrowth),
            checkpoint_position: checkpoint_position.into(),
            writer: Writer { tail, ledger: self.ledger }.into(),
            checkpoint: CheckpointState {
                newest,
                leaving,
                proven: false,
                older_trie_sequence,
                next_swept: Position::new(),
                ahead_bytes: 0,
            }
            .into(),
            files: RwLock::default(),
            counters: Counters::default(),
            lock,
            process: std::process::id(),
        })
    }
}
