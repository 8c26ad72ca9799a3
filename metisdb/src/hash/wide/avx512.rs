//! Eight messages at once, with AVX-512.

use std::arch::x86_64::{
    __m512i, _mm512_rol_epi64, _mm512_set1_epi64, _mm512_shuffle_i64x2, _mm512_ternarylogic_epi64,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{Block, Kernel, State, round::permute};

/// Words of a vector.
const LANES: usize = 8;

/// Proof that the processor has AVX-512F: there is no other way to one than [`Avx512::detect`].
#[derive(Clone, Copy, Debug)]
pub(in crate::hash) struct Avx512(());

impl Avx512 {
    /// The kernel, where the processor and the operating system support it.
    pub(in crate::hash) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

impl Kernel<LANES> for Avx512 {
    fn absorb(self, state: &mut State<LANES>, blocks: [&Block; LANES]) {
        debug_assert!(is_x86_feature_detected!("avx512f"));
        // SAFETY: `self` exists, so AVX-512F is there.
        unsafe { absorb(state, blocks) }
    }
}

/// Adds a block to each lane and permutes.
#[target_feature(enable = "avx512f")]
fn absorb(state: &mut State<LANES>, blocks: [&Block; LANES]) {
    let mut vectors = [broadcast(0); 25];
    for (vector, &words) in vectors.iter_mut().zip(&state.words) {
        *vector = from_words(words);
    }
    let mut upper = [broadcast(0); LANES];
    let mut lower = [broadcast(0); LANES];
    let mut last = [0; LANES];
    for lane in 0..LANES {
        let (halves, rest) = blocks[lane].as_chunks();
        upper[lane] = from_bytes(halves[0]);
        lower[lane] = from_bytes(halves[1]);
        last[lane] = u64::from_le_bytes(rest.as_chunks().0[0]);
    }
    let (upper, lower) = (transposed(upper), transposed(lower));
    for index in 0..LANES {
        vectors[index] = xor(vectors[index], upper[index]);
        vectors[LANES + index] = xor(vectors[LANES + index], lower[index]);
    }
    vectors[2 * LANES] = xor(vectors[2 * LANES], from_words(last));
    let vectors = permute!(vectors);
    for (words, vector) in state.words.iter_mut().zip(vectors) {
        *words = to_words(vector);
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed([a, b, c, d, e, f, g, h]: [__m512i; LANES]) -> [__m512i; LANES] {
    let [even0, even2, even4, even6] = transposed_pairs([
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    ]);
    let [odd1, odd3, odd5, odd7] = transposed_pairs([
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    ]);
    [even0, odd1, even2, odd3, even4, odd5, even6, odd7]
}

/// Rows to columns, of pairs of words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed_pairs([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let (ab_even, ab_odd) = (_mm512_shuffle_i64x2::<EVEN>(a, b), _mm512_shuffle_i64x2::<ODD>(a, b));
    let (cd_even, cd_odd) = (_mm512_shuffle_i64x2::<EVEN>(c, d), _mm512_shuffle_i64x2::<ODD>(c, d));
    [
        _mm512_shuffle_i64x2::<EVEN>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<EVEN>(ab_odd, cd_odd),
        _mm512_shuffle_i64x2::<ODD>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<ODD>(ab_odd, cd_odd),
    ]
}

/// A vector of bytes that lie one after another.
#[inline]
#[target_feature(enable = "avx512f")]
fn from_bytes(bytes: [u8; 64]) -> __m512i {
    // SAFETY: both are 64 bytes, and any bits are a value of either.
    unsafe { std::mem::transmute::<[u8; 64], __m512i>(bytes) }
}

/// A vector of the words of all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn from_words(words: [u64; LANES]) -> __m512i {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<[u64; LANES], __m512i>(words) }
}

/// The words of all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn to_words(vector: __m512i) -> [u64; LANES] {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m512i, [u64; LANES]>(vector) }
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

/// `a ^ b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i) -> __m512i {
    _mm512_xor_si512(a, b)
}

/// `a ^ b ^ c ^ d ^ e`.
#[inline]
#[target_feature(enable = "avx512f")]
fn xor5(a: __m512i, b: __m512i, c: __m512i, d: __m512i, e: __m512i) -> __m512i {
    // A ternary operation is named by its results for `a b c` from 111 down to 000.
    let abc = _mm512_ternarylogic_epi64::<0b1001_0110>(a, b, c);
    _mm512_ternarylogic_epi64::<0b1001_0110>(abc, d, e)
}

/// Turns each word to the left.
#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m512i) -> __m512i {
    _mm512_rol_epi64::<LEFT>(a)
}

/// `a ^ (!b & c)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn chi(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0b1101_0010>(a, b, c)
}
