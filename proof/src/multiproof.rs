//! Many accounts and slots, with the nodes that prove them, each once.

use alloc::{boxed::Box, vec::Vec};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use crate::{
    account::Account,
    account_proof::path_of,
    claim::{check_account, check_value},
    error::ProofError,
    paths::find,
};

/// What the state holds of some accounts and slots, with the nodes that prove it.
///
/// Where accounts are near each other in the trie, their paths share nodes: a multiproof lists each node of a trie once, so it is
/// smaller than the [`AccountProof`](crate::AccountProof)s of the same accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiProof {
    /// The accounts, in the order of the Keccak-256 hashes of their addresses, each once.
    pub accounts: Vec<AccountClaim>,
    /// The nodes of the state trie on the paths of all the accounts, each once: a node stands before those below it, and these
    /// stand in the order of their paths. Nodes shorter than 32 bytes stand inside their parent and are not listed.
    pub nodes: Vec<Bytes>,
}

/// What is claimed of one account of a [`MultiProof`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountClaim {
    /// The account's address.
    pub address: Address,
    /// The account, or `None` where it does not exist.
    pub account: Option<Account>,
    /// Root of the account's storage trie; [`EMPTY_ROOT`](crate::EMPTY_ROOT) where it has no storage or does not exist.
    pub storage_root: B256,
    /// The slots, in the order of the Keccak-256 hashes of their numbers, each once.
    pub slots: Vec<SlotClaim>,
    /// The nodes of the account's storage trie on the paths of all the slots, as in [`MultiProof::nodes`]. None without slots, and
    /// none where the storage is empty. Equal storages of two accounts are listed with both.
    pub nodes: Vec<Bytes>,
}

/// What is claimed of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClaim {
    /// The slot's number.
    pub slot: U256,
    /// Its value; zero where it is not set.
    pub value: U256,
}

impl MultiProof {
    /// Checks that the state of the given root holds exactly what is claimed here of every account and slot.
    ///
    /// Addresses and slots are a part of the claim: compare them with what was asked for. Of no accounts nothing is claimed, which is so
    /// under any root.
    ///
    /// # Errors
    ///
    /// Whatever is not the honest proof of all that is claimed. [`ProofError::KeyOrder`] and indices of nodes are about the
    /// accounts and the state trie, or, inside [`ProofError::Storage`], about the slots and the storage trie of the account that
    /// is named there.
    pub fn verify(&self, state_root: B256) -> Result<(), ProofError> {
        let paths: Vec<B256> = self.accounts.iter().map(|claim| keccak256(claim.address)).collect();
        let leaves = find(state_root, &paths, &self.nodes)?;
        for (claim, leaf) in self.accounts.iter().zip(leaves) {
            check_account(claim.address, (claim.account, claim.storage_root), leaf, self.nodes.len())?;
            claim
                .verify_slots()
                .map_err(|source| ProofError::Storage { address: claim.address, source: Box::new(source) })?;
        }
        Ok(())
    }
}

impl AccountClaim {
    /// Checks the slots against the storage root, which is proven.
    fn verify_slots(&self) -> Result<(), ProofError> {
        let paths: Vec<B256> = self.slots.iter().map(|claim| path_of(claim.slot)).collect();
        let leaves = find(self.storage_root, &paths, &self.nodes)?;
        for (claim, leaf) in self.slots.iter().zip(leaves) {
            check_value(claim.value, leaf, self.nodes.len())
                .map_err(|source| ProofError::Slot { slot: claim.slot, source: Box::new(source) })?;
        }
        Ok(())
    }
}
