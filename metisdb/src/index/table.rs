//! The table itself and the writer's side of it: placing entries, splitting lines.

#[cfg(test)]
mod audit;

use std::{io, mem};

use super::{
    entry::{Entry, Marker, TAG_BITS},
    memory::{Chunks, LINK_SLOT, Line, SLOTS},
};
use crate::{
    probe,
    sync::{self, AtomicU64, Ordering},
};

/// A table is due for a split with more than `FILL.0` entries per `FILL.1` lines: 5.4 in a line.
/// Fewer make the table larger, more make overflow lines and thus lookups of two lines frequent.
const FILL: (u64, u64) = (sync::size(27, 2) as u64, sync::size(5, 1) as u64);

/// Initial sizes beyond this one are refused.
pub(crate) const MAX_LINES_LOG2: u32 = 28;

/// The first chunk of overflow lines has an eighth of the initial lines, but at least `2^4`.
const OVERFLOW_SHARE_LOG2: u32 = 3;
const MIN_OVERFLOW_LOG2: u32 = sync::size(4, 1) as u32;

/// Number of overflow lines that hold, with the line they hang on, that many entries.
pub(super) fn overflow_lines_for(entries: usize) -> usize {
    entries.saturating_sub(SLOTS).div_ceil(SLOTS - 1)
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Table {
    /// Binary logarithm of the initial number of lines: the hash bits that tags leave out.
    initial_log2: u32,
    marker: AtomicU64,
    lines: Chunks,
    overflow: Chunks,
}

/// What only the writer uses.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// While not 0, lines are not split.
    pub(super) pauses: u32,
    /// Overflow lines from this one on were never used.
    unused: u64,
    /// Overflow lines that may be written again.
    free: Vec<u64>,
    /// Overflow lines cut off since the last split began: readers may still be on them.
    cut_off: Vec<u64>,
    /// Of the split at work: the overflow lines of the line that is split.
    chain: Vec<u64>,
    /// Of the split at work: the entries that move.
    moved: Vec<Entry>,
}

impl Writer {
    /// Number of overflow lines in a chain.
    pub(super) fn overflow_lines(&self) -> u64 {
        self.unused - (self.free.len() + self.cut_off.len()) as u64
    }

    /// Number of overflow lines ever used, those free by now included.
    pub(super) fn overflow_lines_touched(&self) -> u64 {
        self.unused
    }

    fn take_overflow(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        })
    }
}

impl Table {
    /// A table without memory; `marker` must be of at least this initial size.
    pub(super) fn new(initial_log2: u32, marker: Marker) -> Self {
        let overflow_log2 = initial_log2.saturating_sub(OVERFLOW_SHARE_LOG2).max(MIN_OVERFLOW_LOG2);
        Self {
            initial_log2,
            marker: AtomicU64::new(marker.0),
            lines: Chunks::new(initial_log2),
            overflow: Chunks::new(overflow_log2),
        }
    }

    /// Binary logarithm of the initial number of lines.
    pub(super) fn initial_log2(&self) -> u32 {
        self.initial_log2
    }

    /// The tag of a hash.
    #[inline]
    pub(super) fn tag_of(&self, hash: u64) -> u32 {
        (hash >> self.initial_log2) as u32 & ((1 << TAG_BITS) - 1)
    }

    /// The marker, and all that was stored before it.
    #[inline]
    pub(super) fn marker(&self) -> Marker {
        Marker(self.marker.load(Ordering::Acquire))
    }

    /// A line of the table.
    #[inline]
    pub(super) fn line(&self, number: u64) -> &Line {
        self.lines.line(number)
    }

    /// The overflow line that the last slot of `line` links to.
    #[inline]
    pub(super) fn following(&self, line: &Line) -> Option<&Line> {
        let overflow = line.get(LINK_SLOT).linked()?;
        Some(self.overflow.line(overflow))
    }

    /// An overflow line.
    #[inline]
    pub(super) fn overflow_line(&self, number: u64) -> &Line {
        self.overflow.line(number)
    }

    /// The most entries that the table can ever hold.
    pub(super) fn max_entries(&self) -> u64 {
        (1 << (self.initial_log2 + TAG_BITS)) * FILL.0 / FILL.1
    }

    /// Maps the lines of a table with that marker.
    pub(super) fn ensure_lines(&self, marker: Marker) -> io::Result<()> {
        self.lines.ensure(marker.lines())
    }

    /// Maps what `inserts` more entries can need, splits included.
    ///
    /// With `u` overflow lines in chains after the inserts, three times `u` suffice: a split adds
    /// none to them, since the two lines hold one by one more entries without overflow; while it
    /// builds the new line's chain, at most `u` lines are in that; and the lines cut off by the
    /// split before are at most two more than those it kept or built.
    pub(super) fn ensure_room(&self, writer: &Writer, entries: u64, inserts: u64) -> io::Result<()> {
        let entries = entries + inserts;
        self.lines.ensure((entries * FILL.1).div_ceil(FILL.0))?;
        let chained = (writer.overflow_lines() + inserts).min(entries / (SLOTS as u64 - 1));
        self.overflow.ensure(3 * chained + 8)
    }

    /// Maps what the overflow lines of a table that is being rebuilt need.
    pub(super) fn ensure_overflow(&self, writer: &Writer, more: u64) -> io::Result<()> {
        self.overflow.ensure(writer.unused + more)
    }

    /// Whether the table has too many entries for its lines.
    pub(super) fn is_crowded(&self, entries: u64) -> bool {
        entries * FILL.1 > self.marker().lines() * FILL.0
    }

