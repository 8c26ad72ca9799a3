//! The index image: a file that spares recovery the reading of the whole log.
//!
//! The bytes are owned by `spec/format.md`, "Index image". Derived: whatever is wrong with it costs a rebuild, never data.
//!
//! Invariant I1 (rule 12): the superblock names an image only once the log is durable past every position in it; the
//! image's `checkpoint_position` is where the log ended when its capture began, so replay from there brings it up to date.

use std::path::PathBuf;

use crate::{
    error::{Error, Result},
    index::{ImageSource, Index},
    key::AccountId,
    layout::layout,
    ledger::{Ledger, Retired},
    log::{Damage, crc32c, record::POSITION_LIMIT, segment::FORMAT_VERSION},
    storage::{Storage, StorageFile},
    superblock::{ImageReference, Superblock},
};

const MAGIC: [u8; 8] = *b"METISIDX";
const NAME_PREFIX: &str = "index.";
const FLAG_SALTED: u32 = 1;
/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

layout! {
    /// The first bytes of an image.
    ImageHeader, 128 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        flags: u32 = 12,
        database_id: [u8; 16] = 16,
        generation: u64 = 32,
        checkpoint_position: u64 = 40,
        checkpoint_version: u64 = 48,
        max_position: u64 = 56,
        table_bytes: u64 = 64,
        wiped_count: u64 = 72,
        storage_count: u64 = 80,
        segment_count: u64 = 88,
        retired_count: u64 = 96,
        reserved: [u8; 20] = 104,
        checksum: u32 = 124,
    }
}

/// The file name of an image.
pub(crate) fn file_name(generation: u64) -> String {
    format!("{NAME_PREFIX}{generation:010}")
}

/// The generation in an image's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Writes and syncs the image that `superblock` (whose `image` is not set yet) will name. `ledger` is as it was at the
/// checkpoint's position; the index may be ahead of it.
pub(crate) fn write(
    storage: &dyn Storage,
    superblock: &Superblock,
    ledger: &Ledger,
    index: &Index,
) -> Result<ImageReference> {
    let file = storage.create(&file_name(superblock.generation))?;
    let mut out = Output { file: &*file, offset: ImageHeader::BYTES as u64, buffer: Vec::new() };
    let rows = encode_rows(ledger);
    out.write(&rows)?;
    let pause = index.pause_splits();
    let table = pause.capture(&mut |bytes| out.write(bytes))?;
    drop(pause);
    out.flush()?;
    let mut header = ImageHeader {
        magic: MAGIC,
        format_version: FORMAT_VERSION,
        flags: if ledger.salted { FLAG_SALTED } else { 0 },
        database_id: superblock.identity.database_id,
        generation: superblock.generation,
        checkpoint_position: superblock.checkpoint_position,
        checkpoint_version: superblock.checkpoint_version,
        max_position: table.max_position,
        table_bytes: table.bytes,
        wiped_count: ledger.wiped.len() as u64,
        storage_count: ledger.slots.len() as u64,
        segment_count: ledger.live.len() as u64,
        retired_count: ledger.retired.len() as u64,
        reserved: [0; 20],
        checksum: 0,
    };
    header.checksum = crc32c(&header.encode()[..ImageHeader::BYTES - 4]);
    file.write_all_at(&header.encode(), 0)?;
    file.sync()?;
    storage.sync_directory()?;
    Ok(ImageReference { generation: superblock.generation, bytes: out.offset })
}

/// Reads the image that the superblock names, with the bookkeeping of that moment.
///
/// # Errors
/// Whatever is wrong with it; the caller then rebuilds.
pub(crate) fn read(storage: &dyn Storage, superblock: &Superblock, image: ImageReference) -> Result<(Index, Ledger)> {
    let name = file_name(image.generation);
    let missing = || Damage::new("an index image", "no file").at("index image", storage.path().join(&name), 0);
    let file = storage.open(&name)?.ok_or_else(missing)?;
    let header = read_header(&*file, superblock, image)?;
    let path = file.path();
    let rows_bytes = rows_bytes(&header).filter(|bytes| {
        let total = (ImageHeader::BYTES as u64).checked_add(*bytes).and_then(|sum| sum.checked_add(header.table_bytes));
        total == Some(image.bytes)
    });
    let Some(rows_bytes) = rows_bytes else {
        let damage = Damage::new(format!("sections of {} bytes", image.bytes), "others");
        return Err(damage.at("index image", path, 0));
    };
    let mut rows = vec![0; rows_bytes as usize];
    file.read_exact_at(&mut rows, ImageHeader::BYTES as u64)?;
    let mut ledger = decode_rows(&header, &rows, &path)?;
    ledger.salted = header.flags & FLAG_SALTED != 0;
    let start = ImageHeader::BYTES as u64 + rows_bytes;
    let mut input = Input { file: &*file, offset: start, end: image.bytes, buffer: Vec::new(), taken: 0 };
    let index = Index::restore(ImageSource {
        read: &mut |bytes| input.read(bytes),
        length: header.table_bytes,
        max_position: header.max_position.min(POSITION_LIMIT - 1),
        path: &path,
        offset: start,
    })?;
    Ok((index, ledger))
}

