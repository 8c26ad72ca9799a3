//! Accounts, one after the other, into a new database: in batches, so that memory stays bounded.

use std::{collections::HashSet, mem};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use metisdb::{Account, Block, Changes, Db, Durability, MAX_CODE_BYTES, Snapshot};

use crate::{failure::Failure, interrupt::Interrupt};

/// Changes of one commit, at most.
const BATCH: usize = 50_000;
/// Bytes of code of one commit, about.
const BATCH_CODE_BYTES: usize = 16 << 20;

/// How much was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) accounts: u64,
    /// Those that are not zero.
    pub(crate) slots: u64,
    pub(crate) codes: u64,
}

/// Loads accounts. Their parts may come in any order: [`Loader::begin`], then slots and code, then [`Loader::end`].
#[derive(Debug)]
pub(crate) struct Loader<'d> {
    db: &'d Db,
    interrupt: Interrupt,
    batch: usize,
    /// What is committed.
    snapshot: Snapshot,
    /// What is not, and what of it must not come again.
    changes: Changes,
    addresses: HashSet<Address>,
    slots: HashSet<U256>,
    code_bytes: usize,
    current: Address,
    code_hash: Option<B256>,
    loaded: Loaded,
}

impl<'d> Loader<'d> {
    /// Loads into a database, which must be empty.
    pub(crate) fn new(db: &'d Db, interrupt: Interrupt) -> metisdb::Result<Self> {
        Ok(Self {
            db,
            interrupt,
            batch: BATCH,
            snapshot: db.snapshot()?,
            changes: Changes::new(),
            addresses: HashSet::new(),
            slots: HashSet::new(),
            code_bytes: 0,
            current: Address::ZERO,
            code_hash: None,
            loaded: Loaded::default(),
        })
    }

    /// How much was loaded up to now.
    pub(crate) fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// An account begins.
    pub(super) fn begin(&mut self, address: Address) -> Result<(), Failure> {
        self.interrupt.check()?;
        if self.addresses.contains(&address) || self.snapshot.account(&address)?.is_some() {
            return Err(Failure::Refused(format!("account {address} stands there twice")));
        }
        self.current = address;
        self.code_hash = None;
        self.slots.clear();
        self.addresses.insert(address);
        // Slots need an account, and may be committed before all of it is read.
        self.changes.set_account(address, Account::default());
        Ok(())
    }

    /// The account has a slot.
    pub(super) fn slot(&mut self, slot: U256, value: U256) -> Result<(), Failure> {
        let address = self.current;
        if self.slots.contains(&slot) || !self.snapshot.storage(&address, slot)?.is_zero() {
            return Err(Failure::Refused(format!("account {address}: slot {slot:#x} stands there twice")));
        }
        if value.is_zero() {
            return Ok(());
        }
        self.slots.insert(slot);
        self.changes.set_storage(address, slot, value);
        self.loaded.slots += 1;
        self.commit_if_full()
    }

    /// The account has code.
    pub(super) fn code(&mut self, code: Bytes) -> Result<(), Failure> {
        if code.is_empty() {
            return Ok(());
        }
        if code.len() > MAX_CODE_BYTES {
            let (address, length) = (self.current, code.len());
            let reason = format!("account {address}: its code has {length} bytes, the limit is {MAX_CODE_BYTES}");
            return Err(Failure::Refused(reason));
        }
        let hash = keccak256(&code);
        self.code_hash = Some(hash);
        self.code_bytes += code.len();
        self.changes.set_code(hash, code);
        self.loaded.codes += 1;
        Ok(())
    }

    /// The account ends.
    pub(super) fn end(&mut self, nonce: u64, balance: U256) -> Result<(), Failure> {
        let code_hash = self.code_hash.unwrap_or(Account::default().code_hash);
        self.changes.set_account(self.current, Account { nonce, balance, code_hash });
        self.loaded.accounts += 1;
        self.commit_if_full()
    }

    fn commit_if_full(&mut self) -> Result<(), Failure> {
        if self.changes.len() < self.batch && self.code_bytes < BATCH_CODE_BYTES {
            return Ok(());
        }
        self.interrupt.check()?;
        self.db.commit(&mem::take(&mut self.changes), Durability::Pipelined)?;
        self.snapshot = self.db.snapshot()?;
        self.addresses.clear();
        self.slots.clear();
        self.code_bytes = 0;
        Ok(())
    }

    /// Commits the rest with the block of the state, if `block` makes one of the root; or nothing, if it fails. Returns the root.
    pub(crate) fn finish(
        mut self,
        block: impl FnOnce(B256) -> Result<Option<Block>, Failure>,
    ) -> Result<(B256, Loaded), Failure> {
        let root = self.db.propose(&self.snapshot, &self.changes)?.root();
        if let Some(block) = block(root)? {
            self.changes.set_block(block);
        }
        self.interrupt.check()?;
        self.db.commit(&self.changes, Durability::Durable)?;
        Ok((root, self.loaded))
    }
}
