//! The table as bytes, and back.
//!
//! The bytes are owned by `spec/format.md`, "Table header" and below: a header, and a block for every 4096 lines.

use std::path::Path;

use super::{
    Index, SplitPause,
    entry::{Entry, Marker, TAG_BITS},
    memory::SLOTS,
    no_memory,
    table::{Filler, MAX_LINES_LOG2, Table, Writer, overflow_lines_for},
};
use crate::{Error, Result, layout::layout, log::crc32c};

layout! {
    /// The first bytes of the table.
    TableHeader, 16 {
        checksum: u32 = 0,
        initial_lines_log2: u16 = 4,
        level: u16 = 6,
        split: u64 = 8,
    }
}

const HEADER_BYTES: usize = TableHeader::BYTES;
const BLOCK_HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 8;

/// Lines of a block.
const BLOCK_LINES: u64 = 4096;

/// The most entries of a line that an image has room for. Keyed hashes stay far below: a line has
/// 11 on average when its split is due.
const MAX_LINE_ENTRIES: usize = u8::MAX as usize;

/// What [`SplitPause::capture`] has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct ImageSummary {
    /// Number of entries.
    pub(crate) entries: u64,
    /// The highest position of an entry, 0 without entries.
    pub(crate) max_position: u64,
    /// Length of the image.
    pub(crate) bytes: u64,
}

/// Where [`Index::restore`] reads an image, and what is known of it.
pub(crate) struct ImageSource<'a> {
    /// Fills the buffer with the next bytes.
    pub(crate) read: &'a mut dyn FnMut(&mut [u8]) -> Result<()>,
    /// Length of the image.
    pub(crate) length: u64,
    /// The highest position that an entry may have.
    pub(crate) max_position: u64,
    /// The file, for errors.
    pub(crate) path: &'a Path,
    /// Where the image begins in the file, for errors.
    pub(crate) offset: u64,
}

impl std::fmt::Debug for ImageSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageSource")
            .field("length", &self.length)
            .field("max_position", &self.max_position)
            .field("path", &self.path)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl SplitPause<'_> {
    /// Writes an image of the table: every key that the index had when the pause began, and maybe
    /// some inserted since; with its position of then or a later one.
    ///
    /// Fails with [`Error::LimitReached`] if more than 255 entries share a line, and as `sink` does.
    pub(crate) fn capture(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<ImageSummary> {
        let table = &self.index.table;
        let marker = table.marker();
        let header = TableHeader {
            checksum: 0,
            initial_lines_log2: table.initial_log2() as u16,
            level: marker.level() as u16,
            split: marker.split(),
        };
        let mut header = header.encode();
        seal(&mut header);
        sink(&header)?;

        let mut summary = ImageSummary { entries: 0, max_position: 0, bytes: HEADER_BYTES as u64 };
        let mut block = Vec::new();
        for number in 0..marker.lines().div_ceil(BLOCK_LINES) {
            capture_block(table, marker, number, &mut block, &mut summary)?;
            sink(&block)?;
        }
        Ok(summary)
    }
}

/// Makes the image of the lines of one block.
fn capture_block(
    table: &Table,
    marker: Marker,
    number: u64,
    block: &mut Vec<u8>,
    summary: &mut ImageSummary,
) -> Result<()> {
    let start = number * BLOCK_LINES;
    let lines = BLOCK_LINES.min(marker.lines() - start) as usize;
    block.clear();
    block.resize(BLOCK_HEADER_BYTES + lines, 0);
    let mut entries = 0;
    for offset in 0..lines {
        let before = block.len();
        let mut line = Some(table.line(start + offset as u64));
        while let Some(current) = line {
            // The last slot is loaded once: as the link, it leads to what it held as an entry.
            let slots: [Entry; SLOTS] = std::array::from_fn(|slot| current.get(slot));
            for entry in slots.into_iter().filter(|entry| entry.is_record()) {
                summary.max_position = summary.max_position.max(entry.position());
                block.extend_from_slice(&entry.without_verified().0.to_le_bytes());
            }
            line = slots[SLOTS - 1].linked().map(|overflow| table.overflow_line(overflow));
        }
        let count = (block.len() - before) / ENTRY_BYTES;
        block[BLOCK_HEADER_BYTES + offset] = count.try_into().map_err(|_| Error::LimitReached {
            what: "the number of keys of one index line in an image",
            limit: MAX_LINE_ENTRIES as u64,
        })?;
        entries += count;
    }
    block.resize(block.len().next_multiple_of(8), 0);
    for (field, value) in [(4, number as u32), (8, lines as u32), (12, entries as u32)] {
        block[field..field + 4].copy_from_slice(&value.to_le_bytes());
    }
    seal(block);
    summary.entries += entries as u64;
    summary.bytes += block.len() as u64;
    Ok(())
}

/// Writes the checksum of a header or block into its first four bytes.
fn seal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Index {
    /// Rebuilds the index of an image.
    ///
    /// Fails with [`Error::Corruption`] if the bytes are not those of an image with that length and
    /// bound of positions, and as `source.read` does.
    pub(crate) fn restore(source: ImageSource<'_>) -> Result<Self> {
        Restore { source, read: 0 }.run()
    }
}

/// An image being read.
struct Restore<'a> {
    source: ImageSource<'a>,
    /// Bytes read so far, the current header or block included.
    read: u64,
}

