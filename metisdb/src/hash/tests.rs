//! Every kernel against the hash function of `alloy-primitives`, which comes from another crate.

use alloy_primitives::{B256, KECCAK256_EMPTY, b256, keccak256};

#[cfg(target_arch = "x86_64")]
use super::wide::{Avx2, Avx512, hash_all};
use super::{keccak256_many, one_by_one};

/// A way to hash many messages.
type Hash = fn(&[&[u8]], &mut Vec<B256>);

/// Every way that this processor has.
fn ways() -> Vec<(&'static str, Hash)> {
    let ways: [(_, Hash); 2] = [("dispatch", keccak256_many), ("portable", one_by_one)];
    ways.into_iter().chain(vector_ways()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_ways() -> Vec<(&'static str, Hash)> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn vector_ways() -> Vec<(&'static str, Hash)> {
    let mut ways: Vec<(_, Hash)> = Vec::new();
    match Avx512::detect() {
        Some(_) => ways.push(("avx512", |messages, digests| {
            hash_all(Avx512::detect().expect("detected before"), messages, digests);
        })),
        None => println!("skipped: no avx512"),
    }
    match Avx2::detect() {
        Some(_) => ways.push(("avx2", |messages, digests| {
            hash_all(Avx2::detect().expect("detected before"), messages, digests);
        })),
        None => println!("skipped: no avx2"),
    }
    ways
}

/// Bytes that differ from those of any other salt, and from one another.
fn message(length: usize, salt: usize) -> Vec<u8> {
    let words =
        (0_u64..).map(|index| (salt as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ index << 40);
    words.flat_map(|word| word.wrapping_mul(0xff51_afd7_ed55_8ccd).to_be_bytes()).take(length).collect()
}

/// Each way gives the digests that messages have one by one, after what was there.
fn check(ways: &[(&str, Hash)], lengths: &[usize]) {
    let messages: Vec<_> = lengths.iter().enumerate().map(|(salt, &length)| message(length, salt)).collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let mut expected = vec![B256::repeat_byte(7)];
    expected.extend(messages.iter().map(keccak256));
    for (name, hash) in ways {
        let mut digests = vec![B256::repeat_byte(7)];
        hash(&messages, &mut digests);
        assert_eq!(digests, expected, "{name}, lengths {lengths:?}");
    }
}

#[test]
fn known_digests() {
    let abc = b256!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    // Full groups of four, and messages left over. Each digest takes Miri half a second.
    let counts = if cfg!(miri) { 5..=5 } else { 0..=9 };
    for (name, hash) in ways() {
        for count in counts.clone() {
            let messages: Vec<&[u8]> = [b"".as_slice(), b"abc"].repeat(count);
            let mut digests = Vec::new();
            hash(&messages, &mut digests);
            assert_eq!(digests, [KECCAK256_EMPTY, abc].repeat(count), "{name}");
        }
    }
}

#[test]
fn every_length_in_full_lanes() {
    let ways = ways();
    for length in 0..=1000 {
        check(&ways, &[length; 8]);
    }
}

#[test]
fn every_length_beside_any_other() {
    let ways = ways();
    for count in 1..=20 {
        // 631 is prime: the lengths of a batch have nothing to do with one another.
        for start in 0..=1000 / count {
            check(&ways, &(0..count).map(|lane| (start * count + lane) * 631 % 1001).collect::<Vec<_>>());
        }
    }
}

#[test]
fn long_messages_among_short_ones() {
    let ways = ways();
    for long in [4_000, 8_431, 8_432, 8_567, 8_568, 24_576] {
        let mut lengths = vec![32; 20];
        lengths[11] = long;
        check(&ways, &lengths);
        check(&ways, &[long, long - 136, 0, long + 136, 1, long]);
    }
}
