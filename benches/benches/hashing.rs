//! Keccak-256 of many messages: in the lanes that the processor has, beside one message after the other.
//!
//! ```text
//! cargo bench -p metisdb-benches --bench hashing
//! ```
//!
//! The lanes are no part of the database's interface, so their source is compiled into the benchmark.

#[path = "../../metisdb/src/hash/mod.rs"]
#[expect(unused, reason = "its tests come along, and are not run here")]
mod hash;
#[path = "../../metisdb/src/prefetch.rs"]
mod prefetch;

use std::hint::black_box;

use alloy_primitives::{B256, keccak256};
use criterion::{Criterion, Throughput};

use self::hash::keccak256_many;

/// Bytes of a path, a leaf and a full branch, and how many of them at once: as in a block of many changes, and in one of few.
const SHAPES: [(usize, usize); 6] = [(32, 10_000), (110, 10_000), (532, 10_000), (32, 2), (32, 3), (532, 2)];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (length, count) in SHAPES {
        let messages: Vec<_> = (0..count).map(|salt| message(length, salt)).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut digests: Vec<B256> = Vec::with_capacity(count);
        let mut group = criterion.benchmark_group(format!("keccak256/{count} of {length} bytes"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("lanes", |bencher| {
            bencher.iter(|| {
                digests.clear();
                keccak256_many(black_box(&messages), black_box(&mut digests));
            });
        });
        group.bench_function("scalar", |bencher| {
            bencher.iter(|| {
                digests.clear();
                digests.extend(black_box(&messages).iter().map(keccak256));
                black_box(&mut digests);
            });
        });
    }
    criterion.final_summary();
}

/// Bytes that differ from those of any other salt.
fn message(length: usize, salt: usize) -> Vec<u8> {
    let words = (0_u64..).map(|index| (salt as u64) << 32 | index);
    words.flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).take(length).collect()
}
