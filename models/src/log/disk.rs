//! A disk with a cache: what was written and not synced may be there after a power loss, or not.

use super::{FRAMES, SEGMENTS};

/// Something that is written as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Cell<T> {
    disk: T,
    pub(super) cache: T,
    pub(super) dirty: bool,
}

impl<T: Copy> Cell<T> {
    pub(super) fn durable(value: T) -> Self {
        Self { disk: value, cache: value, dirty: false }
    }

    pub(super) fn write(&mut self, value: T) {
        self.cache = value;
        self.dirty = true;
    }

    pub(super) fn sync(&mut self) {
        if self.dirty {
            self.disk = self.cache;
            self.dirty = false;
        }
    }

    /// The sync fails: from now on the cache takes for clean what the disk does not have.
    pub(super) fn fail_sync(&mut self) {
        self.dirty = false;
    }

    fn lose_power(&mut self, survives: bool) {
        if self.dirty && survives {
            self.disk = self.cache;
        }
        *self = Self::durable(self.disk);
    }
}

/// A frame of the log: one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// Who wrote it: two frames at one position are never the same.
    pub(super) session: u8,
    /// Who wrote the frame before: the checksum that it repeats (S2).
    pub(super) follows: u8,
    /// Frames known to be durable when it was written.
    pub(super) mark: u8,
}

/// What recovery starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Superblock {
    pub(super) generation: u8,
    /// Frames before the checkpoint, and who wrote the last of them.
    pub(super) checkpoint: u8,
    pub(super) chain: u8,
    /// Frames that the image of the index may name.
    pub(super) image_upto: u8,
    /// The segments that exist: the first, and the one behind the last.
    pub(super) first_segment: u8,
    pub(super) segments_end: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub(super) frames: [Cell<Option<Frame>>; FRAMES],
    /// Directory entries: without its own a segment is not there.
    pub(super) segments: [Cell<bool>; SEGMENTS],
    /// `None`: not sound.
    pub(super) superblocks: [Cell<Option<Superblock>>; 2],
}

impl Disk {
    pub(super) fn created() -> Self {
        let superblock =
            Superblock { generation: 1, checkpoint: 0, chain: 0, image_upto: 0, first_segment: 0, segments_end: 1 };
        let mut segments = [Cell::durable(false); SEGMENTS];
        segments[0] = Cell::durable(true);
        Self {
            frames: [Cell::durable(None); FRAMES],
            segments,
            superblocks: [
                Cell::durable(Some(Superblock { generation: 2, ..superblock })),
                Cell::durable(Some(superblock)),
            ],
        }
    }

    /// How many writes are not synced.
    pub(super) fn unsynced(&self) -> u32 {
        let frames = self.frames.iter().filter(|cell| cell.dirty).count();
        let segments = self.segments.iter().filter(|cell| cell.dirty).count();
        (frames + segments + self.superblocks.iter().filter(|cell| cell.dirty).count()) as u32
    }

    /// Of the unsynced writes, those whose bit is set reach the disk.
    pub(super) fn lose_power(&mut self, mut survivors: u32, tears_superblock: bool) {
        let mut survives = |dirty: bool| {
            let survives = dirty && survivors & 1 == 1;
            survivors >>= u32::from(dirty);
            survives
        };
        for cell in &mut self.frames {
            cell.lose_power(survives(cell.dirty));
        }
        for cell in &mut self.segments {
            cell.lose_power(survives(cell.dirty));
        }
        for cell in &mut self.superblocks {
            if cell.dirty && tears_superblock {
                cell.cache = None;
            }
            cell.lose_power(survives(cell.dirty));
        }
    }

    /// The slots of the sound superblocks, newest first.
    pub(super) fn sound_superblocks(&self) -> Vec<(usize, Superblock)> {
        let mut sound: Vec<_> =
            self.superblocks.iter().enumerate().filter_map(|(slot, cell)| Some((slot, cell.cache?))).collect();
        sound.sort_by_key(|(_, superblock)| std::cmp::Reverse(superblock.generation));
        sound
    }
}
