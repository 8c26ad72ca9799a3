//! Verification of Ethereum Merkle-Patricia proofs, without a database.
//!
//! An [`AccountProof`] has the form of an `eth_getProof` answer. [`AccountProof::verify`] needs a state root that the caller
//! trusts, and nothing else; what it refuses, and why, stands in `spec/proofs.md`.
//!
//! The bytes of a proof are taken for hostile: the work is linear in them, nothing is allocated by a length that they announce,
//! and nothing recurses.

pub(crate) mod node;
pub(crate) mod rlp;
#[cfg(test)]
mod tests;
mod walk;

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};

use self::rlp::Item;
pub use self::{node::NodeError, rlp::RlpError, walk::verify_path};
use crate::types::Account;

/// Root of a trie without keys: the hash of the empty RLP string.
pub const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

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

/// Why a proof is refused, and at which node.
///
/// Indices count the nodes of one proof from zero: those of the account, or those of the slot named by [`ProofError::Slot`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Without nodes only an empty trie is proven.
    #[error("the proof has no nodes, but the root {root} is not that of an empty trie; ask for the proof again")]
    NoNodes {
        /// The root to be proven.
        root: B256,
    },
    /// An empty trie has no nodes to prove anything with.
    #[error("the root is that of an empty trie, but the proof has {nodes} nodes, the first at index 0; leave them out")]
    NodesOfEmptyTrie {
        /// The nodes supplied.
        nodes: usize,
    },
    /// The proof ends before the path does.
    #[error(
        "the proof ends before the path: node {index} is missing, whose hash is {expected}; ask for the proof again"
    )]
    Incomplete {
        /// Index that the missing node would have.
        index: usize,
        /// Its hash, as its parent names it.
        expected: B256,
    },
    /// The path ends before the proof does.
    #[error("node {index} is not used: the path ends before it; leave out what follows the end")]
    Unused {
        /// The first node behind the end.
        index: usize,
    },
    /// A node is not the one that its parent names; the first, that the root names.
    #[error(
        "node {index} has the hash {got}, expected is {expected}; it was changed, misplaced, or is of another root"
    )]
    HashMismatch {
        /// The node.
        index: usize,
        /// The hash that the parent names.
        expected: B256,
        /// The hash of the node.
        got: B256,
    },
    /// A node is so short that it stands inside its parent, never behind a hash.
    #[error("node {index} has {bytes} bytes; a node shorter than 32 stands inside its parent and is not listed")]
    TooShort {
        /// The node.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// A node, or one embedded in it, cannot stand in a state trie.
    #[error("node {index} cannot stand in a state trie: {source}")]
    Node {
        /// The listed node.
        index: usize,
        /// What is wrong with it.
        source: NodeError,
    },
    /// The leaf is proven, but it does not hold what belongs there: an account, or a slot's value.
    #[error("the leaf in node {index} does not hold {what}: {source}")]
    Leaf {
        /// The node that is the leaf, or in which it is embedded.
        index: usize,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: RlpError,
    },
    /// A slot's leaf holds zero, though a trie holds no slot that is zero.
    #[error("the leaf in node {index} holds zero; a slot that is zero has no leaf")]
    ZeroLeaf {
        /// The node that is the leaf, or in which it is embedded.
        index: usize,
    },
    /// The nodes prove something else than what is claimed of the account.
    #[error("the claimed {what} of {address} is not what its {nodes} nodes prove; trust only what they prove")]
    AccountMismatch {
        /// The account.
        address: Address,
        /// What differs: existence, nonce, balance, code hash or storage root.
        what: &'static str,
        /// How many nodes the account's proof has.
        nodes: usize,
    },
    /// The nodes prove another value of the slot than the claimed one.
    #[error("the claimed value is {claimed}, its {nodes} nodes prove {proven}; trust only what they prove")]
    ValueMismatch {
        /// The claimed value.
        claimed: U256,
        /// The proven value.
        proven: U256,
        /// How many nodes the slot's proof has.
        nodes: usize,
    },
    /// The proof of a slot is refused; that of its account is sound.
    #[error("slot {slot}: {source}")]
    Slot {
        /// The slot's number.
        slot: U256,
        /// Why it is refused.
        source: Box<ProofError>,
    },
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

/// Reads the value of an account's leaf, and with it the root of the account's storage.
pub(crate) fn decode_account(bytes: &[u8]) -> Result<(Account, B256), RlpError> {
    let mut fields = Item::only(bytes)?.list()?;
    let (nonce, balance) = (fields.item()?.u64()?, fields.item()?.u256()?);
    let (storage_root, code_hash) = (fields.item()?.hash()?, fields.item()?.hash()?);
    fields.finish()?;
    Ok((Account { nonce, balance, code_hash }, storage_root))
}

/// Index of the node in which the proven leaf was found.
fn last(nodes: &[Bytes]) -> usize {
    nodes.len().saturating_sub(1)
}
