//! Verification of what a MetisDB exports, without a database.
//!
//! An [`AccountProof`] has the form of an `eth_getProof` answer; with the feature `serde` it is read from its JSON and written as such.
//! A [`MultiProof`] proves many accounts and slots with each node once, an [`AccountRange`] or [`StorageRange`] that nothing is
//! missing between two hashes. Verification needs a state root that the caller trusts, and nothing else; what it refuses, and why,
//! stands in `spec/proofs.md`. A [`Witness`] is what the replay of a block needs of the state before it; read as a [`PartialState`] it
//! answers for that state and tells the root after changes: `spec/witness.md`.
//!
//! The bytes of both are taken for hostile: the work is linear in those of a proof and in the steps down a witness, nothing is
//! allocated by a length that they announce, and nothing recurses deeper than a path has nibbles. The crate needs an allocator and no operating system, so that it runs where fraud proofs are replayed.
//!
//! | file | what lives there |
//! |---|---|
//! | `rlp`, `node` | reading: items, nodes of a trie |
//! | `error` | why something is refused |
//! | `account` | the fields of an account |
//! | `encode`, `node_writer` | writing: items, nodes |
//! | `prefix`, `walk` | the nodes of a proof in the order of paths, and what they say of what is asked for |
//! | `build` | the node above some entries |
//! | `paths`, `range` | single paths; all between two paths |
//! | `claim` | claims compared with leaves |
//! | `account_proof`, `multiproof`, `range_proof` | an account and its slots; many of both; all in a range |
//! | `json` | the form of `eth_getProof` |
//! | `partial`, `witness` | a part of a state: reading it, the root that changes lead to; what a replay needs, and its forms |

#![cfg_attr(not(any(test, fuzzing)), no_std)]

extern crate alloc;

mod account;
mod account_proof;
mod build;
mod claim;
mod encode;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(feature = "serde")]
mod json;
mod multiproof;
mod node;
mod node_writer;
mod partial;
mod paths;
mod prefix;
mod range;
mod range_proof;
mod rlp;
#[cfg(test)]
mod tests;
mod walk;
mod witness;

use alloy_primitives::{B256, b256};

pub use self::{
    account::Account,
    account_proof::{AccountProof, SlotProof},
    error::ProofError,
    multiproof::{AccountClaim, MultiProof, SlotClaim},
    node::NodeError,
    partial::{AccountChange, Fields, NodePath, PartialState, Source, StateChanges, WitnessError},
    paths::{verify_path, verify_paths},
    range::verify_range,
    range_proof::{AccountRange, AccountRangeEntry, StorageRange},
    rlp::RlpError,
    witness::{Accessed, Witness, WitnessMode, collect, preimage_key},
};

/// Root of a trie without keys: the hash of the empty RLP string.
pub const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
