//! Why a witness is refused, or does not suffice.

use alloy_primitives::{Address, B256};

use super::NodePath;
use crate::{NodeError, RlpError};

/// Why a witness is refused, or does not suffice for what is asked of it. Nothing is taken for absent, empty or zero because it is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// A node is needed, and the witness does not have it.
    #[error(
        "the node {hash} at {path} is missing; export the witness again, as a superset where another order of changes needs it"
    )]
    MissingNode {
        /// Its hash, as its parent or the root names it.
        hash: B256,
        /// Where it stands.
        path: NodePath,
    },
    /// A node cannot stand in a state trie.
    #[error("the node {hash} at {path} cannot stand in a state trie: {source}")]
    Node {
        /// Its hash.
        hash: B256,
        /// Where it stands.
        path: NodePath,
        /// What is wrong with it.
        source: NodeError,
    },
    /// A leaf does not hold what belongs there: an account, or a slot's value.
    #[error("the leaf at {path} does not hold {what}: {source}")]
    Leaf {
        /// Where it ends.
        path: NodePath,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: RlpError,
    },
    /// A slot's leaf holds zero, though a trie holds no slot that is zero.
    #[error("the leaf at {path} holds zero; a slot that is zero has no leaf")]
    ZeroLeaf {
        /// Where it ends.
        path: NodePath,
    },
    /// Code is needed, and the witness does not have it.
    #[error("the code {code_hash} is missing; export the witness again")]
    MissingCode {
        /// Its hash.
        code_hash: B256,
    },
    /// The hash of a block is needed, and no header of the witness tells it.
    #[error(
        "no header tells the hash of block {number}; the headers must reach back to it, each the parent of the next"
    )]
    MissingBlockHash {
        /// The block.
        number: u64,
    },
    /// The header that the caller trusts is not there.
    #[error("the header {hash} is missing; the witness must have the header of the block that it is a state after")]
    MissingHeader {
        /// Its hash.
        hash: B256,
    },
    /// A header is not the encoding of one.
    #[error("the header {hash} is not one: {source}")]
    Header {
        /// Its hash.
        hash: B256,
        /// What is wrong with it.
        source: RlpError,
    },
    /// The parent of a block has another number than the one before the block's.
    #[error("block {number} has a parent with the number {parent}; no chain has such blocks")]
    HeaderNumber {
        /// The block.
        number: u64,
        /// The number of its parent.
        parent: u64,
    },
    /// More headers than `BLOCKHASH` can reach.
    #[error("the witness has {headers} headers, the limit is {limit}; leave out what no block can ask for")]
    TooManyHeaders {
        /// The headers.
        headers: usize,
        /// The limit.
        limit: usize,
    },
    /// A slot is set of an account that does not exist then.
    #[error("a slot of {address} is set, but the account does not exist; set the account in the same changes")]
    SlotWithoutAccount {
        /// The account.
        address: Address,
    },
    /// A proposal is to be made on the state of a witness.
    #[error("a witness is no database, and takes no proposals; ask it for the root after the changes instead")]
    NoDatabase,
    /// The bytes are not the RLP form of a witness.
    #[error("the bytes are not a witness: {0}")]
    Form(#[from] RlpError),
}
