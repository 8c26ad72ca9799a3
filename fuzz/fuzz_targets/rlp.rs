//! Arbitrary bytes as RLP: what the oracle reads, and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb_proof::fuzzing::rlp(bytes));
