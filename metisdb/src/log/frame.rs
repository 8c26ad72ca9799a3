//! Frames: the records of one commit behind a header. Pure functions of bytes.
//!
//! The bytes are owned by `spec/format.md`, "Frame header".

use super::{
    Damage, crc32c_of,
    record::{self, ALIGNMENT, Record, VERSION_LIMIT},
};
use crate::layout::layout;

/// `MFRM`.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"MFRM");
/// Sequences stay below this.
pub(crate) const SEQUENCE_LIMIT: u64 = 1 << 62;
/// Bytes that a frame may have: its length is a number of 32 bits.
pub(crate) const FRAME_LIMIT: usize = u32::MAX as usize * ALIGNMENT;
/// Set in the first frame of a session: the nonce changes here.
pub(crate) const FLAG_SESSION: u8 = 1;

layout! {
    /// What stands in front of a frame's records.
    FrameHeader, 64 {
        magic: u32 = 0,
        kind: u8 = 4,
        flags: u8 = 5,
        reserved: u16 = 6,
        length: u32 = 8,
        record_count: u32 = 12,
        version: u64 = 16,
        sequence: u64 = 24,
        position: u64 = 32,
        durable_upto: u64 = 40,
        nonce: u64 = 48,
        previous_chain: u32 = 56,
        checksum: u32 = 60,
    }
}

/// The kinds of frames that this build reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// The records of one commit.
    Changes = 1,
    /// One record: the root of the version.
    Root = 2,
    /// No records; makes `durable_upto` known.
    Mark = 3,
}

impl FrameHeader {
    /// The frame's length in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.length as usize * ALIGNMENT
    }

    /// The frame's kind, if this build knows it.
    pub(crate) fn known_kind(&self) -> Result<FrameKind, Damage> {
        match self.kind {
            1 => Ok(FrameKind::Changes),
            2 => Ok(FrameKind::Root),
            3 => Ok(FrameKind::Mark),
            other => Err(Damage::new("a known kind of frame", format!("kind {other}"))),
        }
    }
}

/// Where a frame stands in the log and what it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) version: u64,
    pub(crate) sequence: u64,
    pub(crate) durable_upto: u64,
    pub(crate) nonce: u64,
    pub(crate) previous_chain: u32,
    /// See [`secret`].
    pub(crate) secret: u32,
    /// Whether this is the first frame of the session.
    pub(crate) opens_session: bool,
}

/// A frame being put together for a known position.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    position: u64,
    record_count: u32,
}

impl FrameBuilder {
    /// An empty frame at `position`, with room for `bytes`.
    pub(crate) fn new(position: u64, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes);
        buffer.resize(FrameHeader::BYTES, 0);
        Self { bytes: buffer, position, record_count: 0 }
    }

    /// Adds a record and returns its position.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> u64 {
        let position = self.position + self.bytes.len() as u64;
        record::encode(&mut self.bytes, position, record);
        self.record_count += 1;
        position
    }

    /// Completes the frame; returns its bytes and its checksum, which the next frame repeats.
    pub(crate) fn finish(mut self, kind: FrameKind, link: &Link) -> (Vec<u8>, u32) {
        let mut header = FrameHeader {
            magic: MAGIC,
            kind: kind as u8,
            flags: if link.opens_session { FLAG_SESSION } else { 0 },
            reserved: 0,
            length: u32::try_from(self.bytes.len() / ALIGNMENT).expect("no frame is longer than FRAME_LIMIT"),
            record_count: self.record_count,
            version: link.version,
            sequence: link.sequence,
            position: self.position,
            durable_upto: link.durable_upto,
            nonce: link.nonce,
            previous_chain: link.previous_chain,
            checksum: 0,
        };
        header.checksum = checksum(&header, &self.bytes[FrameHeader::BYTES..], link.secret);
        self.bytes[..FrameHeader::BYTES].copy_from_slice(&header.encode());
        (self.bytes, header.checksum)
    }
}

/// What the checksums of a database's frames are combined with, so that bytes that a user chose, inside of a
/// record, are never taken for a frame.
pub(crate) fn secret(seed: &[u8; 32]) -> u32 {
    let derived = blake3::derive_key("MetisDB 2026-11 frame checksum", seed);
    u32::from_le_bytes([derived[0], derived[1], derived[2], derived[3]])
}

fn checksum(header: &FrameHeader, records: &[u8], secret: u32) -> u32 {
    crc32c_of(&[&header.encode()[..FrameHeader::BYTES - 4], records]) ^ secret
}

/// Reads a header that claims to stand at `position` and judges what can be judged without the records.
/// `room` is what is left of the segment.
pub(crate) fn header(bytes: &[u8; FrameHeader::BYTES], position: u64, room: u64) -> Result<FrameHeader, Damage> {
    let header = FrameHeader::decode(bytes);
    if header.magic != MAGIC {
        return Err(Damage::new("frame magic MFRM", format!("{:08x}", header.magic)));
    }
    if header.position != position {
        return Err(Damage::new(format!("a frame of position {position}"), format!("one of {}", header.position)));
    }
    let length = header.frame_bytes();
    if length < FrameHeader::BYTES || length as u64 > room {
        return Err(Damage::new(format!("a frame of at most {room} bytes"), format!("{length} bytes")));
    }
    if header.version >= VERSION_LIMIT || header.sequence >= SEQUENCE_LIMIT {
        let got = format!("{} and {}", header.version, header.sequence);
        return Err(Damage::new("a possible version and sequence", got));
    }
    if header.durable_upto > position {
        return Err(Damage::new(format!("a durable mark up to {position}"), format!("{}", header.durable_upto)));
    }
    let records = (length - FrameHeader::BYTES) / record::LEAST_BYTES;
    if header.record_count as usize > records {
        return Err(Damage::new(format!("at most {records} records"), format!("{}", header.record_count)));
    }
    Ok(header)
}

/// Checks a whole frame whose header is `header`.
pub(crate) fn verify(header: &FrameHeader, frame: &[u8], secret: u32) -> Result<(), Damage> {
    let actual = checksum(header, &frame[FrameHeader::BYTES..], secret);
    if actual != header.checksum {
        return Err(Damage::new(format!("frame checksum {:08x}", header.checksum), format!("{actual:08x}")));
    }
    Ok(())
}

/// Calls `visit` with the position, the record and the padded length of each record of a frame, in order, until one fails.
pub(crate) fn records<'a, E: From<Damage>>(
    header: &FrameHeader,
    frame: &'a [u8],
    mut visit: impl FnMut(u64, Record<'a>, usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset = FrameHeader::BYTES;
    for _ in 0..header.record_count {
        let position = header.position + offset as u64;
        let (record, padded) = record::read(&frame[offset.min(frame.len())..], position)?;
        if record.version != header.version {
            return Err(
                Damage::new(format!("a record of version {}", header.version), format!("{}", record.version)).into()
            );
        }
        visit(position, record, padded)?;
        offset += padded;
    }
    if offset != frame.len() {
        return Err(Damage::new(format!("records of {} bytes", frame.len()), format!("{offset} bytes")).into());
    }
    Ok(())
}
