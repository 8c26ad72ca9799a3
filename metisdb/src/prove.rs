//! Proofs: the nodes on the way to keys, for a verifier that trusts nothing but the root (see `proof`).
//!
//! * `multi`: many accounts and slots, each node once.
//! * `range`: all accounts or slots between two hashes.

mod multi;
mod range;

use std::{ops::RangeInclusive, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    error::Result,
    key::AccountId,
    proof::{Account, AccountProof, EMPTY_ROOT, SlotProof},
    trie::{
        Loaded,
        commitment::{
            BranchView, LeafView, Reference,
            ethereum::{encode_branch, encode_extension, encode_leaf},
        },
        nibbles::{Nibbles, nibble},
        node::{Child, Link},
        update::LeafSource,
        walk::Met,
    },
    tries::{HeldTrie, Tries},
    view::View,
};

/// Nodes shorter than this stand inside their parents.
const EMBEDDED_BELOW: usize = 32;

/// Which nodes are listed: those below which a part of what is asked for lies, but not all that lies there is asked for.
#[derive(Clone, Copy, Debug)]
enum Question<'q> {
    /// What stands on some paths, which ascend.
    Paths(&'q [B256]),
    /// All between two paths, both of them included.
    Range(&'q RangeInclusive<B256>),
}

impl Question<'_> {
    /// Whether the node that these nibbles lead to is listed.
    fn lists(&self, prefix: &Nibbles) -> bool {
        let (first, last) = (prefix.first_path(), prefix.last_path());
        match self {
            Self::Paths(paths) => {
                let next = paths.partition_point(|path| *path < first);
                paths.get(next).is_some_and(|path| *path <= last)
            }
            Self::Range(range) => {
                let (from, to) = (*range.start(), *range.end());
                first <= to && from <= last && !(from <= first && last <= to)
            }
        }
    }

    /// The same for the children of a branch, as bits.
    fn lists_below(&self, prefix: &Nibbles) -> u16 {
        match self {
            Self::Paths(paths) => {
                let (first, last) = (prefix.first_path(), prefix.last_path());
                let below =
                    paths[paths.partition_point(|path| *path < first)..].iter().take_while(|path| **path <= last);
                below.fold(0, |bits, path| bits | 1 << nibble(path, prefix.len()))
            }
            Self::Range(_) => (0..16)
                .filter(|nibble| self.lists(&prefix.joined(*nibble, &Nibbles::EMPTY)))
                .fold(0, |bits, nibble| bits | 1 << nibble),
        }
    }
}

/// A state that is proven: that of a snapshot or of a proposal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prover<'a> {
    pub(crate) tries: &'a Tries,
    pub(crate) held: &'a HeldTrie,
    pub(crate) view: View<'a>,
}

/// One of its tries.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    top: Option<Child>,
    /// Latest birth of what is in the arena below.
    birth: u32,
    /// Whose storage it is; `None` for the trie of the accounts.
    owner: Option<AccountId>,
    root: B256,
}

/// The nodes of a proof, and the leaves that were met, with their paths.
#[derive(Debug, Default)]
struct Collected {
    nodes: Vec<Bytes>,
    leaves: Vec<(B256, Met)>,
}

impl Collected {
    /// What stands inside its parent is not listed; the root stands nowhere else.
    fn list(&mut self, node: Vec<u8>) {
        if self.nodes.is_empty() || node.len() >= EMBEDDED_BELOW {
            self.nodes.push(node.into());
        }
    }
}

