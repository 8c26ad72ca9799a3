//! Histories of commits, proposals, wipes, checkpoints, power cuts: every root and value as in a model.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| metisdb::fuzzing::operations(bytes));
