//! What is read where there is no database: the part of a state that a witness has.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use alloy_primitives::{Address, B256, Bytes, U256};
use metisdb::{
    Account, Result,
    proof::{Accessed, EMPTY_ROOT, PartialState, WitnessError},
};

/// The state of a witness, to be executed on. It notes what is read, of which a witness without anything superfluous is collected. And it
/// remembers the first read that failed: executors pass on an error's words at best, and whatever they make of it, what they did then
/// proves nothing.
///
/// Clones share that memory: begin each execution with one of its own. Any number of threads may read; noting takes a lock for a moment. Code
/// that a shared [`CodeCache`](crate::CodeCache) has is not asked of the witness: whoever is to find what a witness lacks begins with an empty one.
#[derive(Clone, Debug)]
pub struct Stateless {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: PartialState,
    accessed: Mutex<Accessed>,
    failure: OnceLock<WitnessError>,
}

impl Stateless {
    /// Reads a partial state.
    pub fn new(state: PartialState) -> Self {
        Self { inner: Arc::new(Inner { state, accessed: Mutex::default(), failure: OnceLock::new() }) }
    }

    /// What is read.
    pub fn state(&self) -> &PartialState {
        &self.inner.state
    }

    /// What was read so far, by all clones.
    pub fn accessed(&self) -> Accessed {
        self.notes().clone()
    }

    /// Why a read failed, the first that did.
    pub fn failure(&self) -> Option<&WitnessError> {
        self.inner.failure.get()
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Option<Account>> {
        self.notes().accounts.insert(*address);
        self.noting(self.state().account(address))
    }

    pub(crate) fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        self.notes().slots.insert((*address, slot));
        self.noting(self.state().storage(address, slot))
    }

    pub(crate) fn has_storage(&self, address: &Address) -> Result<bool> {
        self.notes().accounts.insert(*address);
        Ok(self.noting(self.state().storage_root(address))? != EMPTY_ROOT)
    }

    pub(crate) fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        self.note_code(code_hash);
        self.noting(self.state().code(code_hash)).map(Some)
    }

    pub(crate) fn note_code(&self, code_hash: &B256) {
        self.notes().codes.insert(*code_hash);
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        self.notes().blocks.insert(number);
        self.noting(self.state().block_hash(number)).map(Some)
    }

    fn notes(&self) -> MutexGuard<'_, Accessed> {
        // Sets are changed by single insertions: poisoned ones are whole.
        self.inner.accessed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noting<T>(&self, read: Result<T, WitnessError>) -> Result<T> {
        read.map_err(|error| {
            let _ = self.inner.failure.set(error.clone());
            error.into()
        })
    }
}
