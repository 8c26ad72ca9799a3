//! All accounts, or all slots of one account, between two hashes, with the nodes that prove that they are all.

use alloc::{boxed::Box, vec::Vec};

use alloy_primitives::{Address, B256, Bytes, keccak256};

use crate::{
    AccountProof,
    account::{Account, encode_account, encode_value},
    account_proof::path_of,
    error::ProofError,
    multiproof::SlotClaim,
    range::verify_range,
};

/// All accounts of a state whose addresses have a Keccak-256 hash in a range.
///
/// ```
/// use alloy_primitives::{Address, B256};
/// use metisdb_proof::{Account, AccountRange, AccountRangeEntry, EMPTY_ROOT, ProofError};
///
/// let mut range = AccountRange { from: B256::ZERO, to: B256::repeat_byte(0xff), accounts: Vec::new(), nodes: Vec::new() };
/// assert_eq!(range.verify(EMPTY_ROOT), Ok(()), "the state of that root has no accounts");
///
/// let (address, account) = (Address::repeat_byte(1), Account::default());
/// range.accounts.push(AccountRangeEntry { address, account, storage_root: EMPTY_ROOT });
/// assert_eq!(range.verify(EMPTY_ROOT), Err(ProofError::EntryAdded { index: 0 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRange {
    /// Where the range begins: the hash itself is in it.
    pub from: B256,
    /// Where it ends: the hash itself is in it. Whoever asked for more goes on behind it; all of the state is proven where
    /// the ranges meet and the last one ends at `0xff…ff`.
    pub to: B256,
    /// The accounts in the order of the hashes of their addresses.
    pub accounts: Vec<AccountRangeEntry>,
    /// The nodes of the state trie below which hashes inside the range and hashes outside lie, each once: a node stands before those
    /// below it, and these stand in the order of their paths. They lie on the paths of `from` and `to`. Nodes shorter than 32 bytes
    /// stand inside their parent and are not listed. None for the whole state.
    pub nodes: Vec<Bytes>,
}

/// One account of an [`AccountRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRangeEntry {
    /// The account's address.
    pub address: Address,
    /// The account.
    pub account: Account,
    /// Root of the account's storage trie; [`EMPTY_ROOT`](crate::EMPTY_ROOT) where it has no storage.
    pub storage_root: B256,
}

/// All slots of an account whose numbers have a Keccak-256 hash in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRange {
    /// The account, whose proof carries the root of the storage. No slots need stand in it.
    pub account: AccountProof,
    /// Where the range begins, as in [`AccountRange::from`].
    pub from: B256,
    /// Where it ends, as in [`AccountRange::to`].
    pub to: B256,
    /// The slots that are set, in the order of the hashes of their numbers.
    pub slots: Vec<SlotClaim>,
    /// The nodes of the storage trie, as in [`AccountRange::nodes`].
    pub nodes: Vec<Bytes>,
}

impl AccountRange {
    /// Checks that the accounts are all that the state of the given root holds between [`AccountRange::from`] and [`AccountRange::to`].
    ///
    /// Both ends are a part of the claim: compare them with what was asked for.
    ///
    /// # Errors
    ///
    /// As [`verify_range`].
    pub fn verify(&self, state_root: B256) -> Result<(), ProofError> {
        let entry =
            |entry: &AccountRangeEntry| (keccak256(entry.address), encode_account(&entry.account, entry.storage_root));
        let entries: Vec<(B256, Vec<u8>)> = self.accounts.iter().map(entry).collect();
        verify_range(state_root, self.from..=self.to, &entries, &self.nodes)
    }
}

impl StorageRange {
    /// Checks the account against the state root, and that the slots are all that are set between [`StorageRange::from`] and
    /// [`StorageRange::to`].
    ///
    /// Both ends, and the address, are a part of the claim: compare them with what was asked for.
    ///
    /// # Errors
    ///
    /// As [`AccountProof::verify`] for the account; as [`verify_range`], inside [`ProofError::Storage`], for the slots, and
    /// [`ProofError::EntryEmpty`] there for a slot that is zero.
    pub fn verify(&self, state_root: B256) -> Result<(), ProofError> {
        self.account.verify(state_root)?;
        let address = self.account.address;
        self.verify_slots().map_err(|source| ProofError::Storage { address, source: Box::new(source) })
    }

    /// Checks the slots against the storage root, which is proven.
    fn verify_slots(&self) -> Result<(), ProofError> {
        if let Some(index) = self.slots.iter().position(|claim| claim.value.is_zero()) {
            return Err(ProofError::EntryEmpty { index });
        }
        let entry = |claim: &SlotClaim| (path_of(claim.slot), encode_value(claim.value));
        let entries: Vec<(B256, Vec<u8>)> = self.slots.iter().map(entry).collect();
        verify_range(self.account.storage_root, self.from..=self.to, &entries, &self.nodes)
    }
}
