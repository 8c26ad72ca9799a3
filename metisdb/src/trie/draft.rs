//! Drafts: the new branches and leaves of an update before they are hashed, and their hashing level by level.
//!
//! All leaves of all storage tries are one batch, then their branches from the deepest to the topmost, a batch for each depth;
//! then the same for the accounts, whose leaves need the storage roots.

use std::sync::Arc;

use alloy_primitives::B256;

use super::{
    Trie,
    commitment::{BranchView, Commitment, LeafView, Payload, Reference},
    nibbles::{Nibbles, PATH_NIBBLES},
    node::{Branch, Child, KeyTag, Leaf, Link, NodeRef},
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
    mask: u16,
    /// In the order of their nibbles; for clean ones the latest birth of what is in the arena below.
    slots: Vec<(Slot, u32)>,
}

impl Draft {
    /// A draft without children.
    pub(crate) fn new(tier: Tier, depth: usize, prefix: Nibbles) -> Self {
        Self { tier, depth, prefix, mask: 0, slots: Vec::with_capacity(4) }
    }

    /// Adds what stands at a nibble behind all that were added before.
    pub(crate) fn push(&mut self, nibble: u8, slot: Slot) {
        self.add(nibble, slot, u32::MAX);
    }

    /// Adds a child of the old trie.
    pub(crate) fn push_clean(&mut self, nibble: u8, child: Child, birth: u32) {
        self.add(nibble, Slot::Clean(child), birth);
    }

    fn add(&mut self, nibble: u8, slot: Slot, birth: u32) {
        debug_assert!(self.mask >> nibble == 0, "children are added in order");
        if !matches!(slot, Slot::Empty) {
            self.mask |= 1 << nibble;
            self.slots.push((slot, birth));
        }
    }

    /// How many children there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes the last child: its nibble, itself and the latest birth below.
    pub(crate) fn take_only(&mut self) -> (u8, Slot, u32) {
        let nibble = self.mask.trailing_zeros() as u8;
        let (slot, birth) = self.slots.pop().unwrap_or((Slot::Empty, 0));
        (nibble, slot, birth)
    }
}

/// All drafts of an update.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    drafts: Vec<Draft>,
    leaves: Vec<DraftLeaf>,
}

/// The trie that the drafts became.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) trie: Trie,
    pub(crate) memory_bytes: usize,
}

impl Drafts {
    pub(crate) fn add(&mut self, draft: Draft) -> Slot {
        self.drafts.push(draft);
        Slot::Draft(self.drafts.len() as u32 - 1)
    }

    pub(crate) fn add_leaf(&mut self, leaf: DraftLeaf) -> u32 {
        self.leaves.push(leaf);
        self.leaves.len() as u32 - 1
    }

    pub(crate) fn leaf(&self, number: u32) -> &DraftLeaf {
        &self.leaves[number as usize]
    }

    pub(crate) fn leaf_mut(&mut self, number: u32) -> &mut DraftLeaf {
        &mut self.leaves[number as usize]
    }

    pub(crate) fn draft_mut(&mut self, number: u32) -> &mut Draft {
        &mut self.drafts[number as usize]
    }

    /// Hashes everything, bottom up, and makes branches of the drafts. Drafts that the structure dropped again are not among
    /// what `top` leads to; they are hashed in vain, which is rare.
    pub(crate) fn hash(self, commitment: &dyn Commitment, top: Slot) -> Hashed {
        let mut hashing = Hashing {
            commitment,
            made: self.drafts.iter().map(|_| None).collect(),
            made_leaves: self.leaves.iter().map(|_| None).collect(),
            drafts: self.drafts.into_iter().map(Some).collect(),
            leaves: self.leaves.into_iter().map(Some).collect(),
            memory_bytes: 0,
        };
        for tier in [Tier::Storage, Tier::Accounts] {
            hashing.hash_leaves(tier);
            hashing.hash_branches(tier);
        }
        let top = hashing.child(top);
        let root = commitment.root(top.as_ref().map(|child| &child.reference));
        Hashed { trie: Trie { top: top.map(|child| as_top(child, root)), root }, memory_bytes: hashing.memory_bytes }
    }
}

/// The topmost child of a trie, referred to by the root.
fn as_top(child: Child, root: B256) -> Child {
    Child { reference: Reference::hash(root), link: child.link }
}

struct Hashing<'a> {
    commitment: &'a dyn Commitment,
    drafts: Vec<Option<Draft>>,
    leaves: Vec<Option<DraftLeaf>>,
    /// What became of the drafts, until their parents take it.
    made: Vec<Option<Child>>,
    made_leaves: Vec<Option<Child>>,
    memory_bytes: usize,
}

impl Hashing<'_> {
    fn hash_leaves(&mut self, tier: Tier) {
        let numbers: Vec<usize> =
            (0..self.leaves.len()).filter(|at| self.leaves[*at].as_ref().is_some_and(|leaf| leaf.tier == tier)).collect();
        let mut leaves: Vec<DraftLeaf> = numbers.iter().filter_map(|at| self.leaves[*at].take()).collect();
        let storages: Vec<Option<Arc<Child>>> = leaves
            .iter_mut()
            .map(|leaf| self.storage(std::mem::replace(&mut leaf.storage, Slot::Empty)))
            .collect();
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

    fn hash_branches(&mut self, tier: Tier) {
        let mut levels: Vec<Vec<u32>> = vec![Vec::new(); PATH_NIBBLES + 1];
        for (number, draft) in self.drafts.iter().enumerate() {
            if let Some(draft) = draft.as_ref().filter(|draft| draft.tier == tier) {
                levels[draft.depth].push(number as u32);
            }
        }
        for level in levels.into_iter().rev().filter(|level| !level.is_empty()) {
            let branches: Vec<Branch> = level.iter().filter_map(|number| self.branch(*number)).collect();
            let views: Vec<BranchView> = branches.iter().map(view).collect();
            let references = self.commitment.branches(&views);
            for ((number, branch), reference) in level.into_iter().zip(branches).zip(references) {
                self.memory_bytes += branch.memory_bytes();
                let link = Link::Branch(NodeRef::Memory(Arc::new(branch)));
                self.made[number as usize] = Some(Child { reference, link });
            }
        }
    }

    /// The branch of a draft all of whose children are made.
    fn branch(&mut self, number: u32) -> Option<Branch> {
        let draft = self.drafts[number as usize].take()?;
        let children: Vec<Child> = draft.slots.into_iter().filter_map(|(slot, _)| self.child(slot)).collect();
        Some(Branch::new(draft.prefix, draft.mask, children))
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

/// What hashing needs of a branch.
pub(crate) fn view(branch: &Branch) -> BranchView {
    let mut children = [None; 16];
    for (nibble, child) in branch.nibbles() {
        children[usize::from(nibble)] = Some(child.reference);
    }
    BranchView { prefix: branch.prefix, children }
}
