//! Real blocks of Ethereum's mainnet, from files: each holds a block, the part of the state before it that it touches, and the
//! logs that each transaction left on mainnet.

use std::{
    io,
    path::{Path, PathBuf},
};

use alloy_hardforks::EthereumHardfork;
use metisdb::{Durability, Options};
use metisdb_execution::{Chain, Executed, Forks, Recorded};

use super::{
    blocks,
    checks::{Outcome, same},
};
use crate::{failure::Failure, interrupt::Interrupt, output::count};

/// The blocks of Shanghai, whose headers need no more than the files hold.
const SHANGHAI: std::ops::Range<u64> = 17_034_870..19_426_587;

/// How much of a block was as on mainnet.
struct Compared {
    transactions: usize,
    logs: usize,
}

/// Compares the logs of each transaction; how many there are.
fn compare(recorded: &Recorded, executed: &Executed) -> Outcome<usize> {
    let logs = recorded.logs();
    same("the number of receipts", executed.receipts.len(), logs.len())?;
    for (index, (receipt, expected)) in executed.receipts.iter().zip(&logs).enumerate() {
        if receipt.logs() != expected {
            return Err(format!("the logs of transaction {index} differ from those on mainnet"));
        }
    }
    Ok(logs.iter().map(Vec::len).sum())
}

/// Executes the block, commits it, and compares.
fn execute(recorded: &Recorded, path: &Path) -> Result<Outcome<Compared>, Failure> {
    let parts = recorded.number().and_then(|number| Ok((number, recorded.state_before()?, recorded.block()?)));
    let (number, before, (block, senders)) = match parts {
        Ok(parts) => parts,
        Err(wrong) => return Ok(Err(wrong)),
    };
    if !SHANGHAI.contains(&number) {
        return Ok(Err(format!("mainnet's block {number} is none of Shanghai, {SHANGHAI:?}")));
    }
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
    let db = Options::new().create(path)?;
    for changes in recorded.earlier_blocks() {
        db.commit(&changes, Durability::Pipelined)?;
    }
    db.commit(&before, Durability::Durable).map(drop)?;
    let executed = match blocks::execute(&chain, db.snapshot()?.into(), (&block, &senders))? {
        Ok(executed) => executed,
        Err(wrong) => return Ok(Err(format!("mainnet's block {number} is not executed: {wrong}"))),
    };
    let proposal = db.propose(&db.snapshot()?, &executed.changes)?;
    proposal.commit(Durability::Durable)?;
    let (root, found) = (proposal.root(), db.snapshot()?.root()?);
    drop(proposal);
    db.close()?;
    let compared = same("the root that is read", found, root).and_then(|()| compare(recorded, &executed));
    Ok(match compared {
        Ok(logs) => Ok(Compared { transactions: senders.len(), logs }),
        Err(wrong) => Err(format!("mainnet's block {number}: {wrong}")),
    })
}

/// What is to be said of a file or a folder without blocks.
fn refused(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Failure::Refused(format!("{} holds no blocks: {error}", path.display()))
        }
        _ => Failure::System(format!("read {}", path.display()), error),
    }
}

/// Executes all blocks of some files, each on a new database in `folder`, up to one that is not as on mainnet.
pub(super) fn execute_all(paths: &[PathBuf], folder: &Path, interrupt: &Interrupt) -> Result<Outcome, Failure> {
    let (mut blocks, mut transactions, mut logs) = (0, 0, 0);
    for path in paths {
        for file in Recorded::files(path).map_err(refused(path))? {
            for recorded in &Recorded::read(&file).map_err(refused(&file))? {
                interrupt.check()?;
                match execute(recorded, &folder.join(format!("block-{blocks}")))? {
                    Ok(compared) => {
                        blocks += 1;
                        transactions += compared.transactions;
                        logs += compared.logs;
                    }
                    Err(wrong) => return Ok(Err(wrong)),
                }
            }
        }
    }
    let [blocks, transactions, logs] = [blocks, transactions, logs].map(|number| count(number as u64));
    Ok(Ok(format!("{blocks} real blocks of mainnet, {transactions} transactions: their {logs} logs as there")))
}
