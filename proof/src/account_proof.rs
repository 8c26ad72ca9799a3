//! An account and some of its slots, with the nodes that prove them.

use alloc::{boxed::Box, vec::Vec};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use crate::{
    account::Account,
    claim::{check_account, check_value},
    error::ProofError,
    paths::find,
};

/// What the state holds of an account and some of its slots, with the nodes that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account's address.
    pub address: Address,
    /// The account, or `None` where the proof is one of its absence.
    pub account: Option<Account>,
    /// Root of the account's storage trie; [`EMPTY_ROOT`](crate::EMPTY_ROOT) where it has no storage or does not exist.
    pub storage_root: B256,
    /// The nodes of the state trie from the root to the last one on the account's path, each once. Nodes shorter than 32 bytes
    /// stand inside their parent and are not listed. Empty for an empty state.
    pub nodes: Vec<Bytes>,
    /// The slots.
    pub slots: Vec<SlotProof>,
}

/// The value of a storage slot, with the nodes that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotProof {
    /// The slot's number.
    pub slot: U256,
    /// Its value; zero where it is not set.
    pub value: U256,
    /// The nodes of the storage trie, as in [`AccountProof::nodes`]. Empty where the storage is.
    pub nodes: Vec<Bytes>,
}

impl AccountProof {
    /// Checks that the state of the given root holds exactly what is claimed here of the account and of every slot.
    ///
    /// The address and the slots are a part of the claim: compare them with what was asked for. A slot that is not listed is not proven.
    ///
    /// # Errors
    ///
    /// Whatever is not the honest proof of all that is claimed.
    pub fn verify(&self, state_root: B256) -> Result<(), ProofError> {
        let leaf = find(state_root, &[keccak256(self.address)], &self.nodes)?[0];
        check_account(self.address, (self.account, self.storage_root), leaf, self.nodes.len())?;
        for slot in &self.slots {
            // The root is the one just proven, so nodes of another account's storage do not fit.
            slot.verify(self.storage_root)
                .map_err(|source| ProofError::Slot { slot: slot.slot, source: Box::new(source) })?;
        }
        Ok(())
    }
}

impl SlotProof {
    /// Checks the slot against the storage root of its account.
    fn verify(&self, storage_root: B256) -> Result<(), ProofError> {
        let leaf = find(storage_root, &[path_of(self.slot)], &self.nodes)?[0];
        check_value(self.value, leaf, self.nodes.len())
    }
}

/// The path of a slot in its account's storage trie.
pub(crate) fn path_of(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}
