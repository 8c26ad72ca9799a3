//! Keccak-256 of many messages at once.
//!
//! Messages are independent, so that a vector register works on as many as it has words of 64 bits;
//! what the processor has is found out at run time. Without vectors a message follows the other.

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

use alloy_primitives::{B256, keccak256};

/// Keccak-256 of each message, appended in the order given.
pub(crate) fn keccak256_many(messages: &[&[u8]], digests: &mut Vec<B256>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = wide::Avx512::detect() {
        return wide::hash_all(kernel, messages, digests);
    } else if let Some(kernel) = wide::Avx2::detect() {
        return wide::hash_all(kernel, messages, digests);
    }
    one_by_one(messages, digests);
}

/// [`keccak256_many`] on any processor.
fn one_by_one(messages: &[&[u8]], digests: &mut Vec<B256>) {
    digests.extend(messages.iter().map(keccak256));
}
