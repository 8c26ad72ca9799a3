//! Images: round trips, and bytes that are none.

use std::path::Path;

use super::{audit, has, insert, mix, positions};
use crate::{
    Error, Result,
    index::{ImageSource, ImageSummary, Index, SplitPause},
};

pub(super) fn capture(pause: &SplitPause<'_>) -> (Vec<u8>, ImageSummary) {
    let mut bytes = Vec::new();
    let summary = pause
        .capture(&mut |block| {
            bytes.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    (bytes, summary)
}

pub(super) fn restore(bytes: &[u8], max_position: u64) -> Result<Index> {
    let mut rest = bytes;
    Index::restore(ImageSource {
        read: &mut |buffer| {
            let (now, later) = rest.split_at(buffer.len());
            buffer.copy_from_slice(now);
            rest = later;
            Ok(())
        },
        length: bytes.len() as u64,
        max_position,
        path: Path::new("image"),
        offset: 0,
    })
}

fn filled(initial: u32, keys: u64, hash: fn(u64) -> u64) -> Index {
    let index = Index::new(initial).unwrap();
    for key in 0..keys {
        insert(&index, hash(key), 8 + key * 8);
    }
    index
}

fn is_refused(bytes: &[u8], max_position: u64) -> bool {
    matches!(restore(bytes, max_position), Err(Error::Corruption { .. }))
}

/// Rewrites the checksum of the bytes from `start` to `end`.
fn seal(bytes: &mut [u8], start: usize, end: usize) {
    let crc = crc_fast::crc32_iscsi(&bytes[start + 4..end]);
    bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn images_restore_the_same_table() {
    let scale = if cfg!(miri) { 1 } else { 100 };
    type Hash = fn(u64) -> u64;
    let kinds: [(u32, u64, Hash); 6] = [
        (0, 0, mix),
        (13, 5, mix),
        (2, 3 * scale, mix),
        (3, 700 * scale, mix),
        (4, 2 * scale, |key| mix(key) << 10),
        (2, 200, |_| 9),
    ];
    for (initial, keys, hash) in kinds {
        let index = filled(initial, keys, hash);
        let found: std::result::Result<Option<()>, ()> = index.find(hash(0), |candidate| {
            candidate.mark_verified();
            Ok(None)
        });
        assert_eq!(found, Ok(None));
        let (bytes, summary) = capture(&index.pause_splits());
        assert_eq!(summary.entries, keys);
        assert_eq!(summary.max_position, 8 * keys);
        let restored = restore(&bytes, summary.max_position).unwrap();
        audit(&restored);
        let stats = restored.stats();
        assert_eq!(stats.lines, index.stats().lines);
        assert_eq!(stats.overflow_lines, index.stats().overflow_lines);
        for key in 0..keys {
            assert_eq!(positions(&restored, hash(key)), positions(&index, hash(key)));
        }
        let (again, _) = capture(&restored.pause_splits());
        assert!(again == bytes, "the image of the restored table differs");

        for key in keys..keys + 50 {
            insert(&restored, mix(key), 8 + key * 8);
        }
        audit(&restored);
        assert!((keys..keys + 50).all(|key| has(&restored, mix(key), 8 + key * 8)));
    }
}

#[test]
fn a_crowded_line_has_no_image() {
    let index = filled(2, 256, |_| 9);
    let error = index.pause_splits().capture(&mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::LimitReached { limit: 255, .. }));
}

#[test]
fn errors_of_source_and_sink_are_passed_on() {
    let index = filled(2, 10, mix);
    let failed = index.pause_splits().capture(&mut |_| Err(Error::ReadOnly));
    assert!(matches!(failed, Err(Error::ReadOnly)));
    let failed = Index::restore(ImageSource {
        read: &mut |_| Err(Error::ReadOnly),
        length: 1000,
        max_position: 1000,
        path: Path::new("image"),
        offset: 0,
    });
    assert!(matches!(failed, Err(Error::ReadOnly)));
}

#[test]
fn truncated_images_are_refused() {
    let index = filled(2, if cfg!(miri) { 40 } else { 900 }, mix);
    let (bytes, summary) = capture(&index.pause_splits());
    for length in 0..bytes.len() {
        assert!(is_refused(&bytes[..length], summary.max_position), "{length}");
    }
    let longer = [&bytes[..], &[0; 8]].concat();
    assert!(is_refused(&longer, summary.max_position));
    assert!(is_refused(&bytes, summary.max_position - 8));
}

#[test]
fn flipped_bits_are_refused() {
    let index = filled(3, if cfg!(miri) { 20 } else { 600 }, mix);
    let (bytes, summary) = capture(&index.pause_splits());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (mix(at as u64) % 8);
        assert!(is_refused(&damaged, summary.max_position), "byte {at}");
    }
}

/// Damage under a right checksum: it must be refused or give a sound table, and never panic.
#[test]
fn hostile_images_are_refused() {
    let index = filled(3, 60, mix);
    let (bytes, summary) = capture(&index.pause_splits());
    let rounds = if cfg!(miri) { 20 } else { 20_000 };
    for round in 0..rounds {
        let mut hostile = bytes.clone();
        for change in 0..1 + mix(round) % 3 {
            let random = mix(round << 8 | change);
            let near = if random & 1 == 0 { 48 } else { hostile.len() as u64 };
            let at = (random >> 8) % near;
            hostile[at as usize] = (random >> 40) as u8 >> (random >> 61);
        }
        seal(&mut hostile, 0, 16);
        let end = hostile.len();
        seal(&mut hostile, 16, end);
        if let Ok(restored) = restore(&hostile, summary.max_position) {
            audit(&restored);
        }
    }
}

#[test]
fn headers_claiming_too_much_are_refused() {
    let index = filled(3, 60, mix);
    let (bytes, _) = capture(&index.pause_splits());
    for (initial, level, split) in [
        (28, 28, 0),
        (28, 47, 0),
        (3, 22, 0),
        (3, 22, 1),
        (3, 23, 0),
        (3, 2, 0),
        (3, 4, 16),
        (3, 4, u64::MAX),
        (29, 29, 0),
        (u16::MAX, u16::MAX, u64::MAX),
    ] {
        let mut hostile = bytes.clone();
        hostile[4..6].copy_from_slice(&initial.to_le_bytes());
        hostile[6..8].copy_from_slice(&level.to_le_bytes());
        hostile[8..16].copy_from_slice(&split.to_le_bytes());
        seal(&mut hostile, 0, 16);
        assert!(is_refused(&hostile, 1 << 40), "{initial} {level} {split}");
    }
}
