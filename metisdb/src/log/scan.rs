//! The sequential reader of the log, for recovery and `check`: reads the files, not the maps, and finds where
//! the log ends.
//!
//! Invariants:
//! * S1 (rule 2): damage at or above the largest durable mark is a torn tail; below it, corruption. Marks of sound
//!   frames behind the damage count, so that a flipped bit in the middle never cuts what was acknowledged.
//! * S2 (rule 3): a frame counts only if it repeats the checksum and follows the sequence of the one before it, if the
//!   nonce changes only where a session begins, and if changes are of a later version than all before.

use std::sync::Arc;

use super::{
    Damage,
    frame::{self, FLAG_SESSION, FrameHeader, FrameKind},
    segment::{Identity, SegmentHeader},
};
use crate::{error::Result, probe, storage::StorageFile};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// A segment as recovery finds it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) header: SegmentHeader,
    /// End of its last frame, where the superblock or the next segment says so. All of it is durable then (A1).
    pub(crate) known_end: Option<u64>,
}

impl SegmentFile {
    /// First position behind the segment.
    pub(crate) fn end(&self) -> u64 {
        self.header.end()
    }
}

/// A place between two frames, and what the next frame must continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) position: u64,
    pub(crate) version: u64,
    /// Sequence of the last frame; 0 where it is not known.
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
    /// Nonce of the last frame; `None` before any was read.
    pub(crate) nonce: Option<u64>,
    /// Largest durable mark seen.
    pub(crate) durable_upto: u64,
}

impl Cursor {
    /// The beginning of a segment, trusting its header for what came before.
    pub(crate) fn at_start_of(segment: &SegmentHeader) -> Self {
        Self {
            position: segment.start + SegmentHeader::BYTES as u64,
            version: 0,
            sequence: 0,
            chain: segment.previous_chain,
            nonce: None,
            durable_upto: segment.previous_end,
        }
    }
}

/// Reads frames from `cursor` on, through all of `segments` (ascending; the first one holds the cursor), and calls
/// `visit` with each. Returns the end of the sound log.
///
/// # Errors
/// Corruption where damage lies below a durable mark (S1), whatever `visit` returns, and failures to read.
pub(crate) fn frames(
    segments: &[SegmentFile],
    mut cursor: Cursor,
    mut visit: impl FnMut(&FrameHeader, &[u8]) -> Result<()>,
) -> Result<Cursor> {
    let secret = segments.first().map_or(0, |segment| frame::secret(&segment.header.seed));
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            cursor = enter(&segments[index - 1], segment, &cursor)?;
        }
        let mut window = Window::new(segment);
        let mut reread_at = None;
        while segment.known_end != Some(cursor.position) {
            match next_frame(&mut window, &cursor, secret) {
                Ok((header, bytes)) => {
                    header.known_kind().map_err(|damage| place(segment, damage, header.position))?;
                    visit(&header, bytes)?;
                    cursor = Cursor {
                        position: header.position + header.frame_bytes() as u64,
                        // A deferred root comes behind the changes of later versions.
                        version: cursor.version.max(header.version),
                        sequence: header.sequence,
                        chain: header.checksum,
                        nonce: Some(header.nonce),
                        durable_upto: cursor.durable_upto.max(header.durable_upto),
                    };
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Damage(damage)) => {
                    let mark = match segment.known_end {
                        Some(end) => end,
                        None => cursor.durable_upto.max(mark_behind(segment, &cursor, secret)?),
                    };
                    let below = cursor.position < mark || probe::skip("tail-bound") && cursor.position == mark;
                    if below || segment.known_end.is_some() {
                        if reread_at != Some(cursor.position) {
                            // Beside a writer the window may be older than the mark: look again, once.
                            reread_at = Some(cursor.position);
                            window = Window::new(segment);
                            continue;
                        }
                        let damage = Damage::new(format!("{} (durable up to {mark})", damage.expected), damage.got);
                        return Err(place(segment, damage, cursor.position));
                    }
                    return Ok(cursor);
                }
            }
        }
        // The superblock or the next segment says that it ends here; both came after it was durable (A1).
        cursor.durable_upto = cursor.durable_upto.max(cursor.position);
    }
    Ok(cursor)
}

/// The cursor at the first frame of `next`. Where segments in between were dropped, the chain begins anew.
fn enter(before: &SegmentFile, next: &SegmentFile, cursor: &Cursor) -> Result<Cursor> {
    let first = Cursor::at_start_of(&next.header);
    if next.number != before.number + 1 {
        let durable_upto = cursor.durable_upto.max(first.durable_upto);
        return Ok(Cursor { durable_upto, version: cursor.version, ..first });
    }
    if next.header.previous_chain != cursor.chain {
        let expected = format!("a segment that follows checksum {:08x}", cursor.chain);
        let damage = Damage::new(expected, format!("{:08x}", next.header.previous_chain));
        return Err(place(next, damage, next.header.start));
    }
    Ok(Cursor { position: first.position, ..*cursor })
}

