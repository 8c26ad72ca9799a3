//! The beginning that paths share: what names a part of a trie.

use alloy_primitives::B256;

use crate::node::PATH_NIBBLES;

/// The nibble of a path at an index below 64.
pub(crate) fn nibble(path: &B256, index: usize) -> u8 {
    let byte = path.get(index / 2).copied().unwrap_or(0);
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf }
}

/// Nibbles that lead from the root to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Two to a byte, the first one in the upper half; zeros behind the last.
    path: B256,
    /// At most [`PATH_NIBBLES`].
    nibbles: usize,
}

impl Prefix {
    /// That of the whole trie.
    pub(crate) const EMPTY: Self = Self { path: B256::ZERO, nibbles: 0 };

    /// How many nibbles it has.
    pub(crate) fn nibbles(&self) -> usize {
        self.nibbles
    }

    /// These and more; what goes beyond a whole path is left out.
    pub(crate) fn joined(mut self, more: impl IntoIterator<Item = u8>) -> Self {
        for nibble in more.into_iter().take(PATH_NIBBLES - self.nibbles) {
            self.path[self.nibbles / 2] |= if self.nibbles.is_multiple_of(2) { nibble << 4 } else { nibble };
            self.nibbles += 1;
        }
        self
    }

    /// The first path that begins so: zeros follow.
    pub(crate) fn first_path(&self) -> B256 {
        self.path
    }

    /// The last path that begins so: ones follow.
    pub(crate) fn last_path(&self) -> B256 {
        let mut path = self.path;
        let whole = self.nibbles.div_ceil(2);
        path[whole..].fill(0xff);
        if !self.nibbles.is_multiple_of(2) {
            path[whole - 1] |= 0x0f;
        }
        path
    }
}
