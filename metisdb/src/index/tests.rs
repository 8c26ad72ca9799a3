//! Tests of the index as a whole.

mod concurrent;
mod images;
#[cfg(loom)]
mod interleavings;
mod model;

use std::convert::Infallible;

use super::{Candidate, Index, SplitPause};

/// A permutation of the 64-bit numbers without visible pattern.
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Any thread may use an index and the handles to it.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Index>();
    shared::<Candidate<'_>>();
    shared::<SplitPause<'_>>();
};

/// Inserts with the memory for it.
fn insert(index: &Index, hash: u64, position: u64) {
    index.reserve(1).unwrap();
    index.insert(hash, position);
}

/// Whether the index has this position under the hash.
fn has(index: &Index, hash: u64, position: u64) -> bool {
    let found: Result<_, Infallible> = index.find(hash, |candidate| Ok((candidate.position == position).then_some(())));
    found.unwrap().is_some()
}

/// All positions that the index has under the hash.
fn positions(index: &Index, hash: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    let found: Result<Option<()>, Infallible> = index.find(hash, |candidate| {
        positions.push(candidate.position);
        Ok(None)
    });
    assert_eq!(found, Ok(None));
    positions.sort_unstable();
    positions
}

/// Checks the structure of the table.
fn audit(index: &Index) {
    let writer = index.growth.0.writer.lock();
    index.table.audit(&writer, index.entries());
}
