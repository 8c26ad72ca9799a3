//! Witnesses: the nodes of the trie for those who replay a block without the database (see `proof`).

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use alloy_primitives::{Address, B256, Bytes, keccak256};

use crate::{
    changes::Changes,
    error::{Error, Result},
    log::Damage,
    proof::{Accessed, NodePath, Source, Witness, WitnessMode, collect},
    prove::{Prover, Subject},
};

/// Collects the witness of an execution on a state.
pub(crate) fn witness(
    prover: Prover<'_>,
    accessed: &Accessed,
    changes: &Changes,
    mode: WitnessMode,
) -> Result<Witness> {
    let root = prover.held.trie.root;
    let nodes = Nodes { prover, encoded: RefCell::default(), storages: RefCell::default() };
    collect(&nodes, root, accessed, &changes.by_account(), mode)
}

/// The nodes of a trie, encoded as they are asked for.
#[derive(Debug)]
struct Nodes<'a> {
    prover: Prover<'a>,
    /// All nodes on the paths that were asked for, by hash.
    encoded: RefCell<HashMap<B256, Bytes>>,
    storages: RefCell<BTreeMap<Address, Subject>>,
}

impl Nodes<'_> {
    fn storage(&self, address: &Address) -> Result<Subject> {
        if let Some(known) = self.storages.borrow().get(address) {
            return Ok(known.clone());
        }
        let storage = self.prover.storage(address)?;
        self.storages.borrow_mut().insert(*address, storage.clone());
        Ok(storage)
    }

    /// The nodes on a path.
    fn nodes_on(&self, path: &NodePath) -> Result<Vec<Bytes>> {
        match path.account {
            None => self.prover.nodes_on(&self.prover.accounts(), path.path),
            Some(address) => self.prover.nodes_on(&self.storage(&address)?, path.path),
        }
    }
}

impl Source for Nodes<'_> {
    type Error = Error;

    fn node(&self, hash: &B256, path: &NodePath) -> Result<Bytes> {
        if let Some(node) = self.encoded.borrow().get(hash) {
            return Ok(node.clone());
        }
        let nodes = self.nodes_on(path)?;
        let mut encoded = self.encoded.borrow_mut();
        encoded.extend(nodes.into_iter().map(|node| (keccak256(&node), node)));
        encoded.get(hash).cloned().ok_or_else(|| {
            let expected = format!("the node {hash} at {path}");
            Damage::new(expected, "nodes with other hashes").at("trie", self.prover.view.lookup.storage.path(), 0)
        })
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>> {
        self.prover.view.code(hash)
    }
}
