//! Verification of what a MetisDB exports, without a database.
//!
//! An [`AccountProof`] has the form of an `eth_getProof` answer. [`AccountProof::verify`] needs a state root that the caller
//! trusts, and nothing else; what it refuses, and why, stands in `spec/proofs.md`. A [`Witness`] is what the replay of a block needs
//! of the state before it; read as a [`PartialState`] it answers for that state and tells the root after changes: `spec/witness.md`.
//!
//! The bytes of both are taken for hostile: the work is linear in those of a proof and in the steps down a witness, nothing is
//! allocated by a length that they announce, and nothing recurses deeper than a path has nibbles. The crate needs an allocator and no operating system, so that it runs where fraud proofs are replayed.
//!
//! | file | what lives there |
//! |---|---|
//! | `rlp`, `node` | reading: items, nodes of a trie |
//! | `error` | why something is refused |
//! | `account` | the fields of an account |
//! | `walk` | one path through nodes |
//! | `account_proof` | an account and its slots |
//! | `encode` | writing RLP |
//! | `partial`, `witness` | a part of a state: reading it, the root that changes lead to; what a replay needs, and its forms |

#![cfg_attr(not(any(test, fuzzing)), no_std)]

extern crate alloc;

mod account;
mod account_proof;
mod encode;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod node;
mod partial;
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
    node::NodeError,
    partial::{AccountChange, Fields, NodePath, PartialState, Source, StateChanges, WitnessError},
    rlp::RlpError,
    walk::verify_path,
    witness::{Accessed, Witness, WitnessMode, collect, preimage_key},
};

/// Root of a trie without keys: the hash of the empty RLP string.
pub const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
