//! The state of a simulated disk, apart from the contents of its files.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    content::Content,
    node::{Node, Unsynced},
    survival::Generator,
};

pub(super) type SharedNode = Arc<Mutex<Node>>;
pub(super) type Entries = BTreeMap<String, SharedNode>;

/// A change of the folder.
pub(super) enum EntryChange {
    Create(String, SharedNode),
    Remove(String),
}

impl EntryChange {
    fn name(&self) -> &str {
        match self {
            Self::Create(name, _) | Self::Remove(name) => name,
        }
    }

    pub(super) fn apply(self, entries: &mut Entries) {
        match self {
            Self::Create(name, node) => entries.insert(name, node),
            Self::Remove(name) => entries.remove(&name),
        };
    }
}

/// Everything about a disk except the files' contents. Locked before any [`Node`].
pub(super) struct State {
    pub(super) entries: Entries,
    pub(super) durable_entries: Entries,
    pub(super) unsynced_entries: Unsynced<EntryChange>,
    pub(super) operations: u64,
    pub(super) cut_at: Option<u64>,
    /// What the power cut hit, and the file or folder.
    pub(super) interrupted: Option<(&'static str, PathBuf)>,
    pub(super) power_is_off: bool,
    pub(super) failures: BTreeMap<u64, io::ErrorKind>,
    pub(super) capacity: Option<u64>,
    pub(super) writers: usize,
    pub(super) readers: usize,
    pub(super) generator: Generator,
}

/// What becomes of the operation that is about to happen.
pub(super) enum Turn {
    Proceed,
    /// The power goes off during the operation.
    CutShort,
    Fail(io::ErrorKind),
    PowerIsOff,
}

impl State {
    pub(super) fn new(entries: Entries, capacity: Option<u64>, seed: u64) -> Self {
        Self {
            durable_entries: entries.clone(),
            entries,
            unsynced_entries: Unsynced::none(),
            operations: 0,
            cut_at: None,
            interrupted: None,
            power_is_off: false,
            failures: BTreeMap::new(),
            capacity,
            writers: 0,
            readers: 0,
            generator: Generator::new(seed),
        }
    }

    /// The turn of an operation on a file or the folder.
    pub(super) fn next_turn(&mut self, operation: &'static str, path: &Path) -> Turn {
        if self.power_is_off {
            return Turn::PowerIsOff;
        }
        if self.cut_at.is_some_and(|at| at <= self.operations) {
            self.power_is_off = true;
            self.interrupted = Some((operation, path.to_owned()));
            return Turn::CutShort;
        }
        self.operations += 1;
        self.failures.remove(&(self.operations - 1)).map_or(Turn::Proceed, Turn::Fail)
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_is_off { Err(power_cut()) } else { Ok(()) }
    }

    /// Fails where the disk has no room for a write of `range` in `node`.
    pub(super) fn check_space(&self, node: &SharedNode, range: Range<u64>) -> io::Result<()> {
        let Some(capacity) = self.capacity else {
            return Ok(());
        };
        let used: u64 = self.entries.values().map(|node| node.lock().visible.allocated_bytes()).sum();
        match node.lock().visible.missing_bytes(range) {
            0 => Ok(()),
            missing if used + missing <= capacity => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// Creates a file. While the power goes off, only the disk may notice.
    pub(super) fn create(&mut self, name: &str, visible: bool) -> SharedNode {
        self.remove(name, visible);
        let node = Arc::new(Mutex::new(Node::at_rest(Content::empty())));
        if visible {
            self.entries.insert(name.to_owned(), Arc::clone(&node));
        }
        self.unsynced_entries.push(EntryChange::Create(name.to_owned(), Arc::clone(&node)));
        node
    }

    pub(super) fn remove(&mut self, name: &str, visible: bool) {
        if self.entries.contains_key(name) {
            self.unsynced_entries.push(EntryChange::Remove(name.to_owned()));
        }
        if visible {
            self.entries.remove(name);
        }
    }

    /// Replaces or removes an entry in the visible and in the durable folder alike.
    pub(super) fn put_at_rest(&mut self, name: &str, node: Option<SharedNode>) {
        self.unsynced_entries.retain(|change| change.name() != name);
        for entries in [&mut self.entries, &mut self.durable_entries] {
            match &node {
                Some(node) => entries.insert(name.to_owned(), Arc::clone(node)),
                None => entries.remove(name),
            };
        }
    }
}

impl Turn {
    /// The answer to an operation that cannot fail by itself.
    pub(super) fn outcome(self) -> io::Result<()> {
        match self {
            Self::Proceed => Ok(()),
            Self::Fail(kind) => Err(kind.into()),
            Self::CutShort | Self::PowerIsOff => Err(power_cut()),
        }
    }
}

/// An operation's error once the power is off.
pub(super) fn power_cut() -> io::Error {
    io::Error::other("power cut")
}
