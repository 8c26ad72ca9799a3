//! An assembler for the EVM, just large enough for the contracts of the demonstration.
//!
//! ```text
//! ; a comment, up to the end of the line
//! name:          a place to jump to (JUMPDEST)
//! @name          pushes that place
//! 997  0x44      pushes a number, in as few bytes as it takes
//! SLOAD          an instruction
//! ```

use std::collections::HashMap;

use alloy_primitives::{Bytes, U256};

const JUMPDEST: u8 = 0x5b;
const PUSH0: u8 = 0x5f;
const PUSH2: u8 = 0x61;

/// The instructions in use. `DUP1` to `DUP16` and `SWAP1` to `SWAP16` are known beside them.
const INSTRUCTIONS: &[(&str, u8)] = &[
    ("ADD", 0x01),
    ("MUL", 0x02),
    ("SUB", 0x03),
    ("DIV", 0x04),
    ("LT", 0x10),
    ("GT", 0x11),
    ("EQ", 0x14),
    ("ISZERO", 0x15),
    ("AND", 0x16),
    ("NOT", 0x19),
    ("SHL", 0x1b),
    ("SHR", 0x1c),
    ("KECCAK256", 0x20),
    ("ADDRESS", 0x30),
    ("CALLER", 0x33),
    ("CALLDATALOAD", 0x35),
    ("POP", 0x50),
    ("MLOAD", 0x51),
    ("MSTORE", 0x52),
    ("SLOAD", 0x54),
    ("SSTORE", 0x55),
    ("JUMP", 0x56),
    ("JUMPI", 0x57),
    ("GAS", 0x5a),
    ("LOG2", 0xa2),
    ("LOG3", 0xa3),
    ("CALL", 0xf1),
    ("RETURN", 0xf3),
    ("REVERT", 0xfd),
];

/// What is wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceError {
    /// No instruction, number or label.
    Unknown(String),
    /// A label that stands there twice.
    Twice(String),
    /// A label that stands nowhere.
    Missing(String),
    /// Code longer than a jump reaches.
    TooLong,
}

/// Makes code of its source.
pub(super) fn assemble(source: &str) -> Result<Bytes, SourceError> {
    let mut code = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut jumps = Vec::new();
    let words = source.lines().flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace());
    for word in words {
        if let Some(label) = word.strip_suffix(':') {
            if places.insert(label, code.len()).is_some() {
                return Err(SourceError::Twice(label.to_owned()));
            }
            code.push(JUMPDEST);
        } else if let Some(label) = word.strip_prefix('@') {
            code.push(PUSH2);
            jumps.push((code.len(), label));
            code.extend([0; 2]);
        } else if word.starts_with(|first: char| first.is_ascii_digit()) {
            push(&mut code, word.parse().map_err(|_| SourceError::Unknown(word.to_owned()))?);
        } else {
            code.push(instruction(word).ok_or_else(|| SourceError::Unknown(word.to_owned()))?);
        }
    }
    for (at, label) in jumps {
        let place = places.get(label).ok_or_else(|| SourceError::Missing(label.to_owned()))?;
        let place = u16::try_from(*place).map_err(|_| SourceError::TooLong)?;
        code[at..at + 2].copy_from_slice(&place.to_be_bytes());
    }
    Ok(code.into())
}

fn push(code: &mut Vec<u8>, number: U256) {
    let bytes = number.to_be_bytes_trimmed_vec();
    code.push(PUSH0 + bytes.len() as u8);
    code.extend(bytes);
}

fn instruction(word: &str) -> Option<u8> {
    let numbered = |prefix, first: u8| {
        let number: u8 = word.strip_prefix(prefix)?.parse().ok()?;
        (1..=16).contains(&number).then(|| first + number - 1)
    };
    let listed = || INSTRUCTIONS.iter().find(|(name, _)| *name == word).map(|(_, code)| *code);
    listed().or_else(|| numbered("DUP", 0x80)).or_else(|| numbered("SWAP", 0x90))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    #[test]
    fn sources_become_code() {
        let source = "again: 0 1 0x0100 ; ADD is no part of it\n DUP1 SWAP16 @again JUMP @end JUMP end:";
        let expected = hex!("5b 5f 6001 610100 80 9f 610000 56 610011 56 5b");
        assert_eq!(assemble(source).unwrap(), Bytes::from(expected));
    }

    #[test]
    fn wrong_sources_are_refused() {
        let error = |source| assemble(source).unwrap_err();
        assert_eq!(error("ADD SUBTRACT"), SourceError::Unknown("SUBTRACT".into()));
        assert_eq!(error("DUP17"), SourceError::Unknown("DUP17".into()));
        assert_eq!(error("12x"), SourceError::Unknown("12x".into()));
        assert_eq!(error("a: a:"), SourceError::Twice("a".into()));
        assert_eq!(error("@a b:"), SourceError::Missing("a".into()));
        assert_eq!(error(&format!("{} far: @far", "POP ".repeat(1 << 16))), SourceError::TooLong);
    }
}
