//! Entrances for fuzzers: arbitrary bytes where the disk's, or a stranger's, would be. Built for fuzzers and for the tests only.
//!
//! Every entrance takes any bytes, and panics if what it asserts does not hold: a decoder neither panics nor takes memory for lengths that it
//! did not check, and what it accepts has one meaning. Checksums do not stand in the way of a fuzzer: see [`mend`].
//!
//! | file | entrances |
//! |---|---|
//! | `decoders` | [`record()`], [`frame()`], [`node()`], [`superblock()`], [`image()`] |
//! | `files` | [`recovery()`], [`folder()`]: a whole database |
//! | `snapshot_files` | [`snapshot_file()`]: whole files |
//! | `operations` | [`operations()`]: a history, against a model |

mod decoders;
mod files;
pub(crate) mod mend;
mod operations;
mod snapshot_files;

use std::collections::BTreeMap;

use alloy_primitives::B256;
use alloy_trie::{HashBuilder, Nibbles};

pub use self::{
    decoders::{frame, image, node, record, superblock},
    files::{folder, recovery},
    operations::operations,
    snapshot_files::snapshot_file,
};

/// The root of a trie by an independent implementation.
pub(crate) fn oracle_root(leaves: &BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (path, value) in leaves {
        builder.add_leaf(Nibbles::unpack(path), value);
    }
    builder.root()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::{
        files::{FILES, whole},
        mend,
    };

    /// What is sound stays as it is, and what only its checksums were taken from is as it was: so the fuzzers get past them.
    #[test]
    fn mended_files_are_the_sound_ones() {
        for (name, bytes) in FILES {
            let sound = whole(bytes);
            let mut mended = sound.clone();
            let spoil = |bytes: &mut Vec<u8>, at: usize| bytes[at..at + 4].fill(0xee);
            match name.split_once('.').unwrap().0 {
                "superblock" => {
                    spoil(&mut mended, sound.len() - 4);
                    mend::superblock(&mut mended);
                }
                "segment" => {
                    spoil(&mut mended, 124);
                    // Of the first frame, and of its first record.
                    spoil(&mut mended, 128 + 60);
                    spoil(&mut mended, 128 + 64);
                    mend::segment(&mut mended);
                }
                "index" => {
                    spoil(&mut mended, 124);
                    let table = sound.len() - u64::from_le_bytes(*sound[64..].first_chunk().unwrap()) as usize;
                    for at in [table - 8, table, table + 16] {
                        spoil(&mut mended, at);
                    }
                    mend::image(&mut mended);
                }
                _ => {
                    spoil(&mut mended, 60);
                    spoil(&mut mended, 8192);
                    mend::arena(&mut mended, 1);
                }
            }
            assert!(mended == sound, "{name}");
        }
    }

    /// What fuzzing found worth keeping, among it everything that ever failed.
    #[test]
    fn the_corpus_passes() {
        type Entrance = fn(&[u8]);
        let targets: [(&str, Entrance); 9] = [
            ("record", super::record),
            ("frame", super::frame),
            ("node", super::node),
            ("superblock", super::superblock),
            ("image", super::image),
            ("operations", super::operations),
            ("recovery", super::recovery),
            ("folder", super::folder),
            ("snapshot_file", super::snapshot_file),
        ];
        for (target, entrance) in targets {
            let corpus = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/{}"), target);
            let (mut count, mut slowest) = (0, Duration::ZERO);
            for entry in fs::read_dir(corpus).unwrap() {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                let bytes = fs::read(path).unwrap();
                let begun = Instant::now();
                entrance(&bytes);
                slowest = slowest.max(begun.elapsed());
                count += 1;
            }
            println!("{target}: {count} inputs, the slowest took {slowest:?}");
            assert!(count > 0, "the corpus of {target} is empty");
        }
    }

    /// Rows of an image, with a sound checksum, of so many bytes that sums overflowed, or of versions that are still to come, which
    /// are then not in order with those that come: opening panicked where that is checked.
    #[test]
    fn rows_that_cannot_be_cost_the_image_alone() {
        let all_ones = |at: u16| {
            let image = FILES[1].1;
            let patch = |at: u16| [&[1], &at.to_le_bytes()[..], &[!image[usize::from(at)]]].concat();
            (at..at + 8).flat_map(patch).collect::<Vec<_>>()
        };
        // Live bytes of the segment; version and bytes of the last retired row; version and position of the first version.
        for at in [184, 288, 304, 312, 320] {
            super::recovery(&[&[2], &all_ones(at)[..]].concat());
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            super::recovery(&bytes);
        }

        /// Patches of the fixed structures, with checksums that hold: the decoders are all that stands in the way.
        #[test]
        fn hostile_headers_never_panic(file in 0u8..4, at in 0u16..280, value in 1u8..) {
            let [low, high] = at.to_le_bytes();
            super::recovery(&[1, file, low, high, value]);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::record(&bytes);
            super::frame(&bytes);
            super::node(&bytes);
            super::superblock(&bytes);
            super::image(&bytes);
        }

        #[test]
        fn arbitrary_histories_are_as_the_model(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::operations(&bytes);
        }

        /// A change of a sound file, whose hashes hold.
        #[test]
        fn deceitful_snapshot_files_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            super::snapshot_file(&bytes);
        }
    }
}
