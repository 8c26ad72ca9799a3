//! Why a proof is refused.

use alloc::boxed::Box;

use alloy_primitives::{Address, B256, U256};

use crate::{node::NodeError, rlp::RlpError};

/// Why a proof is refused, and at which node.
///
/// Indices count the nodes of one list from zero: those of the state trie, or those of the storage trie that [`ProofError::Slot`] or
/// [`ProofError::Storage`] tells. Those of keys and entries count likewise.
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
    /// The proof of an account's storage is refused; that of the account is sound.
    #[error("storage of {address}: {source}")]
    Storage {
        /// The account.
        address: Address,
        /// Why it is refused.
        source: Box<ProofError>,
    },
    /// A key does not come behind the one before it, in the order of hashes.
    #[error("key {index} does not come behind the one before it; keys stand in the order of their hashes, each once")]
    KeyOrder {
        /// The key.
        index: usize,
    },
    /// A range ends before it begins.
    #[error("the range ends at {to}, before it begins at {from}; exchange the two")]
    RangeReversed {
        /// Where it begins.
        from: B256,
        /// Where it ends.
        to: B256,
    },
    /// An entry lies outside of the range that is proven.
    #[error("entry {index} has the hash {path}, which is outside of the range; leave it out")]
    EntryOutOfRange {
        /// The entry.
        index: usize,
        /// The hash of its key.
        path: B256,
    },
    /// An entry has no value, or is a slot that is zero: a trie holds no such entry.
    #[error("entry {index} is empty; what is empty or zero is not in a trie: leave it out")]
    EntryEmpty {
        /// The entry.
        index: usize,
    },
    /// The trie does not hold an entry.
    #[error("entry {index} is not in the trie; it was added, or is of another root")]
    EntryAdded {
        /// The entry.
        index: usize,
    },
    /// The trie holds an entry at the edge of the range that is not among those claimed.
    #[error("the trie holds {path} in node {node}, and the entries leave it out; ask for the range again")]
    EntryMissing {
        /// The hash of its key.
        path: B256,
        /// The node that is its leaf, or in which that is embedded.
        node: usize,
    },
    /// The trie holds another value than claimed at the edge of the range.
    #[error("entry {index} is not what node {node} holds; it was changed, or is of another root")]
    EntryMismatch {
        /// The entry.
        index: usize,
        /// The node that is its leaf, or in which that is embedded.
        node: usize,
    },
    /// The entries of a part of the trie do not have the hash that the trie has there.
    #[error(
        "the {entries} entries from {first} to {last} do not have the hash {expected}, which the trie has there; one was left out, added or changed: ask for the range again"
    )]
    RangeMismatch {
        /// First path of the part.
        first: B256,
        /// Last path of the part.
        last: B256,
        /// How many entries are claimed there.
        entries: usize,
        /// The hash of the node above them all.
        expected: B256,
    },
    /// The entries of a part of the trie make a node that cannot stand there.
    #[error("the entries from {first} to {last} make a node that cannot stand there: {source}")]
    Subtree {
        /// First path of the part.
        first: B256,
        /// Last path of the part.
        last: B256,
        /// What is wrong with it.
        source: NodeError,
    },
}
