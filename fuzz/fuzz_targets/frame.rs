//! Arbitrary bytes as a frame of the log, its records included.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::frame(bytes));
