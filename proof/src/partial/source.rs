//! Where the nodes of a partial trie come from.

use core::fmt;

use alloy_primitives::{Address, B256, Bytes};

use super::WitnessError;

/// A place in the state: the trie of the accounts or the storage trie of one, and the nibbles that lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePath {
    /// The account whose storage it is; `None` in the trie of the accounts.
    pub account: Option<Address>,
    /// A path through the place; what stands behind its first [`NodePath::nibbles`] is of no meaning.
    pub path: B256,
    /// How many nibbles of the path lead to the place, 0 to 64.
    pub nibbles: usize,
}

impl fmt::Display for NodePath {
    /// For example `nibbles 0a7 of the accounts`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.nibbles == 0 { "the top" } else { "nibbles " })?;
        for index in 0..self.nibbles {
            write!(formatter, "{:x}", crate::prefix::nibble(&self.path, index))?;
        }
        match self.account {
            Some(address) => write!(formatter, " of the storage of {address}"),
            None => formatter.write_str(" of the accounts"),
        }
    }
}

/// Gives nodes and code by their hashes: a witness, or whoever has the whole state.
pub trait Source {
    /// Why something could not be given; at least what the trie itself says of a node.
    type Error: From<WitnessError>;

    /// The RLP node of a hash. Its bytes must have that hash: whoever gives them has checked that. `path` tells where the node stands.
    ///
    /// # Errors
    /// [`WitnessError::MissingNode`] where there is none, and whatever else keeps the source from giving it.
    fn node(&self, hash: &B256, path: &NodePath) -> Result<Bytes, Self::Error>;

    /// The code of a hash, or `None` where there is none.
    ///
    /// # Errors
    /// Whatever keeps the source from giving it.
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, Self::Error>;
}
