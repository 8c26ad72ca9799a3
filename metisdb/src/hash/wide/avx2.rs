//! Four messages at once, with AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_andnot_si256, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi64x, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::{Block, Kernel, State, round::permute};

/// Words of a vector.
const LANES: usize = 4;

/// Proof that the processor has AVX2: there is no other way to one than [`Avx2::detect`].
#[derive(Clone, Copy, Debug)]
pub(in crate::hash) struct Avx2(());

impl Avx2 {
    /// The kernel, where the processor and the operating system support it.
    pub(in crate::hash) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel<LANES> for Avx2 {
    fn absorb(self, state: &mut State<LANES>, blocks: [&Block; LANES]) {
        debug_assert!(is_x86_feature_detected!("avx2"));
        // SAFETY: `self` exists, so AVX2 is there.
        unsafe { absorb(state, blocks) }
    }
}

/// Adds a block to each lane and permutes.
#[target_feature(enable = "avx2")]
fn absorb(state: &mut State<LANES>, blocks: [&Block; LANES]) {
    let mut vectors = [broadcast(0); 25];
    for (vector, &words) in vectors.iter_mut().zip(&state.words) {
        *vector = from_words(words);
    }
    for quarter in 0..4 {
        let mut rows = [broadcast(0); LANES];
        for lane in 0..LANES {
            rows[lane] = from_bytes(blocks[lane].as_chunks().0[quarter]);
        }
        let columns = transposed(rows);
        for index in 0..LANES {
            vectors[LANES * quarter + index] = xor(vectors[LANES * quarter + index], columns[index]);
        }
    }
    let mut last = [0; LANES];
    for lane in 0..LANES {
        last[lane] = u64::from_le_bytes(blocks[lane].as_chunks().0[16]);
    }
    vectors[16] = xor(vectors[16], from_words(last));
    let vectors = permute!(vectors);
    for (words, vector) in state.words.iter_mut().zip(vectors) {
        *words = to_words(vector);
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed([a, b, c, d]: [__m256i; LANES]) -> [__m256i; LANES] {
    let (ab_even, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd_even, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab_even, cd_even),
        _mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd),
        _mm256_permute2x128_si256::<0x31>(ab_even, cd_even),
        _mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd),
    ]
}

/// A vector of bytes that lie one after another.
#[inline]
#[target_feature(enable = "avx2")]
fn from_bytes(bytes: [u8; 32]) -> __m256i {
    // SAFETY: both are 32 bytes, and any bits are a value of either.
    unsafe { std::mem::transmute::<[u8; 32], __m256i>(bytes) }
}

/// A vector of the words of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn from_words(words: [u64; LANES]) -> __m256i {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<[u64; LANES], __m256i>(words) }
}

/// The words of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn to_words(vector: __m256i) -> [u64; LANES] {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m256i, [u64; LANES]>(vector) }
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
}

/// `a ^ b`.
#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

/// `a ^ b ^ c ^ d ^ e`.
#[inline]
#[target_feature(enable = "avx2")]
fn xor5(a: __m256i, b: __m256i, c: __m256i, d: __m256i, e: __m256i) -> __m256i {
    xor(xor(xor(a, b), xor(c, d)), e)
}

/// Turns each word to the left.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_slli_epi64::<LEFT>(a), _mm256_srli_epi64::<RIGHT>(a))
}

/// `a ^ (!b & c)`.
#[inline]
#[target_feature(enable = "avx2")]
fn chi(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    xor(a, _mm256_andnot_si256(b, c))
}
