//! RocksDB's write-ahead log: blocks of 32 KiB with pieces of records, each record a batch of writes.

use alloy_primitives::Bytes;

use crate::reading::{number, take, u32_of};

const BLOCK: usize = 32 << 10;
/// Checksum, length, kind.
const PIECE_HEADER: usize = 7;
/// Sequence number, count.
const BATCH_HEADER: usize = 12;
const PUT: u8 = 1;

/// The keys and values that were put, in that order. Whoever knows what a key must be checks more than the checksums do.
///
/// # Panics
/// If the log has anything else.
pub(crate) fn entries(log: &[u8]) -> Vec<(Bytes, Bytes)> {
    let mut entries = Vec::new();
    let mut batch = Vec::new();
    for mut block in log.chunks(BLOCK) {
        while block.len() >= PIECE_HEADER {
            let (header, rest) = block.split_at(PIECE_HEADER);
            let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
            if kind == 0 {
                break;
            }
            let (piece, rest) = rest.split_at(length);
            block = rest;
            batch.extend_from_slice(piece);
            match kind {
                // Whole, or the last piece.
                1 | 4 => read_batch(&std::mem::take(&mut batch), &mut entries),
                2 | 3 => {}
                other => panic!("a piece of kind {other}"),
            }
        }
    }
    assert!(batch.is_empty(), "the log ends within a record");
    entries
}

fn read_batch(batch: &[u8], entries: &mut Vec<(Bytes, Bytes)>) {
    let (header, mut rest) = batch.split_at(BATCH_HEADER);
    for _ in 0..u32_of(&header[8..]) {
        assert_eq!(take(&mut rest, 1), [PUT], "the kind of a write");
        entries.push((bytes(&mut rest), bytes(&mut rest)));
    }
    assert!(rest.is_empty(), "the batch has more than it counts");
}

/// Bytes behind their length.
fn bytes(rest: &mut &[u8]) -> Bytes {
    let length = number(rest);
    Bytes::copy_from_slice(take(rest, length))
}
