//! Keys of records and their keyed hashes.
//!
//! Attackers choose addresses and slots, so every hash is SipHash-1-3 under keys that are derived
//! from the database's secret seed. The definitions stand in `spec/format.md`, "Account ids and keyed hashes".

use alloy_primitives::{Address, B256, U256};
use siphasher::sip::SipHasher13;

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

/// Computes the keyed hashes of one database.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher {
    accounts: SipHasher13,
    slots: SipHasher13,
    /// Bits of the address hash that make the account id: tests force collisions.
    #[cfg(test)]
    id_mask: u64,
}

impl KeyHasher {
    /// Derives the hash keys from the database's seed.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let derived = blake3::derive_key(DERIVATION, seed);
        let (accounts, slots) = derived.split_at(16);
        let keyed = |half: &[u8]| SipHasher13::new_with_key(half.try_into().expect("half of 32 bytes"));
        Self {
            accounts: keyed(accounts),
            slots: keyed(slots),
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
        let id = if salt == 0 {
            self.accounts.hash(address.as_slice())
        } else {
            let mut salted = [0; 21];
            salted[..20].copy_from_slice(address.as_slice());
            salted[20] = salt;
            self.accounts.hash(&salted)
        };
        #[cfg(test)]
        let id = if salt == 0 { id & self.id_mask } else { id };
        AccountId(id)
    }

    /// Hash of a slot's key. The two hashes are independent, so the processor overlaps them.
    #[inline]
    pub(crate) fn slot(&self, account: AccountId, slot: &U256) -> u64 {
        account.0 ^ self.slots.hash(&slot.to_be_bytes::<32>())
    }

    /// Hash of any record's key.
    pub(crate) fn record(&self, key: &RecordKey) -> u64 {
        match key {
            RecordKey::Account(address) => self.account_id(address, 0).0,
            RecordKey::Slot(account, slot) => self.slot(*account, slot),
            RecordKey::Wipe(account) => account.0.rotate_left(32),
            RecordKey::Code(hash) => self.slots.hash(hash.as_slice()).rotate_left(16),
            RecordKey::Block(number) => self.accounts.hash(&number.to_le_bytes()),
        }
    }
}
