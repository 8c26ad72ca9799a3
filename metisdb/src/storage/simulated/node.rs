//! One simulated file: what processes see of it, and what is on the disk.

use std::io;

use super::{content::Content, survival::Survival};

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
    durable: Content,
    unsynced: Unsynced<Change>,
}

impl Node {
    pub(super) fn empty() -> Self {
        Self { visible: Content::empty(), durable: Content::empty(), unsynced: Unsynced::none() }
    }

    /// A file whose whole content is on the disk.
    pub(super) fn at_rest(content: Content) -> io::Result<Self> {
        Ok(Self { visible: content.duplicate()?, durable: content, unsynced: Unsynced::none() })
    }

    pub(super) fn durable(&self) -> &Content {
        &self.durable
    }

    pub(super) fn set_length(&mut self, length: u64) -> io::Result<()> {
        let from = self.visible.length();
        self.visible.set_length(length)?;
        self.unsynced.push(Change::Length { from, to: length });
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
        for change in self.unsynced.sync() {
            match change {
                Change::Length { to, .. } => self.durable.set_length(to)?,
                Change::Write { offset, bytes } => self.durable.write(&bytes, offset),
            }
        }
        if self.durable.length() == self.visible.length() {
            self.durable.reserve_as(&self.visible);
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
        self.durable = self.visible.duplicate()?;
        self.unsynced = Unsynced::none();
        Ok(())
    }

    /// What the disk holds after a power loss.
    ///
    /// Bytes survive whether or not the length that made room for them does. At the end, the last
    /// surviving length cuts the file: bytes beyond it are gone, and missing ones are zero. A
    /// surviving length also clears everything beyond the shorter one of itself and its predecessor
    /// at that time, because it came after the cut of an earlier, longer file.
    pub(super) fn after_power_loss(&self, survival: &mut Survival) -> io::Result<Content> {
        let mut content = self.durable.duplicate()?;
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
