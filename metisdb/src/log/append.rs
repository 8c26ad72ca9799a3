//! The writer's end of the log: reserve, append, roll, sync.
//!
//! Invariants:
//! * A1 (rule 16): a segment is synced, and the next one's length, header and directory entry are durable,
//!   before a frame is written into the next. So `durable` moves in log order.
//! * A2 (rule 13): space for a frame is reserved before it is written.
//! * A3: after a failed sync nothing is acknowledged any more: the log is poisoned.
//! * A4: nor after a panic between the first step of a commit or checkpoint and its last: a frame without a version, or half a roll, is not built upon.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;

use super::{
    frame::{self, FrameBuilder, FrameHeader, FrameKind, Link},
    segment::{Identity, Segment, SegmentHeader, SegmentTable, file_name, log_limit},
};
use crate::{
    error::{Error, Result},
    probe,
    storage::{Storage, StorageFile},
};

/// Part of a segment that is reserved ahead of the writing at a time.
const RESERVE_FRACTION: u64 = 16;

/// The log of an open database.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    /// Every byte below is synced.
    durable: AtomicU64,
    /// What a sync has to reach: the segment written to, and how far.
    active: Mutex<Active>,
    /// Held by the thread that syncs; the others wait and find their bytes synced.
    syncing: Mutex<()>,
    poison: OnceLock<Error>,
    /// See [`frame::secret`].
    secret: u32,
}

#[derive(Clone, Debug)]
struct Active {
    segment: Arc<Segment>,
    appended: u64,
}

/// Where the next frame goes; belongs to the one writer.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u64,
    /// Space on the device is reserved below this position.
    pub(crate) reserved_upto: u64,
    /// Checksum of the last frame.
    pub(crate) chain: u32,
    /// Sequence of the last frame.
    pub(crate) sequence: u64,
    pub(crate) nonce: u64,
    /// Whether this session has written a frame.
    pub(crate) session_opened: bool,
}

impl Log {
    pub(crate) fn new(storage: Arc<dyn Storage>, identity: Identity, tail: &Tail, durable: u64) -> Self {
        let active = Active { segment: tail.segment.clone(), appended: tail.position };
        Self {
            storage,
            identity,
            durable: AtomicU64::new(durable),
            active: Mutex::new(active),
            syncing: Mutex::new(()),
            poison: OnceLock::new(),
            secret: frame::secret(&identity.seed),
        }
    }

    /// Every byte below this position is synced.
    pub(crate) fn durable_upto(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// End of the last frame written.
    pub(crate) fn appended_upto(&self) -> u64 {
        self.active.lock().appended
    }

    /// Refuses all further writes and gives back the reason.
    pub(crate) fn poison(&self, cause: Error) -> Error {
        let cause = self.poison.get_or_init(|| {
            tracing::error!(%cause, "the handle accepts no more writes");
            metrics::counter!("metisdb.poisoned").increment(1);
            cause.clone()
        });
        Error::Poisoned { cause: Arc::new(cause.clone()) }
    }

    /// Makes a panic of this thread poison (A4), for as long as the value lives. To be dropped before the lock of what is changed.
    pub(crate) fn unbroken(&self) -> Unbroken<'_> {
        Unbroken { log: self, was_panicking: thread::panicking() }
    }

