//! The index image: a file that spares recovery the reading of the whole log.
//!
//! The bytes are owned by `spec/format.md`, "Index image". Derived: whatever is wrong with it costs a rebuild, never data.
//!
//! Invariant I1 (rule 12): the superblock names an image only once the log is durable past every position in it; the
//! image's `checkpoint_position` is where the log ended when its capture began, so replay from there brings it up to date.

use std::collections::VecDeque;

use alloy_primitives::{Address, B256};

use crate::{
    error::{Error, Result},
    history::VersionRow,
    index::{ImageSource, Index},
    key::AccountId,
    layout::layout,
    ledger::{Ledger, Retired},
    log::{Damage, crc32c, record::POSITION_LIMIT, segment::FORMAT_VERSION},
    storage::{Storage, StorageFile},
    superblock::{ImageReference, Superblock},
    trie::arena::pages::{PAGE_BYTES, Page, Pages},
};

const MAGIC: [u8; 8] = *b"METISIDX";
const NAME_PREFIX: &str = "index.";
/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

layout! {
    /// The first bytes of an image.
    ImageHeader, 128 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        reserved: u32 = 12,
        database_id: [u8; 16] = 16,
        generation: u64 = 32,
        checkpoint_position: u64 = 40,
        checkpoint_version: u64 = 48,
        max_position: u64 = 56,
        table_bytes: u64 = 64,
        wiped_count: u64 = 72,
        salted_count: u64 = 80,
        segment_count: u64 = 88,
        retired_count: u64 = 96,
        version_count: u64 = 104,
        extent_count: u64 = 112,
        rest: u32 = 120,
        checksum: u32 = 124,
    }
}

/// Words of 8 bytes for each row of a section.
const PAIR: u64 = 2;
const SALTED: u64 = 4;
const RETIRED: u64 = 3;
const VERSION: u64 = 7;

/// The bookkeeping of one moment, beside the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    /// Oldest first.
    pub(crate) versions: VecDeque<VersionRow>,
    /// Of the arena.
    pub(crate) pages: Pages,
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

