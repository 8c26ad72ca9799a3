//! One simulated file: what processes see of it, and what is on the disk.

use std::{io, ops::Range};

use super::{
    content::Content,
    survival::{self, Survival},
};

/// How far a change has come on its way to the disk.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// Waits for the next sync.
    Pending,
    /// Was to be made durable by a sync that failed. It may have reached the disk or not, and no
    /// later sync will see to it.
    Abandoned,
    /// Synced, but still behind an abandoned change in the order of things.
    Durable,
}

/// Changes that are not known to be on the disk, oldest first.
pub(super) struct Unsynced<T> {
    changes: Vec<(Standing, T)>,
}

impl<T> Unsynced<T> {
    pub(super) fn none() -> Self {
        Self { changes: Vec::new() }
    }

    pub(super) fn push(&mut self, change: T) {
        self.changes.push((Standing::Pending, change));
    }

    /// A sync succeeded: yields the changes that can now move to the durable state.
    pub(super) fn sync(&mut self) -> impl Iterator<Item = T> + '_ {
        self.promote(Standing::Durable, |_| true);
        let durable = self.changes.iter().take_while(|(standing, _)| *standing == Standing::Durable).count();
        self.changes.drain(..durable).map(|(_, change)| change)
    }

    /// A sync failed, and the changes that `lost` names are not tried again.
    pub(super) fn abandon(&mut self, lost: impl Fn(&T) -> bool) {
        self.promote(Standing::Abandoned, lost);
    }

    /// Forgets the changes that `keep` rejects.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.changes.retain(|(_, change)| keep(change));
    }

    /// All changes; for those that a power loss cannot take back, `true`.
    pub(super) fn iter(&self) -> impl Iterator<Item = (bool, &T)> {
        self.changes.iter().map(|(standing, change)| (*standing == Standing::Durable, change))
    }

    fn promote(&mut self, to: Standing, which: impl Fn(&T) -> bool) {
        for (standing, change) in &mut self.changes {
            if *standing == Standing::Pending && which(change) {
                *standing = to;
            }
        }
    }
}

/// A change of one file. A write beyond the end is two: the new length, and the bytes.
enum Change {
    Length { from: u64, to: u64 },
    Write { offset: u64, bytes: Box<[u8]> },
}

/// One file, with or without a name.
pub(super) struct Node {
    pub(super) visible: Content,
    /// `None` until the file is written to: all of it is on the disk.
    durable: Option<Content>,
    unsynced: Unsynced<Change>,
}

impl Node {
    /// A file whose whole content is on the disk.
    pub(super) fn at_rest(content: Content) -> Self {
        Self { visible: content, durable: None, unsynced: Unsynced::none() }
    }

    pub(super) fn durable(&self) -> &Content {
        self.durable.as_ref().unwrap_or(&self.visible)
    }

    /// Keeps what is on the disk before the visible content changes.
    fn part(&mut self) -> io::Result<()> {
        if self.durable.is_none() {
            self.durable = Some(self.visible.duplicate()?);
        }
        Ok(())
    }

    pub(super) fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.part()?;
        let from = self.visible.length();
        self.visible.set_length(length)?;
        self.unsynced.push(Change::Length { from, to: length });
        Ok(())
    }

    /// Makes the range, which lies inside the length, take space.
    pub(super) fn reserve(&mut self, range: Range<u64>) -> io::Result<()> {
        self.part()?;
        self.visible.reserve(range);
        Ok(())
    }

    /// A change of length that nobody will see before the power is gone.
    pub(super) fn set_length_in_flight(&mut self, length: u64) {
        self.unsynced.push(Change::Length { from: self.visible.length(), to: length });
    }

    /// Writes bytes whose end does not overflow.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() {
            self.part()?;
            if end > self.visible.length() {
                self.set_length(end)?;
            }
            self.visible.write(bytes, offset);
            self.unsynced.push(Change::Write { offset, bytes: bytes.into() });
        }
        Ok(())
    }

    /// A write that nobody will see before the power is gone.
    pub(super) fn write_in_flight(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() {
            if end > self.visible.length() {
                self.set_length_in_flight(end);
            }
            self.unsynced.push(Change::Write { offset, bytes: bytes.into() });
        }
    }

    /// Makes all changes durable, except those that an earlier sync gave up.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        for change in self.unsynced.sync() {
            match change {
                Change::Length { to, .. } => durable.set_length(to)?,
                Change::Write { offset, bytes } => durable.write(&bytes, offset),
            }
        }
        if durable.length() == self.visible.length() {
            durable.reserve_as(&self.visible);
        }
        Ok(())
    }

    /// A sync of this file failed. The system takes the written pages for clean now; a new length is
    /// not in a page of the file, and goes with the next sync.
    pub(super) fn abandon(&mut self) {
        self.unsynced.abandon(|change| matches!(change, Change::Write { .. }));
    }

    /// Changes the visible and the durable content alike, as if the file had been synced before.
    pub(super) fn change_at_rest(&mut self, change: impl FnOnce(&mut Content) -> io::Result<()>) -> io::Result<()> {
        change(&mut self.visible)?;
        self.durable = None;
        self.unsynced = Unsynced::none();
        Ok(())
    }

    /// How many parts of the file a power loss keeps or loses, each by itself.
    pub(super) fn unsynced_parts(&self) -> usize {
        let parts = |change: &Change| match change {
            Change::Length { .. } => 1,
            Change::Write { offset, bytes } => survival::sectors(*offset, bytes.len()).count(),
        };
        self.unsynced.iter().map(|(durable, change)| if durable { 0 } else { parts(change) }).sum()
    }

    /// What the disk holds after a power loss.
    ///
    /// Bytes survive whether or not the length that made room for them does. At the end, the last
    /// surviving length cuts the file: bytes beyond it are gone, and missing ones are zero. A
    /// surviving length also clears everything beyond the shorter one of itself and its predecessor
    /// at that time, because it came after the cut of an earlier, longer file.
    pub(super) fn after_power_loss(&self, survival: &mut Survival) -> io::Result<Content> {
        let mut content = self.durable().duplicate()?;
        let mut length = content.length();
        for (durable, change) in self.unsynced.iter() {
            match change {
                Change::Length { from, to } => {
                    if durable || survival.keeps() {
                        content.set_length(content.length().min(*from).min(*to))?;
                        length = *to;
                    }
                }
                Change::Write { offset, bytes } => {
                    let mut parts = Vec::new();
                    if durable {
                        parts.push(0..bytes.len());
                    } else {
                        survival.keep_parts(*offset, bytes.len(), |part| parts.push(part));
                    }
                    for part in parts {
                        let end = offset + part.end as u64;
                        content.set_length(content.length().max(end))?;
                        content.write(&bytes[part.clone()], offset + part.start as u64);
                    }
                }
            }
        }
        content.set_length(length)?;
        Ok(content)
    }
}
