//! Witnesses: what a replay of a block needs of the state before it.
//!
//! * `accessed`: what an execution has read.
//! * `collect`: a witness of what was read and changed.
//! * `rlp_form`, `preimages`: forms in which witnesses are handed on.

mod accessed;
mod collect;
mod preimages;
mod rlp_form;

use alloc::vec::Vec;

use alloy_primitives::Bytes;

pub use self::{accessed::Accessed, collect::collect, preimages::preimage_key};

/// Which nodes a witness has. The bytes and the rules stand in `spec/witness.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WitnessMode {
    /// Exactly those without which a replay fails that inserts keys before it deletes others: geth's and reth's.
    #[default]
    Canonical,
    /// Also every node that a replay needs which applies the changes one by one in any other order, as kona's does.
    Superset,
}

/// What a replay of a block needs of the state before it: `debug_executionWitness`.
///
/// Whoever knows the hash of the block before reads it as a [`PartialState`](crate::PartialState). Nothing in it is to be trusted before that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Witness {
    /// Nodes of the tries in RLP, without those that stand inside others.
    pub state: Vec<Bytes>,
    /// Code that was read.
    pub codes: Vec<Bytes>,
    /// Addresses (20 bytes) and slots (32 bytes, big-endian) whose hashes are the paths that were followed. No replay needs them.
    #[cfg_attr(feature = "serde", serde(default, deserialize_with = "null_as_none"))]
    pub keys: Vec<Bytes>,
    /// Headers in RLP: that of the block before, and those before it as far back as `BLOCKHASH` went; ascending. The state has none:
    /// whoever has the chain puts them here.
    #[cfg_attr(feature = "serde", serde(default, deserialize_with = "null_as_none"))]
    pub headers: Vec<Bytes>,
}

/// Reads a list, or null, which geth writes where it has none.
#[cfg(feature = "serde")]
fn null_as_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
    serde::Deserialize::deserialize(deserializer).map(Option::unwrap_or_default)
}
