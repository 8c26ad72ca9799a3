//! A pinned version of the state.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    error::Result,
    key::RecordKey,
    log::record::Body,
    lookup::Lookup,
    pins::Pin,
    store::Shared,
    types::{Account, Block, Key, Value},
};

/// How many reads of a batch are under way at once.
const BATCH: usize = 32;

/// The state as one version left it.
///
/// Reading takes no lock, never waits for the writer, and the writer never waits for it. Cloning is cheap and shares the
/// pin; the version stays readable, and what it needs stays on disk, until the last clone is dropped.
///
/// # Errors
/// Every read fails with [`Error::Corruption`](crate::Error::Corruption), and never returns a wrong value, where the bytes
/// on disk were damaged.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pinned: Arc<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    store: Shared,
    pin: Pin,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.pins.release(&self.pin);
    }
}

impl Snapshot {
    pub(crate) fn new(store: Shared, pin: Pin) -> Self {
        Self { pinned: Arc::new(Pinned { store, pin }) }
    }

    fn lookup(&self) -> &Lookup {
        debug_assert!(self.version() >= self.pinned.store.pins.floor(), "P1: what a snapshot reads is not reclaimed");
        &self.pinned.store.lookup
    }

    /// The version that is read.
    pub fn version(&self) -> u64 {
        self.pinned.pin.version
    }

    /// An account, or `None` where it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        Ok(self.lookup().account_at(address, self.version())?.map(|stored| stored.account))
    }

    /// A storage slot; zero where it is not set.
    #[inline]
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        match self.lookup().account_id(address)? {
            Some(account) => self.lookup().slot_at(account, &slot, self.version()),
            None => Ok(U256::ZERO),
        }
    }

    /// Whether any slot of the account is set (EIP-7610 asks that of the address of a new contract).
    pub fn has_storage(&self, address: &Address) -> Result<bool> {
        Ok(self.lookup().account_at(address, self.version())?.is_some_and(|stored| stored.has_storage))
    }

    /// Code by its Keccak-256 hash; `None` where it was never stored. The bytes are a copy.
    pub fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        Ok(self.lookup().code_at(code_hash, self.version())?.map(Bytes::copy_from_slice))
    }

    /// The metadata of a block, as it was given with a commit.
    pub fn block(&self, number: u64) -> Result<Option<Block>> {
        let found = self.lookup().find_key(&RecordKey::Block(number), self.version())?;
        Ok(found.and_then(|found| match found.record.body {
            Body::Block(block) => Some(block),
            _ => None,
        }))
    }

    /// The hash of a block, as it was given with a commit.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        Ok(self.block(number)?.map(|block| block.hash))
    }

    /// Reads many keys at once, in the order given: the waits for memory overlap, so that a batch (a block
    /// access list, say) takes a fraction of the time of single reads.
    pub fn get_many(&self, keys: &[Key]) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut hashes = [0; BATCH];
        let mut accounts = [None; BATCH];
        for batch in keys.chunks(BATCH) {
            for (index, key) in batch.iter().enumerate() {
                hashes[index] = match key {
                    Key::Account(address) => self.lookup().hasher.account_id(address, 0).0,
                    Key::Storage(address, slot) => {
                        accounts[index] = self.lookup().account_id(address)?;
                        accounts[index].map_or(0, |account| self.lookup().hasher.slot(account, slot))
                    }
                    Key::Code(hash) => self.lookup().hasher.record(&RecordKey::Code(*hash)),
                };
            }
            self.lookup().prefetch(&hashes[..batch.len()]);
            for (index, key) in batch.iter().enumerate() {
                values.push(match key {
                    Key::Account(address) => Value::Account(self.account(address)?),
                    Key::Storage(_, slot) => Value::Storage(match accounts[index] {
                        Some(account) => self.lookup().slot_at(account, slot, self.version())?,
                        None => U256::ZERO,
                    }),
                    Key::Code(hash) => Value::Code(self.code(hash)?),
                });
            }
        }
        Ok(values)
    }
}
