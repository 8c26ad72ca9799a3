//! Arbitrary bytes as a node of the arena.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::node(bytes));
