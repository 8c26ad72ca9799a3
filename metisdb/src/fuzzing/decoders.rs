//! The decoders of all that stands on disk, each alone: as the bytes are, then with their checksums put right.
//!
//! What is accepted is encoded and read again, and must say the same.

use super::mend;
use crate::{
    error::Result,
    image::{self, Books, ImageHeader},
    index::Index,
    log::{
        Damage,
        frame::{self, FrameBuilder, FrameHeader, FrameKind, Link},
        record::{self, Record},
        segment::Identity,
    },
    storage::SimulatedDisk,
    superblock::{self, ImageReference, SegmentRow, Superblock, TrieReference},
    trie::arena::{
        Place,
        bytes::{self, Node},
    },
};

/// A secret of frames.
const SECRET: u32 = 0x5eed_5eed;

/// A position and bytes that are to be a record there.
pub fn record(bytes: &[u8]) {
    let Some((position, bytes)) = bytes.split_first_chunk::<8>() else { return };
    let position = u64::from_le_bytes(*position);
    let _ = record::read(bytes, position);
    let position = position % record::POSITION_LIMIT / 8 * 8;
    let mut bytes = bytes.to_vec();
    mend::record(&mut bytes, position);
    let Ok((read, padded)) = record::read(&bytes, position) else { return };
    assert!(padded < bytes.len() + 8, "a record of {padded} in {} bytes", bytes.len());
    let mut again = Vec::new();
    record::encode(&mut again, position, &read);
    assert_eq!(record::read(&again, position), Ok((read, again.len())));
}

/// Bytes that are to be a frame, at the position that they name.
pub fn frame(bytes: &[u8]) {
    let _ = read_frame(bytes);
    let mut bytes = bytes.to_vec();
    let Some(header) = bytes.first_chunk().map(FrameHeader::decode) else { return };
    mend::frame(&mut bytes, position_of(&header), header.previous_chain, SECRET);
    let Ok((header, records)) = read_frame(&bytes) else { return };
    let Ok(kind) = header.known_kind() else { return };
    let again = encode_frame(&header, kind, &records);
    let (read, same) = read_frame(&again).expect("what was encoded is read");
    assert_eq!((read.version, read.sequence, same), (header.version, header.sequence, records));
}

/// A position that the frame may have: all of it lies below the limit, as segments see to.
fn position_of(header: &FrameHeader) -> u64 {
    header.position % (record::POSITION_LIMIT / 2) / 8 * 8
}

fn read_frame(bytes: &[u8]) -> Result<(FrameHeader, Vec<Record<'_>>), Damage> {
    let short = || Damage::new("a header", format!("{} bytes", bytes.len()));
    let fixed: &[u8; FrameHeader::BYTES] = bytes.first_chunk().ok_or_else(short)?;
    let header = frame::header(fixed, position_of(&FrameHeader::decode(fixed)), bytes.len() as u64)?;
    let own = &bytes[..header.frame_bytes()];
    frame::verify(&header, own, SECRET)?;
    let mut all = Vec::new();
    frame::records(&header, own, |_, record, _| -> Result<(), Damage> {
        all.push(record);
        Ok(())
    })?;
    Ok((header, all))
}

fn encode_frame(header: &FrameHeader, kind: FrameKind, records: &[Record<'_>]) -> Vec<u8> {
    let mut builder = FrameBuilder::new(header.position, 0);
    for record in records {
        builder.push(record);
    }
    let link = Link {
        version: header.version,
        sequence: header.sequence,
        durable_upto: header.durable_upto,
        nonce: header.nonce,
        previous_chain: header.previous_chain,
        secret: SECRET,
        opens_session: header.flags & frame::FLAG_SESSION != 0,
    };
    builder.finish(kind, &link).0
}

/// A place, a path, and bytes that are to be a node of the arena there.
pub fn node(bytes: &[u8]) {
    let Some((place, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((path, rest)) = rest.split_first_chunk::<32>() else { return };
    let Some(place) = Place::new(u64::from_le_bytes(*place) % Place::LIMIT) else { return };
    let _ = bytes::decode(rest, place);
    let depth = usize::from(path[31] % 64);
    for into_storage in [false, true] {
        let _ = bytes::peek(rest, &path.into(), depth, into_storage);
    }
    let mut rest = rest.to_vec();
    mend::node(&mut rest, place.get());
    let Ok(node) = bytes::decode(&rest, place) else { return };
    assert!(node.bytes <= rest.len() && node.prefix.len() < 64, "{node:?}");
    let again = encode_node(&node, place);
    let read = bytes::decode(&again, place).expect("what was encoded is read");
    assert_eq!((again.len(), read.bytes), (node.bytes, node.bytes));
    assert_eq!(encode_node(&read, place), again, "{node:?}");
}

fn encode_node(node: &Node, place: Place) -> Vec<u8> {
    let mut out = Vec::new();
    bytes::encode(&mut out, place, node.birth, node.view(), |_| unreachable!("it was read from bytes"));
    out
}

/// Bytes that are to be a superblock.
pub fn superblock(bytes: &[u8]) {
    let read = |bytes: Vec<u8>| {
        let disk = SimulatedDisk::new(1);
        disk.put_file("superblock.0", bytes);
        superblock::read(&disk)
    };
    let _ = read(bytes.to_vec());
    let mut bytes = bytes.to_vec();
    mend::superblock(&mut bytes);
    let Ok(Some(superblocks)) = read(bytes) else { return };
    let again = read(superblocks.newest.encode()).expect("what was encoded is read").expect("a file");
    assert_eq!(again.newest, superblocks.newest);
}

/// Bytes that are to be an image of the index, of the checkpoint that they name.
pub fn image(bytes: &[u8]) {
    let _ = read_image(bytes.to_vec());
    let mut bytes = bytes.to_vec();
    mend::image(&mut bytes);
    let Some((superblock, Ok((index, books)))) = read_image(bytes) else { return };
    let disk = SimulatedDisk::new(2);
    let reference = image::write(&disk, &superblock, &books, &index).expect("what was read is written");
    let (same, again) = image::read(&disk, &superblock, reference).expect("what was written is read");
    assert_eq!((same.entries(), again), (index.entries(), books));
}

/// What reading an image gives.
type Image = Result<(Index, Books)>;

fn read_image(bytes: Vec<u8>) -> Option<(Superblock, Image)> {
    let header = ImageHeader::decode(bytes.first_chunk()?);
    let superblock = Superblock {
        generation: header.generation,
        identity: Identity { database_id: header.database_id, seed: [7; 32], segment_bytes: 1 << 16 },
        checkpoint_position: header.checkpoint_position,
        checkpoint_version: header.checkpoint_version,
        checkpoint_sequence: 1,
        checkpoint_chain: 0,
        durable_upto: 0,
        horizon: 0,
        image: None,
        trie: TrieReference::empty(),
        segments: vec![SegmentRow { number: 1, end: 0 }],
    };
    let disk = SimulatedDisk::new(1);
    let reference = ImageReference { generation: header.generation, bytes: bytes.len() as u64 };
    disk.put_file(&image::file_name(header.generation), bytes);
    let read = image::read(&disk, &superblock, reference);
    Some((superblock, read))
}