/// Writes and syncs the image that `superblock` (whose `image` is not set yet) will name. `books` are as they were at the
/// checkpoint's position; the index may be ahead of it.
pub(crate) fn write(
    storage: &dyn Storage,
    superblock: &Superblock,
    books: &Books,
    index: &Index,
) -> Result<ImageReference> {
    let file = storage.create(&file_name(superblock.generation))?;
    let mut out = Output { file: &*file, offset: ImageHeader::BYTES as u64, buffer: Vec::new() };
    let rows = encode_rows(books);
    out.write(&rows)?;
    let pause = index.pause_splits();
    let table = pause.capture(&mut |bytes| out.write(bytes))?;
    drop(pause);
    out.flush()?;
    let mut header = ImageHeader {
        magic: MAGIC,
        format_version: FORMAT_VERSION,
        reserved: 0,
        database_id: superblock.identity.database_id,
        generation: superblock.generation,
        checkpoint_position: superblock.checkpoint_position,
        checkpoint_version: superblock.checkpoint_version,
        max_position: table.max_position,
        table_bytes: table.bytes,
        wiped_count: books.ledger.wiped.len() as u64,
        salted_count: books.ledger.salted.len() as u64,
        segment_count: books.ledger.live.len() as u64,
        retired_count: books.ledger.retired().len() as u64,
        version_count: books.versions.len() as u64,
        extent_count: books.pages.extents.len() as u64,
        rest: 0,
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
pub(crate) fn read(storage: &dyn Storage, superblock: &Superblock, image: ImageReference) -> Result<(Index, Books)> {
    let name = file_name(image.generation);
    let missing = || Damage::new("an index image", "no file").at("index image", storage.path().join(&name), 0);
    let file = storage.open(&name)?.ok_or_else(missing)?;
    let header = read_header(&*file, superblock, image)?;
    let path = file.path();
    let rows_bytes = rows_bytes(&header, superblock.identity.segment_bytes).filter(|bytes| {
        let total = (ImageHeader::BYTES as u64).checked_add(*bytes).and_then(|sum| sum.checked_add(header.table_bytes));
        total == Some(image.bytes)
    });
    let Some(rows_bytes) = rows_bytes else {
        let damage = Damage::new(format!("sections of {} bytes", image.bytes), "others");
        return Err(damage.at("index image", path, 0));
    };
    let mut rows = vec![0; rows_bytes as usize];
    file.read_exact_at(&mut rows, ImageHeader::BYTES as u64)?;
    let books = decode_rows(&header, superblock.identity.segment_bytes, &rows)
        .map_err(|damage| damage.at("index image", path.clone(), ImageHeader::BYTES as u64))?;
    let start = ImageHeader::BYTES as u64 + rows_bytes;
    let mut input = Input { file: &*file, offset: start, end: image.bytes, buffer: Vec::new(), taken: 0 };
    let index = Index::restore(ImageSource {
        read: &mut |bytes| input.read(bytes),
        length: header.table_bytes,
        max_position: header.max_position.min(POSITION_LIMIT - 1),
        path: &path,
        offset: start,
    })?;
    Ok((index, books))
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
        || header.checkpoint_version != superblock.checkpoint_version
    {
        Damage::new("the image of this checkpoint", format!("one of position {}", header.checkpoint_position))
    } else {
        return Ok(header);
    };
    Err(damage.at("index image", file.path(), 0))
}

/// Length of the bookkeeping section; `None` if the counts are absurd.
fn rows_bytes(header: &ImageHeader, extent_bytes: u64) -> Option<u64> {
    let extent = 1 + Pages::new(extent_bytes).pages_per_extent() as u64;
    let sections = [
        (header.wiped_count, PAIR),
        (header.salted_count, SALTED),
        (header.segment_count, PAIR),
        (header.retired_count, RETIRED),
        (header.version_count, VERSION),
        (header.extent_count, extent),
    ];
    let mut words = 1u64;
    for (count, each) in sections {
        words = words.checked_add(count.checked_mul(each)?)?;
    }
    words.checked_mul(8)
}

fn encode_rows(books: &Books) -> Vec<u8> {
    let ledger = &books.ledger;
    let mut wiped: Vec<_> = ledger.wiped.iter().map(|(id, version)| [id.0, *version]).collect();
    wiped.sort_unstable();
    let mut salted: Vec<_> = ledger.salted.iter().map(|(id, address)| (id.0, *address)).collect();
    salted.sort_unstable();
    let mut words: Vec<u64> = wiped.into_iter().flatten().collect();
    for (id, address) in salted {
        words.push(id);
        words.extend(to_words::<3>(address.as_slice()));
    }
    words.extend(ledger.live.iter().flat_map(|(segment, bytes)| [*segment, *bytes]));
    words.extend(ledger.retired().flat_map(|row| [row.version, row.segment, row.bytes]));
    for row in &books.versions {
        words.extend([row.version, row.position, u64::from(row.root.is_some())]);
        words.extend(to_words::<4>(row.root.unwrap_or_default().as_slice()));
    }
    for (number, pages) in &books.pages.extents {
        words.push(*number);
        words.extend(pages.iter().map(|page| page.pack()));
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    let checksum = u64::from(crc32c(&bytes));
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Bytes as words, the last ones filled up with zeros.
fn to_words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|index| {
        let mut word = [0; 8];
        let rest = bytes.get(index * 8..).unwrap_or_default();
        let count = rest.len().min(8);
        word[..count].copy_from_slice(&rest[..count]);
        u64::from_le_bytes(word)
    })
}

fn decode_rows(header: &ImageHeader, extent_bytes: u64, rows: &[u8]) -> Result<Books, Damage> {
    let (body, stored) = rows.split_at(rows.len() - 8);
    let actual = u64::from(crc32c(body)).to_le_bytes();
    if stored != actual {
        return Err(Damage::new(format!("bookkeeping with checksum {actual:02x?}"), format!("{stored:02x?}")));
    }
    let words: Vec<u64> =
        body.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes"))).collect();
    let mut rest = &words[..];
    let mut section = |count: u64, each: u64| {
        let (own, behind) = rest.split_at(rest.len().min((count * each) as usize));
        rest = behind;
        own.chunks_exact(each as usize)
    };
    let mut ledger = Ledger::default();
    ledger.wiped.extend(section(header.wiped_count, PAIR).map(|row| (AccountId(row[0]), row[1])));
    let address = |words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Address::from_slice(&bytes[..20])
    };
    ledger.salted.extend(section(header.salted_count, SALTED).map(|row| (AccountId(row[0]), address(&row[1..]))));
    ledger.live.extend(section(header.segment_count, PAIR).map(|row| (row[0], row[1])));
    let retired = section(header.retired_count, RETIRED);
    ledger.set_retired(retired.map(|row| Retired { version: row[0], segment: row[1], bytes: row[2] }).collect());
    let root = |words: &[u64]| B256::from_slice(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    let versions: VecDeque<VersionRow> = section(header.version_count, VERSION)
        .map(|row| VersionRow { version: row[0], position: row[1], root: (row[2] != 0).then(|| root(&row[3..])) })
        .collect();
    let mut pages = Pages::new(extent_bytes);
    let extents = section(header.extent_count, 1 + pages.pages_per_extent() as u64);
    pages.extents.extend(extents.map(|row| (row[0], row[1..].iter().map(|page| Page::unpack(*page)).collect())));
    let books = Books { ledger, versions, pages };
    if are_possible(header, &books) {
        return Ok(books);
    }
    Err(Damage::new("rows in order, of this checkpoint or before, of bytes that there can be", "others"))
}

/// Whether the rows can be those of a database, so that nothing computed from them overflows.
fn are_possible(header: &ImageHeader, books: &Books) -> bool {
    let Books { ledger, versions, pages } = books;
    let is_before = |version: &u64| *version <= header.checkpoint_version;
    ledger.wiped.values().all(is_before)
        && ledger.live.values().all(|bytes| *bytes <= POSITION_LIMIT)
        && ledger.retired().all(|row| is_before(&row.version) && row.bytes <= POSITION_LIMIT)
        && ledger.retired().is_sorted_by_key(|row| row.version)
        && versions.iter().all(|row| is_before(&row.version) && row.position < header.checkpoint_position)
        && versions.iter().zip(versions.iter().skip(1)).all(|(row, next)| row.version < next.version)
        && pages.extents.values().flatten().all(|page| u64::from(page.live_bytes) <= PAGE_BYTES)
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
    error.is_damage() || matches!(error, Error::FormatVersion { .. } | Error::LimitReached { .. })
}
