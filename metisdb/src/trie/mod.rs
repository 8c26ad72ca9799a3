//! The trie: what proves the state. One path-compressed 16-ary structure, with the storage tries nested in the accounts' leaves.
//!
//! A leaf names its key and holds its hash; values stand in the log, and the index finds them (rule 7). New branches are in
//! memory, copied on write and shared between versions; checkpoints pack them into the arena, from where they are read through maps.
//!
//! * `nibbles`, `commitment`, `node`: paths; how a scheme hashes; branches in memory.
//! * `arena`: nodes on disk.
//! * `update`, `draft`: from a trie and changes to a new trie, the structure first, then the hashes level by level.
//! * `warm`: prefetching for updates.
//! * `walk`: finding one leaf, or all in the order of their paths.
//! * `sorted`: the root of leaves in their order, without a trie.
//! * `sweep`: moving nodes out of pages that are mostly dead.

pub(crate) mod arena;
pub(crate) mod commitment;
mod draft;
pub(crate) mod nibbles;
pub(crate) mod node;
pub(crate) mod sorted;
pub(crate) mod sweep;
pub(crate) mod update;
pub(crate) mod walk;
mod warm;

use alloy_primitives::B256;

use self::{
    arena::Arena,
    commitment::BranchView,
    nibbles::{Nibbles, PATH_NIBBLES},
    node::{Child, Children, NodeRef},
};
use crate::{error::Result, log::Damage};

/// The trie of one state. Cloning shares the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    /// The topmost node, with the root as its reference; `None`: the trie is empty.
    pub(crate) top: Option<Child>,
    pub(crate) root: B256,
}

/// A branch as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) prefix: Nibbles,
    pub(crate) children: Children,
    /// Latest birth of what is in the arena below (T2).
    pub(crate) birth: u32,
    /// Length in the arena; 0 if it was in memory.
    pub(crate) bytes: usize,
}

impl Loaded {
    /// What hashing needs of it.
    pub(crate) fn view(&self) -> BranchView<'_> {
        BranchView { prefix: &self.prefix, children: self.children.view() }
    }

    /// Reads a branch that `depth` nibbles lead to, whose birth is at most `birth` if it is in the arena.
    ///
    /// # Errors
    /// Corruption where the node is damaged, or its children would lie deeper than paths are long: so whoever goes down a trie
    /// comes to an end, whatever is in the arena.
    pub(crate) fn read(arena: &Arena, node: &NodeRef, birth: u32, depth: usize) -> Result<Self> {
        match node {
            NodeRef::Memory(branch) => {
                Ok(Self { prefix: *branch.prefix(), children: branch.children().settled(), birth: u32::MAX, bytes: 0 })
            }
            NodeRef::Arena(place) => {
                let node = arena.load(*place, birth)?;
                if depth + node.prefix.len() >= PATH_NIBBLES {
                    let got = format!("one behind {} nibbles", depth + node.prefix.len());
                    let damage = Damage::new(format!("a branch behind fewer than {PATH_NIBBLES} nibbles"), got);
                    return Err(arena.damage(damage, *place));
                }
                Ok(Self { prefix: node.prefix, children: node.children, birth: node.birth, bytes: node.bytes })
            }
        }
    }
}
