//! Steps of the log enter index and books.
//!
//! Invariant V4 (rule 5): of two records of a key the one with the higher version is newer, wherever it stands.

use std::sync::atomic::Ordering;

use super::{
    Replay,
    steps::{Entry, Step},
};
use crate::{
    error::Result,
    history::VersionRow,
    key::RecordKey,
    log::{frame::FrameHeader, scan::SegmentFile},
    lookup::{Lookup, Placed},
};

/// Steps whose memory is asked for at once.
const BATCH: usize = 16;

/// Enters steps in the order of the log.
pub(super) struct Entering<'r> {
    replay: &'r mut Replay,
    /// The whole log.
    segments: &'r [SegmentFile],
    /// Of the frame at hand.
    version: u64,
}

impl<'r> Entering<'r> {
    pub(super) fn new(replay: &'r mut Replay, segments: &'r [SegmentFile]) -> Self {
        Self { replay, segments, version: 0 }
    }

    /// Enters a portion. The waits for memory overlap: what is asked for arrives while the two batches before are dealt with.
    pub(super) fn steps(&mut self, steps: &[Step]) -> Result<()> {
        let batch = |number: usize| steps.chunks(BATCH).nth(number).unwrap_or_default();
        self.prefetch(batch(0));
        self.prefetch(batch(1));
        self.prefetch_overflow(batch(0));
        for number in 0..steps.len().div_ceil(BATCH) {
            self.prefetch(batch(number + 2));
            self.prefetch_overflow(batch(number + 1));
            batch(number).iter().try_for_each(|step| self.step(step))?;
        }
        Ok(())
    }

    /// Lines of the index, and what the records most often supersede: what the writer superseded. One behind the other, so that the processor
    /// looks for many of their pages at once.
    fn prefetch(&self, batch: &[Step]) {
        let Lookup { index, table, .. } = &self.replay.lookup;
        entries(batch).for_each(|entry| index.prefetch(entry.hash));
        entries(batch).filter_map(|entry| entry.previous).for_each(|previous| table.prefetch(previous));
    }

    /// What the lines link to.
    fn prefetch_overflow(&self, batch: &[Step]) {
        entries(batch).for_each(|entry| self.replay.lookup.index.prefetch_overflow(entry.hash));
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Changes(header) => self.frame(header),
            Step::Record(entry) => self.record(entry),
            Step::Root { version, root } => {
                if let Some(row) = self.replay.versions.iter_mut().rev().find(|row| row.version == *version) {
                    row.root = Some(*root);
                }
                Ok(())
            }
            Step::Damage { damage, frame } => Err(self.replay.lookup.damage(damage.clone(), *frame)),
        }
    }

    fn frame(&mut self, header: &FrameHeader) -> Result<()> {
        let &FrameHeader { version, position, record_count, .. } = header;
        self.version = version;
        let Replay { versions, replayed, ledger, lookup, horizon, .. } = &mut *self.replay;
        versions.push_back(VersionRow { version, position, root: None });
        replayed.push((version, position + header.frame_bytes() as u64));
        ledger.bury(*horizon);
        if record_count > 0 {
            ledger.add(segment_of(self.segments, position).unwrap_or(0), header.frame_bytes() - FrameHeader::BYTES);
        }
        lookup.index.reserve(record_count as usize)
    }

    /// Enters a record in the books and, if it is newer than what the index has, in the index.
    fn record(&mut self, entry: &Entry) -> Result<()> {
        let Entry { position, hash, key, salt, .. } = entry;
        let Replay { lookup, ledger, from_image, .. } = &mut *self.replay;
        let indexed = lookup.newest(*hash, key)?;
        let older = if *from_image {
            superseded_over_image(lookup, entry, indexed)?
        } else {
            // What `previous` names may be in a segment that is gone, and older than records that are still there.
            indexed.filter(|newest| newest.version < self.version)
        };
        if let Some(Placed { position: old, bytes, .. }) = older
            && let Some(segment) = segment_of(self.segments, old)
        {
            ledger.retire(self.version, segment, bytes);
        }
        match key {
            RecordKey::Wipe(account) => {
                ledger.wipe(*account, self.version);
                lookup.wipes.insert(*account);
            }
            RecordKey::Account(address) if *salt != 0 => {
                ledger.salted.insert(lookup.hasher.account_id(address, *salt), *address);
                lookup.salted.store(true, Ordering::Release);
            }
            _ => {}
        }
        // V4: the index names the record with the highest version.
        match indexed {
            Some(newest) if (newest.version, newest.position) >= (self.version, *position) => {}
            Some(newest) => {
                lookup.index.replace(*hash, newest.position, *position);
            }
            None => lookup.index.insert(*hash, *position),
        }
        Ok(())
    }
}

fn entries(steps: &[Step]) -> impl Iterator<Item = &Entry> {
    steps.iter().filter_map(|step| match step {
        Step::Record(entry) => Some(entry),
        _ => None,
    })
}

/// The record that an entry supersedes where the index may be ahead: the one that `previous` names.
fn superseded_over_image(lookup: &Lookup, entry: &Entry, indexed: Option<Placed>) -> Result<Option<Placed>> {
    match entry.previous {
        // Most often it is what the index has.
        Some(at) if indexed.is_some_and(|newest| newest.position == at) => Ok(indexed),
        Some(at) if lookup.table.segment_of(at).is_some() => lookup.placed(at).map(Some),
        _ => Ok(None),
    }
}

/// Number of the segment that a position lies in. Without the lock of [`SegmentTable`](crate::log::segment::SegmentTable): it is asked for every record.
fn segment_of(segments: &[SegmentFile], position: u64) -> Option<u64> {
    let count = segments.partition_point(|segment| segment.header.start <= position);
    segments[..count].last().filter(|segment| position < segment.end()).map(|segment| segment.number)
}
