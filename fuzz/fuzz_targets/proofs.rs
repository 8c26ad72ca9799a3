//! Proofs of many paths and of ranges that are changed: none is believed that says what is not so.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb_proof::fuzzing::proofs(bytes));
