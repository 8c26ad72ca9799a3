//! Hexadecimal texts, as genesis files and fixtures write them.

use alloy_primitives::{Address, B256, Bytes, U256, hex};

fn digits(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

/// A number of any length up to 256 bits, leading zeros or not; no digit is zero.
///
/// # Panics
/// If it is none.
pub fn number(text: &str) -> U256 {
    match digits(text) {
        "" => U256::ZERO,
        digits => U256::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{text}: {error}")),
    }
}

/// A number of at most 64 bits.
///
/// # Panics
/// If it is none.
pub fn small(text: &str) -> u64 {
    u64::try_from(number(text)).unwrap_or_else(|_| panic!("{text} has more than 64 bits"))
}

/// Bytes, two digits each.
///
/// # Panics
/// If the text is none.
pub fn bytes(text: &str) -> Bytes {
    hex::decode(text).unwrap_or_else(|error| panic!("{text}: {error}")).into()
}

/// A hash of 32 bytes.
///
/// # Panics
/// If it is none.
pub fn hash(text: &str) -> B256 {
    B256::from_slice(&bytes(text))
}

/// An address.
///
/// # Panics
/// If it is none.
pub fn address(text: &str) -> Address {
    Address::from_slice(&bytes(text))
}
