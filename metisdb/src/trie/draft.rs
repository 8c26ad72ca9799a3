//! Drafts: the new branches and leaves of an update before they are hashed, and their hashing level by level.
//!
//! A group of neighbours is hashed as soon as its structure is complete, while it is in the processor's cache: all leaves of its storage
//! tries are one batch, then their branches from the deepest to the topmost, a batch for each depth; then the same for the
//! accounts, whose leaves need the storage roots. What is left when the whole update is complete is hashed in the same way.

use std::sync::Arc;

use alloy_primitives::B256;

use super::{
    Loaded, Trie,
    commitment::{BranchView, Commitment, LeafView, Payload, Reference},
    nibbles::{Nibbles, PATH_NIBBLES},
    node::{Branch, Child, Children, KeyTag, Leaf, Link, NodeRef},
};

/// Whether a node is one of an account's storage or of the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Storage,
    Accounts,
}

/// What stands in one place of a draft.
#[derive(Debug)]
pub(crate) enum Slot {
    Empty,
    /// As it was in the old trie.
    Clean(Child),
    /// Number of a leaf.
    Leaf(u32),
    /// Number of a draft.
    Draft(u32),
}

/// A leaf to be hashed.
#[derive(Debug)]
pub(crate) struct DraftLeaf {
    pub(crate) path: B256,
    /// How many nibbles lead to it.
    pub(crate) depth: usize,
    pub(crate) key: KeyTag,
    pub(crate) payload: Payload,
    /// Top of the account's storage trie.
    pub(crate) storage: Slot,
    pub(crate) tier: Tier,
}

impl DraftLeaf {
    /// A slot's leaf.
    pub(crate) fn of_slot(path: B256, key: KeyTag, payload: Payload) -> Self {
        Self { path, depth: 0, key, payload, storage: Slot::Empty, tier: Tier::Storage }
    }
}

/// A branch to be hashed.
#[derive(Debug)]
pub(crate) struct Draft {
    tier: Tier,
    /// How many nibbles lead to the beginning of its prefix.
    pub(crate) depth: usize,
    pub(crate) prefix: Nibbles,
    /// Those that are not hashed anew, and of the others what they were.
    children: Children,
    /// Which children there will be.
    mask: u16,
    /// What has to be hashed first, by nibble.
    pending: [Option<Pending>; 16],
    /// Latest birth of what is in the arena below the clean ones.
    birth: u32,
}

/// A child that is not hashed.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Leaf(u32),
    Draft(u32),
}

impl From<Pending> for Slot {
    fn from(pending: Pending) -> Self {
        match pending {
            Pending::Leaf(number) => Self::Leaf(number),
            Pending::Draft(number) => Self::Draft(number),
        }
    }
}

impl Draft {
    /// A draft without children.
    pub(crate) fn new(tier: Tier, depth: usize, prefix: Nibbles) -> Self {
        Self { tier, depth, prefix, children: Children::default(), mask: 0, pending: [None; 16], birth: u32::MAX }
    }

    /// A draft with the children of a branch of the old trie.
    pub(crate) fn of(tier: Tier, depth: usize, prefix: Nibbles, loaded: Loaded) -> Self {
        let Loaded { children, birth, .. } = loaded;
        Self { tier, depth, prefix, mask: children.view().mask(), children, pending: [None; 16], birth }
    }

    /// The clean child at a nibble, with the latest birth of what is below.
    pub(crate) fn clean(&self, nibble: u8) -> Option<(Child, u32)> {
        self.children.view().get(nibble).map(|child| (child, self.birth))
    }

    /// Says what will stand at a nibble. Once for each.
    pub(crate) fn set(&mut self, nibble: u8, slot: Slot) {
        debug_assert!(self.pending[usize::from(nibble)].is_none());
        let pending = match slot {
            Slot::Empty => {
                self.mask &= !(1 << nibble);
                return self.children.set(nibble, None);
            }
            Slot::Clean(child) => {
                self.mask |= 1 << nibble;
                return self.children.set(nibble, Some(child));
            }
            Slot::Leaf(number) => Pending::Leaf(number),
            Slot::Draft(number) => Pending::Draft(number),
        };
        self.mask |= 1 << nibble;
        self.pending[usize::from(nibble)] = Some(pending);
    }

    /// How many children there will be.
    pub(crate) fn len(&self) -> usize {
        self.mask.count_ones() as usize
    }

    /// The only child: its nibble, itself and the latest birth below if it is clean.
    pub(crate) fn only(&self) -> (u8, Slot, u32) {
        let nibble = self.mask.trailing_zeros() as u8;
        let slot = match self.pending[usize::from(nibble)] {
            Some(pending) => pending.into(),
            None => self.children.view().get(nibble).map_or(Slot::Empty, Slot::Clean),
        };
        (nibble, slot, self.birth)
    }
}

