//! Blocks, one at a time.

use std::{borrow::Cow, error::Error};

use alloy_consensus::{
    Block, Header, ReceiptEnvelope, TxEnvelope, TxReceipt,
    proofs::{calculate_ommers_root, calculate_receipt_root, calculate_transaction_root, calculate_withdrawals_root},
    transaction::Recovered,
};
use alloy_eips::{
    eip1559::{BaseFeeParams, INITIAL_BASE_FEE},
    eip7685::Requests,
};
use alloy_evm::{
    Database, Evm, EvmEnv, EvmFactory,
    block::{BlockExecutionError, BlockExecutionResult, BlockExecutor, InternalBlockExecutionError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor, EthEvm, EthEvmFactory,
        dao_fork::{DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY},
        receipt_builder::AlloyReceiptBuilder,
    },
    precompiles::PrecompilesMap,
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, B256, Bloom};
use metisdb::Changes;
use metisdb_revm::{Base, CodeCache, EmptyAccounts, Overlay, ReadError, StateReader};
use revm::{
    context::{
        TxEnv,
        result::{EVMError, HaltReason, ResultAndState},
    },
    database_interface::DatabaseCommitExt,
    state::Bytecode,
};

use crate::{
    collision::{StorageCollision, Stored},
    forks::Forks,
    form::FormError,
    parallel::Parallel,
    speculation::Speculated,
};

/// The executor of one block.
pub(crate) type Executor<'a> =
    EthBlockExecutor<'a, EthEvm<Overlay, StorageCollision, PrecompilesMap>, Forks, AlloyReceiptBuilder>;

/// A chain's rules, and the code that its executors share.
///
/// Executing blocks on nobody: any number of threads may execute, each on a state of its own or all on one.
#[derive(Clone, Debug)]
pub struct Chain {
    forks: Forks,
    id: u64,
    codes: CodeCache<Bytecode>,
    refuses_storage_collisions: bool,
}

/// What executing a block led to. Nothing of it is in the database yet.
#[derive(Clone, Debug)]
pub struct Executed {
    /// What to propose on the state that the block was executed on; without the block's metadata, see [`metadata`].
    pub changes: Changes,
    /// One for each transaction.
    pub receipts: Vec<ReceiptEnvelope>,
    /// What the block asks of the consensus layer (EIP-7685).
    pub requests: Requests,
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Gas used by all blobs.
    pub blob_gas_used: u64,
}

