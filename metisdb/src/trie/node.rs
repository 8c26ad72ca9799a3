//! Nodes in memory.
//!
//! A branch is immutable once it is made; an update makes new ones along its paths and shares the rest. Branches that
//! were written to the arena are referred to by their place there, and read anew when they are needed.

mod branch;
mod children;
mod pool;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub(crate) use self::{
    branch::Branch,
    children::{Children, ChildrenView, ENTRY_BYTES, Kinds, LINK_BYTES, REFERENCE_BYTES, Referred, Way},
};
use super::{arena::Place, commitment::Reference};

/// The lower 48 bits of the keyed hash of a leaf's plain key: enough for the index to find the key's record, which
/// the caller tells from others by its path. Never a position in the log (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyTag(u64);

impl KeyTag {
    /// Bits of a hash that are kept.
    pub(crate) const BITS: u32 = 48;

    /// Of a keyed hash.
    pub(crate) fn of(hash: u64) -> Self {
        Self(hash & ((1 << Self::BITS) - 1))
    }

    /// As a number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// What a branch knows of one child.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) reference: Reference,
    pub(crate) link: Link,
}

/// Where a child is.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Leaf(Leaf),
    Branch(NodeRef),
}

/// A leaf: the name of its key.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) key: KeyTag,
    /// The topmost node of the account's storage trie, with the storage root as its reference; `None` where the
    /// storage is empty.
    pub(crate) storage: Option<Arc<Child>>,
}

/// A branch, wherever it is.
#[derive(Clone, Debug)]
pub(crate) enum NodeRef {
    Memory(Branch),
    Arena(Place),
}

/// The nibbles of a mask, ascending.
pub(crate) fn nibbles_of(mask: u16) -> impl Iterator<Item = u8> {
    (0..16).filter(move |nibble| mask & 1 << nibble != 0)
}

impl Link {
    /// The same link, by place where a checkpoint has written the branch: so memory is given back.
    pub(crate) fn settled(&self) -> Self {
        match self {
            Self::Branch(node) => Self::Branch(node.settled()),
            Self::Leaf(Leaf { key, storage }) => {
                let storage = storage.as_ref().map(Child::settled_shared);
                Self::Leaf(Leaf { key: *key, storage })
            }
        }
    }
}

impl Child {
    /// The same child with a settled link.
    pub(crate) fn settled(&self) -> Self {
        Self { reference: self.reference, link: self.link.settled() }
    }

    fn settled_shared(shared: &Arc<Self>) -> Arc<Self> {
        match &shared.link {
            Link::Branch(NodeRef::Memory(branch)) if branch.written().place().is_some() => Arc::new(shared.settled()),
            _ => Arc::clone(shared),
        }
    }
}

impl NodeRef {
    /// See [`Link::settled`].
    pub(crate) fn settled(&self) -> Self {
        match self {
            Self::Memory(branch) => branch.written().place().map_or_else(|| self.clone(), Self::Arena),
            Self::Arena(place) => Self::Arena(*place),
        }
    }
}

/// Where in the arena a branch stands, once a checkpoint has made it durable.
#[derive(Debug, Default)]
pub(crate) struct Written(AtomicU64);

impl Written {
    /// Set while the checkpoint that will write the branch is under way.
    const PLANNED: u64 = 1 << 63;

    /// The place, if the branch is durable there.
    pub(crate) fn place(&self) -> Option<Place> {
        let value = self.0.load(Ordering::Acquire);
        if value & Self::PLANNED == 0 { Place::new(value) } else { None }
    }

    /// The place, also if it is only planned. For the checkpoint alone.
    pub(crate) fn planned(&self) -> Option<Place> {
        Place::new(self.0.load(Ordering::Acquire) & !Self::PLANNED)
    }

    /// Chooses a place.
    pub(crate) fn plan(&self, place: Place) {
        self.0.store(place.get() | Self::PLANNED, Ordering::Release);
    }

    /// The planned place is durable.
    pub(crate) fn settle(&self) {
        self.0.fetch_and(!Self::PLANNED, Ordering::AcqRel);
    }

    /// The checkpoint failed.
    pub(crate) fn abandon(&self) {
        self.0.store(0, Ordering::Release);
    }
}
