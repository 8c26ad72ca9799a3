//! Keys of records and their keyed hashes.
//!
//! Attackers choose addresses and slots, so every hash is keyed by the database's secret seed: NH (the hash of UMAC) over
//! 64-bit words, then a multilinear hash of its 128 bits; any two keys chosen without the seed collide with a probability below
//! 2^-62. The definitions stand in `spec/format.md`, "Account ids and keyed hashes".

use alloy_primitives::{Address, B256, U256};

/// Context string of the key derivation; part of the format.
const DERIVATION: &str = "MetisDB 2026-11 index hash";

/// Stands for an address in the keys of its slots: the keyed hash of the address, made unique by a salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AccountId(pub(crate) u64);

/// The key of a record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    Account(Address),
    Slot(AccountId, U256),
    Wipe(AccountId),
    Code(B256),
    Block(u64),
    /// The root of a version; not in the index.
    Root,
}

/// Hashes messages of four words under secret numbers.
#[derive(Clone, Debug)]
struct UniversalHash {
    /// Added to the words, whose sums are multiplied in pairs: NH.
    keys: [u64; 4],
    offset: u128,
    /// What the halves of the sum of products are multiplied with.
    factors: [u128; 2],
}

impl UniversalHash {
    /// Takes its numbers from a stream of secret bytes.
    fn new(secret: &mut blake3::OutputReader) -> Self {
        let mut next = || {
            let mut bytes = [0; 16];
            secret.fill(&mut bytes);
            u128::from_le_bytes(bytes)
        };
        let [first, second] = [next(), next()];
        let keys = [first as u64, (first >> 64) as u64, second as u64, (second >> 64) as u64];
        Self { keys, offset: next(), factors: [next(), next()] }
    }

    #[inline(always)]
    fn hash(&self, words: [u64; 4]) -> u64 {
        let sum = |index: usize| u128::from(words[index].wrapping_add(self.keys[index]));
        let products = (sum(0) * sum(1)).wrapping_add(sum(2) * sum(3));
        let low = self.factors[0].wrapping_mul(u128::from(products as u64));
        let high = self.factors[1].wrapping_mul(products >> 64);
        // A bijection: it keeps apart what differs, and breaks up the regular distances that regular keys
        // have in a sum of products.
        let hash = (self.offset.wrapping_add(low).wrapping_add(high) >> 64) as u64;
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ (hash >> 29)
    }
}

/// Computes the keyed hashes of one database.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher {
    /// Addresses with their salt, and block numbers.
    short: UniversalHash,
    slots: UniversalHash,
    codes: UniversalHash,
    /// Bits of the address hash that make the account id: tests force collisions.
    #[cfg(test)]
    id_mask: u64,
}

