//! Arbitrary bytes as a record: an error or a record, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::record(bytes));
