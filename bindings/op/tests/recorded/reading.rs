//! What RocksDB's files are made of.

/// A number of 7 bits a byte, the lowest first.
pub(crate) fn number(rest: &mut &[u8]) -> usize {
    let end = rest.iter().position(|byte| byte & 0x80 == 0).expect("the end of a number") + 1;
    take(rest, end).iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f))
}

pub(crate) fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (bytes, behind) = rest.split_at(length);
    *rest = behind;
    bytes
}

pub(crate) fn u32_of(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize
}