    /// Puts an entry into the first free slot of a chain.
    pub(super) fn place(&self, writer: &mut Writer, first: &Line, entry: Entry) {
        let mut line = first;
        loop {
            if let Some(slot) = (0..SLOTS).find(|&slot| line.get(slot) == Entry::EMPTY) {
                return line.set(slot, entry);
            }
            match self.following(line) {
                Some(next) => line = next,
                None => {
                    self.extend(writer, line, entry);
                    return;
                }
            }
        }
    }

    /// Hangs an overflow line onto a full line; it takes over the last entry and gets the new one.
    fn extend(&self, writer: &mut Writer, line: &Line, entry: Entry) -> &Line {
        let number = writer.take_overflow();
        let overflow = self.overflow.line(number);
        for slot in 2..SLOTS {
            overflow.set(slot, Entry::EMPTY);
        }
        overflow.set(0, line.get(LINK_SLOT));
        overflow.set(1, entry);
        probe::pause("index-extend");
        line.set(LINK_SLOT, Entry::link(number));
        overflow
    }

    /// Splits the next line.
    pub(super) fn split(&self, writer: &mut Writer) {
        let before = self.marker();
        let old = self.line(before.split());
        let moves = 1 << (before.level() - self.initial_log2);
        let staying = self.sort_out(writer, old, moves);
        if probe::skip("index-copy-before-clear") {
            self.clear_moved(writer, old, moves);
        }

        let moved = mem::take(&mut writer.moved);
        let mut new = Filler::new(self, self.line(before.split() | 1 << before.level()));
        for &entry in &moved {
            new.push(writer, entry);
        }
        writer.moved = moved;
        probe::pause("index-split-copied");

        let after = before.next();
        self.publish(after);
        writer.free.append(&mut writer.cut_off);
        probe::pause("index-split-published");

        self.clear_moved(writer, old, moves);
        probe::pause("index-split-cleared");
        self.shorten(writer, old, staying, after);
    }

    fn publish(&self, marker: Marker) {
        self.marker.store(marker.0, probe::order("index-marker-order", Ordering::Release));
    }

    /// Notes the chain of a line and its entries that move; returns the number of the others.
    fn sort_out(&self, writer: &mut Writer, old: &Line, moves: u32) -> usize {
        writer.chain.clear();
        writer.moved.clear();
        let mut staying = 0;
        let mut line = old;
        loop {
            let mut link = None;
            for entry in (0..SLOTS).map(|slot| line.get(slot)) {
                if !entry.is_record() {
                    link = link.or(entry.linked());
                } else if entry.tag() & moves == 0 {
                    staying += 1;
                } else {
                    writer.moved.push(entry);
                }
            }
            let Some(number) = link else {
                return staying;
            };
            writer.chain.push(number);
            line = self.overflow.line(number);
        }
    }

    /// Clears the entries that have moved from a line and its chain.
    fn clear_moved(&self, writer: &Writer, old: &Line, moves: u32) {
        for line in self.with_overflow(old, &writer.chain) {
            for slot in 0..SLOTS {
                let entry = line.get(slot);
                if entry.is_record() && entry.tag() & moves != 0 {
                    line.set(slot, Entry::EMPTY);
                }
            }
        }
    }

    /// Copies the entries of the overflow lines that are not needed any more down into the lines
    /// before them, then cuts those overflow lines off.
    fn shorten(&self, writer: &mut Writer, old: &Line, staying: usize, marker: Marker) {
        let keep = overflow_lines_for(staying);
        if keep == writer.chain.len() {
            return;
        }
        let chain = mem::take(&mut writer.chain);
        let (kept, dropped) = chain.split_at(keep);
        let last = self.copy_down(old, kept, dropped);
        probe::pause("index-split-copied-down");
        if !probe::skip("index-cut-publish") {
            self.publish(marker.cutting());
        }
        probe::pause("index-split-cutting");
        let tail = kept.last().map_or(old, |&number| self.overflow.line(number));
        tail.set(LINK_SLOT, last);
        if probe::skip("index-reuse-later") {
            writer.free.extend(dropped);
        } else {
            writer.cut_off.extend(dropped);
        }
        writer.chain = chain;
    }

    /// Copies the entries of the dropped lines into free slots of the kept ones. If one is left
    /// over, it is returned, to take the place of the link.
    fn copy_down(&self, old: &Line, kept: &[u64], dropped: &[u64]) -> Entry {
        let mut holes = self.with_overflow(old, kept).flat_map(|line| {
            (0..LINK_SLOT).filter(|&slot| line.get(slot) == Entry::EMPTY).map(move |slot| (line, slot))
        });
        let mut last = Entry::EMPTY;
        for line in dropped.iter().map(|&number| self.overflow.line(number)) {
            for entry in (0..SLOTS).map(|slot| line.get(slot)).filter(|e| e.is_record()) {
                match holes.next() {
                    Some((line, slot)) => line.set(slot, entry),
                    None => last = entry,
                }
            }
        }
        last
    }

    fn with_overflow<'t>(&'t self, line: &'t Line, overflow: &'t [u64]) -> impl Iterator<Item = &'t Line> {
        let overflow = overflow.iter().map(|&number| self.overflow.line(number));
        std::iter::once(line).chain(overflow)
    }
}

/// Fills a new line that no reader knows of yet.
pub(super) struct Filler<'t> {
    table: &'t Table,
    line: &'t Line,
    used: usize,
}

impl<'t> Filler<'t> {
    /// Begins with an empty line.
    pub(super) fn new(table: &'t Table, line: &'t Line) -> Self {
        Self { table, line, used: 0 }
    }

    /// Adds an entry, in a further overflow line if need be.
    pub(super) fn push(&mut self, writer: &mut Writer, entry: Entry) {
        if self.used < SLOTS {
            self.line.set(self.used, entry);
            self.used += 1;
        } else {
            self.line = self.table.extend(writer, self.line, entry);
            self.used = 2;
        }
    }
}
