//! One transaction that runs before its turn: what it read, what it did, and whether that still holds when its turn has come.

use std::{cell::RefCell, collections::BTreeMap, marker::PhantomData};

use alloy_consensus::{Transaction, TxEnvelope, TxType, transaction::Recovered};
use alloy_evm::{Evm, EvmEnv, ToTxEnv, block::BlockExecutor, eth::EthTxResult};
use alloy_primitives::{Address, B256, U256};
use metisdb_revm::{Overlay, ReadError, StateReader};
use revm::{
    Context, DatabaseRef, ExecuteEvm, MainBuilder, MainContext,
    context::{
        ContextSetters, ContextTr, JournalTr, TxEnv,
        result::{EVMError, HaltReason, ResultAndState},
    },
    database_interface::WrapDatabaseRef,
    handler::{EvmTr, EvmTrError, FrameResult, FrameTr, Handler},
    interpreter::interpreter_action::FrameInit,
    state::{Account, AccountInfo, Bytecode, EvmState, TransactionId},
};

use crate::chain::Executor;

/// What a transaction read.
#[derive(Debug, Default)]
struct Reads {
    accounts: BTreeMap<Address, Option<AccountInfo>>,
    slots: BTreeMap<(Address, U256), U256>,
}

/// A state that notes what is read of it. Of one transaction, so of one thread.
#[derive(Debug)]
struct Noting<'r> {
    reader: &'r StateReader,
    reads: RefCell<Reads>,
}

/// The outcome of a transaction that ran before its turn, the payment of the block's beneficiary left out: so not every
/// transaction reads and writes that one account.
#[derive(Debug)]
pub(crate) struct Speculated {
    reads: Reads,
    outcome: ResultAndState<HaltReason>,
    /// What the beneficiary is to be paid.
    payment: U256,
}

impl DatabaseRef for Noting<'_> {
    type Error = ReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let info = self.reader.basic_ref(address)?;
        self.reads.borrow_mut().accounts.insert(address, info.clone());
        Ok(info)
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, ReadError> {
        self.reader.code_by_hash_ref(code_hash)
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, ReadError> {
        let value = self.reader.storage_ref(address, index)?;
        self.reads.borrow_mut().slots.insert((address, index), value);
        Ok(value)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
        self.reader.block_hash_ref(number)
    }
}

/// revm's handler, but for the payment of the block's beneficiary.
struct Unpaid<E, F>(PhantomData<(E, F)>);

impl<E, F> Handler for Unpaid<E, F>
where
    E: EvmTr<
            Context: ContextTr<Journal: JournalTr<State = EvmState>>,
            Frame: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
        >,
    F: EvmTrError<E>,
{
    type Evm = E;
    type Error = F;
    type HaltReason = HaltReason;

    fn reward_beneficiary(&self, _evm: &mut E, _result: &mut FrameResult) -> Result<(), F> {
        Ok(())
    }
}

/// Runs a transaction on a state that may not be the one it will meet; `None` where it cannot run on this one.
pub(crate) fn speculate(
    reader: &StateReader,
    environment: &EvmEnv,
    transaction: &Recovered<&TxEnvelope>,
) -> Option<Speculated> {
    let noting = Noting { reader, reads: RefCell::default() };
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(&noting))
        .with_cfg(environment.cfg_env.clone())
        .with_block(environment.block_env.clone())
        .build_mainnet();
    let env: TxEnv = transaction.to_tx_env();
    evm.ctx.set_tx(env);
    let result = Unpaid::<_, EVMError<ReadError>>(PhantomData).run(&mut evm).ok()?;
    let state = evm.finalize();
    drop(evm);
    let base_fee = environment.block_env.basefee;
    let price = transaction.effective_gas_price(Some(base_fee)).saturating_sub(u128::from(base_fee));
    let payment = U256::from(price) * U256::from(result.gas().tx_gas_used());
    Some(Speculated { reads: noting.reads.into_inner(), outcome: ResultAndState { result, state }, payment })
}

impl Reads {
    /// Whether all would be read the same now. What cannot be read has changed: running again will tell the error.
    fn hold(&self, overlay: &Overlay) -> bool {
        self.accounts.iter().all(|(address, info)| overlay.basic_ref(*address).is_ok_and(|now| now == *info))
            && self
                .slots
                .iter()
                .all(|((address, slot), value)| overlay.storage_ref(*address, *slot).is_ok_and(|now| now == *value))
    }
}

impl Speculated {
    /// The outcome, the payment included, if it is the one that the transaction has in its turn.
    pub(crate) fn settle(
        self,
        transaction: &Recovered<&TxEnvelope>,
        executor: &Executor<'_>,
    ) -> Option<EthTxResult<HaltReason, TxType>> {
        let Self { reads, outcome: ResultAndState { result, mut state }, payment } = self;
        let beneficiary = executor.evm().block().beneficiary;
        let overlay = executor.evm().db();
        let gas_left = executor.evm().block().gas_limit.checked_sub(executor.cumulative_tx_gas_used)?;
        let fits = transaction.gas_limit() <= gas_left;
        // Who deals with the beneficiary must see what it was paid by then.
        if !fits || reads.accounts.contains_key(&beneficiary) || !reads.hold(overlay) {
            return None;
        }
        let mut paid = match overlay.basic_ref(beneficiary).ok()? {
            Some(info) => Account::from(info),
            None => Account::new_not_existing(TransactionId::ZERO),
        };
        paid.info.balance = paid.info.balance.saturating_add(payment);
        paid.mark_touch();
        state.insert(beneficiary, paid);
        let blob_gas_used = transaction.blob_gas_used().unwrap_or_default();
        Some(EthTxResult { result: ResultAndState { result, state }, blob_gas_used, tx_type: transaction.tx_type() })
    }
}
