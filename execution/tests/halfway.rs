//! A block that fails in the middle leaves nothing behind.

use std::{num::NonZeroUsize, sync::Arc};

use alloy_consensus::{Block, SignableTransaction, TxEip1559, TxEnvelope, TxReceipt};
use alloy_primitives::{B256, Signature};
use metisdb::{Db, Durability, Options, storage::SimulatedDisk};
use metisdb_execution::{
    ExecutionError, Parallel,
    tokens::{self, Model, Size, Task, Workload},
};

const TRANSACTIONS: usize = 12;

fn database(size: Size) -> Db {
    let db = Options::new().create_on(Arc::new(SimulatedDisk::new(1))).unwrap();
    let mut changes = tokens::contracts();
    (0..size.holders).for_each(|number| tokens::add_holder(&mut changes, number, size));
    db.commit(&changes, Durability::Durable).unwrap();
    db
}

/// The block with a transaction that nobody may execute at an index.
fn broken(block: &Block<TxEnvelope>, index: usize, breaks: impl FnOnce(&mut TxEip1559)) -> Block<TxEnvelope> {
    let mut block = block.clone();
    let TxEnvelope::Eip1559(signed) = &block.body.transactions[index] else { panic!("the workload sends others") };
    let mut transaction = signed.tx().clone();
    breaks(&mut transaction);
    block.body.transactions[index] = transaction.into_signed(Signature::test_signature()).into();
    block
}

#[test]
fn a_block_that_fails_in_the_middle_changes_nothing() {
    let size = Size::of_slots(1_000);
    let db = database(size);
    let chain = tokens::chain();
    let header = chain.next_header(&tokens::parent(TRANSACTIONS as u64), B256::ZERO, 12);
    let Task { block, senders, outcomes } = Workload::new(size, 7).block(header, TRANSACTIONS, &mut Model::new(size));
    let before = || {
        let snapshot = db.snapshot().unwrap();
        (snapshot.version(), snapshot.root().unwrap(), db.stats().log_position)
    };
    let untouched = before();
    for index in 0..TRANSACTIONS {
        let wrong_nonce = broken(&block, index, |transaction| transaction.nonce += 5);
        let wrong_chain = broken(&block, index, |transaction| transaction.chain_id = 5);
        for wrong in [wrong_nonce, wrong_chain] {
            let mut parallel = Parallel::new(NonZeroUsize::new(2).unwrap());
            let given = (&wrong, &senders[..]);
            for outcome in [
                chain.execute(db.snapshot().unwrap(), &wrong, &senders),
                chain.execute_parallel(db.snapshot().unwrap(), given, &mut parallel),
            ] {
                assert!(matches!(outcome, Err(ExecutionError::Block(_))), "transaction {index}: {outcome:?}");
                assert_eq!(before(), untouched);
            }
        }
    }
    let executed = chain.execute(db.snapshot().unwrap(), &block, &senders).unwrap();
    let succeeded: Vec<bool> = executed.receipts.iter().map(TxReceipt::status).collect();
    assert_eq!(succeeded, outcomes, "the state is still the one that the block was made for");
    let proposal = db.propose(&db.snapshot().unwrap(), &executed.changes).unwrap();
    assert_eq!(before(), untouched, "a proposal is nobody's business until it is committed");
    proposal.commit(Durability::Durable).unwrap();
    assert_eq!(db.snapshot().unwrap().root().unwrap(), proposal.root());
}
