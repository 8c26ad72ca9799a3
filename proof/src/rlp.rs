//! A strict reader of RLP: of all the bytes that could stand for a value, the canonical ones alone are read.
//!
//! Two encodings of one value would be two proofs of one fact, one of which no honest trie holds. Lengths are compared with the
//! bytes at hand before anything is done with them, and nothing is copied or allocated.

use alloy_primitives::{B256, U256};

/// Longest payload whose length stands in the first byte; any longer one has its length in bytes of its own.
const SHORT_PAYLOAD: u64 = 55;

/// Why bytes are not canonical RLP, or not of the kind that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RlpError {
    /// The bytes end before the item that they announce.
    #[error("the bytes end before the item that they announce")]
    Truncated,
    /// Bytes follow the last item.
    #[error("{bytes} bytes follow the last item")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A length has a shorter encoding than the one found.
    #[error("a length is not encoded in the shortest form")]
    LengthNotMinimal,
    /// A byte below 0x80 stands for itself, and must not have a length in front.
    #[error("a single byte below 0x80 has a length in front of it")]
    ByteNotMinimal,
    /// An integer starts with a zero byte.
    #[error("an integer starts with a zero byte")]
    LeadingZero,
    /// An integer is wider than its type.
    #[error("an integer has {bytes} bytes, the limit is {limit}")]
    IntegerTooWide {
        /// Its bytes.
        bytes: usize,
        /// The width of the type in bytes.
        limit: usize,
    },
    /// A hash does not have 32 bytes.
    #[error("a hash has {bytes} bytes instead of 32")]
    HashLength {
        /// Its bytes.
        bytes: usize,
    },
    /// A list stands where a string belongs.
    #[error("a list stands where a string belongs")]
    NotAString,
    /// A string stands where a list belongs.
    #[error("a string stands where a list belongs")]
    NotAList,
}

/// One item: a string or a list, which is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// Whether it is a list.
    pub(crate) is_list: bool,
    /// The bytes of the string, or the items of the list.
    pub(crate) payload: &'a [u8],
    /// The whole item: the payload and what announces it.
    pub(crate) encoded: &'a [u8],
}

impl<'a> Item<'a> {
    /// The only item of `bytes`.
    pub(crate) fn only(bytes: &'a [u8]) -> Result<Self, RlpError> {
        let mut reader = Reader::new(bytes);
        let item = reader.item()?;
        reader.finish()?;
        Ok(item)
    }

    /// The bytes of a string.
    pub(crate) fn string(self) -> Result<&'a [u8], RlpError> {
        if self.is_list { Err(RlpError::NotAString) } else { Ok(self.payload) }
    }

    /// A reader of the items of a list.
    pub(crate) fn list(self) -> Result<Reader<'a>, RlpError> {
        if self.is_list { Ok(Reader::new(self.payload)) } else { Err(RlpError::NotAList) }
    }

    /// The bytes of an integer: big-endian, without leading zeros, empty for zero.
    fn integer(self, limit: usize) -> Result<&'a [u8], RlpError> {
        let bytes = self.string()?;
        if bytes.len() > limit {
            return Err(RlpError::IntegerTooWide { bytes: bytes.len(), limit });
        }
        if bytes.first() == Some(&0) { Err(RlpError::LeadingZero) } else { Ok(bytes) }
    }

    /// An integer of 64 bits.
    pub(crate) fn u64(self) -> Result<u64, RlpError> {
        Ok(big_endian(self.integer(8)?))
    }

    /// An integer of 256 bits.
    pub(crate) fn u256(self) -> Result<U256, RlpError> {
        Ok(U256::from_be_slice(self.integer(32)?))
    }

    /// A string of 32 bytes.
    pub(crate) fn hash(self) -> Result<B256, RlpError> {
        let bytes = self.string()?;
        B256::try_from(bytes).map_err(|_| RlpError::HashLength { bytes: bytes.len() })
    }
}

/// Reads item after item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    pub(crate) fn is_finished(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next item.
    pub(crate) fn item(&mut self) -> Result<Item<'a>, RlpError> {
        let &first = self.rest.first().ok_or(RlpError::Truncated)?;
        let (is_list, head, length) = match first {
            0..=0x7f => (false, 0, 1),
            0x80..=0xb7 => (false, 1, usize::from(first - 0x80)),
            0xb8..=0xbf => self.long(false, usize::from(first - 0xb7))?,
            0xc0..=0xf7 => (true, 1, usize::from(first - 0xc0)),
            0xf8..=0xff => self.long(true, usize::from(first - 0xf7))?,
        };
        let end = head.checked_add(length).ok_or(RlpError::Truncated)?;
        let (encoded, rest) = self.rest.split_at_checked(end).ok_or(RlpError::Truncated)?;
        let payload = encoded.get(head..).ok_or(RlpError::Truncated)?;
        if head == 1 && !is_list && matches!(payload, [0..=0x7f]) {
            return Err(RlpError::ByteNotMinimal);
        }
        self.rest = rest;
        Ok(Item { is_list, payload, encoded })
    }

    /// The head of an item whose length takes `width` bytes (1 to 8) after the first.
    fn long(&self, is_list: bool, width: usize) -> Result<(bool, usize, usize), RlpError> {
        let head = 1 + width;
        let bytes = self.rest.get(1..head).ok_or(RlpError::Truncated)?;
        let length = big_endian(bytes);
        if bytes.first() == Some(&0) || length <= SHORT_PAYLOAD {
            return Err(RlpError::LengthNotMinimal);
        }
        // Where addresses have 32 bits, a longer item than they reach is not at hand.
        let length = usize::try_from(length).map_err(|_| RlpError::Truncated)?;
        Ok((is_list, head, length))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), RlpError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RlpError::TrailingBytes { bytes: self.rest.len() }) }
    }
}

/// The number of at most 8 bytes, on every machine.
pub(crate) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
