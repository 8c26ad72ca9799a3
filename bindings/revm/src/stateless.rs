//! What is read where there is no database: the part of a state that a witness has.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{Address, B256, Bytes, U256};
use metisdb::{
    Account, Result,
    proof::{EMPTY_ROOT, PartialState, WitnessError},
};

/// The state of a witness, to be executed on. It remembers the first read that failed: executors pass on an error's words at best, and
/// whatever they make of it, what they did then proves nothing.
///
/// Clones share that memory: begin each execution with one of its own. Any number of threads may read. Code that a shared
/// [`CodeCache`](crate::CodeCache) has is not asked of the witness: whoever is to find what a witness lacks begins with an empty one.
#[derive(Clone, Debug)]
pub struct Stateless {
    inner: Arc<(PartialState, OnceLock<WitnessError>)>,
}

impl Stateless {
    /// Reads a partial state.
    pub fn new(state: PartialState) -> Self {
        Self { inner: Arc::new((state, OnceLock::new())) }
    }

    /// What is read.
    pub fn state(&self) -> &PartialState {
        &self.inner.0
    }

    /// Why a read failed, the first that did.
    pub fn failure(&self) -> Option<&WitnessError> {
        self.inner.1.get()
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Option<Account>> {
        self.noting(self.state().account(address))
    }

    pub(crate) fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        self.noting(self.state().storage(address, slot))
    }

    pub(crate) fn has_storage(&self, address: &Address) -> Result<bool> {
        Ok(self.noting(self.state().storage_root(address))? != EMPTY_ROOT)
    }

    pub(crate) fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        self.noting(self.state().code(code_hash)).map(Some)
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        self.noting(self.state().block_hash(number)).map(Some)
    }

    fn noting<T>(&self, read: Result<T, WitnessError>) -> Result<T> {
        read.map_err(|error| {
            let _ = self.inner.1.set(error.clone());
            error.into()
        })
    }
}
