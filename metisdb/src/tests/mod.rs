//! Tests of the whole store, against a naive model and on the simulated disk.

mod algebra;
mod arena_damage;
mod attackers;
mod bad_input;
mod bookkeeping;
#[cfg(target_os = "linux")]
mod bus_errors;
mod children;
mod cuts;
mod expiry;
mod faults;
mod forks;
mod histories;
mod interrupted;
#[cfg(target_os = "linux")]
mod kills;
mod model;
#[path = "../../../proof/src/tests/naive.rs"]
mod naive_partial_trie;
mod naive_trie;
mod older_versions;
mod panics;
mod processes;
mod proofs;
mod readers;
mod regressions;
mod replay;
mod snapshot_files;
mod spec;
mod sweeps;
mod trie_readers;
mod trie_regressions;
mod trie_updates;
mod trie_vectors;
mod tries;
mod walkthrough;
mod witness;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use alloy_primitives::{Address, B256, U256};

use crate::{Options, Snapshot, storage::SimulatedDisk};

/// A small generator of numbers (splitmix64), so that a failing case is told by one seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn wide(number: u64) -> U256 {
    U256::from_limbs([mix(number), mix(number + 1), mix(number + 2), mix(number + 3) | 1 << 63])
}

/// Small files and a small index, so that they grow within a test; checkpoints only when asked for.
fn small() -> Options {
    Options::new().segment_bytes(1 << 16).expected_keys(0).checkpoint_log_bytes(u64::MAX)
}

fn disk(seed: u64) -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::new(seed))
}

/// The snapshot proves its first accounts, and that another is not there.
#[track_caller]
fn assert_proves(snapshot: &Snapshot, root: B256, case: &str) {
    let accounts = snapshot.accounts(B256::ZERO).unwrap().take(3).map(|item| item.unwrap().1);
    for address in accounts.chain([Address::repeat_byte(0xee)]).collect::<Vec<_>>() {
        let proof = snapshot.proof(&address, &[U256::from(1), U256::MAX]).unwrap();
        proof.verify(root).unwrap_or_else(|error| panic!("{case}: {address} at {}: {error}", snapshot.version()));
        assert_eq!(proof.storage_root, snapshot.storage_root(&address).unwrap(), "{case}");
    }
}

/// Says that it is done when it goes out of scope: so those who work beside a thread that panics come to an end, too.
pub(crate) struct End<'d>(pub(crate) &'d AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` again and again on a thread of its own for as long as `main` takes. A panic of either fails the test.
fn beside<T>(mut work: impl FnMut() + Send, main: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                work();
            }
        });
        let _end = End(&done);
        main()
    })
}