/// Why a block could not be executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The block has ommers that no block of its fork has.
    #[error(transparent)]
    Ommers(#[from] FormError),
    /// A transaction, or the whole block, breaks a rule; or the state could not be read while it was executed.
    #[error(transparent)]
    Block(#[from] BlockExecutionError),
    /// The state could not be read.
    #[error(transparent)]
    Database(#[from] metisdb::Error),
}

impl ExecutionError {
    /// What the state could not be read for, if that is why. `None`, too, where it was withdrawals or rewards: their executor does not hand it on.
    pub fn database(&self) -> Option<&metisdb::Error> {
        let mut cause: Option<&(dyn Error + 'static)> = match self {
            // It does not count as a source.
            Self::Block(BlockExecutionError::Internal(InternalBlockExecutionError::EVM { error, .. })) => {
                Some(&**error)
            }
            other => Some(other),
        };
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            if let Some(ReadError::Database(error)) = error.downcast_ref() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }
}

/// The block's metadata, for [`Proposal::seal`](metisdb::Proposal::seal): later blocks find its hash there.
pub fn metadata(header: &Header, hash: B256) -> metisdb::Block {
    metisdb::Block { number: header.number, hash, parent_hash: header.parent_hash, timestamp: header.timestamp }
}

impl Chain {
    /// A chain with an id, which signed transactions name, and rules. Deposits are taken where the chain of this id has them, which is known of
    /// Sepolia and Holesky; elsewhere by mainnet's contract.
    pub fn new(forks: Forks, id: u64) -> Self {
        Self { forks: forks.with_deposits_of(id), id, codes: CodeCache::default(), refuses_storage_collisions: false }
    }

    /// The same chain, but that contracts are not created where storage is (EIP-7610). No chain meets that, for it takes an
    /// account with storage and without code, which only tests make; and it has its price, for every instruction is watched.
    pub fn refusing_storage_collisions(self) -> Self {
        Self { refuses_storage_collisions: true, ..self }
    }

    /// The same chain under other rules; code stays shared.
    pub fn with_forks(self, forks: Forks) -> Self {
        Self { forks: forks.with_deposits_of(self.id), ..self }
    }

    /// The same chain with other code in its cache.
    pub(crate) fn with_codes(&self, codes: CodeCache<Bytecode>) -> Self {
        Self { codes, ..self.clone() }
    }

    /// The rules.
    pub fn forks(&self) -> &Forks {
        &self.forks
    }

    /// A reader of a state that shares the chain's code.
    pub fn reader(&self, base: impl Into<Base>) -> StateReader {
        StateReader::with_codes(base, &self.codes)
    }

    /// What revm has to know of a block before it executes transactions.
    pub fn environment(&self, header: &Header) -> EvmEnv {
        EvmEnv::for_eth_block(header, self.forks, self.id, self.forks.blob_params(header.timestamp))
    }

    /// What becomes of empty accounts in a block.
    pub fn empty_accounts(&self, number: u64) -> EmptyAccounts {
        if self.forks.is_spurious_dragon_active_at_block(number) { EmptyAccounts::Removed } else { EmptyAccounts::Kept }
    }

    /// Executes a block on the state that its parent left: system calls, transactions, withdrawals and rewards. `senders` are
    /// those of the transactions. Neither the header's roots nor its place in the chain are checked; of the block's form (see
    /// [`Forks::check_form`]), its ommers alone.
    ///
    /// # Errors
    /// [`ExecutionError::Ommers`], [`ExecutionError::Block`] where a rule is broken, [`ExecutionError::Database`].
    pub fn execute(
        &self,
        base: impl Into<Base>,
        block: &Block<TxEnvelope>,
        senders: &[Address],
    ) -> Result<Executed, ExecutionError> {
        self.execute_observed(base, (block, senders), |_| Ok(()))
    }

    /// As [`Chain::execute`], and shows the state to `observe` after each transaction: before Byzantium its root stands in the
    /// transaction's receipt.
    ///
    /// # Errors
    /// As [`Chain::execute`], and those of `observe`, after which nothing more is executed.
    pub fn execute_observed(
        &self,
        base: impl Into<Base>,
        (block, senders): (&Block<TxEnvelope>, &[Address]),
        mut observe: impl FnMut(&Overlay) -> metisdb::Result<()>,
    ) -> Result<Executed, ExecutionError> {
        let reader = self.reader(base);
        let transactions = recovered(block, senders);
        self.execute_with(&reader, block, |executor| {
            for transaction in &transactions {
                executor.execute_transaction(transaction)?;
                observe(executor.evm().db()).map_err(BlockExecutionError::other)?;
            }
            Ok(())
        })
    }

    /// As [`Chain::execute`], but `parallel.threads` threads run all transactions on the state before the block first; then, one
    /// after the other, each result is taken if everything that it has read is as it has read it, and else the transaction runs
    /// again. The outcome is the same.
    ///
    /// # Errors
    /// As [`Chain::execute`].
    pub fn execute_parallel(
        &self,
        base: impl Into<Base>,
        (block, senders): (&Block<TxEnvelope>, &[Address]),
        parallel: &mut Parallel,
    ) -> Result<Executed, ExecutionError> {
        let reader = self.reader(base);
        let transactions = recovered(block, senders);
        let environment = self.environment(&block.header);
        let speculated = match self.refuses_storage_collisions {
            // Who speculates does not watch.
            true => transactions.iter().map(|_| None).collect(),
            false => parallel.speculate(&reader, &environment, &transactions),
        };
        self.execute_with(&reader, block, |executor| {
            for (transaction, speculated) in transactions.iter().zip(speculated) {
                match speculated.and_then(|speculated| Speculated::settle(speculated, transaction, executor)) {
                    Some(result) => {
                        executor.commit_transaction(result);
                    }
                    None => {
                        parallel.reexecuted += 1;
                        executor.execute_transaction(transaction)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn evm<D: Database<Error = ReadError> + Stored>(
        &self,
        state: D,
        environment: EvmEnv,
    ) -> EthEvm<D, StorageCollision, PrecompilesMap> {
        let mut evm =
            EthEvmFactory::default().create_evm_with_inspector(state, environment, StorageCollision::default());
        evm.set_inspector_enabled(self.refuses_storage_collisions);
        evm
    }

    /// Runs a lone transaction in the block of a header; nothing is changed, what it does is handed back.
    ///
    /// # Errors
    /// Where no block may have the transaction, or the state cannot be read.
    pub fn transact(
        &self,
        overlay: &mut Overlay,
        header: &Header,
        transaction: TxEnv,
    ) -> Result<ResultAndState<HaltReason>, EVMError<ReadError>> {
        self.evm(overlay, self.environment(header)).transact_raw(transaction)
    }

    fn execute_with(
        &self,
        reader: &StateReader,
        block: &Block<TxEnvelope>,
        transact: impl FnOnce(&mut Executor<'_>) -> Result<(), BlockExecutionError>,
    ) -> Result<Executed, ExecutionError> {
        let Block { header, body } = block;
        // Their rewards are computed of whatever numbers they have.
        self.forks.check_ommers(block)?;
        let mut overlay = Overlay::new(reader.clone(), self.empty_accounts(header.number));
        let mut forks = self.forks;
        if forks.begins_dao(header.number) {
            // Before the transactions, whose receipts have roots; alloy would do it after them.
            move_dao_balances(&mut overlay)?;
            forks = forks.without_dao();
        }
        let evm = self.evm(overlay, self.environment(header));
        let about = EthBlockExecutionCtx {
            parent_hash: header.parent_hash,
            parent_beacon_block_root: header.parent_beacon_block_root,
            ommers: &body.ommers,
            withdrawals: body.withdrawals.as_deref().map(|withdrawals| Cow::Borrowed(&withdrawals[..])),
            extra_data: header.extra_data.clone(),
            tx_count_hint: Some(body.transactions.len()),
            slot_number: header.slot_number,
        };
        let mut executor = EthBlockExecutor::new(evm, about, forks, AlloyReceiptBuilder::default());
        executor.apply_pre_execution_changes()?;
        transact(&mut executor)?;
        let (evm, result) = executor.finish()?;
        let BlockExecutionResult { receipts, requests, gas_used, blob_gas_used } = result;
        Ok(Executed { changes: evm.into_db().changes()?, receipts, requests, gas_used, blob_gas_used })
    }

    /// The header of a block upon `parent`, with all that is known before its transactions are executed. Fields that are free
    /// (beneficiary, randomness, beacon root, extra data) are zero and may be set before the block is executed.
    pub fn next_header(&self, parent: &Header, parent_hash: B256, timestamp: u64) -> Header {
        let number = parent.number + 1;
        let has = |is_active: bool| is_active.then_some(B256::ZERO);
        let blob_params = self.forks.blob_params(timestamp);
        Header {
            parent_hash,
            number,
            timestamp,
            gas_limit: parent.gas_limit,
            base_fee_per_gas: self
                .forks
                .is_london_active_at_block(number)
                .then(|| parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(INITIAL_BASE_FEE)),
            withdrawals_root: has(self.forks.is_shanghai_active_at_timestamp(timestamp)),
            excess_blob_gas: blob_params.map(|params| parent.next_block_excess_blob_gas(params).unwrap_or(0)),
            blob_gas_used: blob_params.map(|_| 0),
            parent_beacon_block_root: has(self.forks.is_cancun_active_at_timestamp(timestamp)),
            requests_hash: has(self.forks.is_prague_active_at_timestamp(timestamp)),
            ..Header::default()
        }
    }

    /// Fills in what only execution tells: the block is whole then, and its header has its final hash. `state_root` is that of
    /// the proposal of [`Executed::changes`].
    pub fn seal(&self, block: &mut Block<TxEnvelope>, executed: &Executed, state_root: B256) {
        let Block { header, body } = block;
        header.state_root = state_root;
        header.transactions_root = calculate_transaction_root(&body.transactions);
        header.ommers_hash = calculate_ommers_root(&body.ommers);
        header.receipts_root = calculate_receipt_root(&executed.receipts);
        header.logs_bloom = executed.logs_bloom();
        header.gas_used = executed.gas_used;
        header.withdrawals_root = header
            .withdrawals_root
            .map(|_| calculate_withdrawals_root(body.withdrawals.as_deref().map_or(&[], |list| list)));
        header.blob_gas_used = header.blob_gas_used.map(|_| executed.blob_gas_used);
        header.requests_hash = header.requests_hash.map(|_| executed.requests.requests_hash());
    }
}

impl Executed {
    /// The bloom filter of all logs.
    pub fn logs_bloom(&self) -> Bloom {
        self.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom())
    }
}

/// The irregular change of the state at the DAO fork.
fn move_dao_balances(overlay: &mut Overlay) -> Result<(), BlockExecutionError> {
    let moved = overlay.drain_balances(DAO_HARDFORK_ACCOUNTS).map_err(BlockExecutionError::other)?;
    let payment = [(DAO_HARDFORK_BENEFICIARY, moved.into_iter().sum())];
    overlay.increment_balances(payment).map_err(BlockExecutionError::other)
}

fn recovered<'t>(block: &'t Block<TxEnvelope>, senders: &[Address]) -> Vec<Recovered<&'t TxEnvelope>> {
    assert_eq!(block.body.transactions.len(), senders.len(), "every transaction has a sender");
    let pairs = block.body.transactions.iter().zip(senders);
    pairs.map(|(transaction, sender)| Recovered::new_unchecked(transaction, *sender)).collect()
}