/// All drafts of an update.
#[derive(Debug)]
pub(crate) struct Drafts<'a> {
    pub(super) commitment: &'a dyn Commitment,
    /// Until they are hashed.
    drafts: Vec<Option<Draft>>,
    leaves: Vec<Option<DraftLeaf>>,
    /// What became of them, until their parents take it.
    made: Vec<Option<Child>>,
    made_leaves: Vec<Option<Child>>,
    /// All that belongs to storage tries is hashed up to here.
    storage_hashed: Mark,
    memory_bytes: usize,
}

/// How much there was at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    drafts: usize,
    leaves: usize,
}

/// A child that was made by other drafts.
#[derive(Debug)]
pub(crate) enum Detached {
    Nothing,
    /// As if it had been there before.
    Clean(Child),
    /// A leaf that may still move up; its storage is hashed.
    Leaf(Box<DraftLeaf>),
}

/// The trie that the drafts became.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) trie: Trie,
    pub(crate) memory_bytes: usize,
}

/// The topmost child of a trie, referred to by the root.
fn as_top(child: Child, root: B256) -> Child {
    Child { reference: Reference::hash(root), link: child.link }
}

impl<'a> Drafts<'a> {
    /// Drafts of storage tries that are hashed at once: enough to fill the lanes, few enough to be in the processor's cache still.
    const BATCH: usize = 256;

