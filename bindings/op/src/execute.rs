//! Executing a block, and what that makes of its header.

use alloy_consensus::{
    EMPTY_ROOT_HASH, Header, Sealable, Sealed, TxReceipt,
    crypto::RecoveryError,
    proofs::{ordered_trie_root_encoded, ordered_trie_root_with_encoder},
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{
    Encodable2718, Typed2718, eip2718::WithEncoded, eip4788::SYSTEM_ADDRESS, eip7685::EMPTY_REQUESTS_HASH,
};
use alloy_evm::{
    Evm, EvmFactory,
    block::{BlockExecutionResult, BlockExecutor},
};
use alloy_op_evm::{
    OpBlockExecutionCtx, OpBlockExecutor, OpEvmFactory, OpTx, block::OpAlloyReceiptBuilder, evm_env_for_op_block,
};
use alloy_op_hardforks::OpHardforks;
use alloy_primitives::{B256, Bloom};
use metisdb::Changes;
use metisdb_revm::{
    Base, EmptyAccounts,
    revm_38::{Overlay, StateReader},
};
use op_alloy_consensus::{OpReceiptEnvelope, OpTxEnvelope};
use op_alloy_rpc_types_engine::OpPayloadAttributes;

use crate::{MESSAGE_PASSER, OpError, Rollup};

/// A transaction with its sender and its bytes, by which its share of the cost of L1 is reckoned.
type Transaction = WithEncoded<Recovered<OpTxEnvelope>>;

/// What executing a block led to. Nothing of it is in the database yet.
#[derive(Clone, Debug)]
pub struct Executed {
    /// What to propose on the state that the block was executed on; without the block's metadata.
    pub changes: Changes,
    /// One for each transaction.
    pub receipts: Vec<OpReceiptEnvelope>,
    /// All but the state root and, since Isthmus, the withdrawals root.
    header: Header,
    has_message_root: bool,
}

impl Rollup {
    /// Executes the block of the attributes on the state that its parent left. That the state is the parent's is not checked.
    ///
    /// Blocks on nobody. Two accounts are read besides, so that a witness of what was read suffices to everybody: since Isthmus
    /// [`MESSAGE_PASSER`], for the header, and since Ecotone the caller of system calls, which executors read that take it for a sender,
    /// kona's for one.
    ///
    /// # Errors
    /// Where the attributes do not fit, a rule is broken, or the state cannot be read.
    pub fn execute(
        &self,
        base: impl Into<Base>,
        parent: &Sealed<Header>,
        attributes: &OpPayloadAttributes,
    ) -> Result<Executed, OpError> {
        let timestamp = attributes.payload_attributes.timestamp;
        self.check_fork(timestamp)?;
        let header = self.next_header(parent, attributes)?;
        let transactions = transactions(attributes)?;

        let overlay = Overlay::new(StateReader::new(base), EmptyAccounts::Removed);
        let environment = evm_env_for_op_block(&header, &self.forks, self.chain_id);
        let evm = OpEvmFactory::<OpTx>::default().create_evm(overlay, environment);
        let about = OpBlockExecutionCtx {
            parent_hash: parent.hash(),
            parent_beacon_block_root: header.parent_beacon_block_root,
            extra_data: header.extra_data.clone(),
        };
        let mut executor = OpBlockExecutor::new(evm, about, &self.forks, OpAlloyReceiptBuilder::default());
        executor.apply_pre_execution_changes()?;
        for transaction in &transactions {
            executor.execute_transaction(transaction)?;
        }
        let (evm, BlockExecutionResult { receipts, gas_used, .. }) = executor.finish()?;
        let overlay = evm.into_db();

        let has_message_root = self.forks.is_isthmus_active_at_timestamp(timestamp);
        let base = overlay.reader().base();
        if has_message_root {
            base.account(&MESSAGE_PASSER)?;
        }
        if self.forks.is_ecotone_active_at_timestamp(timestamp) {
            base.account(&SYSTEM_ADDRESS)?;
        }
        let is_canyon = self.forks.is_canyon_active_at_timestamp(timestamp);
        let header = Header {
            transactions_root: ordered_trie_root_encoded(attributes.transactions.as_deref().unwrap_or_default()),
            receipts_root: self.receipts_root(&receipts, timestamp),
            logs_bloom: receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom()),
            gas_used,
            withdrawals_root: is_canyon.then_some(EMPTY_ROOT_HASH),
            requests_hash: has_message_root.then_some(EMPTY_REQUESTS_HASH),
            ..header
        };
        Ok(Executed { changes: overlay.changes()?, receipts, header, has_message_root })
    }

    /// Regolith has a deposit's nonce in its receipt, but not in the root of the receipts: Canyon mended that.
    fn receipts_root(&self, receipts: &[OpReceiptEnvelope], timestamp: u64) -> B256 {
        let leaves_out_nonces = !self.forks.is_canyon_active_at_timestamp(timestamp);
        ordered_trie_root_with_encoder(receipts, |receipt, out| match receipt {
            OpReceiptEnvelope::Deposit(deposit) if leaves_out_nonces => {
                let mut deposit = deposit.clone();
                deposit.receipt.deposit_nonce = None;
                OpReceiptEnvelope::Deposit(deposit).encode_2718(out);
            }
            receipt => receipt.encode_2718(out),
        })
    }
}

impl Executed {
    /// The whole header, and its hash. `state_root` is the root after [`Executed::changes`]; `message_root`, which is asked only since
    /// Isthmus, that of the storage of [`MESSAGE_PASSER`] then.
    ///
    /// # Errors
    /// Those of `message_root`.
    pub fn seal<E>(
        &self,
        state_root: B256,
        message_root: impl FnOnce() -> Result<B256, E>,
    ) -> Result<Sealed<Header>, E> {
        let withdrawals_root = if self.has_message_root { Some(message_root()?) } else { self.header.withdrawals_root };
        Ok(Header { state_root, withdrawals_root, ..self.header.clone() }.seal_slow())
    }
}

/// The transactions and who sent them, by their signatures; a deposit says it itself.
fn transactions(attributes: &OpPayloadAttributes) -> Result<Vec<Transaction>, OpError> {
    let decoded = attributes.decoded_transactions_with_encoded().enumerate();
    decoded
        .map(|(index, decoded)| {
            let fail = |source| OpError::Transaction { index, source };
            let decoded = decoded.map_err(|error| fail(RecoveryError::from_source(error)))?;
            if let OpTxEnvelope::PostExec(transaction) = decoded.value() {
                return Err(OpError::TransactionType { index, kind: transaction.ty() });
            }
            let (bytes, transaction) = decoded.split();
            Ok(WithEncoded::new(bytes, transaction.try_into_recovered().map_err(fail)?))
        })
        .collect()
}
