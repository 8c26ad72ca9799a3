//! A database with arbitrary bytes in its files: opens, or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::recovery(bytes));
