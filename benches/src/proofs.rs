//! Proofs of single keys, on the trie that a checkpoint wrote.

use std::{path::Path, time::Instant};

use alloy_primitives::{B256, U256};
use metisdb::{Options, Snapshot};
use serde::Serialize;

use crate::{Error, KeySpace, Progress, Result, Spread};

/// Proofs of each kind, for each round.
const PROOFS: u64 = 1_000;
/// A stream of draws that nothing else uses.
const STREAM: u64 = 1 << 19;

/// What making a proof takes, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Proofs {
    /// Of an account.
    pub account: Spread,
    /// Of a slot, and of the account that it belongs to.
    pub slot: Spread,
}

/// Proves random keys, and verifies the proofs.
pub(crate) fn measure(path: &Path, space: &KeySpace, rounds: u64, progress: &mut dyn Progress) -> Result<Proofs> {
    let db = Options::new().open(path)?;
    let snapshot = db.snapshot()?;
    let root = snapshot.root()?;
    let proofs = PROOFS * rounds;
    progress.begin("proofs", 2 * proofs);
    let (mut account, mut slot) = (Vec::new(), Vec::new());
    // The first of them meet pages of the arena that this process has not mapped yet, of either kind as many.
    for turn in 0..proofs {
        account.push(prove::<0>(&snapshot, root, space, space.draw(STREAM, 2 * turn))?);
        slot.push(prove::<1>(&snapshot, root, space, space.draw(STREAM, 2 * turn + 1))?);
        progress.advance(2 * turn)?;
    }
    drop(snapshot);
    db.close()?;
    Ok(Proofs { account: Spread::of(account), slot: Spread::of(slot) })
}

/// Proves a key's account, and its slot if `SLOTS` is one; the microseconds of the making.
fn prove<const SLOTS: usize>(snapshot: &Snapshot, root: B256, space: &KeySpace, number: u64) -> Result<f64> {
    let (address, slot) = space.key(number);
    let started = Instant::now();
    let proof = snapshot.proof(&address, &[slot; SLOTS])?;
    let microseconds = started.elapsed().as_secs_f64() * 1e6;
    proof.verify(root).map_err(|error| Error::Wrong(format!("the proof of key {number} does not hold: {error}")))?;
    let values: Vec<U256> = proof.slots.iter().map(|slot| slot.value).collect();
    if proof.account.is_none() || values != [space.value(number, 0); SLOTS] {
        return Err(Error::Wrong(format!("the proof of key {number} is one of something else")));
    }
    Ok(microseconds)
}
