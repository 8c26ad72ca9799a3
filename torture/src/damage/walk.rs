//! Which bytes of a segment are in use, by `spec/format.md` and nothing else.

use std::{collections::BTreeMap, ops::Range};

const SEGMENT_HEADER_BYTES: usize = 128;
const FRAME_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 16;

/// What a segment's bytes are.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// End of the last frame.
    pub(crate) end: usize,
    /// Newest record of each key that reading the newest version reads: its bytes, without padding.
    pub(crate) newest: BTreeMap<Vec<u8>, Range<usize>>,
}

/// Walks the frames of a segment.
///
/// # Errors
/// Where it is not as it was written.
pub(crate) fn walk(segment: &[u8]) -> Result<Walk, String> {
    let mut walk = Walk { end: SEGMENT_HEADER_BYTES, ..Walk::default() };
    while segment.get(walk.end..walk.end + 4) == Some(b"MFRM") {
        let header = &segment[walk.end..walk.end + FRAME_HEADER_BYTES];
        let frame = walk.end..walk.end + 8 * number(&header[8..12]);
        let mut at = frame.start + FRAME_HEADER_BYTES;
        for _ in 0..number(&header[12..16]) {
            let record = segment.get(at..frame.end).ok_or("a record behind its frame")?;
            let (key, bytes) = record_of(record)?;
            if let Some(key) = key {
                walk.newest.insert(key, at..at + bytes);
            }
            at += bytes.next_multiple_of(8);
        }
        if at != frame.end {
            return Err(format!("a frame ends at {}, its records at {at}", frame.end));
        }
        walk.end = frame.end;
    }
    if segment[walk.end..].iter().any(|byte| *byte != 0) {
        return Err("something stands behind the last frame".to_string());
    }
    Ok(walk)
}

/// The key of the record in front, if a read asks for it, and the record's length.
fn record_of(record: &[u8]) -> Result<(Option<Vec<u8>>, usize), String> {
    let (meta, body) = (record[4], &record[RECORD_HEADER_BYTES..]);
    let (key, bytes) = match meta {
        0..=32 => (Some(&body[..40]), 40 + usize::from(meta)),
        64 => (Some(&body[..20]), 32 + 32 * usize::from(body[20] & 1) + usize::from(body[22])),
        96 => (Some(&body[..32]), 36 + number(&body[32..36])),
        112 => (Some(&body[..8]), 80),
        120 => (None, 40),
        other => return Err(format!("a record of kind {other}, which the database does not have")),
    };
    Ok((key.map(|key| [&[meta.max(32)], key].concat()), RECORD_HEADER_BYTES + bytes))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