fn read_header(file: &dyn StorageFile, superblock: &Superblock, image: ImageReference) -> Result<ImageHeader> {
    let length = file.length()?;
    if length < ImageHeader::BYTES as u64 || length < image.bytes {
        let damage = Damage::new(format!("{} bytes", image.bytes), format!("{length} bytes"));
        return Err(damage.at("index image", file.path(), 0));
    }
    let mut bytes = [0; ImageHeader::BYTES];
    file.read_exact_at(&mut bytes, 0)?;
    let header = ImageHeader::decode(&bytes);
    let actual = crc32c(&bytes[..ImageHeader::BYTES - 4]);
    let damage = if header.magic != MAGIC || header.checksum != actual {
        Damage::new(format!("an image header with checksum {actual:08x}"), format!("{:08x}", header.checksum))
    } else if header.format_version != FORMAT_VERSION {
        Damage::new(format!("format version {FORMAT_VERSION}"), format!("{}", header.format_version))
    } else if header.database_id != superblock.identity.database_id
        || header.generation != image.generation
        || header.checkpoint_position != superblock.checkpoint_position
    {
        Damage::new("the image of this checkpoint", format!("one of position {}", header.checkpoint_position))
    } else {
        return Ok(header);
    };
    Err(damage.at("index image", file.path(), 0))
}

/// Length of the bookkeeping section; `None` if the counts are absurd.
fn rows_bytes(header: &ImageHeader) -> Option<u64> {
    let pairs = header.wiped_count.checked_add(header.storage_count)?.checked_add(header.segment_count)?;
    pairs.checked_mul(16)?.checked_add(header.retired_count.checked_mul(24)?)?.checked_add(8)
}

fn encode_rows(ledger: &Ledger) -> Vec<u8> {
    let mut wiped: Vec<_> = ledger.wiped.iter().map(|(id, version)| [id.0, *version]).collect();
    let mut slots: Vec<_> = ledger.slots.iter().map(|(id, count)| [id.0, *count]).collect();
    wiped.sort_unstable();
    slots.sort_unstable();
    let live = ledger.live.iter().map(|(segment, bytes)| [*segment, *bytes]);
    let retired = ledger.retired.iter().flat_map(|row| [row.version, row.segment, row.bytes]);
    let words = wiped.into_iter().chain(slots).chain(live).flatten().chain(retired);
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let checksum = u64::from(crc32c(&bytes));
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode_rows(header: &ImageHeader, rows: &[u8], path: &std::path::Path) -> Result<Ledger> {
    let (body, stored) = rows.split_at(rows.len() - 8);
    let actual = u64::from(crc32c(body)).to_le_bytes();
    if stored != actual {
        let damage = Damage::new(format!("bookkeeping with checksum {actual:02x?}"), format!("{stored:02x?}"));
        return Err(damage.at("index image", PathBuf::from(path), ImageHeader::BYTES as u64));
    }
    let mut words = body.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    let mut pair = || Some((words.next()?, words.next()?));
    let mut pairs = |count: u64| -> Vec<(u64, u64)> { (0..count).map_while(|_| pair()).collect() };
    let wiped = pairs(header.wiped_count);
    let slots = pairs(header.storage_count);
    let live = pairs(header.segment_count);
    let mut ledger = Ledger {
        wiped: wiped.into_iter().map(|(id, version)| (AccountId(id), version)).collect(),
        slots: slots.into_iter().map(|(id, count)| (AccountId(id), count)).collect(),
        live: live.into_iter().collect(),
        ..Ledger::default()
    };
    while let (Some(version), Some(segment), Some(bytes)) = (words.next(), words.next(), words.next()) {
        ledger.retired.push_back(Retired { version, segment, bytes });
    }
    if !ledger.retired.iter().is_sorted_by_key(|row| row.version) {
        let damage = Damage::new("retired bytes in order of versions", "another order");
        return Err(damage.at("index image", PathBuf::from(path), ImageHeader::BYTES as u64));
    }
    Ok(ledger)
}

/// A file written from front to back in large steps.
struct Output<'f> {
    file: &'f dyn StorageFile,
    offset: u64,
    buffer: Vec<u8>,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// A file read from front to back in large steps.
struct Input<'f> {
    file: &'f dyn StorageFile,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl Input<'_> {
    fn read(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.taken == self.buffer.len() {
                self.refill()?;
            }
            let count = bytes.len().min(self.buffer.len() - self.taken);
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&self.buffer[self.taken..self.taken + count]);
            self.taken += count;
            bytes = later;
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<()> {
        let length = BUFFER_BYTES.min((self.end - self.offset) as usize);
        if length == 0 {
            let damage = Damage::new("more bytes", "the end of the image");
            return Err(damage.at("index image", self.file.path(), self.offset));
        }
        self.buffer.resize(length, 0);
        self.file.read_exact_at(&mut self.buffer, self.offset)?;
        self.offset += length as u64;
        self.taken = 0;
        Ok(())
    }
}

/// Whether the error is one of the image itself, which a rebuild mends.
pub(crate) fn is_mendable(error: &Error) -> bool {
    matches!(error, Error::Corruption { .. } | Error::FormatVersion { .. } | Error::LimitReached { .. })
}
