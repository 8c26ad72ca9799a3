//! Checksums put right, so that a fuzzer's bytes get past them: a CRC is no defence against who means it.
//!
//! The places and sums are those of `spec/format.md` and `spec/snapshot-file.md`, computed here anew.

use crate::{
    image::ImageHeader,
    log::{
        crc32c, crc32c_of,
        frame::{self, FrameHeader},
        record,
        segment::SegmentHeader,
    },
    superblock::SuperblockHeader,
    trie::arena::pages::PAGE_BYTES,
};

/// Bytes of the header of an image's table, and of each of its blocks.
const TABLE_HEADER_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 16;

/// The upper half of a number over its lower half.
fn folded(number: u64) -> u32 {
    number as u32 ^ (number >> 32) as u32
}

fn put(bytes: &mut [u8], at: usize, checksum: u32) {
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
    Some(u64::from_le_bytes(wide))
}

/// A checksum behind what it covers, where the bytes are that long.
fn seal_behind(bytes: &mut [u8], at: usize) {
    if at.checked_add(4).is_some_and(|end| end <= bytes.len()) {
        let checksum = crc32c(&bytes[..at]);
        put(bytes, at, checksum);
    }
}

/// A checksum in front of what it covers, where there are such bytes.
fn seal_before(bytes: Option<&mut [u8]>) {
    if let Some(bytes) = bytes {
        let checksum = crc32c(&bytes[4..]);
        put(bytes, 0, checksum);
    }
}

/// The record at the front, which stands at a position. Its padded length, if that can be told.
pub(super) fn record(bytes: &mut [u8], position: u64) -> Option<usize> {
    let head = bytes.get(..record::LEAST_BYTES)?;
    let length = record::length(bytes.get(..record::prefix_bytes(head))?).ok()?;
    let checksum = crc32c(bytes.get(4..length)?) ^ folded(position / 8);
    put(bytes, 0, checksum);
    Some(length.next_multiple_of(8))
}

/// The frame at the front: its place in the chain, its records, then itself. Its length and checksum, if it can be one.
pub(super) fn frame(bytes: &mut [u8], position: u64, previous_chain: u32, secret: u32) -> Option<(usize, u32)> {
    let mut header = FrameHeader::decode(bytes.first_chunk()?);
    let length = header.frame_bytes();
    let own = bytes.get_mut(..length).filter(|own| own.len() >= FrameHeader::BYTES && header.magic == frame::MAGIC)?;
    let (_, mut rest) = own.split_at_mut(FrameHeader::BYTES);
    let mut at = position + FrameHeader::BYTES as u64;
    while let Some(padded) = record(rest, at).filter(|padded| *padded <= rest.len()) {
        rest = &mut rest[padded..];
        at += padded as u64;
    }
    header.position = position;
    header.previous_chain = previous_chain;
    let covered = &header.encode()[..FrameHeader::BYTES - 4];
    header.checksum = crc32c_of(&[covered, &own[FrameHeader::BYTES..]]) ^ secret;
    own[..FrameHeader::BYTES].copy_from_slice(&header.encode());
    Some((length, header.checksum))
}

/// The header of a segment.
pub(super) fn segment_header(bytes: &mut [u8]) {
    seal_behind(bytes, SegmentHeader::BYTES - 4);
}

/// A segment: its header, and frame after frame from there.
pub(crate) fn segment(bytes: &mut [u8]) {
    segment_header(bytes);
    let Some(header) = bytes.first_chunk().map(SegmentHeader::decode) else { return };
    let secret = frame::secret(&header.seed);
    let (mut at, mut chain) = (SegmentHeader::BYTES, header.previous_chain);
    while at < bytes.len() {
        let Some(position) = header.start.checked_add(at as u64).filter(|position| *position < record::POSITION_LIMIT)
        else {
            return;
        };
        let Some((length, checksum)) = frame(&mut bytes[at..], position, chain, secret) else { return };
        (at, chain) = (at + length, checksum);
    }
}

/// A superblock.
pub(super) fn superblock(bytes: &mut [u8]) {
    let rows = number::<4>(bytes, 12).unwrap_or(0) as usize;
    seal_behind(bytes, SuperblockHeader::BYTES + rows * 16);
}

/// The header of an image of the index.
pub(super) fn image_header(bytes: &mut [u8]) {
    seal_behind(bytes, ImageHeader::BYTES - 4);
}

