//! Sweeping: moves nodes out of pages of the arena that are mostly dead, so that whole pages become free.
//!
//! The swept trie is the same trie: the same nodes and hashes, some of them in memory again, for the next checkpoint to
//! write. A sweep goes through the trie in the order of paths, so many bytes of nodes at a time: however large a trie or one account's storage
//! is, each step takes as long as the others.

use std::sync::Arc;

use super::{
    Loaded, Trie,
    arena::Arena,
    draft::Tier,
    node::{Branch, Child, Leaf, Link, NodeRef, nibbles_of},
    update::Retired,
};
use crate::error::Result;

/// Where a sweep goes on: the nibbles that lead to a node; those of an account, [`INTO_STORAGE`] and those of a slot for one of its storage.
pub(crate) type Position = Vec<u8>;

/// Behind the nibbles of an account, and greater than any.
const INTO_STORAGE: u8 = 16;

/// What a step found.
#[derive(Debug)]
pub(crate) struct Swept {
    /// `None`: nothing moved.
    pub(crate) moved: Option<Moved>,
    /// Where the next step begins; `None` at the end of the trie.
    pub(crate) next: Option<Position>,
}

/// A trie of which some nodes are in memory again.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) trie: Trie,
    pub(crate) retired: Vec<Retired>,
    pub(crate) memory_bytes: usize,
}

/// Goes through nodes of `bytes`, from a position on, and takes those that lie in pages less full than `full_bytes` into memory, with all
/// that leads to them. However few the bytes are, the next position is a later one.
pub(crate) fn sweep(arena: &Arena, trie: &Trie, from: &[u8], bytes: u64, full_bytes: u64) -> Result<Swept> {
    let mut sweep = Sweep {
        arena,
        from,
        full_bytes,
        at: Position::new(),
        left: bytes,
        next: None,
        retired: Vec::new(),
        memory_bytes: 0,
    };
    let top = trie.top.as_ref().map(|top| sweep.child(top, u32::MAX, Tier::Accounts, 0)).transpose()?.flatten();
    let Sweep { retired, memory_bytes, next, .. } = sweep;
    let moved = top.map(|top| Moved { trie: Trie { top: Some(top), root: trie.root }, retired, memory_bytes });
    Ok(Swept { moved, next })
}

struct Sweep<'a> {
    arena: &'a Arena,
    from: &'a [u8],
    full_bytes: u64,
    /// What leads to the node at hand.
    at: Position,
    /// Bytes of nodes that are still to be gone through.
    left: u64,
    /// The first node that was not, once there are none left.
    next: Option<Position>,
    retired: Vec<Retired>,
    memory_bytes: usize,
}

impl Sweep<'_> {
    /// The child with what moves below it; `None` if nothing does. `depth` nibbles of the tier lead to it. Each step down consumes a
    /// nibble: at most 64 in each of the two tiers.
    fn child(&mut self, child: &Child, birth: u32, tier: Tier, depth: usize) -> Result<Option<Child>> {
        let link = match child.link.settled() {
            Link::Leaf(Leaf { key, storage: Some(storage) }) if tier == Tier::Accounts => {
                self.at.push(INTO_STORAGE);
                let moved = self.child(&storage, birth, Tier::Storage, 0)?;
                self.at.pop();
                moved.map(|storage| Link::Leaf(Leaf { key, storage: Some(Arc::new(storage)) }))
            }
            Link::Leaf(_) => None,
            Link::Branch(node) => self.branch(&node, birth, tier, depth)?.map(Link::Branch),
        };
        Ok(link.map(|link| Child { reference: child.reference, link }))
    }

    /// Whether all that the nibbles at hand lead to comes before the start.
    fn is_before_start(&self) -> bool {
        let common = self.at.len().min(self.from.len());
        self.at[..common] < self.from[..common]
    }

    fn branch(&mut self, node: &NodeRef, birth: u32, tier: Tier, depth: usize) -> Result<Option<NodeRef>> {
        if self.left == 0 {
            self.next = Some(self.at.clone());
            return Ok(None);
        }
        let mut loaded = Loaded::read(self.arena, node, birth, depth)?;
        let (mut moves, bytes) = match node {
            NodeRef::Arena(place) => {
                (self.arena.pages.lock().live_bytes_beside(*place) < self.full_bytes, loaded.bytes)
            }
            NodeRef::Memory(branch) => (false, branch.memory_bytes()),
        };
        let leads_to_start = self.from.len() > self.at.len() && self.from.starts_with(&self.at);
        if !leads_to_start {
            self.left = self.left.saturating_sub(bytes as u64);
        }
        let above = self.at.len();
        self.at.extend((0..loaded.prefix.len()).map(|at| loaded.prefix.get(at)));
        for nibble in nibbles_of(loaded.children.view().mask()) {
            self.at.push(nibble);
            if !self.is_before_start()
                && let Some(child) = loaded.children.view().get(nibble)
                && let Some(moved) = self.child(&child, loaded.birth, tier, depth + loaded.prefix.len() + 1)?
            {
                loaded.children.set(nibble, Some(moved));
                moves = true;
            }
            self.at.pop();
            if self.next.is_some() {
                break;
            }
        }
        self.at.truncate(above);
        if !moves {
            return Ok(None);
        }
        self.retired.push(match node {
            NodeRef::Arena(place) => Retired::Written(*place, loaded.bytes),
            NodeRef::Memory(branch) => Retired::Unwritten(branch.clone()),
        });
        let branch = Branch::new(loaded.prefix, loaded.children);
        self.memory_bytes += branch.memory_bytes();
        Ok(Some(NodeRef::Memory(branch)))
    }
}
