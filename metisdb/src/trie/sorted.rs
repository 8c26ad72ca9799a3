//! The root of leaves that come in the order of their paths: only the branches above the last leaf are held, however many leaves there are.

use alloy_primitives::B256;

use super::{
    commitment::{BranchView, Commitment, LeafView, Payload, Reference},
    nibbles::{Nibbles, nibble, shared},
    node::{Child, Children, KeyTag, Leaf, Link},
};

/// A trie that grows at its end.
#[derive(Debug)]
pub(crate) struct SortedTrie<'c> {
    commitment: &'c dyn Commitment,
    last: Option<LastLeaf>,
    /// The branches above the last leaf, topmost first: the nibbles in front of each branching, and its children before the last leaf.
    open: Vec<(usize, Children)>,
}

#[derive(Debug)]
struct LastLeaf {
    path: B256,
    payload: Payload,
    storage_root: B256,
}

impl<'c> SortedTrie<'c> {
    /// Without leaves.
    pub(crate) fn new(commitment: &'c dyn Commitment) -> Self {
        Self { commitment, last: None, open: Vec::new() }
    }

    /// Adds a leaf; its path comes behind that of the last one.
    pub(crate) fn push(&mut self, path: B256, payload: Payload, storage_root: B256) {
        if let Some(last) = self.last.replace(LastLeaf { path, payload, storage_root }) {
            debug_assert!(last.path < path);
            self.close(&last, Some(shared(&last.path, &path)));
        }
    }

    /// The root of all leaves. What follows begins anew.
    pub(crate) fn finish(&mut self) -> B256 {
        let top = self.last.take().map(|last| self.close(&last, None));
        self.commitment.root(top.as_ref())
    }

    /// Hashes the last leaf, and the branches that nothing more comes into, as the next leaf shares only so many nibbles with this one.
    /// Returns the reference of the topmost node that was hashed.
    fn close(&mut self, last: &LastLeaf, branching: Option<usize>) -> Reference {
        let mut parent = self.parent(branching);
        let depth = parent.map_or(0, |parent| parent + 1);
        let LastLeaf { path, payload, storage_root } = last;
        let leaf = LeafView { path, depth, payload, storage_root: *storage_root };
        let mut reference = self.commitment.leaves(&[leaf])[0];
        while let Some(depth) = parent {
            if self.open.last().is_none_or(|(own, _)| *own < depth) {
                self.open.push((depth, Children::default()));
            }
            let (_, children) = self.open.last_mut().expect("it is there now");
            let link = Link::Leaf(Leaf { key: KeyTag::of(0), storage: None });
            children.set(nibble(path, depth), Some(Child { reference, link }));
            if branching == Some(depth) {
                break;
            }
            let (_, children) = self.open.pop().expect("it was the last");
            parent = self.parent(branching);
            let prefix = Nibbles::of(path, parent.map_or(0, |parent| parent + 1), depth);
            reference = self.commitment.branches(&[BranchView { prefix: &prefix, children: children.view() }])[0];
        }
        reference
    }

    /// Where the branch begins to differ that the next node goes into: the lowest one that is open, or a new one below it.
    fn parent(&self, branching: Option<usize>) -> Option<usize> {
        self.open.last().map(|(depth, _)| *depth).max(branching)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, keccak256};
    use alloy_trie::{HashBuilder, Nibbles as OracleNibbles};

    use super::*;
    use crate::trie::commitment::ethereum::Ethereum;

    /// Paths that share few nibbles, and many.
    fn paths(seed: u64, count: u64) -> Vec<B256> {
        let path = |number: u64| {
            let mut path = keccak256([seed.to_le_bytes(), number.to_le_bytes()].concat());
            let shared = path[31] as usize % 32;
            if seed % 3 == 1 {
                path[..shared].fill(0x11 * (seed % 16) as u8);
            }
            if seed % 3 == 2 {
                path[..30].fill(7);
            }
            path
        };
        let mut paths: Vec<_> = (0..count).map(path).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// As `alloy-trie` says, and one value serves for many tries.
    #[test]
    fn the_root_is_that_of_the_oracle() {
        let scheme = Ethereum::default();
        let mut trie = SortedTrie::new(&scheme);
        for seed in 0..400 {
            let mut oracle = HashBuilder::default();
            for (number, path) in paths(seed, [0, 1, 2, 3, 5, 17, 300][seed as usize % 7]).into_iter().enumerate() {
                // Short ones, so that nodes stand in their parents, and long ones.
                let value = if seed % 2 == 0 { U256::from(number + 1) } else { U256::MAX - U256::from(number) };
                oracle.add_leaf(OracleNibbles::unpack(path), &alloy_rlp::encode(value));
                trie.push(path, Payload::Slot(value), B256::ZERO);
            }
            assert_eq!(trie.finish(), oracle.root(), "seed {seed}");
        }
    }
}
