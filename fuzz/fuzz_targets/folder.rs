//! A folder of arbitrary files: opens as a database, or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::folder(bytes));