impl Prover<'_> {
    /// Proves an account and some of its slots, present or absent.
    pub(crate) fn account(&self, address: &Address, slots: &[U256]) -> Result<AccountProof> {
        let (mut proof, storage) = self.account_alone(address)?;
        for slot in slots {
            let path = self.path(&slot.to_be_bytes::<32>());
            let nodes = self.on_paths(&storage, &[path])?.nodes;
            proof.slots.push(SlotProof { slot: *slot, value: self.slot(&storage, slot)?, nodes });
        }
        Ok(proof)
    }

    /// Proves an account without slots; with the trie of these.
    fn account_alone(&self, address: &Address) -> Result<(AccountProof, Subject)> {
        let path = self.path(address.as_slice());
        let Collected { nodes, leaves } = self.on_paths(&self.accounts(), &[path])?;
        let (account, storage) = self.found(address, &path, &leaves)?;
        let storage_root = storage.root;
        Ok((AccountProof { address: *address, account, storage_root, nodes, slots: Vec::new() }, storage))
    }

    /// The trie of an account's storage.
    pub(crate) fn storage(&self, address: &Address) -> Result<Subject> {
        let path = self.path(address.as_slice());
        let leaves = self.on_paths(&self.accounts(), &[path])?.leaves;
        Ok(self.found(address, &path, &leaves)?.1)
    }

    /// The nodes on a path.
    pub(crate) fn nodes_on(&self, subject: &Subject, path: B256) -> Result<Vec<Bytes>> {
        Ok(self.on_paths(subject, &[path])?.nodes)
    }

    fn path(&self, key: &[u8]) -> B256 {
        self.tries.commitment.paths(&[key])[0]
    }

    /// The trie of the accounts.
    pub(crate) fn accounts(&self) -> Subject {
        let trie = &self.held.trie;
        Subject { top: trie.top.clone(), birth: u32::MAX, owner: None, root: trie.root }
    }

    /// An account and the trie of its storage, which is in its leaf if that was met.
    fn found(&self, address: &Address, path: &B256, leaves: &[(B256, Met)]) -> Result<(Option<Account>, Subject)> {
        let met = leaves.binary_search_by_key(path, |(path, _)| *path).ok().map(|index| &leaves[index].1);
        let storage = met.and_then(|met| Some((met.leaf.storage.as_ref()?, met.birth)));
        let storage = Subject {
            top: storage.map(|(top, _)| Child::clone(top)),
            birth: storage.map_or(0, |(_, birth)| birth),
            owner: self.view.account_id(address)?,
            root: storage_root(storage.map(|(top, _)| top)),
        };
        Ok((self.view.account(address)?.map(|stored| stored.account), storage))
    }

    /// The value of a slot; zero where the storage is empty, whatever was set before that.
    fn slot(&self, storage: &Subject, slot: &U256) -> Result<U256> {
        match (&storage.top, storage.owner) {
            (Some(_), Some(owner)) => Ok(self.view.slot(owner, slot)?.0),
            _ => Ok(U256::ZERO),
        }
    }

    /// The nodes on some paths, which ascend.
    fn on_paths(&self, subject: &Subject, paths: &[B256]) -> Result<Collected> {
        self.collect(subject, Question::Paths(paths))
    }

    /// The nodes that are listed, each before those below it, and these in the order of their paths.
    fn collect(&self, subject: &Subject, question: Question<'_>) -> Result<Collected> {
        let mut collected = Collected::default();
        let top = subject.top.as_ref().filter(|_| question.lists(&Nibbles::EMPTY));
        let top = top.map(|top| (Nibbles::EMPTY, top.settled(), subject.birth));
        // What comes next is on top.
        let mut waiting: Vec<(Nibbles, Child, u32)> = top.into_iter().collect();
        while let Some((mut prefix, child, birth)) = waiting.pop() {
            let node = match child.link {
                Link::Leaf(leaf) => {
                    let met = Met { prefix, leaf, birth };
                    let (path, node) = self.encode_leaf(subject, &met)?;
                    collected.list(node);
                    collected.leaves.push((path, met));
                    continue;
                }
                Link::Branch(node) => node,
            };
            let loaded = Loaded::read(&self.tries.arena, &node, birth, prefix.len())?;
            let (extension, branch) = self.encode(&loaded);
            (0..loaded.prefix.len()).for_each(|index| prefix.push(loaded.prefix.get(index)));
            if let Some(extension) = extension {
                collected.list(extension);
                if !question.lists(&prefix) {
                    continue;
                }
            }
            collected.list(branch);
            let listed = question.lists_below(&prefix);
            for nibble in (0..16).rev().filter(|nibble| listed & 1 << nibble != 0) {
                if let Some(child) = loaded.children.view().get(nibble) {
                    waiting.push((prefix.joined(nibble, &Nibbles::EMPTY), child, loaded.birth));
                }
            }
        }
        Ok(collected)
    }

    /// A leaf's path, and its node.
    fn encode_leaf(&self, subject: &Subject, met: &Met) -> Result<(B256, Vec<u8>)> {
        let (path, payload) = self.view.leaf(subject.owner, met.leaf.key, &met.prefix)?;
        let storage_root = storage_root(met.leaf.storage.as_ref());
        let mut node = Vec::new();
        encode_leaf(&LeafView { path: &path, depth: met.prefix.len(), payload: &payload, storage_root }, &mut node);
        Ok((path, node))
    }

    /// The extension, if there is a prefix, and the branch.
    fn encode(&self, loaded: &Loaded) -> (Option<Vec<u8>>, Vec<u8>) {
        let bare = BranchView { prefix: &Nibbles::EMPTY, ..loaded.view() };
        let mut branch = Vec::new();
        encode_branch(&bare, &mut branch);
        let extension = (!loaded.prefix.is_empty()).then(|| {
            let reference: Vec<Reference> = self.tries.commitment.branches(&[bare]);
            let mut extension = Vec::new();
            encode_extension(&loaded.prefix, &reference[0], &mut extension);
            extension
        });
        (extension, branch)
    }
}

/// The root of a storage by its topmost node.
fn storage_root(top: Option<&Arc<Child>>) -> B256 {
    top.map_or(EMPTY_ROOT, |top| B256::new(*top.reference.padded()))
}
