//! Entrances for fuzzers: arbitrary bytes where the disk's would be. Built for fuzzers and for the tests only.

use std::sync::Arc;

use crate::{
    CheckLevel, Options,
    log::{crc32c, record, segment::SegmentHeader},
    storage::SimulatedDisk,
    superblock::SuperblockHeader,
};

/// The files of a small database, as `spec/vectors/v1` has them.
const FILES: [(&str, &[u8]); 5] = [
    ("segment.0000000001", include_bytes!("../../spec/vectors/v1/segment.0000000001")),
    ("index.0000000003", include_bytes!("../../spec/vectors/v1/index.0000000003")),
    ("superblock.0", include_bytes!("../../spec/vectors/v1/superblock.0")),
    ("superblock.1", include_bytes!("../../spec/vectors/v1/superblock.1")),
    ("arena.0000000001", include_bytes!("../../spec/vectors/v1/arena.0000000001")),
];
const SEGMENT_BYTES: usize = 1 << 16;
/// Bytes of input that make one patch: file, offset, value.
const PATCH_BYTES: usize = 4;

/// Bytes as a record at some position.
pub fn record(bytes: &[u8]) {
    let Some((position, bytes)) = bytes.split_first_chunk::<8>() else { return };
    let _ = record::read(bytes, u64::from_le_bytes(*position));
}

/// Patches in the files of a database; the first byte says whether the checksums of headers are mended after them.
pub fn recovery(bytes: &[u8]) {
    let Some((mend, patches)) = bytes.split_first() else { return };
    let mut files: Vec<(&str, Vec<u8>)> = FILES.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    files[0].1.resize(SEGMENT_BYTES, 0);
    files[4].1.resize(SEGMENT_BYTES, 0);
    for patch in patches.chunks_exact(PATCH_BYTES) {
        let file = &mut files[usize::from(patch[0]) % FILES.len()].1;
        let at = usize::from(u16::from_le_bytes([patch[1], patch[2]])) % file.len();
        file[at] ^= patch[3];
    }
    if mend & 1 != 0 {
        mend_checksums(&mut files);
    }
    let disk = Arc::new(SimulatedDisk::new(1));
    for (name, bytes) in files {
        disk.put_file(name, bytes);
    }
    let options = || Options::new().expected_keys(0).checkpoint_log_bytes(u64::MAX);
    if let Ok(db) = options().open_read_only_on(disk.clone()) {
        let _ = db.check(CheckLevel::Full);
    }
    if let Ok(db) = options().open_on(disk) {
        let _ = db.check(CheckLevel::Full);
        let _ = db.close();
    }
}

fn mend_checksums(files: &mut [(&str, Vec<u8>)]) {
    let mend = |bytes: &mut [u8], at: usize| {
        if at + 4 <= bytes.len() {
            let checksum = crc32c(&bytes[..at]);
            bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        }
    };
    mend(&mut files[0].1, SegmentHeader::BYTES - 4);
    mend(&mut files[1].1, crate::image::ImageHeader::BYTES - 4);
    for superblock in &mut files[2..] {
        let rows = u32::from_le_bytes(superblock.1[12..16].try_into().expect("4 bytes")) as usize;
        mend(&mut superblock.1, SuperblockHeader::BYTES.saturating_add(rows.saturating_mul(16)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// What fuzzing found worth keeping, among it everything that ever failed.
    #[test]
    fn the_corpus_passes() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
        for (target, entrance) in [("record", super::record as fn(&[u8])), ("recovery", super::recovery)] {
            let mut count = 0;
            for entry in std::fs::read_dir(format!("{corpus}/{target}")).unwrap() {
                entrance(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "the corpus of {target} is empty");
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
    }
}
