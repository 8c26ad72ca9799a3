//! What a block changes, account by account.

use alloc::collections::BTreeMap;

use alloy_primitives::{Address, U256};

use crate::Account;

/// What becomes of an account's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// They stay as they are.
    #[default]
    Kept,
    /// The account has these then, whether or not it existed before.
    Set(Account),
    /// The account is gone, and its storage with it.
    Deleted,
}

/// What becomes of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Nonce, balance, code hash.
    pub fields: Fields,
    /// Whether the storage is emptied before the slots are set. So it is when the account is deleted and created anew.
    pub wiped: bool,
    /// The slots that are set; zero clears one.
    pub slots: BTreeMap<U256, U256>,
}

/// What becomes of the state: every account that changes, or any of whose slots does. New code needs no place here: an account
/// tells its hash.
pub type StateChanges = BTreeMap<Address, AccountChange>;
