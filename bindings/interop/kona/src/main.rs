//! Blocks executed on a full state in MetisDB, replayed by kona from the witnesses that MetisDB exports: to the same header with all of a
//! witness, to no header without any part that is needed.
//!
//! * `random`, `genesis`: numbers that a seed determines; a real chain's first block, its state and its rules.
//! * `deposits`: what users of L1 ask for; `chain`: blocks of that on a database, and the witness of each.
//! * `kona`: kona's side, which gets JSON, RLP and preimages.

mod chain;
mod deposits;
mod genesis;
mod kona;
mod random;

use std::error::Error;

use metisdb::proof::{PartialState, WitnessMode};

use crate::{
    chain::{Chain, Made},
    genesis::Genesis,
    kona::{Preimages, replay},
};

const BLOCKS_OF_A_FORK: u64 = 10;

/// What became of the blocks of one fork.
#[derive(Debug, Default)]
struct Tally {
    blocks: usize,
    transactions: usize,
    canonical: usize,
    superset: usize,
    others: usize,
    canonical_suffices: usize,
    removals_refused: usize,
    superset_needed: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "chain, fork: blocks, transactions; nodes: canonical, only in the superset; codes and headers; parts without which kona refuses; \
         nodes only in the superset that kona needs; blocks for which canonical suffices to kona"
    );
    let mut superset_needed = 0;
    for (name, seed) in [("sepolia/op", 1), ("mainnet/ink", 2)] {
        let genesis = Genesis::read(name);
        let mut chain = Chain::create(&genesis, seed)?;
        for (fork, start) in genesis.forks() {
            let mut tally = Tally::default();
            for index in 0..BLOCKS_OF_A_FORK {
                check(&genesis, &chain.make(start + 2 * index)?, &mut tally)?;
            }
            println!(
                "{name}, {fork}: {}, {}; {}, {}; {}; {}; {}; {}",
                tally.blocks,
                tally.transactions,
                tally.canonical,
                tally.superset,
                tally.others,
                tally.removals_refused,
                tally.superset_needed,
                tally.canonical_suffices
            );
            superset_needed += tally.superset_needed;
        }
    }
    if superset_needed == 0 {
        return Err("no block needs a node of the superset alone: the blocks do not test it".into());
    }
    Ok(())
}

/// Replays one block: by this project without the database, by kona, and by kona again without each part.
fn check(genesis: &Genesis, made: &Made, tally: &mut Tally) -> Result<(), Box<dyn Error>> {
    let Made { parent, attributes, header, canonical, superset } = made;
    let at = format!("block {}", header.number);

    let state = PartialState::after_block(canonical, parent.hash())?;
    let replayed = genesis.rollup.replay(state, parent, attributes)?;
    same(&format!("{at}: MetisDB's own replay"), &replayed.header, header)?;
    let again = replayed.witness(WitnessMode::Canonical)?;
    if again.state != canonical.state || again.codes != canonical.codes {
        return Err(format!("{at}: the witness collected by the replay is another").into());
    }

    let all = Preimages::of(superset);
    let kona = |preimages: &Preimages<'_>| replay(&genesis.config, parent, attributes, preimages);
    let built = kona(&all).map_err(|error| format!("{at}: kona refuses the whole witness: {error}"))?;
    same(&format!("{at}: kona's replay"), &built, &alloy_rlp::encode(header.inner()))?;

    // The parent's header is told, not asked for.
    let needed = canonical.preimages().filter(|(_, value)| **value != alloy_rlp::encode(parent.inner()));
    let needed: Vec<_> = needed.collect();
    for (key, value) in &needed {
        if kona(&all.without(*key)).is_ok() {
            return Err(format!("{at}: kona replays it without {value}, which is canonical").into());
        }
    }
    let only_superset: Vec<_> = superset.state.iter().filter(|node| !canonical.state.contains(node)).collect();
    for node in &only_superset {
        let key = metisdb::proof::preimage_key(node);
        tally.superset_needed += usize::from(kona(&all.without(key)).is_err());
    }
    tally.blocks += 1;
    tally.transactions += attributes.transactions.as_ref().map_or(0, Vec::len);
    tally.canonical += canonical.state.len();
    tally.superset += only_superset.len();
    tally.others += needed.len() - canonical.state.len();
    tally.removals_refused += needed.len();
    tally.canonical_suffices += usize::from(kona(&Preimages::of(canonical)).is_ok());
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} leads to {actual:?}, expected {expected:?}")) }
}
