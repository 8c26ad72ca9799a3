//! One block, executed in the same way on any state.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use alloy_consensus::{ReceiptEnvelope, TxReceipt, transaction::Recovered};
use alloy_evm::{
    Evm, EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutionCtx, EthBlockExecutor, EthEvmFactory, receipt_builder::AlloyReceiptBuilder},
};
use alloy_primitives::Log;
use metisdb::Snapshot;
use metisdb_execution::Chain;
use metisdb_revm::changes_of_changeset;
use revm::{
    DatabaseRef,
    database::{OriginalValuesKnown, State, states::bundle_state::BundleRetention},
    database_interface::WrapDatabaseRef,
};

use super::Given;
use crate::Result;

/// What a block led to.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    changes: metisdb::Changes,
    receipts: Vec<ReceiptEnvelope>,
}

impl Outcome {
    pub(super) fn gas(&self) -> u64 {
        self.receipts.last().map_or(0, TxReceipt::cumulative_gas_used)
    }

    pub(super) fn logs(&self) -> Vec<Vec<Log>> {
        self.receipts.iter().map(|receipt| receipt.logs().to_vec()).collect()
    }
}

/// Executes on a state that is read by reference, with revm's `State` over it. Reading what came of it is not timed.
pub(super) fn on_state<D>(chain: &Chain, state: D, (block, senders): &Given) -> Result<(Duration, Outcome)>
where
    D: DatabaseRef<Error: std::error::Error + Send + Sync + 'static> + std::fmt::Debug,
{
    let begun = Instant::now();
    let state = State::builder().with_database(WrapDatabaseRef(state)).with_bundle_update().build();
    let evm = EthEvmFactory::default().create_evm(state, chain.environment(&block.header));
    let about = EthBlockExecutionCtx {
        parent_hash: block.header.parent_hash,
        parent_beacon_block_root: block.header.parent_beacon_block_root,
        ommers: &block.body.ommers,
        withdrawals: block.body.withdrawals.as_deref().map(|list| Cow::Borrowed(&list[..])),
        extra_data: block.header.extra_data.clone(),
        tx_count_hint: Some(senders.len()),
        slot_number: block.header.slot_number,
    };
    let mut executor = EthBlockExecutor::new(evm, about, *chain.forks(), AlloyReceiptBuilder::default());
    executor.apply_pre_execution_changes()?;
    for (transaction, sender) in block.body.transactions.iter().zip(senders) {
        executor.execute_transaction(Recovered::new_unchecked(transaction, *sender))?;
    }
    let (evm, result) = executor.finish()?;
    let mut state = evm.into_db();
    state.merge_transitions(BundleRetention::PlainState);
    let bundle = state.take_bundle();
    let time = begun.elapsed();
    let changes = changes_of_changeset(&bundle.to_plain_state(OriginalValuesKnown::Yes));
    Ok((time, Outcome { changes, receipts: result.receipts }))
}

/// Executes on a version with what the adapter brings along.
pub(super) fn on_overlay(chain: &Chain, snapshot: Snapshot, (block, senders): &Given) -> Result<(Duration, Outcome)> {
    let begun = Instant::now();
    let executed = chain.execute(snapshot, block, senders)?;
    Ok((begun.elapsed(), Outcome { changes: executed.changes, receipts: executed.receipts }))
}
