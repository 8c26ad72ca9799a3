//! Proofs that are made up or changed: none is believed that the oracle refuses, or that says what is not so.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb_proof::fuzzing::proof(bytes));
