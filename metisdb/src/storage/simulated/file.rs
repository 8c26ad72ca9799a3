//! Handles of the files of a simulated disk.

use std::{fmt, io, path::PathBuf};

use super::{
    super::{Map, StorageFile, refused},
    SimulatedDisk,
    node::Node,
    state::{SharedNode, State, Turn, power_cut},
};
use crate::error::{Error, Result};

/// One open file of a [`SimulatedDisk`].
pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    node: SharedNode,
}

impl SimulatedFile {
    pub(super) fn new(disk: SimulatedDisk, path: PathBuf, node: SharedNode) -> Self {
        Self { disk, path, node }
    }

    fn failed(&self, operation: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Error {
        move |error| refused(operation, &self.path, offset, error)
    }

    fn write(&self, operation: &'static str, bytes: &[u8], offset: u64) -> Result<()> {
        let mut state = self.disk.state.lock();
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= i64::MAX as u64);
        let turn = state.next_turn(operation, &self.path);
        let outcome = match (turn, end) {
            (Turn::Proceed, None) => Err(io::ErrorKind::FileTooLarge.into()),
            (Turn::Proceed, Some(end)) => {
                state.check_space(&self.node, offset..end).and_then(|()| self.node.lock().write(bytes, offset))
            }
            (Turn::CutShort, Some(_)) => {
                self.node.lock().write_in_flight(bytes, offset);
                Err(power_cut())
            }
            (turn, _) => turn.outcome(),
        };
        outcome.map_err(self.failed(operation, offset))
    }

    /// Looks at the file, unless the power is off.
    fn look<T>(&self, look: impl FnOnce(&Node) -> io::Result<T>) -> io::Result<T> {
        let state = self.disk.state.lock();
        state.check_power()?;
        look(&self.node.lock())
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimulatedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StorageFile for SimulatedFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn length(&self) -> Result<u64> {
        self.look(|node| Ok(node.visible.length())).map_err(self.failed("stat", 0))
    }

    fn set_length(&self, length: u64) -> Result<()> {
        let mut state = self.disk.state.lock();
        let turn = state.next_turn("set length", &self.path);
        let mut node = self.node.lock();
        let outcome = match turn {
            Turn::Proceed => node.set_length(length),
            Turn::CutShort => {
                node.set_length_in_flight(length);
                Err(power_cut())
            }
            Turn::Fail(_) | Turn::PowerIsOff => turn.outcome(),
        };
        outcome.map_err(self.failed("set length", length))
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        let mut state = self.disk.state.lock();
        let reserve = |state: &State| {
            let end = offset.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
            if end > self.node.lock().visible.length() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            state.check_space(&self.node, offset..end)?;
            self.node.lock().reserve(offset..end)
        };
        let outcome = state.next_turn("reserve", &self.path).outcome().and_then(|()| reserve(&state));
        outcome.map_err(self.failed("reserve", offset))
    }

    /// Zeros, written: the space stays taken, which a filesystem may do, too.
    fn give_back(&self, offset: u64, length: u64) -> Result<()> {
        self.write("give back", &vec![0; length as usize], offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.look(|node| Ok(node.visible.allocated_bytes())).map_err(self.failed("stat", 0))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.look(|node| node.visible.read(bytes, offset)).map_err(self.failed("read", offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write("write", bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.disk.state.lock();
        let turn = state.next_turn("sync", &self.path);
        let mut node = self.node.lock();
        let outcome = match turn {
            Turn::Proceed => node.sync(),
            Turn::Fail(kind) => {
                node.abandon();
                Err(kind.into())
            }
            Turn::CutShort | Turn::PowerIsOff => turn.outcome(),
        };
        outcome.map_err(self.failed("sync", 0))
    }

    fn map(&self, length: u64) -> Result<Map> {
        self.look(|node| node.visible.map(length)).map_err(self.failed("map", 0))
    }
}
