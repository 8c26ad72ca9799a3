//! Optimistic execution by several threads.

use std::{
    num::NonZeroUsize,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_evm::EvmEnv;
use metisdb_revm::StateReader;

use crate::speculation::{Speculated, speculate};

/// How to execute in parallel, and how it went.
#[derive(Clone, Copy, Debug)]
pub struct Parallel {
    /// How many threads run transactions at once.
    pub threads: NonZeroUsize,
    /// How many transactions had to run again, of all blocks so far.
    pub reexecuted: usize,
}

impl Parallel {
    /// So many threads; nothing was executed yet.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self { threads, reexecuted: 0 }
    }

    /// Runs every transaction on one state, as if no other one were there; `None` where it cannot run so.
    pub(crate) fn speculate(
        &self,
        reader: &StateReader,
        environment: &EvmEnv,
        transactions: &[Recovered<&TxEnvelope>],
    ) -> Vec<Option<Speculated>> {
        let results: Vec<OnceLock<Option<Speculated>>> = transactions.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(transaction) = transactions.get(number) else { return };
                let is_first = results[number].set(speculate(reader, environment, transaction)).is_ok();
                debug_assert!(is_first, "a number is given out once");
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.get() {
                scope.spawn(work);
            }
            work();
        });
        results.into_iter().map(|result| result.into_inner().flatten()).collect()
    }
}
