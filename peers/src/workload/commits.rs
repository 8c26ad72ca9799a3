//! Blocks, one after the other, and proofs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    figure::Figure,
    ledger::{Ledger, Size, prepare},
};
use crate::{
    Result,
    keys::KeySpace,
    store::{Commits, Durability, Reader, Store},
};

/// Blocks of each kind in a visit.
const BLOCKS: u64 = 5;
/// Proofs in a visit.
const PROOFS: u64 = 1_000;
/// Stream of draws of the first visit's proofs.
const FIRST_STREAM: u64 = 1 << 19;

/// Ethereum's root after each block, by the block's number.
pub(crate) type Roots = BTreeMap<u64, String>;

/// Commits blocks of each kind, from the slice of changes to the acknowledgement.
pub(crate) fn measure<S: Store>(
    store: &S,
    space: &KeySpace,
    ledger: &mut Ledger,
    samples: &mut Vec<(Figure, f64)>,
    roots: &mut Roots,
) -> Result<()> {
    let kinds = [
        (Figure::LargeDurable, Size::Large, Durability::Durable),
        (Figure::SmallDurable, Size::Small, Durability::Durable),
        (Figure::LargeUnsynced, Size::Large, Durability::Unsynced),
        (Figure::SmallUnsynced, Size::Small, Durability::Unsynced),
    ];
    for (figure, size, durability) in kinds {
        if durability == Durability::Unsynced && S::COMMITS == Commits::Durable {
            continue;
        }
        for _ in 0..BLOCKS {
            let changes = prepare::<S>(space, &ledger.advance(size));
            let started = Instant::now();
            store.commit(&changes, durability)?;
            samples.push((figure, started.elapsed().as_secs_f64() * 1e3));
            note_root(store, ledger.newest(), roots)?;
        }
    }
    Ok(())
}

/// Remembers the root that a store has after a block.
pub(crate) fn note_root<S: Store>(store: &S, block: u64, roots: &mut Roots) -> Result<()> {
    if let Some(root) = store.ethereum_root()? {
        roots.insert(block, root);
    }
    Ok(())
}

/// Proofs of random keys; one sample, their mean.
pub(crate) fn prove<S: Store>(
    store: &S,
    space: &KeySpace,
    ledger: &Ledger,
    visit: u64,
    samples: &mut Vec<(Figure, f64)>,
) -> Result<()> {
    let reader = store.reader()?;
    let mut all = Duration::ZERO;
    for turn in 0..PROOFS {
        let (number, value) = ledger.present(FIRST_STREAM + visit, turn);
        match reader.prove(&S::key(space, number), value)? {
            Some(elapsed) => all += elapsed,
            None => return Ok(()),
        }
    }
    samples.push((Figure::Proof, all.as_secs_f64() * 1e6 / PROOFS as f64));
    Ok(())
}
