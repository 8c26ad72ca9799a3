//! A database with arbitrary bytes in its files: opens, or says why not, and never panics. Checksums are mended, so that
//! the damage gets past them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::recovery(bytes));
