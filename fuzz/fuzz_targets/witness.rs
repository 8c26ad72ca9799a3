//! Witnesses: forms that the oracle reads, parts of a state that say what is so, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb_proof::fuzzing::witness(bytes));
