//! What executed transactions did, in no revm line's types: collected in memory, read back, and turned into changes.

use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256,
    map::{AddressMap, B256Map, U256Map},
};
use metisdb::{Account, Block, Changes, Result};

use crate::base::Base;

/// What becomes of an account that a transaction touched and left empty: no nonce, no balance, no code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EmptyAccounts {
    /// It is removed: since Spurious Dragon (EIP-161).
    #[default]
    Removed,
    /// It is stored: before that.
    Kept,
}

/// What revm says of an account after a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) is_touched: bool,
    pub(crate) is_selfdestructed: bool,
    pub(crate) is_created: bool,
    pub(crate) is_empty: bool,
}

/// What to do with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Remove,
    /// With empty storage, whatever stood at its address.
    Create,
    Change,
}

impl Marks {
    /// Ethereum's rules; `None` for an account that stays as it is.
    pub(crate) fn fate(self, empty: EmptyAccounts) -> Option<Fate> {
        if !self.is_touched {
            None
        } else if self.is_selfdestructed {
            Some(Fate::Remove)
        } else if self.is_created {
            // revm says so of empty accounts, too, that come to be before Spurious Dragon.
            Some(Fate::Create)
        } else if self.is_empty && empty == EmptyAccounts::Removed {
            Some(Fate::Remove)
        } else {
            Some(Fate::Change)
        }
    }
}

/// An account that was touched.
#[derive(Clone, Debug)]
struct Touched {
    account: Option<Account>,
    /// Whether slots that are not here are zero, whatever stands below.
    wiped: bool,
    slots: U256Map<U256>,
}

/// What transactions did to the state below. `C` is analysed code.
#[derive(Clone, Debug)]
pub(crate) struct Stage<C> {
    accounts: AddressMap<Touched>,
    codes: B256Map<C>,
    pub(crate) block: Option<Block>,
}

impl<C> Default for Stage<C> {
    fn default() -> Self {
        Self { accounts: AddressMap::default(), codes: B256Map::default(), block: None }
    }
}

impl<C: Clone> Stage<C> {
    pub(crate) fn apply(
        &mut self,
        (address, fate): (Address, Fate),
        account: Account,
        slots: impl Iterator<Item = (U256, U256)>,
    ) {
        let new = || Touched { account: None, wiped: false, slots: U256Map::default() };
        let touched = self.accounts.entry(address).or_insert_with(new);
        if fate != Fate::Change {
            touched.wiped = true;
            touched.slots.clear();
        }
        if fate == Fate::Remove {
            touched.account = None;
        } else {
            touched.account = Some(account);
            touched.slots.extend(slots);
        }
    }

    pub(crate) fn keep_code(&mut self, hash: B256, code: &C) {
        if hash != KECCAK256_EMPTY {
            self.codes.entry(hash).or_insert_with(|| code.clone());
        }
    }

    /// The account, if it was touched.
    pub(crate) fn account(&self, address: &Address) -> Option<Option<Account>> {
        Some(self.accounts.get(address)?.account)
    }

    /// Whether nothing of the account is what it was before.
    pub(crate) fn is_created(&self, address: &Address) -> bool {
        self.accounts.get(address).is_some_and(|touched| touched.wiped)
    }

    /// The slot's value, if it is known here.
    pub(crate) fn slot(&self, address: &Address, slot: &U256) -> Option<U256> {
        let touched = self.accounts.get(address)?;
        touched.slots.get(slot).copied().or(touched.wiped.then_some(U256::ZERO))
    }

    /// Whether any slot is set, if that is known here.
    pub(crate) fn has_storage(&self, address: &Address) -> Option<bool> {
        let touched = self.accounts.get(address)?;
        let is_set = touched.slots.values().any(|value| !value.is_zero());
        (is_set || touched.wiped).then_some(is_set)
    }

    pub(crate) fn code(&self, hash: &B256) -> Option<C> {
        self.codes.get(hash).cloned()
    }

    /// The changes that lead to what is here. What `base` has already is left out; without a base everything is told.
    ///
    /// # Errors
    /// Those of reading the base.
    pub(crate) fn changes(&self, base: Option<&Base>, original: impl Fn(&C) -> Bytes) -> Result<Changes> {
        let mut changes = Changes::new();
        for (address, touched) in &self.accounts {
            let before = match base {
                Some(base) => base.account(address)?,
                None => None,
            };
            let is_absent = base.is_some() && before.is_none();
            let Some(account) = touched.account else {
                if !is_absent {
                    changes.delete_account(*address);
                }
                continue;
            };
            if touched.wiped && !is_absent {
                changes.wipe_storage(*address);
            }
            if before != Some(account) {
                changes.set_account(*address, account);
            }
            if before.is_none_or(|before| before.code_hash != account.code_hash)
                && let Some(code) = self.codes.get(&account.code_hash).map(&original)
            {
                changes.set_code(account.code_hash, code);
            }
            touched.change_slots(*address, base, &mut changes)?;
        }
        if let Some(block) = self.block {
            changes.set_block(block);
        }
        Ok(changes)
    }
}

impl Touched {
    fn change_slots(&self, address: Address, base: Option<&Base>, changes: &mut Changes) -> Result<()> {
        for (slot, value) in &self.slots {
            let before = match base {
                _ if self.wiped => Some(U256::ZERO),
                Some(base) => Some(base.storage(&address, *slot)?),
                None => None,
            };
            if before != Some(*value) {
                changes.set_storage(address, *slot, *value);
            }
        }
        Ok(())
    }
}
