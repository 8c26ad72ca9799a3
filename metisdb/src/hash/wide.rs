//! Messages side by side: each has a lane of the vectors.

mod avx2;
mod avx512;
mod order;
mod round;

use std::array;

use alloy_primitives::{B256, keccak256};

use self::order::longest_first;
pub(super) use self::{avx2::Avx2, avx512::Avx512};
use crate::prefetch;

/// Bytes that a state takes in before a permutation.
const BLOCK_BYTES: usize = 136;

/// What a lane takes in at once.
type Block = [u8; BLOCK_BYTES];

/// So many permutations one after another take longer than one of all lanes, whatever the kernel.
const WORTHWHILE: usize = 2;

/// The states of all lanes.
#[repr(align(64))]
pub(super) struct State<const LANES: usize> {
    /// Word `x + 5 * y` of every lane.
    words: [[u64; LANES]; 25],
}

/// A processor's way to permute several states at once.
pub(super) trait Kernel<const LANES: usize>: Copy {
    /// Adds a block to each lane's state and permutes the states.
    fn absorb(self, state: &mut State<LANES>, blocks: [&Block; LANES]);
}

/// Hashes all messages, the longest first, so that neighbours end together.
pub(super) fn hash_all<const LANES: usize>(kernel: impl Kernel<LANES>, messages: &[&[u8]], digests: &mut Vec<B256>) {
    let start = digests.len();
    digests.resize(start + messages.len(), B256::ZERO);
    let digests = &mut digests[start..];
    let order = longest_first(messages);
    let mut waiting = order.as_slice();
    while let Some((&first, others)) = waiting.split_first() {
        let (group, rest) = waiting.split_at(waiting.len().min(LANES));
        if fills_lanes(messages, group) {
            hash_group(kernel, messages, group, &rest[..rest.len().min(LANES)], digests);
            waiting = rest;
        } else {
            digests[first] = keccak256(messages[first]);
            waiting = others;
        }
    }
}

/// Whether a group is better hashed at once, though every lane takes as long as the longest message.
fn fills_lanes(messages: &[&[u8]], group: &[usize]) -> bool {
    let needed = group.iter().map(|&index| permutations(messages[index]));
    let (total, longest) = needed.fold((0, 0), |(total, longest), needed| (total + needed, longest.max(needed)));
    total >= longest * WORTHWHILE
}

/// How many permutations a message needs; the last takes in the padding, which is never empty.
fn permutations(message: &[u8]) -> usize {
    message.len() / BLOCK_BYTES + 1
}

/// Hashes a group, of at most as many messages as there are lanes, and fetches the next one.
fn hash_group<const LANES: usize>(
    kernel: impl Kernel<LANES>,
    messages: &[&[u8]],
    group: &[usize],
    next: &[usize],
    digests: &mut [B256],
) {
    debug_assert!(group.len() <= LANES);
    let mut whole: [&[Block]; LANES] = [&[]; LANES];
    let mut last = [[0; BLOCK_BYTES]; LANES];
    for (lane, &index) in group.iter().enumerate() {
        let (blocks, rest) = messages[index].as_chunks();
        whole[lane] = blocks;
        pad(rest, &mut last[lane]);
    }
    let longest = whole.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
    let mut state = State { words: [[0; LANES]; 25] };
    for step in 0..=longest {
        for &index in next {
            fetch(messages[index], step);
        }
        // A lane without message, or whose message has ended, goes on with anything.
        kernel.absorb(&mut state, array::from_fn(|lane| whole[lane].get(step).unwrap_or(&last[lane])));
        for (lane, &index) in group.iter().enumerate() {
            if whole[lane].len() == step {
                digests[index] = state.digest(lane);
            }
        }
    }
}

/// Makes the last block of what is left of a message; the block is empty so far.
fn pad(rest: &[u8], block: &mut Block) {
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 0x01;
    block[BLOCK_BYTES - 1] |= 0x80;
}

/// Brings a block of a message closer. Hashing takes so many instructions that the processor does
/// not look ahead as far as the next group by itself.
fn fetch(message: &[u8], block: usize) {
    let start = message.as_ptr().wrapping_add(block * BLOCK_BYTES);
    prefetch::line(start);
    prefetch::line(start.wrapping_add(64));
}

impl<const LANES: usize> State<LANES> {
    /// The digest of a lane whose last block is in.
    fn digest(&self, lane: usize) -> B256 {
        let mut digest = B256::ZERO;
        for (bytes, words) in digest.as_chunks_mut().0.iter_mut().zip(&self.words) {
            *bytes = words[lane].to_le_bytes();
        }
        digest
    }
}