/// The largest durable mark in sound frames behind the place where reading stopped.
fn mark_behind(segment: &SegmentFile, cursor: &Cursor, secret: u32) -> Result<u64> {
    let mut mark = 0;
    let mut window = Window::new(segment);
    let mut position = cursor.position;
    while let Some(found) = window.find_magic(position)? {
        position = found + 8;
        if found + FrameHeader::BYTES as u64 > segment.end() {
            break;
        }
        let bytes = window.header_bytes(found)?;
        let Ok(header) = frame::header(&bytes, found, segment.end() - found) else { continue };
        let frame = window.bytes(found, header.frame_bytes())?;
        if header.sequence > cursor.sequence && frame::verify(&header, frame, secret).is_ok() {
            mark = mark.max(header.durable_upto);
            position = found + header.frame_bytes() as u64;
        }
    }
    Ok(mark)
}

/// Why reading stopped.
enum Stop {
    Damage(Damage),
    Failed(crate::error::Error),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Reads the frame at the cursor and checks that it continues what was read (S2).
fn next_frame<'w>(window: &'w mut Window<'_>, cursor: &Cursor, secret: u32) -> Result<(FrameHeader, &'w [u8]), Stop> {
    let room = window.segment.end().saturating_sub(cursor.position);
    if room < FrameHeader::BYTES as u64 {
        return Err(Damage::new("a frame", format!("{room} bytes left in the segment")).into());
    }
    let bytes = window.header_bytes(cursor.position).map_err(Stop::Failed)?;
    let header = frame::header(&bytes, cursor.position, room)?;
    if header.previous_chain != cursor.chain {
        let expected = format!("a frame that follows checksum {:08x}", cursor.chain);
        return Err(Damage::new(expected, format!("{:08x}", header.previous_chain)).into());
    }
    let opens = header.flags & FLAG_SESSION != 0;
    if cursor.sequence != 0 && header.sequence != cursor.sequence + 1 {
        let expected = format!("sequence {}", cursor.sequence + 1);
        return Err(Damage::new(expected, format!("{}", header.sequence)).into());
    }
    if cursor.nonce.is_some_and(|nonce| header.nonce != nonce) && !opens {
        return Err(Damage::new("a frame of the same session", "another nonce").into());
    }
    if header.known_kind() == Ok(FrameKind::Changes) && header.version <= cursor.version {
        let expected = format!("changes of a version after {}", cursor.version);
        return Err(Damage::new(expected, format!("{}", header.version)).into());
    }
    let frame = window.bytes(cursor.position, header.frame_bytes()).map_err(Stop::Failed)?;
    frame::verify(&header, frame, secret)?;
    Ok((header, frame))
}

fn place(segment: &SegmentFile, damage: Damage, position: u64) -> crate::error::Error {
    damage.at("frame", segment.file.path(), position - segment.header.start)
}

/// A buffered view of a segment's file.
struct Window<'s> {
    segment: &'s SegmentFile,
    /// Position of the first buffered byte.
    start: u64,
    bytes: Vec<u8>,
}

impl<'s> Window<'s> {
    fn new(segment: &'s SegmentFile) -> Self {
        Self { segment, start: segment.header.start, bytes: Vec::new() }
    }

    /// `length` bytes from `position`; the caller knows that they lie inside the segment.
    fn bytes(&mut self, position: u64, length: usize) -> Result<&[u8]> {
        let buffered = self.start..self.start + self.bytes.len() as u64;
        if position < buffered.start || position + length as u64 > buffered.end {
            let room = (self.segment.end() - position) as usize;
            self.bytes.resize(length.max(WINDOW_BYTES).min(room), 0);
            self.start = position;
            let offset = position - self.segment.header.start;
            self.segment.file.read_exact_at(&mut self.bytes, offset).inspect_err(|_| self.bytes.clear())?;
        }
        let offset = (position - self.start) as usize;
        Ok(&self.bytes[offset..offset + length])
    }

    fn header_bytes(&mut self, position: u64) -> Result<[u8; FrameHeader::BYTES]> {
        let mut header = [0; FrameHeader::BYTES];
        header.copy_from_slice(self.bytes(position, FrameHeader::BYTES)?);
        Ok(header)
    }