impl KeyHasher {
    /// Derives the hash keys from the database's seed.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut secret = blake3::Hasher::new_derive_key(DERIVATION).update(seed).finalize_xof();
        Self {
            short: UniversalHash::new(&mut secret),
            slots: UniversalHash::new(&mut secret),
            codes: UniversalHash::new(&mut secret),
            #[cfg(test)]
            id_mask: u64::MAX,
        }
    }

    /// Keeps only the bits of `mask` of account ids.
    #[cfg(test)]
    pub(crate) fn with_weak_ids(self, mask: u64) -> Self {
        Self { id_mask: mask, ..self }
    }

    /// Whether ids collide so often that every address has to be looked up; only tests weaken them so.
    pub(crate) fn has_weak_ids(&self) -> bool {
        #[cfg(test)]
        return self.id_mask != u64::MAX;
        #[cfg(not(test))]
        false
    }

    /// The account's id under a salt; salt 0 is the plain hash of the address.
    #[inline(always)]
    pub(crate) fn account_id(&self, address: &Address, salt: u8) -> AccountId {
        let bytes = address.as_slice();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let last = u32::from_le_bytes(std::array::from_fn(|index| bytes[16 + index]));
        let id = self.short.hash([word(0), word(8), u64::from(last) | u64::from(salt) << 32, 0]);
        #[cfg(test)]
        let id = if salt == 0 { id & self.id_mask } else { id };
        AccountId(id)
    }

    /// Hash of a slot's key. The two hashes are independent, so the processor overlaps them.
    #[inline(always)]
    pub(crate) fn slot(&self, account: AccountId, slot: &U256) -> u64 {
        account.0 ^ self.slots.hash(*slot.as_limbs())
    }

    /// Hash of any record's key.
    pub(crate) fn record(&self, key: &RecordKey) -> u64 {
        match key {
            RecordKey::Account(address) => self.account_id(address, 0).0,
            RecordKey::Slot(account, slot) => self.slot(*account, slot),
            RecordKey::Wipe(account) => account.0.rotate_left(32),
            RecordKey::Code(hash) => self.codes.hash(U256::from_be_bytes(hash.0).into_limbs()),
            RecordKey::Block(number) => self.short.hash([*number, 0, 1 << 63, 0]),
            RecordKey::Root => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of `spec/format.md` in big-integer arithmetic.
    fn plain(secret: &[u8], words: [u64; 4]) -> u64 {
        let number = |at: usize, bytes: usize| U256::from_le_slice(&secret[at..at + bytes]);
        let modulus = |bits: usize| U256::from(1) << bits;
        let sum = |index: usize| (number(8 * index, 8) + U256::from(words[index])) % modulus(64);
        let products: U256 = (sum(0) * sum(1) + sum(2) * sum(3)) % modulus(128);
        let low = number(48, 16).wrapping_mul(products % modulus(64)) % modulus(128);
        let upper: U256 = products >> 64;
        let high = number(64, 16).wrapping_mul(upper) % modulus(128);
        let hash: U256 = ((number(32, 16) + low + high) % modulus(128)) >> 64;
        let hash: U256 = ((hash ^ (hash >> 32)) * U256::from(0x9e37_79b9_7f4a_7c15_u64)) % modulus(64);
        let hash: U256 = hash ^ (hash >> 29);
        hash.to()
    }

    #[test]
    fn hashes_are_as_defined() {
        for seed in 0..50 {
            let mut secret = [0; 80 * 3];
            blake3::Hasher::new_derive_key(DERIVATION).update(&[seed; 32]).finalize_xof().fill(&mut secret);
            let hasher = KeyHasher::new(&[seed; 32]);
            let mut padded = [0; 32];
            padded[..20].copy_from_slice(&std::array::from_fn::<u8, 20, _>(|index| (index as u8 * 11) ^ seed));
            let address = Address::from_slice(&padded[..20]);
            padded[20] = 3;
            let words = std::array::from_fn(|index| u64::from_le_bytes(padded[8 * index..][..8].try_into().unwrap()));
            assert_eq!(hasher.account_id(&address, 3).0, plain(&secret, words));
            let slot = U256::MAX - (U256::from(seed) << 200);
            assert_eq!(hasher.slot(AccountId(0), &slot), plain(&secret[80..], *slot.as_limbs()));
            assert_eq!(hasher.record(&RecordKey::Code(B256::from(slot))), plain(&secret[160..], *slot.as_limbs()));
            assert_eq!(hasher.record(&RecordKey::Block(9)), plain(&secret, [9, 0, 1 << 63, 0]));
        }
    }

    /// Regular keys, the likeliest in practice, spread like random ones.
    #[test]
    fn regular_slots_spread_evenly() {
        const LINES: usize = 1 << 12;
        for seed in 0..20 {
            let hasher = KeyHasher::new(&[seed; 32]);
            for step in [1u64, 2, 1 << 32, 0x1_0000_0001] {
                let mut counts = vec![0u32; LINES];
                for index in 0..5 * LINES as u64 {
                    let hash = hasher.slot(AccountId(1), &U256::from(index).wrapping_mul(U256::from(step)));
                    counts[hash as usize % LINES] += 1;
                }
                // Five a line on average: 25 or more in one has a chance below 10^-9.
                assert!(counts.iter().all(|count| *count < 25), "seed {seed}, step {step}: {:?}", counts.iter().max());
            }
        }
    }
}
