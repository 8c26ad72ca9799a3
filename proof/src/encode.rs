//! A writer of RLP, of what `rlp` reads.

use alloc::vec::Vec;

use alloy_primitives::U256;

/// Longest payload whose length stands in the first byte.
const SHORT_PAYLOAD: usize = 55;

/// Appends a string.
pub(crate) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    if !matches!(bytes, [0..=0x7f]) {
        head(0x80, bytes.len(), out);
    }
    out.extend_from_slice(bytes);
}

/// Appends a number as its bytes without leading zeros.
pub(crate) fn integer(number: U256, out: &mut Vec<u8>) {
    let bytes: [u8; 32] = number.to_be_bytes();
    string(bytes.get(number.leading_zeros() / 8..).unwrap_or_default(), out);
}

/// Appends a list of items that are encoded already.
pub(crate) fn list(items: &[u8], out: &mut Vec<u8>) {
    head(0xc0, items.len(), out);
    out.extend_from_slice(items);
}

/// Appends what stands in front of a payload of so many bytes.
fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    if length <= SHORT_PAYLOAD {
        out.push(kind + length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = length.leading_zeros() as usize / 8;
    out.push(kind + (SHORT_PAYLOAD + bytes.len() - zeros) as u8);
    out.extend(bytes.iter().skip(zeros));
}
