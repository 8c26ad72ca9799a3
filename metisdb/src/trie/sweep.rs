//! Sweeping: moves nodes out of pages of the arena that are mostly dead, so that whole pages become free.
//!
//! The swept trie is the same trie: the same nodes and hashes, some of them in memory again, for the next checkpoint to
//! write. A sweep goes through the trie in the order of paths, a part at a time.

use std::sync::Arc;

use super::{
    Loaded, Trie,
    arena::Arena,
    draft::Tier,
    node::{Branch, Child, Leaf, Link, NodeRef, nibbles_of},
    update::Retired,
};
use crate::error::Result;

/// A trie of which some nodes are in memory again.
#[derive(Debug)]
pub(crate) struct Swept {
    pub(crate) trie: Trie,
    pub(crate) retired: Vec<Retired>,
    pub(crate) memory_bytes: usize,
}

/// How many parts a trie is swept in: one for each first byte of an account's path.
pub(crate) const PARTS: usize = 256;
/// Nibbles that tell the part.
const PART_NIBBLES: usize = 2;

/// Takes the nodes of one part that lie in pages less full than `full_bytes` into memory, with all that leads to them. `None`: there is none.
pub(crate) fn sweep(arena: &Arena, trie: &Trie, part: u8, full_bytes: u64) -> Result<Option<Swept>> {
    let part = [part >> 4, part & 15];
    let mut sweep = Sweep { arena, part, full_bytes, retired: Vec::new(), memory_bytes: 0 };
    let Some(top) = &trie.top else { return Ok(None) };
    let Some(top) = sweep.child(top, u32::MAX, Tier::Accounts, 0)? else { return Ok(None) };
    let trie = Trie { top: Some(top), root: trie.root };
    Ok(Some(Swept { trie, retired: sweep.retired, memory_bytes: sweep.memory_bytes }))
}

struct Sweep<'a> {
    arena: &'a Arena,
    part: [u8; PART_NIBBLES],
    full_bytes: u64,
    retired: Vec<Retired>,
    memory_bytes: usize,
}

impl Sweep<'_> {
    /// The child with what moves below it; `None` if nothing does. `depth` nibbles of the tier lead to it. Each step down consumes a
    /// nibble: at most 64 in each of the two tiers.
    fn child(&mut self, child: &Child, birth: u32, tier: Tier, depth: usize) -> Result<Option<Child>> {
        let link = match child.link.settled() {
            Link::Leaf(Leaf { key, storage: Some(storage) }) if tier == Tier::Accounts && self.has_leaf(depth) => self
                .child(&storage, birth, Tier::Storage, 0)?
                .map(|storage| Link::Leaf(Leaf { key, storage: Some(Arc::new(storage)) })),
            Link::Leaf(_) => None,
            Link::Branch(node) => self.branch(&node, birth, tier, depth)?.map(Link::Branch),
        };
        Ok(link.map(|link| Child { reference: child.reference, link }))
    }

    /// Whether a nibble may be at this depth of the part. All storage of an account belongs to the account's part.
    fn belongs(&self, tier: Tier, depth: usize, nibble: u8) -> bool {
        tier == Tier::Storage || self.part.get(depth).is_none_or(|own| *own == nibble)
    }

    /// Whether an account's leaf behind so many nibbles is in the part. The nibbles that stand in the leaf are not known here: where they
    /// would tell, it is in the first of the parts in question, and in no other.
    fn has_leaf(&self, depth: usize) -> bool {
        self.part.iter().skip(depth).all(|own| *own == 0)
    }

    fn branch(&mut self, node: &NodeRef, birth: u32, tier: Tier, depth: usize) -> Result<Option<NodeRef>> {
        let mut loaded = Loaded::read(self.arena, node, birth, depth)?;
        let branching = depth + loaded.prefix.len();
        if !(depth..branching).all(|at| self.belongs(tier, at, loaded.prefix.get(at - depth))) {
            return Ok(None);
        }
        let mut moves = match node {
            NodeRef::Arena(place) => self.arena.pages.lock().live_bytes_beside(*place) < self.full_bytes,
            NodeRef::Memory(_) => false,
        };
        for nibble in nibbles_of(loaded.children.view().mask()) {
            if self.belongs(tier, branching, nibble)
                && let Some(child) = loaded.children.view().get(nibble)
                && let Some(moved) = self.child(&child, loaded.birth, tier, branching + 1)?
            {
                loaded.children.set(nibble, Some(moved));
                moves = true;
            }
        }
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