    /// # Errors
    /// [`Error::Poisoned`] once a failure has left it unknown what the disk holds.
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned { cause: Arc::new(cause.clone()) }),
            None => Ok(()),
        }
    }

    /// Makes room for a frame of `bytes` and returns the position at which it will stand.
    ///
    /// Rolls to a new segment where the frame does not fit. An error leaves the log as it was.
    pub(crate) fn reserve(&self, table: &SegmentTable, tail: &mut Tail, bytes: u64) -> Result<u64> {
        self.prove(tail)?;
        if tail.position + bytes > tail.segment.end {
            self.roll(table, tail, bytes)?;
        }
        let end = tail.position + bytes;
        if end > tail.reserved_upto {
            let segment = &tail.segment;
            let step = self.identity.segment_bytes / RESERVE_FRACTION;
            let ahead = (end + step).min(segment.end);
            let from = tail.reserved_upto;
            let reserve = |upto: u64| segment.file.reserve(from - segment.start, upto - from).map(|()| upto);
            tail.reserved_upto = reserve(ahead).or_else(|_| reserve(end))?;
        }
        Ok(tail.position)
    }

    /// Writes frames, one behind the other, at the position that [`Log::reserve`] gave, all in one write. Returns their end.
    ///
    /// # Errors
    /// A full disk leaves the log as it was; any other failure to write poisons.
    pub(crate) fn append(
        &self,
        tail: &mut Tail,
        frames: impl IntoIterator<Item = (FrameBuilder, FrameKind)>,
        version: u64,
    ) -> Result<u64> {
        self.check_poison()?;
        let mut after = tail.clone();
        let mut bytes = Vec::new();
        for (frame, kind) in frames {
            let link = Link {
                secret: self.secret,
                version,
                sequence: after.sequence + 1,
                durable_upto: if probe::skip("mark-what-is-synced") { after.position } else { self.durable_upto() },
                nonce: after.nonce,
                previous_chain: after.chain,
                opens_session: !after.session_opened,
            };
            let (own, chain) = frame.finish(kind, &link);
            after.position += own.len() as u64;
            after.chain = chain;
            after.sequence = link.sequence;
            after.session_opened = true;
            if bytes.is_empty() { bytes = own } else { bytes.extend_from_slice(&own) }
        }
        debug_assert!(after.position <= tail.reserved_upto, "A2: reserved before written");
        let offset = tail.position - tail.segment.start;
        let file = &tail.segment.file;
        if let Err(error) = file.write_all_at(&bytes, offset) {
            if !error.is_out_of_space() {
                return Err(self.poison(error));
            }
            if probe::skip("erase-refused") {
                return Err(error);
            }
            // A part may have been written, the first frame as a whole: a crash must not make a commit of it.
            return Err(match file.write_all_at(&[0; FrameHeader::BYTES], offset).and_then(|()| file.sync()) {
                Ok(()) => error,
                Err(failure) if failure.is_out_of_space() && !holds_header(&**file, offset, &bytes) => error,
                Err(failure) => self.poison(failure),
            });
        }
        *tail = after;
        self.active.lock().appended = tail.position;
        Ok(tail.position)
    }

    /// Returns once every byte below `position` is durable. Blocks on the device, or on the
    /// thread that is syncing already; one sync serves all that wait.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the sync failed, now or earlier.
    pub(crate) fn sync_upto(&self, position: u64) -> Result<()> {
        if self.durable_upto() >= position {
            return Ok(());
        }
        let _leader = self.syncing.lock();
        if self.durable_upto() >= position {
            return Ok(());
        }
        self.check_poison()?;
        let _unbroken = self.unbroken();
        let Active { segment, appended } = self.active.lock().clone();
        let started = std::time::Instant::now();
        if !probe::skip("log-sync") {
            let failed = |error| if probe::skip("sync-poison") { error } else { self.poison(error) };
            segment.file.sync().map_err(failed)?;
        }
        metrics::histogram!("metisdb.sync_seconds").record(started.elapsed());
        debug_assert!(self.durable_upto() >= segment.start || segment.number == 1, "A1: durable in order");
        self.durable.fetch_max(appended, Ordering::AcqRel);
        Ok(())
    }

    /// Starts the next segment, long enough for a frame of `bytes`.
    fn roll(&self, table: &SegmentTable, tail: &mut Tail, bytes: u64) -> Result<()> {
        if !probe::skip("roll-sync") {
            self.sync_upto(tail.position)?;
        }
        let old = &tail.segment;
        let size = self.identity.segment_bytes;
        let slots = (SegmentHeader::BYTES as u64 + bytes).div_ceil(size);
        let end = old.end + slots * size;
        let limit = log_limit(size);
        if end > limit {
            return Err(Error::LimitReached { what: "the log", limit });
        }
        let header =
            SegmentHeader::new(&self.identity, old.number + 1, slots as u32, old.end, (tail.position, tail.chain));
        let (segment, reserved_upto) = create_segment(&*self.storage, &header).map_err(|failure| match failure {
            CreateFailure::Undone(error) => error,
            CreateFailure::Unknown(error) => self.poison(error),
        })?;
        tracing::debug!(number = segment.number, bytes = segment.end - segment.start, "log continues in a new segment");
        table.insert(segment.clone());
        tail.position = segment.start + SegmentHeader::BYTES as u64;
        tail.reserved_upto = reserved_upto;
        tail.segment = segment.clone();
        self.durable.fetch_max(tail.position, Ordering::AcqRel);
        *self.active.lock() = Active { segment, appended: tail.position };
        Ok(())
    }

    /// Before the first frame of a session, and before a superblock relies on the end of the log: what an earlier one left at the end without a proof that it is
    /// durable (marks, which carry no data) is written again and synced, lest what follows it is cut off with it (rule 4).
    pub(crate) fn prove(&self, tail: &Tail) -> Result<()> {
        let from = self.durable_upto().max(tail.segment.start);
        if tail.session_opened || from >= tail.position || probe::skip("mark-proof") {
            return Ok(());
        }
        let file = &tail.segment.file;
        let mut bytes = vec![0; (tail.position - from) as usize];
        let offset = from - tail.segment.start;
        let rewritten = file.read_exact_at(&mut bytes, offset).and_then(|()| file.write_all_at(&bytes, offset));
        rewritten.map_err(|error| self.poison(error))?;
        self.sync_upto(tail.position)
    }
}

