//! A witness as preimages of hashes: what a fault proof program asks its oracle for.

use alloc::vec::Vec;

use alloy_primitives::{B256, Bytes, keccak256};

use super::Witness;

/// The type of key, in its first byte, that stands for a Keccak-256 hash.
const KECCAK: u8 = 2;

/// The key under which an oracle of preimages has a value: its Keccak-256 hash, with the first byte replaced by 2.
pub fn preimage_key(value: &[u8]) -> B256 {
    let mut key = keccak256(value);
    if let Some(kind) = key.first_mut() {
        *kind = KECCAK;
    }
    key
}

impl Witness {
    /// The nodes, codes and headers, each with its key ([`preimage_key`]).
    pub fn preimages(&self) -> impl Iterator<Item = (B256, &Bytes)> {
        let values = self.state.iter().chain(&self.codes).chain(&self.headers);
        values.map(|value| (preimage_key(value), value))
    }

    /// A witness of values whose kinds are not known, as an oracle of preimages has them: each is found as a node or as code by whoever
    /// asks for its hash. It has no headers: its state is [`PartialState::of_root`](crate::PartialState::of_root), or they are added.
    pub fn of_preimages(values: impl IntoIterator<Item = Bytes>) -> Self {
        let state: Vec<Bytes> = values.into_iter().collect();
        Self { codes: state.clone(), state, ..Self::default() }
    }
}
