//! Reading a trie: one path, or all leaves in the order of their paths.

use alloy_primitives::B256;

use super::{
    Loaded,
    arena::Arena,
    nibbles::{Nibbles, nibble},
    node::{Child, Leaf, Link},
};
use crate::error::Result;

/// A leaf that was met.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    /// The nibbles that lead to it: a beginning of its path.
    pub(crate) prefix: Nibbles,
    pub(crate) leaf: Leaf,
    /// Latest birth of what is in the arena below (T2).
    pub(crate) birth: u32,
}

/// The branches on a path, from the top on, and where it ends.
#[derive(Debug)]
pub(crate) struct Descent {
    /// Each branch with the number of nibbles that lead to its prefix.
    pub(crate) branches: Vec<(usize, Loaded)>,
    /// The leaf at the end, of this path or of another that goes the same way so far; `None` where the path leaves the trie.
    pub(crate) leaf: Option<Met>,
}

/// Follows a path as far as it goes.
pub(crate) fn descend(arena: &Arena, top: Option<&Child>, birth: u32, path: &B256) -> Result<Descent> {
    let mut descent = Descent { branches: Vec::new(), leaf: None };
    let mut next = top.map(|child| (Child::settled(child), birth));
    let mut depth = 0;
    while let Some((child, birth)) = next.take() {
        match child.link {
            Link::Leaf(leaf) => descent.leaf = Some(Met { prefix: Nibbles::of(path, 0, depth), leaf, birth }),
            Link::Branch(node) => {
                let start = depth;
                let loaded = Loaded::read(arena, &node, birth, start)?;
                if loaded.prefix.shared_with(path, start) == loaded.prefix.len() {
                    let branching = start + loaded.prefix.len();
                    next = loaded.children.view().get(nibble(path, branching)).map(|child| (child, loaded.birth));
                    depth = branching + 1;
                }
                descent.branches.push((start, loaded));
            }
        }
    }
    Ok(descent)
}

/// All leaves of a trie, in the order of their paths.
#[derive(Debug)]
pub(crate) struct Leaves<'a> {
    arena: &'a Arena,
    /// What comes next is on top.
    waiting: Vec<(Nibbles, Child, u32)>,
    from: B256,
}

impl<'a> Leaves<'a> {
    /// The leaves from a path on. The first one may come before it: its whole path is not known here.
    pub(crate) fn new(arena: &'a Arena, top: Option<&Child>, birth: u32, from: B256) -> Self {
        let waiting = top.map(|child| (Nibbles::EMPTY, Child::settled(child), birth)).into_iter().collect();
        Self { arena, waiting, from }
    }

    fn advance(&mut self) -> Result<Option<Met>> {
        while let Some((prefix, child, birth)) = self.waiting.pop() {
            if is_before(&prefix, &self.from) {
                continue;
            }
            match child.link {
                Link::Leaf(leaf) => return Ok(Some(Met { prefix, leaf, birth })),
                Link::Branch(node) => {
                    let loaded = Loaded::read(self.arena, &node, birth, prefix.len())?;
                    let mut start = prefix;
                    (0..loaded.prefix.len()).for_each(|index| start.push(loaded.prefix.get(index)));
                    let children: Vec<(u8, Child)> = loaded.children.view().iter().collect();
                    for (nibble, child) in children.into_iter().rev() {
                        let mut prefix = start;
                        prefix.push(nibble);
                        self.waiting.push((prefix, child, loaded.birth));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Whether all paths that begin with `prefix` come before `path`.
fn is_before(prefix: &Nibbles, path: &B256) -> bool {
    let shared = prefix.shared_with(path, 0);
    shared < prefix.len() && prefix.get(shared) < nibble(path, shared)
}

impl Iterator for Leaves<'_> {
    type Item = Result<Met>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