/// Whether the header of this frame may stand at the offset.
fn holds_header(file: &dyn StorageFile, offset: u64, frame: &[u8]) -> bool {
    let mut header = [0; FrameHeader::BYTES];
    file.read_exact_at(&mut header, offset).is_err() || frame.starts_with(&header)
}

/// See [`Log::unbroken`].
#[derive(Debug)]
pub(crate) struct Unbroken<'l> {
    log: &'l Log,
    was_panicking: bool,
}

impl Drop for Unbroken<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            let source = Arc::new(io::Error::other("the thread that wrote panicked"));
            let _ = self.log.poison(Error::Io { operation: "write", path: self.log.storage.path(), offset: 0, source });
        }
    }
}

/// Why a segment could not be made.
pub(crate) enum CreateFailure {
    /// Nothing of it is left.
    Undone(Error),
    /// It may come back after a crash, and then end the segment before it: nothing must be appended there any more.
    Unknown(Error),
}

impl CreateFailure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }
}

/// Creates a segment's file: length, first space, map; then header, sync, directory (A1). Returns how far its space is reserved, too.
pub(crate) fn create_segment(
    storage: &dyn Storage,
    header: &SegmentHeader,
) -> std::result::Result<(Arc<Segment>, u64), CreateFailure> {
    let name = file_name(header.number);
    let reserved = (header.segment_bytes / RESERVE_FRACTION).max(SegmentHeader::BYTES as u64);
    let prepared = storage.create(&name).and_then(|file| {
        file.set_length(header.end() - header.start)?;
        file.reserve(0, reserved)?;
        Segment::map(file, header)
    });
    let segment = prepared.map_err(|error| {
        // Without a header the file means nothing; if it stays, the next attempt or the next open replaces it.
        let _ = storage.remove(&name);
        CreateFailure::Undone(error)
    })?;
    if let Err(error) = segment.file.write_all_at(&header.encode(), 0) {
        let undone = storage.remove(&name).and_then(|()| storage.sync_directory());
        return Err(match undone {
            Ok(()) if error.is_out_of_space() => CreateFailure::Undone(error),
            _ => CreateFailure::Unknown(error),
        });
    }
    if !probe::skip("segment-header-sync") {
        segment.file.sync().map_err(CreateFailure::Unknown)?;
    }
    if !probe::skip("segment-directory-sync") {
        storage.sync_directory().map_err(CreateFailure::Unknown)?;
    }
    Ok((Arc::new(segment), header.start + reserved))
}
