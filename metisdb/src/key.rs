//! Keys of records and their keyed hashes.
//!
//! Attackers choose addresses and slots, so every hash is keyed by the database's secret seed: multilinear hashing, which is
//! strongly universal (any two keys chosen without the seed collide with probability 2^-64), then a fixed mixing. The
//! definitions stand in `spec/format.md`, "Account ids and keyed hashes".

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
}

/// Hashes messages of `WORDS` words: a sum of products with secret factors, of which the upper half is kept.
#[derive(Clone, Debug)]
struct Multilinear<const WORDS: usize> {
    offset: u128,
    factors: [u128; WORDS],
}

impl<const WORDS: usize> Multilinear<WORDS> {
    /// Takes the factors from a stream of secret bytes.
    fn new(secret: &mut blake3::OutputReader) -> Self {
        let mut next = || {
            let mut bytes = [0; 16];
            secret.fill(&mut bytes);
            u128::from_le_bytes(bytes)
        };
        Self { offset: next(), factors: std::array::from_fn(|_| next()) }
    }

    #[inline]
    fn hash(&self, words: [u64; WORDS]) -> u64 {
        let mut sum = self.offset;
        for (factor, word) in self.factors.iter().zip(words) {
            sum = sum.wrapping_add(factor.wrapping_mul(u128::from(word)));
        }
        // The mixing is a bijection (the finalizer of MurmurHash3): it keeps keys that differ apart, and breaks up the
        // regular distances that regular keys have in a sum of products.
        let hash = (sum >> 64) as u64;
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// Computes the keyed hashes of one database.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher {
    /// Addresses with their salt, and block numbers.
    short: Multilinear<3>,
    slots: Multilinear<4>,
    codes: Multilinear<4>,
    /// Bits of the address hash that make the account id: tests force collisions.
    #[cfg(test)]
    id_mask: u64,
}

impl KeyHasher {
    /// Derives the hash keys from the database's seed.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut secret = blake3::Hasher::new_derive_key(DERIVATION).update(seed).finalize_xof();
        Self {
            short: Multilinear::new(&mut secret),
            slots: Multilinear::new(&mut secret),
            codes: Multilinear::new(&mut secret),
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
    #[inline]
    pub(crate) fn account_id(&self, address: &Address, salt: u8) -> AccountId {
        let bytes = address.as_slice();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let last = u32::from_le_bytes(std::array::from_fn(|index| bytes[16 + index]));
        let id = self.short.hash([word(0), word(8), u64::from(last) | u64::from(salt) << 32]);
        #[cfg(test)]
        let id = if salt == 0 { id & self.id_mask } else { id };
        AccountId(id)
    }

    /// Hash of a slot's key. The two hashes are independent, so the processor overlaps them.
    #[inline]
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
            RecordKey::Block(number) => self.short.hash([*number, 0, 1 << 63]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of `spec/format.md` in plain big-integer arithmetic, without the mixing.
    fn plain(secret: &[u8], words: &[u64]) -> u64 {
        let number = |index: usize| U256::from_le_slice(&secret[index * 16..][..16]);
        let terms = words.iter().enumerate().map(|(index, word)| number(index + 1).wrapping_mul(U256::from(*word)));
        let sum = terms.fold(number(0), |sum, term| sum.wrapping_add(term));
        sum.as_limbs()[1]
    }

    fn unmix(mut hash: u64) -> u64 {
        // Multiplication by an odd number is undone by its inverse modulo 2^64.
        let inverse = |odd: u64| {
            (0..6).fold(odd, |inverse: u64, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
        };
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(inverse(0xc4ce_b9fe_1a85_ec53));
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(inverse(0xff51_afd7_ed55_8ccd));
        hash ^ hash >> 33
    }

    #[test]
    fn hashes_are_as_defined() {
        let seed = [7; 32];
        let mut secret = [0; 16 * 14];
        blake3::Hasher::new_derive_key(DERIVATION).update(&seed).finalize_xof().fill(&mut secret);
        let hasher = KeyHasher::new(&seed);
        let address = Address::from_slice(&std::array::from_fn::<u8, 20, _>(|index| index as u8 * 11));
        let mut padded = [0; 24];
        padded[..20].copy_from_slice(address.as_slice());
        padded[20] = 3;
        let words: Vec<u64> = padded.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(unmix(hasher.account_id(&address, 3).0), plain(&secret, &words));
        let slot = U256::MAX - U256::from(12_345);
        assert_eq!(unmix(hasher.slot(AccountId(0), &slot)), plain(&secret[64..], slot.as_limbs()));
        let code = RecordKey::Code(B256::from(slot));
        assert_eq!(unmix(hasher.record(&code)), plain(&secret[144..], slot.as_limbs()));
        assert_eq!(unmix(hasher.record(&RecordKey::Block(9))), plain(&secret, &[9, 0, 1 << 63]));
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
