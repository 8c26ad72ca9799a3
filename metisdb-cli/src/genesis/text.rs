//! The numbers, hashes and bytes of a genesis file, as geth reads them.

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use serde_json::value::RawValue;

/// Longest excerpt of a text in a message, in characters.
const SHOWN: usize = 80;

/// The text, or its beginning, for a message.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

fn digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// A number: 0x and hexadecimal, or decimal; nothing is zero.
pub(super) fn number(text: &str) -> Result<U256, String> {
    let (digits, radix) = digits(text).map_or((text, 10), |digits| (digits, 16));
    if text.is_empty() {
        return Ok(U256::ZERO);
    }
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    if !is_number {
        return Err(format!("{} is no number; it must be decimal, or 0x and hexadecimal", shown(text)));
    }
    U256::from_str_radix(digits, radix.into()).map_err(|_| format!("{} has more than 256 bits", shown(text)))
}

/// A number of at most 64 bits.
pub(super) fn small(text: &str) -> Result<u64, String> {
    u64::try_from(number(text)?).map_err(|_| format!("{} has more than 64 bits", shown(text)))
}

/// A slot's number or value: hexadecimal with or without 0x; nothing is zero.
pub(super) fn word(text: &str) -> Result<U256, String> {
    let digits = digits(text).unwrap_or(text);
    if digits.is_empty() {
        return Ok(U256::ZERO);
    }
    if digits.len() > 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!("{} is none; it must have up to 64 hexadecimal digits", shown(text)));
    }
    U256::from_str_radix(digits, 16).map_err(|error| format!("{}: {error}", shown(text)))
}

/// Bytes: hexadecimal with or without 0x, two digits each.
pub(super) fn bytes(text: &str) -> Result<Bytes, String> {
    hex::decode(text).map(Bytes::from).map_err(|error| format!("{} is no hexadecimal text: {error}", shown(text)))
}

/// A hash: 64 hexadecimal digits with or without 0x.
pub(super) fn hash(text: &str) -> Result<B256, String> {
    hex::decode_to_array(text).map(B256::new).map_err(|error| format!("{} is no hash: {error}", shown(text)))
}

/// An address: 40 hexadecimal digits with or without 0x.
pub(super) fn address(text: &str) -> Result<Address, String> {
    hex::decode_to_array(text).map(Address::new).map_err(|error| {
        format!("{} is no address, which has 40 hexadecimal digits with or without 0x: {error}", shown(text))
    })
}

/// The text of a JSON value: a string's content, or a number as it is written, however long; `None` of null.
pub(super) fn content(value: &RawValue) -> Result<Option<String>, String> {
    match value.get() {
        "null" => Ok(None),
        string if string.starts_with('"') => {
            serde_json::from_str(string).map(Some).map_err(|error| format!("{}: {error}", shown(string)))
        }
        number if number.starts_with(|first: char| first.is_ascii_digit()) => Ok(Some(number.to_owned())),
        other => Err(format!("{} is neither a string nor a number", shown(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_geth_reads_them() {
        for (text, value) in [("", 0), ("0", 0), ("010", 10), ("0x10", 16), ("0X1f", 31), ("255", 255)] {
            assert_eq!(number(text), Ok(U256::from(value)), "{text}");
        }
        assert_eq!(number(&format!("0x{}", "f".repeat(64))), Ok(U256::MAX));
        for text in [
            "0x",
            "1f",
            "-1",
            "+1",
            "1e3",
            "0x1_0",
            " 1",
            &format!("0x1{}", "0".repeat(64)),
            &U256::MAX.to_string().replace('1', "9"),
        ] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(small("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(small("0x10000000000000000").is_err());
    }

    #[test]
    fn words_are_hexadecimal() {
        for (text, value) in [("", 0), ("0x", 0), ("10", 16), ("0x010", 16), ("1", 1)] {
            assert_eq!(word(text), Ok(U256::from(value)), "{text}");
        }
        assert!(["0xg", "-1", &"0".repeat(65)].iter().all(|text| word(text).is_err()));
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(shown("0x12"), "\"0x12\"");
        assert_eq!(shown(&"é".repeat(1_000)).chars().count(), SHOWN + 5);
    }

    #[test]
    fn a_number_keeps_all_its_digits() {
        let content = |json: &str| content(&RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(content("123456789012345678901234567890").unwrap().unwrap(), "123456789012345678901234567890");
        assert_eq!(content("\"0x\\u0031\"").unwrap().unwrap(), "0x1");
        assert_eq!(content("null"), Ok(None));
        assert!(content("{}").is_err() && content("true").is_err());
    }
}