impl Restore<'_> {
    fn run(mut self) -> Result<Index> {
        let (initial_log2, marker) = self.header()?;
        let table = Table::new(initial_log2, marker);
        table.ensure_lines(marker).map_err(no_memory)?;
        let mut writer = Writer::default();
        let mut block = Vec::new();
        let mut entries = 0;
        for number in 0..marker.lines().div_ceil(BLOCK_LINES) {
            let start = number * BLOCK_LINES;
            let lines = BLOCK_LINES.min(marker.lines() - start) as usize;
            entries += self.block(number as u32, lines, &mut block)?;
            self.fill(&table, &mut writer, marker, start, &block[..])?;
        }
        let rest = self.source.length - self.read;
        self.check(rest == 0, "an image that ends here", || format!("{rest} more bytes"))?;
        Ok(Index::assemble(table, writer, entries))
    }

    /// Reads the header, and checks that the image is long enough for the lines it claims.
    fn header(&mut self) -> Result<(u32, Marker)> {
        let mut header = [0; HEADER_BYTES];
        self.take(&mut header)?;
        self.check_crc(&header)?;
        let TableHeader { initial_lines_log2, level, split, .. } = TableHeader::decode(&header);
        let (initial, level) = (u32::from(initial_lines_log2), u32::from(level));
        self.check(initial <= MAX_LINES_LOG2, "a sound initial size", || format!("2^{initial} lines"))?;
        let last = initial + TAG_BITS;
        let sound = (initial..=last).contains(&level) && split < 1 << level && (level < last || split == 0);
        self.check(sound, "a sound level", || format!("{level} and {split}"))?;

        let marker = Marker::new(level, split);
        let lines = marker.lines();
        let blocks = lines.div_ceil(BLOCK_LINES);
        let least = HEADER_BYTES as u64 + blocks * BLOCK_HEADER_BYTES as u64 + lines;
        let length = self.source.length;
        self.check(least <= length, "an image of that length", || format!("{lines} lines in {length} bytes"))?;
        Ok((initial, marker))
    }

    /// Reads a block, checks it except for its entries, and returns the number of these.
    fn block(&mut self, number: u32, lines: usize, block: &mut Vec<u8>) -> Result<u64> {
        block.resize(BLOCK_HEADER_BYTES, 0);
        self.take(block)?;
        let found = (u32_at(block, 4), u32_at(block, 8));
        self.check(found == (number, lines as u32), "the block of these lines", || {
            format!("block {} of {} lines", found.0, found.1)
        })?;
        let entries = u32_at(block, 12) as usize;
        // The lines bound the entries, so that no more memory is asked for than these can fill.
        self.check(entries <= lines * MAX_LINE_ENTRIES, "fewer entries", || format!("{entries} in {lines} lines"))?;
        let content = BLOCK_HEADER_BYTES + lines + entries * ENTRY_BYTES;
        block.resize(content.next_multiple_of(8), 0);
        self.take(&mut block[BLOCK_HEADER_BYTES..])?;
        self.check_crc(block)?;
        let counted: usize = block[BLOCK_HEADER_BYTES..][..lines].iter().map(|&count| usize::from(count)).sum();
        self.check(counted == entries, "counts of all entries", || format!("{counted} of {entries}"))?;
        let padded = block[content..].iter().all(|&byte| byte == 0);
        self.check(padded, "zeros up to the block's end", || "others".into())?;
        Ok(entries as u64)
    }

    /// Puts the entries of a block into its lines.
    fn fill(&self, table: &Table, writer: &mut Writer, marker: Marker, start: u64, block: &[u8]) -> Result<()> {
        let lines = u32_at(block, 8) as usize;
        let (counts, mut entries) = block[BLOCK_HEADER_BYTES..].split_at(lines);
        let overflow: usize = counts.iter().map(|&count| overflow_lines_for(count.into())).sum();
        table.ensure_overflow(writer, overflow as u64).map_err(no_memory)?;
        for (number, &count) in (start..).zip(counts) {
            let addressed = (1 << (marker.address_bits(number) - table.initial_log2())) - 1;
            let tag_bits = (number >> table.initial_log2()) as u32;
            let mut filler = Filler::new(table, table.line(number));
            let (own, rest) = entries.split_at(usize::from(count) * ENTRY_BYTES);
            for bytes in own.chunks_exact(ENTRY_BYTES) {
                let entry = Entry(u64_at(bytes, 0));
                let sound = entry.is_record()
                    && !entry.verified()
                    && entry.tag() & addressed == tag_bits
                    && (1..=self.source.max_position).contains(&entry.position());
                self.check(sound, "an entry of its line", || format!("{:#018x} in line {number}", entry.0))?;
                filler.push(writer, entry);
            }
            entries = rest;
        }
        Ok(())
    }

    /// Reads the next bytes, if the image is that long.
    fn take(&mut self, buffer: &mut [u8]) -> Result<()> {
        let length = self.source.length;
        let end = self.read + buffer.len() as u64;
        self.check(end <= length, "a longer image", || format!("{length} bytes"))?;
        (self.source.read)(buffer)?;
        self.read = end;
        Ok(())
    }

    fn check_crc(&self, bytes: &[u8]) -> Result<()> {
        let (stored, actual) = (u32_at(bytes, 0), crc32c(&bytes[4..]));
        if stored == actual {
            return Ok(());
        }
        Err(self.corruption(format!("checksum {actual:#010x}"), format!("{stored:#010x}")))
    }

    #[inline]
    fn check(&self, sound: bool, expected: &str, got: impl FnOnce() -> String) -> Result<()> {
        if sound {
            return Ok(());
        }
        Err(self.corruption(expected.into(), got()))
    }

    /// The error at the end of what was read.
    fn corruption(&self, expected: String, got: String) -> Error {
        Error::Corruption {
            what: "index image",
            path: self.source.path.to_path_buf(),
            offset: self.source.offset + self.read,
            expected,
            got,
        }
    }
}
