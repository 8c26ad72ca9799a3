//! Real blocks of Ethereum's mainnet: executed on a committed snapshot and on a proposal, one transaction after the other and by
//! several threads. The state before is only the part that they touch, so there is no root to compare with, but the logs of
//! each transaction are known. And executed once more on the witness of that alone.

use std::{num::NonZeroUsize, time::Instant};

use alloy_hardforks::EthereumHardfork;
use metisdb::{
    Durability, Recorder,
    proof::{PartialState, WitnessMode},
};
use metisdb_conformance::{
    data,
    database::{self, Checked, same, told},
    tally::Tally,
};
use metisdb_execution::{Chain, Executed, Forks, Parallel, Recorded};
use metisdb_revm::{Base, Stateless};

const SEGMENT_BYTES: u64 = 1 << 24;

fn check_logs(recorded: &Recorded, executed: &Executed) -> Checked {
    let logs = recorded.logs();
    if executed.receipts.len() != logs.len() {
        return Err(format!("{} receipts, but logs of {}", executed.receipts.len(), logs.len()));
    }
    for (index, (receipt, expected)) in executed.receipts.iter().zip(&logs).enumerate() {
        if receipt.logs() != expected {
            let (own, status) = (receipt.logs().len(), receipt.status());
            return Err(format!("transaction {index} (success: {status}): {own} logs differ from {}", expected.len()));
        }
    }
    Ok(())
}

/// Executes the block in several ways, compares the logs of each and the roots with each other; how many transactions there
/// are, and how many ran twice.
fn check(recorded: &Recorded) -> Checked<(usize, usize)> {
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
    let db = database::create(SEGMENT_BYTES)?;
    for changes in recorded.earlier_blocks() {
        told(db.commit(&changes, Durability::Pipelined))?;
    }
    let pre = recorded.state_before()?;
    let proposed: Base = told(db.propose(&told(db.snapshot())?, &pre))?.into();
    told(db.commit(&pre, Durability::Pipelined))?;
    let committed: Base = told(db.snapshot())?.into();
    let (block, senders) = recorded.block()?;
    let mut roots = Vec::new();
    let mut parallel = Parallel::new(NonZeroUsize::MIN.saturating_add(2));
    for base in [&proposed, &committed] {
        let in_turn = chain.execute(base.clone(), &block, &senders);
        let at_once = chain.execute_parallel(base.clone(), (&block, &senders), &mut parallel);
        for executed in [in_turn, at_once] {
            let executed = executed.map_err(|error| error.to_string())?;
            check_logs(recorded, &executed)?;
            roots.push(told(base.propose(&db, &executed.changes))?.root());
        }
    }
    for root in &roots {
        same("the root of another way to execute the block", *root, roots[0])?;
    }
    Ok((senders.len(), parallel.reexecuted / 2))
}

/// Executes the block by several threads, whose reads are recorded, and again on the witnesses of that alone, which lead to the same root.
fn check_witness(recorded: &Recorded, tally: &Tally) -> Checked {
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
    let db = database::create(SEGMENT_BYTES)?;
    for changes in recorded.earlier_blocks() {
        told(db.commit(&changes, Durability::Pipelined))?;
    }
    let snapshot = database::commit(&db, &recorded.state_before()?)?;
    let (block, senders) = recorded.block()?;
    let recorder = Recorder::new(snapshot.clone());
    let mut parallel = Parallel::new(NonZeroUsize::MIN.saturating_add(2));
    let executed = chain.execute_parallel(recorder.clone(), (&block, &senders), &mut parallel);
    let changes = executed.map_err(|error| error.to_string())?.changes;
    let root = told(recorder.propose(&changes))?.root();
    for mode in [WitnessMode::Canonical, WitnessMode::Superset] {
        let started = Instant::now();
        let witness = told(recorder.witness(&changes, mode))?;
        let exported = started.elapsed();
        let state = Stateless::new(PartialState::of_root(&witness, told(snapshot.root())?));
        let again = chain.execute(state.clone(), &block, &senders).map_err(|error| error.to_string())?;
        if again.changes != changes {
            return Err("the changes on a witness are others".into());
        }
        let started = Instant::now();
        let replayed = state.state().root_after(&changes.by_account()).map_err(|error| error.to_string())?;
        same("the root by a witness", replayed, root)?;
        tally.note(format_args!(
            "{mode:?}: {} nodes, {} codes, {} bytes; exported in {exported:?}, the root after from it in {:?}",
            witness.state.len(),
            witness.codes.len(),
            witness.to_rlp().len(),
            started.elapsed()
        ));
    }
    Ok(())
}

#[test]
fn mainnet_blocks() {
    let mut tally = Tally::new("mainnet_blocks");
    match data::fixtures().map(|folder| folder.join("mainnet_blocks")).filter(|folder| folder.is_dir()) {
        None => tally.skip("all", "no fixtures"),
        Some(folder) => {
            for path in data::files(&folder, "zst") {
                for test in &Recorded::read(&path).expect("a file of the folder's shape") {
                    let number = test.number().expect("a number");
                    let checked = check(test);
                    if let Ok((count, again)) = checked {
                        tally.note(format_args!(
                            "block {number}: {count} transactions, {again} of them ran again in parallel"
                        ));
                    }
                    tally.count(number, checked.and_then(|_| check_witness(test, &tally)));
                }
            }
        }
    }
    tally.finish();
}
