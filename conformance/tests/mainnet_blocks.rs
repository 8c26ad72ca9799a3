//! Real blocks of Ethereum's mainnet: executed on a committed snapshot and on a proposal, one transaction after the other and by
//! several threads. The state before is only the part that they touch, so there is no root to compare with, but the logs of
//! each transaction are known.

use std::num::NonZeroUsize;

use alloy_hardforks::EthereumHardfork;
use metisdb::Durability;
use metisdb_conformance::{
    data,
    database::{self, Checked, same, told},
    tally::Tally,
};
use metisdb_execution::{Chain, Executed, Forks, Parallel, Recorded};
use metisdb_revm::Base;

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
                    tally.count(number, checked.map(drop));
                }
            }
        }
    }
    tally.finish();
}
