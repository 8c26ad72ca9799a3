//! Arbitrary bytes as a record: an error or a record, which encodes to one that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::record(bytes));
