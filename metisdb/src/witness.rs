//! Witnesses: the nodes of the trie for those who replay a block without the database (see `proof`).

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, keccak256};

use crate::{
    changes::Changes,
    error::{Error, Result},
    key::AccountId,
    log::Damage,
    proof::{Accessed, NodePath, Source, Witness, WitnessMode, collect},
    prove,
    trie::node::Child,
    tries::{HeldTrie, Tries},
    view::View,
};

/// Collects the witness of an execution on a state.
pub(crate) fn witness(
    tries: &Tries,
    held: &HeldTrie,
    view: &View<'_>,
    (accessed, changes): (&Accessed, &Changes),
    mode: WitnessMode,
) -> Result<Witness> {
    let nodes = Nodes { tries, held, view, encoded: RefCell::default(), storages: RefCell::default() };
    collect(&nodes, held.trie.root, accessed, &changes.by_account(), mode)
}

/// The storage of an account.
#[derive(Clone, Debug)]
struct Storage {
    account: AccountId,
    top: Arc<Child>,
    birth: u32,
}

/// The nodes of a trie, encoded as they are asked for.
#[derive(Debug)]
struct Nodes<'a> {
    tries: &'a Tries,
    held: &'a HeldTrie,
    view: &'a View<'a>,
    /// All nodes on the paths that were asked for, by hash.
    encoded: RefCell<HashMap<B256, Bytes>>,
    storages: RefCell<BTreeMap<Address, Option<Storage>>>,
}

impl Nodes<'_> {
    fn storage(&self, address: &Address) -> Result<Option<Storage>> {
        if let Some(known) = self.storages.borrow().get(address) {
            return Ok(known.clone());
        }
        let path = self.tries.commitment.paths(&[address.as_slice()])[0];
        let storage = match (self.view.account(address)?, self.view.account_id(address)?) {
            (Some(_), Some(account)) => {
                let top = self.tries.storage(&self.held.trie, &path)?;
                top.map(|(top, birth)| Storage { account, top, birth })
            }
            _ => None,
        };
        self.storages.borrow_mut().insert(*address, storage.clone());
        Ok(storage)
    }

    /// The nodes on a path.
    fn nodes_on(&self, path: &NodePath) -> Result<Vec<Bytes>> {
        let top = self.held.trie.top.as_ref();
        let (nodes, _) = match path.account {
            None => prove::nodes_on(self.tries, top, u32::MAX, self.view, None, &path.path)?,
            Some(address) => match self.storage(&address)? {
                Some(Storage { account, top, birth }) => {
                    prove::nodes_on(self.tries, Some(&top), birth, self.view, Some(account), &path.path)?
                }
                None => return Ok(Vec::new()),
            },
        };
        Ok(nodes)
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
            Damage::new(expected, "nodes with other hashes").at("trie", self.view.lookup.storage.path(), 0)
        })
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>> {
        self.view.code(hash)
    }
}