/// An image of the index: header, bookkeeping, and the blocks of the table.
pub(super) fn image(bytes: &mut [u8]) {
    image_header(bytes);
    let Some(header) = bytes.first_chunk().map(ImageHeader::decode) else { return };
    let Some(mut table) = (bytes.len() as u64).checked_sub(header.table_bytes).map(|at| at as usize) else { return };
    if table < ImageHeader::BYTES + 8 {
        return;
    }
    seal_behind(&mut bytes[ImageHeader::BYTES..table], table - ImageHeader::BYTES - 8);
    seal_before(bytes.get_mut(table..table + TABLE_HEADER_BYTES));
    table += TABLE_HEADER_BYTES;
    while let (Some(lines), Some(entries)) = (number::<4>(bytes, table + 8), number::<4>(bytes, table + 12)) {
        let length = (BLOCK_HEADER_BYTES + lines as usize + entries as usize * 8).next_multiple_of(8);
        seal_before(bytes.get_mut(table..table + length));
        table += length;
    }
}

/// The node at the front, which stands at a place. Its length, if that can be told.
pub(super) fn node(bytes: &mut [u8], place: u64) -> Option<usize> {
    let flags = *bytes.get(8)?;
    let mask = |at: usize| number::<2>(bytes, at).map(|mask| (mask as u16).count_ones() as usize);
    let prefix_end = 13 + usize::from(flags & 63).div_ceil(2);
    let embedded = if flags & 64 != 0 { mask(prefix_end)? } else { 0 };
    let storage_at = prefix_end + if flags & 64 != 0 { 2 } else { 0 };
    let storage = if flags & 128 != 0 { mask(storage_at)? } else { 0 };
    // A mask that the flags announce, but that names nothing, is not counted.
    let masks = if embedded != 0 { 2 } else { 0 } + if storage != 0 { 4 } else { 0 };
    let length = prefix_end + masks + (mask(9)? + storage) * 38;
    let checksum = crc32c(bytes.get(4..length)?) ^ folded(place);
    put(bytes, 0, checksum);
    Some(length)
}

/// An extent of the arena: its header, and the nodes of each page.
pub(super) fn arena(bytes: &mut [u8], number: u64) {
    seal_behind(bytes, 60);
    let start = number * bytes.len() as u64;
    for (index, page) in bytes.chunks_mut(PAGE_BYTES as usize).enumerate().skip(1) {
        let mut at = 0;
        let place = start + index as u64 * PAGE_BYTES;
        // Behind the last node stands nothing.
        while page.get(at..at + 13).is_some_and(|head| head.iter().any(|byte| *byte != 0)) {
            let Some(length) = node(&mut page[at..], place + at as u64) else { break };
            at += length;
        }
    }
}

/// A snapshot file: its identity, and the number and hash of chunk after chunk, in the end of all of them.
pub(super) fn snapshot_file(bytes: &mut [u8]) {
    const FIXED_BYTES: usize = 56;
    const CHUNK_HEADER_BYTES: usize = 56;
    /// Where a chunk's header has its hash, and the end the hash of all.
    const HASH_AT: usize = 24;
    const END: u8 = 3;
    let Some(blocks) = number::<2>(bytes, 14) else { return };
    let identity_at = FIXED_BYTES + blocks as usize * 80;
    let mut at = identity_at + 32;
    if at > bytes.len() {
        return;
    }
    let identity = *blake3::hash(&bytes[..identity_at]).as_bytes();
    bytes[identity_at..at].copy_from_slice(&identity);
    let mut all = blake3::Hasher::new_keyed(&identity);
    let mut index = 0_u64;
    while let Some(body_bytes) = number::<4>(bytes, at + 12) {
        let body = at + CHUNK_HEADER_BYTES;
        let Some(chunk) = bytes.get_mut(at..body.saturating_add(body_bytes as usize)) else { return };
        let (header, body) = chunk.split_at_mut(CHUNK_HEADER_BYTES);
        if header[4] == END && body.len() == CHUNK_HEADER_BYTES {
            body[HASH_AT..].copy_from_slice(all.finalize().as_bytes());
        }
        header[16..HASH_AT].copy_from_slice(&index.to_le_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&identity);
        hasher.update(&header[..HASH_AT]).update(body);
        header[HASH_AT..].copy_from_slice(hasher.finalize().as_bytes());
        all.update(&header[HASH_AT..]);
        (at, index) = (at + chunk.len(), index + 1);
    }
}
