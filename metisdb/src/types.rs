//! Plain values of the state model.

use alloy_primitives::{Address, B256, Bytes, U256};
pub use metisdb_proof::Account;

/// Longest code blob, in bytes (42 times the limit of EIP-170).
pub const MAX_CODE_BYTES: usize = 1 << 20;

/// Block metadata, as the embedder gives it with a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the parent block.
    pub parent_hash: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
}

/// A plain key, for batched reads with [`Snapshot::get_many`](crate::Snapshot::get_many).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// An account by address.
    Account(Address),
    /// A storage slot by address and slot number.
    Storage(Address, U256),
    /// Code by its Keccak-256 hash.
    Code(B256),
}

/// The value of a [`Key`]; of the same kind as the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The account, or `None` where it does not exist.
    Account(Option<Account>),
    /// The slot's value; zero where it is not set.
    Storage(U256),
    /// The code, or `None` where it is not stored.
    Code(Option<Bytes>),
}
