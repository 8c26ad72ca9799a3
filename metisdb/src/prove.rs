//! Proofs: the nodes on the way to a key, for a verifier that trusts nothing but the root (see `proof`).

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    error::Result,
    key::AccountId,
    proof::{AccountProof, SlotProof},
    trie::{
        Loaded,
        arena::Arena,
        commitment::{
            LeafView, Reference,
            ethereum::{EMPTY_ROOT, encode_branch, encode_extension, encode_leaf},
        },
        nibbles::Nibbles,
        node::Child,
        update::LeafSource,
        walk::{self, Met},
    },
    tries::{HeldTrie, Tries},
    view::View,
};

/// Nodes shorter than this stand inside their parents.
const EMBEDDED_BELOW: usize = 32;

/// Proves an account and some of its slots, present or absent.
pub(crate) fn prove(
    tries: &Tries,
    held: &HeldTrie,
    view: &View<'_>,
    address: &Address,
    slots: &[U256],
) -> Result<AccountProof> {
    let path = tries.commitment.paths(&[address.as_slice()])[0];
    let account = view.account(address)?;
    let (nodes, leaf) = nodes_on(tries, held.trie.top.as_ref(), u32::MAX, view, None, &path)?;
    let storage = leaf.filter(|_| account.is_some()).and_then(|met| Some((met.leaf.storage?, met.birth)));
    let storage_root = storage.as_ref().map_or(EMPTY_ROOT, |(top, _)| B256::new(*top.reference.padded()));
    let id = view.account_id(address)?;
    let mut proofs = Vec::with_capacity(slots.len());
    for slot in slots {
        proofs.push(prove_slot(tries, storage.as_ref(), view, id, *slot)?);
    }
    let account = account.map(|stored| stored.account);
    Ok(AccountProof { address: *address, account, storage_root, nodes, slots: proofs })
}

fn prove_slot(
    tries: &Tries,
    storage: Option<&(Arc<Child>, u32)>,
    view: &View<'_>,
    account: Option<AccountId>,
    slot: U256,
) -> Result<SlotProof> {
    let (Some((top, birth)), Some(account)) = (storage, account) else {
        return Ok(SlotProof { slot, value: U256::ZERO, nodes: Vec::new() });
    };
    let path = tries.commitment.paths(&[&slot.to_be_bytes::<32>()])[0];
    let (nodes, _) = nodes_on(tries, Some(top), *birth, view, Some(account), &path)?;
    Ok(SlotProof { slot, value: view.slot(account, &slot)?.0, nodes })
}

/// The nodes on a path, from the top on, those that stand inside others left out; and the leaf at its end, if any.
pub(crate) fn nodes_on(
    tries: &Tries,
    top: Option<&Child>,
    birth: u32,
    view: &View<'_>,
    account: Option<AccountId>,
    path: &B256,
) -> Result<(Vec<Bytes>, Option<Met>)> {
    let arena: &Arena = &tries.arena;
    let descent = walk::descend(arena, top, birth, path)?;
    let mut nodes: Vec<Bytes> = Vec::new();
    let mut list = |node: Vec<u8>| {
        if nodes.is_empty() || node.len() >= EMBEDDED_BELOW {
            nodes.push(node.into());
        }
    };
    for (depth, loaded) in &descent.branches {
        let (extension, branch) = encode(tries, loaded);
        if let Some(extension) = extension {
            list(extension);
            if loaded.prefix.shared_with(path, *depth) < loaded.prefix.len() {
                continue;
            }
        }
        list(branch);
    }
    if let Some(met) = &descent.leaf {
        let (path, payload) = view.leaf(account, met.leaf.key, &met.prefix)?;
        let storage_root = met.leaf.storage.as_ref().map_or(EMPTY_ROOT, |top| B256::new(*top.reference.padded()));
        let mut node = Vec::new();
        let leaf = LeafView { path: &path, depth: met.prefix.len(), payload: &payload, storage_root };
        encode_leaf(&leaf, &mut node);
        list(node);
    }
    Ok((nodes, descent.leaf))
}

/// The extension, if there is a prefix, and the branch.
fn encode(tries: &Tries, loaded: &Loaded) -> (Option<Vec<u8>>, Vec<u8>) {
    let bare = crate::trie::commitment::BranchView { prefix: &Nibbles::EMPTY, ..loaded.view() };
    let mut branch = Vec::new();
    encode_branch(&bare, &mut branch);
    let extension = (!loaded.prefix.is_empty()).then(|| {
        let reference: Vec<Reference> = tries.commitment.branches(&[bare]);
        let mut extension = Vec::new();
        encode_extension(&loaded.prefix, &reference[0], &mut extension);
        extension
    });
    (extension, branch)
}
