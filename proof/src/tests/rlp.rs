//! The reader of RLP reads what is canonical, and nothing else.

use alloy_primitives::{B256, U256};

use super::{super::rlp::*, Random, integer, list, string};

/// Reads everything that `bytes` hold, lists within lists.
fn read_all(bytes: &[u8]) -> Result<(), RlpError> {
    let mut pending = vec![Reader::new(bytes)];
    while let Some(mut reader) = pending.pop() {
        if reader.is_finished() {
            continue;
        }
        let item = reader.item()?;
        pending.push(reader);
        if item.is_list {
            pending.push(item.list()?);
        }
    }
    Ok(())
}

#[test]
fn canonical_items_are_read() {
    for length in [0, 1, 2, 31, 32, 54, 55, 56, 57, 255, 256, 257, 65_535, 65_536] {
        let bytes = vec![0xab; length];
        let item = string(&bytes);
        assert_eq!(Item::only(&item).and_then(Item::string), Ok(&bytes[..]), "{length} bytes");
        let items = list(&[item.clone(), string(&[7])]);
        let mut reader = Item::only(&items).and_then(Item::list).expect("a list");
        assert_eq!(reader.item().map(|item| item.encoded), Ok(&item[..]), "{length} bytes");
        assert_eq!(reader.item().and_then(Item::u64), Ok(7));
        assert_eq!(reader.finish(), Ok(()));
    }
    for number in [0, 1, 0x7f, 0x80, 0xff, 0x100, u64::MAX] {
        let bytes = integer(U256::from(number));
        assert_eq!(Item::only(&bytes).and_then(Item::u64), Ok(number));
        assert_eq!(Item::only(&bytes).and_then(Item::u256), Ok(U256::from(number)));
    }
    let bytes = integer(U256::MAX);
    assert_eq!(Item::only(&bytes).and_then(Item::u256), Ok(U256::MAX));
    assert_eq!(Item::only(&bytes).and_then(Item::hash), Ok(B256::repeat_byte(0xff)));
}

#[test]
fn lengths_that_are_not_minimal_are_refused() {
    let cases: [(&[u8], RlpError); 10] = [
        (&[0x81, 0x00], RlpError::ByteNotMinimal),
        (&[0x81, 0x7f], RlpError::ByteNotMinimal),
        (&[0xb8, 0x01, 0x80], RlpError::LengthNotMinimal),
        (&[0xb8, 0x37], RlpError::LengthNotMinimal),
        (&[0xb9, 0x00, 0x38], RlpError::LengthNotMinimal),
        (&[0xf8, 0x00], RlpError::LengthNotMinimal),
        (&[0xf8, 0x37], RlpError::LengthNotMinimal),
        (&[0xf9, 0x00, 0x38], RlpError::LengthNotMinimal),
        (&[0xff, 0, 0, 0, 0, 0, 0, 1, 0], RlpError::LengthNotMinimal),
        (&[0xbf, 0, 0, 0, 0, 0, 0, 1, 0], RlpError::LengthNotMinimal),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Item::only(bytes), Err(expected), "{bytes:02x?}");
    }
}

#[test]
fn lengths_beyond_the_bytes_are_refused() {
    let cases: [&[u8]; 10] = [
        &[],
        &[0x81],
        &[0xa0, 1, 2],
        &[0xb8],
        &[0xb9, 0x01],
        &[0xc1],
        &[0xf8, 0x38, 0x01],
        &[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf7],
    ];
    for bytes in cases {
        assert_eq!(Item::only(bytes), Err(RlpError::Truncated), "{bytes:02x?}");
    }
}

/// Once lengths were computed with the bits of an address: where these are 32, the upper half of a longer one was lost, and a list of 56
/// bytes had encodings with lengths of five to eight bytes, too.
#[test]
fn lengths_keep_all_their_bits() {
    for width in 5..=8_u8 {
        let length: Vec<u8> = (1..width).map(|at| u8::from(at == 1)).chain([56]).collect();
        assert_eq!(big_endian(&length), (1 << (8 * (width - 1))) + 56);
        for first in [0xb7 + width, 0xf7 + width] {
            let bytes = [&[first], &length[..], &[1; 56]].concat();
            assert_eq!(Item::only(&bytes), Err(RlpError::Truncated), "{bytes:02x?}");
        }
    }
    assert_eq!(big_endian(&[0xff; 8]), u64::MAX);
}

#[test]
fn trailing_bytes_are_refused() {
    assert_eq!(Item::only(&[0x01, 0x02, 0x03]), Err(RlpError::TrailingBytes { bytes: 2 }));
    assert_eq!(Item::only(&[0xc0, 0x80]), Err(RlpError::TrailingBytes { bytes: 1 }));
}

#[test]
fn integers_that_are_not_minimal_or_too_wide_are_refused() {
    let number = |bytes: &[u8]| Item::only(&string(bytes)).and_then(Item::u64);
    assert_eq!(number(&[0]), Err(RlpError::LeadingZero));
    assert_eq!(number(&[0, 0x80]), Err(RlpError::LeadingZero));
    assert_eq!(number(&[1; 9]), Err(RlpError::IntegerTooWide { bytes: 9, limit: 8 }));
    let wide = |bytes: &[u8]| Item::only(&string(bytes)).and_then(Item::u256);
    assert_eq!(wide(&[0; 32]), Err(RlpError::LeadingZero));
    assert_eq!(wide(&[1; 33]), Err(RlpError::IntegerTooWide { bytes: 33, limit: 32 }));
}

#[test]
fn items_of_another_kind_are_refused() {
    assert_eq!(Item::only(&[0xc0]).and_then(Item::u64), Err(RlpError::NotAString));
    assert_eq!(Item::only(&[0xc0]).and_then(Item::hash), Err(RlpError::NotAString));
    assert_eq!(Item::only(&[0x80]).and_then(Item::list).map(drop), Err(RlpError::NotAList));
    for bytes in [0, 31, 33] {
        let item = string(&vec![0xaa; bytes]);
        assert_eq!(Item::only(&item).and_then(Item::hash), Err(RlpError::HashLength { bytes }));
    }
}

/// Random bytes are read without a panic, and whatever is read as a string has one encoding: the one that was read.
#[test]
fn what_is_read_has_no_second_encoding() {
    let mut read = 0;
    for seed in 0..200_000 {
        let mut random = Random(seed);
        let mut bytes: Vec<u8> = (0..random.below(12)).map(|_| random.byte()).collect();
        if random.below(2) == 0 && !bytes.is_empty() {
            bytes[0] = [0x80, 0x81, 0xb8, 0xb9, 0xbf, 0xc0, 0xc1, 0xf8, 0xf9, 0xff][random.below(10)];
        }
        let _ = read_all(&bytes);
        if let Ok(payload) = Item::only(&bytes).and_then(Item::string) {
            assert_eq!(string(payload), bytes, "seed {seed}");
            read += 1;
        }
    }
    assert!(read > 1_000, "only {read} of the random strings were canonical");
}
