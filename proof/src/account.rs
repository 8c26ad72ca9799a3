//! The fields of an account.

use alloc::vec::Vec;

use alloy_primitives::{B256, KECCAK256_EMPTY, U256};

use crate::{
    encode,
    rlp::{Item, RlpError},
};

/// What the state holds of an account, its storage apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Number of transactions sent or contracts created.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Keccak-256 of the code; [`KECCAK256_EMPTY`] where there is none.
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

/// Reads the value of an account's leaf, and with it the root of the account's storage.
pub(crate) fn decode_account(bytes: &[u8]) -> Result<(Account, B256), RlpError> {
    let mut fields = Item::only(bytes)?.list()?;
    let (nonce, balance) = (fields.item()?.u64()?, fields.item()?.u256()?);
    let (storage_root, code_hash) = (fields.item()?.hash()?, fields.item()?.hash()?);
    fields.finish()?;
    Ok((Account { nonce, balance, code_hash }, storage_root))
}

/// The value of an account's leaf.
pub(crate) fn encode_account(account: &Account, storage_root: B256) -> Vec<u8> {
    let mut fields = Vec::new();
    encode::integer(U256::from(account.nonce), &mut fields);
    encode::integer(account.balance, &mut fields);
    encode::string(storage_root.as_slice(), &mut fields);
    encode::string(account.code_hash.as_slice(), &mut fields);
    let mut value = Vec::with_capacity(fields.len() + 2);
    encode::list(&fields, &mut value);
    value
}

/// The value of a slot's leaf.
pub(crate) fn encode_value(value: U256) -> Vec<u8> {
    let mut encoded = Vec::new();
    encode::integer(value, &mut encoded);
    encoded
}
