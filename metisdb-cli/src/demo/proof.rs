//! Proofs of the state, verified by code that shares none with the database: `alloy-trie`.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use metisdb::{Snapshot, proof::AccountProof};

use super::checks::{Outcome, same};

/// Proves an account, one of its slots, and that there is no account at `absent`, against a root that is known from elsewhere; and that
/// proofs of other values are refused.
pub(super) fn prove(
    snapshot: &Snapshot,
    root: B256,
    (address, slot, value): (&Address, U256, U256),
    absent: &Address,
) -> metisdb::Result<Outcome> {
    let proof = snapshot.proof(address, &[slot])?;
    let nothing = snapshot.proof(absent, &[])?;
    Ok(verify(root, &proof, value).and_then(|nodes| {
        check("an absent account", root, absent.as_slice(), None, &nothing.nodes)?;
        Ok(format!("an account, a slot, an absence proven, {nodes} nodes; wrong values are refused"))
    }))
}

/// Verifies both parts of a proof, whose slot must have this value; how many nodes there are.
fn verify(root: B256, proof: &AccountProof, value: U256) -> Outcome<usize> {
    let account = proof.account.ok_or("the account that is proven does not exist")?;
    let [slot] = &proof.slots[..] else { return Err("not one slot is proven".to_owned()) };
    same("the proven value of a slot", slot.value, value)?;
    let leaf = TrieAccount {
        nonce: account.nonce,
        balance: account.balance,
        storage_root: proof.storage_root,
        code_hash: account.code_hash,
    };
    check("an account", root, proof.address.as_slice(), Some(encode(leaf)), &proof.nodes)?;
    let path = slot.slot.to_be_bytes::<32>();
    check("a slot", proof.storage_root, &path, Some(encode(value)), &slot.nodes)?;
    let wrong = TrieAccount { balance: leaf.balance + U256::ONE, ..leaf };
    refuse("a wrong account", root, proof.address.as_slice(), encode(wrong), &proof.nodes)?;
    refuse("a wrong value", proof.storage_root, &path, encode(value + U256::ONE), &slot.nodes)?;
    Ok(proof.nodes.len() + slot.nodes.len())
}

fn encode(value: impl Encodable) -> Vec<u8> {
    alloy_rlp::encode(value)
}

fn check(what: &str, root: B256, key: &[u8], leaf: Option<Vec<u8>>, nodes: &[Bytes]) -> Outcome<()> {
    let path = Nibbles::unpack(keccak256(key));
    verify_proof(root, path, leaf, nodes).map_err(|error| format!("the proof of {what} does not hold: {error}"))
}

fn refuse(what: &str, root: B256, key: &[u8], leaf: Vec<u8>, nodes: &[Bytes]) -> Outcome<()> {
    match check(what, root, key, Some(leaf), nodes) {
        Err(_) => Ok(()),
        Ok(()) => Err(format!("the proof of {what} is accepted")),
    }
}
