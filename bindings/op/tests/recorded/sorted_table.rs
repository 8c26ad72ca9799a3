//! RocksDB's sorted tables, of format version 6: blocks of entries, and an index of them.

use alloy_primitives::Bytes;

use crate::reading::{number, take, u32_of};

/// Checksums, the length of the block before it at 13, zeros, version and magic number.
const FOOTER: usize = 53;
const VERSION_AND_MAGIC: [u8; 12] = [6, 0, 0, 0, 0xf7, 0xcf, 0xf4, 0x85, 0xb7, 0x41, 0xe2, 0x88];
/// Behind each block: how it is packed, and a checksum.
const TRAILER: usize = 5;
/// Behind each key: the kind of write, and its sequence number.
const KEY_SUFFIX: usize = 8;
const PUT: u8 = 1;

/// All keys and values. Whoever knows what a key must be checks more than the checksums do.
///
/// # Panics
/// If the table has another form.
pub(crate) fn entries(table: &[u8]) -> Vec<(Bytes, Bytes)> {
    let (blocks, footer) = table.split_at(table.len() - FOOTER);
    assert_eq!(footer[FOOTER - 12..], VERSION_AND_MAGIC, "version and magic number");
    let length = u32_of(&footer[13..17]);
    let about = pairs(&block(table, (blocks.len() - TRAILER - length, length)));
    let (_, index) = about.iter().find(|(key, _)| key == b"rocksdb.index").expect("an index");
    let mut entries = Vec::new();
    for place in places(&block(table, place(&mut &index[..]))) {
        for (key, value) in pairs(&block(table, place)) {
            let (key, suffix) = key.split_at(key.len() - KEY_SUFFIX);
            assert_eq!(suffix[0], PUT, "the kind of a write");
            entries.push((Bytes::copy_from_slice(key), value.into()));
        }
    }
    entries
}

/// A block of a place and length, unpacked.
fn block(table: &[u8], (place, length): (usize, usize)) -> Vec<u8> {
    let packed = &table[place..place + length];
    match table[place + length] {
        0 => packed.to_vec(),
        1 => snap::raw::Decoder::new().decompress_vec(packed).expect("a block packed by snappy"),
        other => panic!("a block packed in way {other}"),
    }
}

/// The keys and values of a block. A key tells only what differs from the one before.
fn pairs(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut rest, mut key, mut pairs) = (entries_of(block), Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (shared, own, length) = (number(&mut rest), number(&mut rest), number(&mut rest));
        key.truncate(shared);
        key.extend_from_slice(take(&mut rest, own));
        pairs.push((key.clone(), take(&mut rest, length).to_vec()));
    }
    pairs
}

/// The places of the index, whose keys are the last ones of the blocks.
fn places(index: &[u8]) -> Vec<(usize, usize)> {
    let (mut rest, mut places) = (entries_of(index), Vec::new());
    while !rest.is_empty() {
        let (shared, own) = (number(&mut rest), number(&mut rest));
        assert_eq!(shared, 0, "every key of the index is whole, and so is every place");
        take(&mut rest, own);
        places.push(place(&mut rest));
    }
    places
}

fn place(rest: &mut &[u8]) -> (usize, usize) {
    (number(rest), number(rest))
}

/// A block without the list of its whole keys.
fn entries_of(block: &[u8]) -> &[u8] {
    let (rest, count) = block.split_at(block.len() - 4);
    &rest[..rest.len() - 4 * u32_of(count)]
}
