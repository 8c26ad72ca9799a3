//! Snapshot files, with hashes that hold: refused, or a state with the root that they name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::snapshot_file(bytes));