    /// The first position from `position` on, in steps of 8, where a frame's magic stands.
    fn find_magic(&mut self, mut position: u64) -> Result<Option<u64>> {
        let end = self.segment.end();
        while position < end {
            // What is buffered: magics can stand everywhere, and each is no reason to read a window anew.
            self.bytes(position, (end - position).min(8) as usize)?;
            let bytes = &self.bytes[(position - self.start) as usize..];
            let found = bytes.chunks_exact(8).position(|unit| unit[..4] == frame::MAGIC.to_le_bytes());
            match found {
                Some(unit) => return Ok(Some(position + unit as u64 * 8)),
                None => position += (bytes.len() as u64).next_multiple_of(8),
            }
        }
        Ok(None)
    }
}

/// Makes the bytes of `[from, to)` durable by writing them again: after a failed sync the page cache can hold, as clean,
/// bytes that the disk does not have (rule 4).
pub(crate) fn rewrite(segments: &[SegmentFile], from: u64, to: u64) -> Result<()> {
    for segment in segments {
        let (first, last) = (from.max(segment.header.start), to.min(segment.known_end.unwrap_or(segment.end())));
        let mut window = Window::new(segment);
        let mut position = first;
        while position < last {
            let length = (last - position).min(WINDOW_BYTES as u64) as usize;
            let bytes = window.bytes(position, length)?;
            segment.file.write_all_at(bytes, position - segment.header.start)?;
            position += length as u64;
        }
        if first < last {
            segment.file.sync()?;
        }
    }
    Ok(())
}

/// Overwrites with zeros whatever stands behind `position` in its segment, so that nothing of it can come back as a
/// frame (rule 3). Returns whether there was anything.
pub(crate) fn erase_behind(segment: &SegmentFile, position: u64) -> Result<bool> {
    const STEP: usize = 4096;
    let mut window = Window::new(segment);
    let mut erased = false;
    let mut at = position;
    while at < segment.end() {
        let length = (segment.end() - at).min(WINDOW_BYTES as u64) as usize;
        let bytes = window.bytes(at, length)?;
        for (index, step) in bytes.chunks(STEP).enumerate() {
            if step.iter().any(|byte| *byte != 0) {
                let offset = at - segment.header.start + (index * STEP) as u64;
                segment.file.write_all_at(&[0; STEP][..step.len()], offset)?;
                erased = true;
            }
        }
        at += length as u64;
    }
    if erased && !probe::skip("erase-sync") {
        segment.file.sync()?;
    }
    Ok(erased)
}

/// Reads the headers of segment files, ascending by number. All must be sound, but for a last one beyond `last_known`
/// whose making was interrupted: it holds nothing, and is left out. `known_end` gives the ends that the superblock knows.
pub(crate) fn open_segments(
    files: Vec<(u64, Arc<dyn StorageFile>)>,
    identity: &Identity,
    last_known: u64,
    known_end: impl Fn(u64) -> Option<u64>,
) -> Result<Vec<SegmentFile>> {
    let mut segments: Vec<SegmentFile> = Vec::with_capacity(files.len());
    let count = files.len();
    for (index, (number, file)) in files.into_iter().enumerate() {
        let header = match SegmentHeader::read(&*file, identity, number) {
            Ok(header) => header,
            Err(error) if index + 1 == count && number > last_known && error.is_corruption() => {
                if holds_anything(&*file)? {
                    return Err(error);
                }
                break;
            }
            Err(error) => return Err(error),
        };
        if let Some(before) = segments.last_mut() {
            let follows = before.number + 1 == number;
            if header.start < before.end() || follows && header.start != before.end() {
                let damage = Damage::new(format!("a segment from {} on", before.end()), format!("{}", header.start));
                return Err(damage.at("segment", file.path(), 0));
            }
            if follows {
                before.known_end = Some(header.previous_end);
            }
        }
        segments.push(SegmentFile { number, file, header, known_end: known_end(number) });
    }
    for segment in &segments {
        let first = segment.header.start + SegmentHeader::BYTES as u64;
        if segment.known_end.is_some_and(|end| !(first..=segment.end()).contains(&end)) {
            let expected = format!("an end from {first} to {}", segment.end());
            return Err(Damage::new(expected, format!("{:?}", segment.known_end)).at(
                "segment",
                segment.file.path(),
                0,
            ));
        }
    }
    Ok(segments)
}

/// Whether anything but zeros stands behind a segment's header, that is, whether frames were ever written.
pub(crate) fn holds_anything(file: &dyn StorageFile) -> Result<bool> {
    let length = file.length()?;
    let mut bytes = vec![0; WINDOW_BYTES];
    let mut at = SegmentHeader::BYTES as u64;
    while at < length {
        let count = (length - at).min(WINDOW_BYTES as u64) as usize;
        file.read_exact_at(&mut bytes[..count], at)?;
        if bytes[..count].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        at += count as u64;
    }
    Ok(false)
}
