//! Why a proof is refused.

use alloc::boxed::Box;

use alloy_primitives::{Address, B256, U256};

use crate::{node::NodeError, rlp::RlpError};

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
