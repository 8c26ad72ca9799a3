//! A naive partial trie: one key at a time, as appendix D of the Yellow Paper has it, over nodes that an independent crate
//! (`alloy-trie`) reads and writes. It notes which nodes it had to open. Whoever includes this file needs that crate, `alloy-rlp`
//! and `alloy-primitives`.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode},
};

/// Nodes by their hashes, and which of them were opened.
#[derive(Debug)]
pub(crate) struct Nodes<'n> {
    pub(crate) known: &'n BTreeMap<B256, Bytes>,
    pub(crate) opened: BTreeSet<B256>,
}

/// A node, as far as it was opened.
#[derive(Clone, Debug)]
pub(crate) enum Naive {
    Nothing,
    Closed(B256),
    Leaf(Vec<u8>, Vec<u8>),
    Extension(Vec<u8>, Box<Self>),
    Branch(Vec<Self>),
}

/// The hash of a node that is not known.
type Opened = Result<Naive, B256>;

impl<'n> Nodes<'n> {
    /// None is open yet.
    pub(crate) fn new(known: &'n BTreeMap<B256, Bytes>) -> Self {
        Self { known, opened: BTreeSet::new() }
    }

    fn open(&mut self, node: Naive) -> Opened {
        let Naive::Closed(hash) = node else { return Ok(node) };
        let bytes = self.known.get(&hash).ok_or(hash)?;
        self.opened.insert(hash);
        Ok(decode(bytes))
    }
}

fn decode(mut bytes: &[u8]) -> Naive {
    match TrieNode::decode(&mut bytes).expect("a sound node") {
        TrieNode::EmptyRoot => Naive::Nothing,
        TrieNode::Leaf(LeafNode { key, value }) => Naive::Leaf(key.to_vec(), value),
        TrieNode::Extension(ExtensionNode { key, child }) => Naive::Extension(key.to_vec(), Box::new(of_child(&child))),
        TrieNode::Branch(branch) => {
            let child = |(_, child): (u8, Option<&RlpNode>)| child.map_or(Naive::Nothing, of_child);
            Naive::Branch(branch.as_ref().children().map(child).collect())
        }
    }
}

fn of_child(child: &RlpNode) -> Naive {
    child.as_hash().map_or_else(|| decode(child), Naive::Closed)
}

impl Naive {
    /// The trie of a root.
    pub(crate) fn of_root(root: B256) -> Self {
        if root == EMPTY_ROOT_HASH { Self::Nothing } else { Self::Closed(root) }
    }

    /// Sets a key, the rest of which is given in nibbles; or removes it, if there is no value.
    pub(crate) fn change(self, path: &[u8], value: Option<&[u8]>, nodes: &mut Nodes<'_>) -> Opened {
        match value {
            Some(value) => self.insert(path, value, nodes),
            None => self.remove(path, nodes),
        }
    }

    fn insert(self, path: &[u8], value: &[u8], nodes: &mut Nodes<'_>) -> Opened {
        let own = match nodes.open(self)? {
            Self::Nothing => return Ok(Self::Leaf(path.to_vec(), value.to_vec())),
            Self::Branch(mut children) => {
                let child = std::mem::replace(&mut children[usize::from(path[0])], Self::Nothing);
                children[usize::from(path[0])] = child.insert(&path[1..], value, nodes)?;
                return Ok(Self::Branch(children));
            }
            Self::Leaf(rest, _) if rest == path => return Ok(Self::Leaf(rest, value.to_vec())),
            Self::Extension(prefix, child) if path.starts_with(&prefix) => {
                let child = child.insert(&path[prefix.len()..], value, nodes)?;
                return Ok(Self::Extension(prefix, Box::new(child)));
            }
            own => own,
        };
        let nibbles = match &own {
            Self::Leaf(nibbles, _) | Self::Extension(nibbles, _) => nibbles.clone(),
            _ => unreachable!("all others were handled"),
        };
        let shared = nibbles.iter().zip(path).take_while(|(own, other)| own == other).count();
        let mut children = vec![Self::Nothing; 16];
        let rest = nibbles[shared + 1..].to_vec();
        children[usize::from(nibbles[shared])] = match own {
            Self::Leaf(_, old) => Self::Leaf(rest, old),
            Self::Extension(_, child) => in_front(rest, *child),
            _ => unreachable!("all others were handled"),
        };
        children[usize::from(path[shared])] = Self::Leaf(path[shared + 1..].to_vec(), value.to_vec());
        Ok(in_front(path[..shared].to_vec(), Self::Branch(children)))
    }

    fn remove(self, path: &[u8], nodes: &mut Nodes<'_>) -> Opened {
        match nodes.open(self)? {
            Self::Leaf(rest, _) if rest == path => Ok(Self::Nothing),
            Self::Extension(prefix, child) if path.starts_with(&prefix) => {
                Ok(in_front(prefix.clone(), child.remove(&path[prefix.len()..], nodes)?))
            }
            Self::Branch(mut children) => {
                let child = std::mem::replace(&mut children[usize::from(path[0])], Self::Nothing);
                children[usize::from(path[0])] = child.remove(&path[1..], nodes)?;
                let left: Vec<usize> = (0..16).filter(|at| !matches!(children[*at], Self::Nothing)).collect();
                match left[..] {
                    [last] => Ok(in_front(vec![last as u8], nodes.open(children.swap_remove(last))?)),
                    _ => Ok(Self::Branch(children)),
                }
            }
            other => Ok(other),
        }
    }

    /// The root of the trie of which this is the top.
    pub(crate) fn root(&self) -> B256 {
        match self {
            Self::Nothing => EMPTY_ROOT_HASH,
            Self::Closed(hash) => *hash,
            node => keccak256(alloy_rlp::encode(node.encoded())),
        }
    }

    fn reference(&self) -> RlpNode {
        match self {
            Self::Closed(hash) => RlpNode::word_rlp(hash),
            node => node.encoded().rlp(&mut Vec::new()),
        }
    }

    fn encoded(&self) -> TrieNode {
        match self {
            Self::Nothing | Self::Closed(_) => unreachable!("they have no node"),
            Self::Leaf(rest, value) => TrieNode::Leaf(LeafNode::new(Nibbles::from_nibbles(rest), value.clone())),
            Self::Extension(prefix, child) => {
                TrieNode::Extension(ExtensionNode::new(Nibbles::from_nibbles(prefix), child.reference()))
            }
            Self::Branch(children) => {
                let there = || children.iter().zip(0..16_u16).filter(|(child, _)| !matches!(child, Self::Nothing));
                let mask = TrieMask::new(there().map(|(_, at)| 1 << at).sum());
                TrieNode::Branch(BranchNode::new(there().map(|(child, _)| child.reference()).collect(), mask))
            }
        }
    }
}

/// The node behind some nibbles.
fn in_front(mut nibbles: Vec<u8>, node: Naive) -> Naive {
    match node {
        node if nibbles.is_empty() => node,
        Naive::Nothing => Naive::Nothing,
        Naive::Leaf(rest, value) => {
            nibbles.extend(rest);
            Naive::Leaf(nibbles, value)
        }
        Naive::Extension(prefix, child) => {
            nibbles.extend(prefix);
            Naive::Extension(nibbles, child)
        }
        node => Naive::Extension(nibbles, Box::new(node)),
    }
}