    pub(crate) fn new(commitment: &'a dyn Commitment) -> Self {
        Self {
            commitment,
            drafts: Vec::new(),
            leaves: Vec::new(),
            made: Vec::new(),
            made_leaves: Vec::new(),
            storage_hashed: Mark::default(),
            memory_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, draft: Draft) -> Slot {
        self.drafts.push(Some(draft));
        Slot::Draft(self.drafts.len() as u32 - 1)
    }

    pub(crate) fn add_leaf(&mut self, leaf: DraftLeaf) -> u32 {
        self.leaves.push(Some(leaf));
        self.leaves.len() as u32 - 1
    }

    /// The path of a leaf that is not hashed.
    pub(crate) fn path(&self, leaf: u32) -> B256 {
        self.leaves[leaf as usize].as_ref().map_or(B256::ZERO, |leaf| leaf.path)
    }

    /// Says how many nibbles lead to a leaf that is not hashed.
    pub(crate) fn set_depth(&mut self, leaf: u32, depth: usize) {
        if let Some(leaf) = &mut self.leaves[leaf as usize] {
            leaf.depth = depth;
        }
    }

    /// A draft that is not hashed moves up, behind `prefix` and one more nibble.
    pub(crate) fn raise(&mut self, number: u32, depth: usize, prefix: &Nibbles, nibble: u8) {
        if let Some(draft) = &mut self.drafts[number as usize] {
            draft.prefix = prefix.joined(nibble, &draft.prefix);
            draft.depth = depth;
        }
    }

    /// The storage trie of an account is complete: hashes what has come together.
    pub(crate) fn end_storage(&mut self) {
        let Mark { drafts, leaves } = self.storage_hashed;
        if self.drafts.len() - drafts + self.leaves.len() - leaves >= Self::BATCH {
            self.hash_tier(Tier::Storage, self.storage_hashed);
            self.storage_hashed = self.mark();
        }
    }

    /// How much there is.
    pub(crate) fn mark(&self) -> Mark {
        Mark { drafts: self.drafts.len(), leaves: self.leaves.len() }
    }

    /// Hashes what was added since a mark, all of it below `slot`, if that is a branch: from now on it is as if it had been there before.
    pub(crate) fn hash_group(&mut self, tier: Tier, since: Mark, slot: Slot) -> Slot {
        if !matches!(slot, Slot::Draft(_)) {
            return slot;
        }
        self.hash_tier(Tier::Storage, since);
        if tier == Tier::Accounts {
            self.hash_tier(Tier::Accounts, since);
        }
        let slot = self.child(slot).map_or(Slot::Empty, Slot::Clean);
        self.truncate(since);
        slot
    }

    /// Forgets what was added since a mark.
    fn truncate(&mut self, since: Mark) {
        self.drafts.truncate(since.drafts);
        self.leaves.truncate(since.leaves);
        self.made.truncate(since.drafts);
        self.made_leaves.truncate(since.leaves);
        let Mark { drafts, leaves } = &mut self.storage_hashed;
        (*drafts, *leaves) = (since.drafts.min(*drafts), since.leaves.min(*leaves));
    }

    /// Hashes everything, all of which is below `slot`, for other drafts to go on with.
    pub(crate) fn detach(&mut self, tier: Tier, slot: Slot) -> Detached {
        let detached = match self.hash_group(tier, Mark::default(), slot) {
            Slot::Empty | Slot::Draft(_) => Detached::Nothing,
            Slot::Clean(child) => Detached::Clean(child),
            Slot::Leaf(number) => match self.leaves[number as usize].take() {
                None => Detached::Nothing,
                Some(mut leaf) => {
                    self.hash_tier(Tier::Storage, Mark::default());
                    let storage = self.storage(std::mem::replace(&mut leaf.storage, Slot::Empty));
                    leaf.storage = storage.map_or(Slot::Empty, |storage| Slot::Clean(Child::clone(&storage)));
                    Detached::Leaf(Box::new(leaf))
                }
            },
        };
        self.truncate(Mark::default());
        detached
    }

    /// Takes over what other drafts have made.
    pub(crate) fn attach(&mut self, child: Detached) -> Slot {
        match child {
            Detached::Nothing => Slot::Empty,
            Detached::Clean(child) => Slot::Clean(child),
            Detached::Leaf(leaf) => Slot::Leaf(self.add_leaf(*leaf)),
        }
    }

    /// Memory that the branches take that were made.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Adds what other drafts have made.
    pub(crate) fn add_memory(&mut self, bytes: usize) {
        self.memory_bytes += bytes;
    }

    /// Hashes everything that is left, bottom up.
    pub(crate) fn finish(mut self, top: Slot) -> Hashed {
        self.hash_tier(Tier::Storage, Mark::default());
        self.hash_tier(Tier::Accounts, Mark::default());
        let top = self.child(top);
        let root = self.commitment.root(top.as_ref().map(|child| &child.reference));
        Hashed { trie: Trie { top: top.map(|child| as_top(child, root)), root }, memory_bytes: self.memory_bytes }
    }

    fn hash_tier(&mut self, tier: Tier, since: Mark) {
        self.made.resize_with(self.drafts.len(), || None);
        self.made_leaves.resize_with(self.leaves.len(), || None);
        self.hash_leaves(tier, since.leaves);
        self.hash_branches(tier, since.drafts);
    }

    fn hash_leaves(&mut self, tier: Tier, first: usize) {
        let is_due = |leaf: &Option<DraftLeaf>| leaf.as_ref().is_some_and(|leaf| leaf.tier == tier);
        let numbers: Vec<usize> = (first..self.leaves.len()).filter(|at| is_due(&self.leaves[*at])).collect();
        let mut leaves: Vec<DraftLeaf> = numbers.iter().filter_map(|at| self.leaves[*at].take()).collect();
        let storages: Vec<Option<Arc<Child>>> =
            leaves.iter_mut().map(|leaf| self.storage(std::mem::replace(&mut leaf.storage, Slot::Empty))).collect();
        let empty = self.commitment.root(None);
        let views: Vec<LeafView<'_>> = leaves
            .iter()
            .zip(&storages)
            .map(|(leaf, storage)| LeafView {
                path: &leaf.path,
                depth: leaf.depth,
                payload: &leaf.payload,
                storage_root: storage.as_ref().map_or(empty, |child| B256::new(*child.reference.padded())),
            })
            .collect();
        let references = self.commitment.leaves(&views);
        for (((number, leaf), storage), reference) in numbers.into_iter().zip(&leaves).zip(storages).zip(references) {
            let link = Link::Leaf(Leaf { key: leaf.key, storage });
            self.made_leaves[number] = Some(Child { reference, link });
        }
    }

    /// The top of a storage trie.
    fn storage(&mut self, slot: Slot) -> Option<Arc<Child>> {
        let was_clean = matches!(slot, Slot::Clean(_));
        let child = self.child(slot)?;
        if was_clean {
            return Some(Arc::new(child));
        }
        let root = self.commitment.root(Some(&child.reference));
        Some(Arc::new(as_top(child, root)))
    }

    fn hash_branches(&mut self, tier: Tier, first: usize) {
        let mut levels: Vec<Vec<u32>> = vec![Vec::new(); PATH_NIBBLES + 1];
        for (number, draft) in self.drafts.iter().enumerate().skip(first) {
            if let Some(draft) = draft.as_ref().filter(|draft| draft.tier == tier) {
                levels[draft.depth].push(number as u32);
            }
        }
        for level in levels.into_iter().rev().filter(|level| !level.is_empty()) {
            let branches: Vec<Branch> = level.iter().filter_map(|number| self.branch(*number)).collect();
            let views: Vec<BranchView<'_>> = branches.iter().map(Branch::view).collect();
            let references = self.commitment.branches(&views);
            for ((number, branch), reference) in level.into_iter().zip(branches).zip(references) {
                self.memory_bytes += branch.memory_bytes();
                let link = Link::Branch(NodeRef::Memory(branch));
                self.made[number as usize] = Some(Child { reference, link });
            }
        }
    }

    /// The branch of a draft all of whose children are made.
    fn branch(&mut self, number: u32) -> Option<Branch> {
        let Draft { prefix, mut children, pending, .. } = self.drafts[number as usize].take()?;
        for (nibble, slot) in (0..).zip(pending) {
            if let Some(slot) = slot {
                children.set(nibble, self.child(slot.into()));
            }
        }
        Some(Branch::new(prefix, children))
    }

    fn child(&mut self, slot: Slot) -> Option<Child> {
        match slot {
            Slot::Empty => None,
            Slot::Clean(child) => Some(child),
            Slot::Leaf(number) => self.made_leaves[number as usize].take(),
            Slot::Draft(number) => self.made[number as usize].take(),
        }
    }
}
