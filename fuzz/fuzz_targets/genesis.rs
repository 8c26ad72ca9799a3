//! Arbitrary bytes as a genesis file: refused, or a state that is the same when it is written down and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb_cli::fuzzing::genesis(bytes));
