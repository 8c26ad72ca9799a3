//! The retained versions: where in the log each one's changes stand, and its root.

use std::collections::VecDeque;

use alloy_primitives::B256;
use parking_lot::Mutex;

use crate::trie::commitment::ethereum::EMPTY_ROOT;

/// A version that can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionRow {
    pub(crate) version: u64,
    /// Position of the frame with its changes.
    pub(crate) position: u64,
    /// `None` while it is not computed.
    pub(crate) root: Option<B256>,
}

impl VersionRow {
    /// The version that a database is created with.
    pub(crate) const EMPTY: Self = Self { version: 0, position: 0, root: Some(EMPTY_ROOT) };
}

/// The rows of the versions that can still be read, oldest first. Only versions that changed nothing may have none: a segment with
/// nothing but their frames is dropped, and a rebuild does not find them.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<VersionRow>>);

impl History {
    /// Begins with these rows.
    pub(crate) fn new(rows: VecDeque<VersionRow>) -> Self {
        Self(rows.into())
    }

    /// A version was committed.
    pub(crate) fn push(&self, row: VersionRow) {
        self.0.lock().push_back(row);
    }

    /// A version's root is known.
    pub(crate) fn set_root(&self, version: u64, root: B256) {
        if let Some(row) = self.0.lock().iter_mut().rev().find(|row| row.version == version) {
            row.root = Some(root);
        }
    }

    /// Versions before `floor` are not needed any more.
    pub(crate) fn forget_before(&self, floor: u64) {
        let mut rows = self.0.lock();
        while rows.front().is_some_and(|row| row.version < floor) {
            rows.pop_front();
        }
    }

    /// A version's row.
    pub(crate) fn row(&self, version: u64) -> Option<VersionRow> {
        let rows = self.0.lock();
        let index = rows.binary_search_by_key(&version, |row| row.version).ok()?;
        rows.get(index).copied()
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Vec<VersionRow> {
        self.0.lock().iter().copied().collect()
    }

    /// Positions of the changes of the versions behind `after`, up to `upto`. A version without a row changed nothing.
    pub(crate) fn positions(&self, after: u64, upto: u64) -> Vec<u64> {
        let rows = self.0.lock();
        rows.iter().filter(|row| row.version > after && row.version <= upto).map(|row| row.position).collect()
    }
}
