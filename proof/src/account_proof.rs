//! An account and some of its slots, with the nodes that prove them.

use alloc::{boxed::Box, vec::Vec};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use crate::{
    EMPTY_ROOT,
    account::{Account, decode_account},
    error::ProofError,
    rlp::{Item, RlpError},
    walk::verify_path,
};

/// What the state holds of an account and some of its slots, with the nodes that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account's address.
    pub address: Address,
    /// The account, or `None` where the proof is one of its absence.
    pub account: Option<Account>,
    /// Root of the account's storage trie; [`EMPTY_ROOT`] where it has no storage or does not exist.
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
    /// # Errors
    ///
    /// Whatever is not the honest proof of all that is claimed.
    pub fn verify(&self, state_root: B256) -> Result<(), ProofError> {
        let leaf = verify_path(state_root, &keccak256(self.address), &self.nodes)?;
        let (account, storage_root) = match leaf {
            Some(bytes) => decode_account(bytes)
                .map(|(account, root)| (Some(account), root))
                .map_err(|source| self.leaf_error(source))?,
            None => (None, EMPTY_ROOT),
        };
        self.compare(account, storage_root)?;
        for slot in &self.slots {
            // The root is the one just proven, so nodes of another account's storage do not fit.
            slot.verify(storage_root)
                .map_err(|source| ProofError::Slot { slot: slot.slot, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// What is claimed must be what is proven.
    fn compare(&self, proven: Option<Account>, storage_root: B256) -> Result<(), ProofError> {
        let differs = |what| ProofError::AccountMismatch { address: self.address, what, nodes: self.nodes.len() };
        match (self.account, proven) {
            (None, None) => {}
            (None, Some(_)) | (Some(_), None) => return Err(differs("existence")),
            (Some(claimed), Some(proven)) if claimed.nonce != proven.nonce => return Err(differs("nonce")),
            (Some(claimed), Some(proven)) if claimed.balance != proven.balance => return Err(differs("balance")),
            (Some(claimed), Some(proven)) if claimed != proven => return Err(differs("code hash")),
            (Some(_), Some(_)) => {}
        }
        if self.storage_root == storage_root { Ok(()) } else { Err(differs("storage root")) }
    }

    fn leaf_error(&self, source: RlpError) -> ProofError {
        ProofError::Leaf { index: last(&self.nodes), what: "an account", source }
    }
}

impl SlotProof {
    /// Checks the slot against the storage root of its account.
    fn verify(&self, storage_root: B256) -> Result<(), ProofError> {
        let proven = match verify_path(storage_root, &keccak256(self.slot.to_be_bytes::<32>()), &self.nodes)? {
            Some(bytes) => {
                let index = last(&self.nodes);
                let value = Item::only(bytes).and_then(Item::u256).map_err(|source| ProofError::Leaf {
                    index,
                    what: "a slot's value",
                    source,
                })?;
                if value.is_zero() {
                    return Err(ProofError::ZeroLeaf { index });
                }
                value
            }
            None => U256::ZERO,
        };
        if self.value == proven {
            return Ok(());
        }
        Err(ProofError::ValueMismatch { claimed: self.value, proven, nodes: self.nodes.len() })
    }
}

/// Index of the node in which the proven leaf was found.
fn last(nodes: &[Bytes]) -> usize {
    nodes.len().saturating_sub(1)
}
