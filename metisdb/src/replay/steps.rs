//! The log as replay reads it: a row of steps, checked, decoded and hashed.
//!
//! A step owns what it needs, so that the log is read on while another thread enters what was read. Steps are handed over in portions that
//! take the same memory whatever the frames say.

use alloy_primitives::B256;

use crate::{
    error::{Error, Result},
    key::{KeyHasher, RecordKey},
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record, StoredAccount},
    },
};

/// Steps that are handed over at once; few in tests, so that there are several portions.
const PORTION: usize = if cfg!(test) { 64 } else { 1024 };

/// A step of replay.
#[derive(Debug)]
pub(super) enum Step {
    /// A frame with changes begins.
    Changes(FrameHeader),
    /// One of its records.
    Record(Entry),
    /// The root of a version.
    Root { version: u64, root: B256 },
    /// What is left of the frame at this position cannot be read.
    Damage { damage: Damage, frame: u64 },
}

/// What index and books need of a record.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) previous: Option<u64>,
    /// Of the key.
    pub(super) hash: u64,
    pub(super) key: RecordKey,
    /// Of an account's id; 0 for other keys.
    pub(super) salt: u8,
}

impl Entry {
    fn new(hasher: &KeyHasher, position: u64, record: &Record<'_>) -> Self {
        let key = record.body.key();
        let salt = match record.body {
            Body::Account { stored: StoredAccount { salt, .. }, .. } | Body::AccountDeleted { salt, .. } => salt,
            _ => 0,
        };
        Self { position, previous: record.previous, hash: hasher.record(&key), key, salt }
    }
}

/// Makes steps of frames.
pub(super) struct Reader<H> {
    hasher: KeyHasher,
    portion: Vec<Step>,
    /// Takes a portion and gives an empty one.
    hand_over: H,
}

impl<H: FnMut(Vec<Step>) -> Result<Vec<Step>>> Reader<H> {
    pub(super) fn new(hasher: KeyHasher, hand_over: H) -> Self {
        Self { hasher, portion: Vec::with_capacity(PORTION), hand_over }
    }

    /// Reads a frame whose checksum is right.
    ///
    /// # Errors
    /// Those of `hand_over`; damage is a step.
    pub(super) fn frame(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<()> {
        let is_root = match header.known_kind() {
            Ok(FrameKind::Changes) => false,
            Ok(FrameKind::Root) => true,
            _ => return Ok(()),
        };
        if !is_root {
            self.push(Step::Changes(*header))?;
        }
        let read = frame::records(header, bytes, |position, record, _| {
            let step = match record.body {
                Body::Root { root, .. } if is_root => Step::Root { version: record.version, root },
                _ if is_root => return Ok(()),
                _ => Step::Record(Entry::new(&self.hasher, position, &record)),
            };
            self.push(step).map_err(Stop::Failed)
        });
        match read {
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Damage(damage)) => self.push(Step::Damage { damage, frame: header.position }),
            Ok(()) => Ok(()),
        }
    }

    fn push(&mut self, step: Step) -> Result<()> {
        self.portion.push(step);
        if self.portion.len() == PORTION {
            self.portion = (self.hand_over)(std::mem::take(&mut self.portion))?;
        }
        Ok(())
    }

    /// The steps that were not handed over.
    pub(super) fn rest(self) -> Vec<Step> {
        self.portion
    }
}

/// Why reading a frame stopped.
enum Stop {
    Damage(Damage),
    Failed(Error),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}
