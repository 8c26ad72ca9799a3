//! Replaying a block from a witness, by those who have no database and trust nothing but the hash of the block before.

use alloy_consensus::{Block, Header, TxEnvelope, crypto::RecoveryError, transaction::SignerRecoverable};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, B256};
use metisdb::proof::{PartialState, Witness, WitnessError};
use metisdb_revm::{CodeCache, Stateless};

use crate::{Chain, Executed, ExecutionError, FormError};

/// What a replay led to: what the block's header says.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What the block does.
    pub executed: Executed,
    /// The state root after it.
    pub state_root: B256,
}

/// Why a replay does not confirm a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The block does not have the form of its fork.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The witness is unsound, or lacks something.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The block breaks a rule.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// The signature of a transaction is none.
    #[error("a transaction has no valid signature: {0}; no chain has the block")]
    Signature(#[from] RecoveryError),
    /// The header says something else than what the replay led to.
    #[error(
        "the block says something else than its replay: its header is {block:?}, the replay's is {replay:?}; do not accept it"
    )]
    Header {
        /// The block's header.
        block: Box<Header>,
        /// What it is by the replay.
        replay: Box<Header>,
    },
}

impl Chain {
    /// Who sent the transactions of a block, by their signatures.
    ///
    /// # Errors
    /// Where a signature is none, or since Homestead the other one of the two that say the same (EIP-2).
    pub fn senders(&self, block: &Block<TxEnvelope>) -> Result<Vec<Address>, RecoveryError> {
        let is_homestead = self.forks().is_homestead_active_at_block(block.header.number);
        let recover = |transaction: &TxEnvelope| {
            if is_homestead { transaction.recover_signer() } else { transaction.recover_signer_unchecked() }
        };
        block.body.transactions.iter().map(recover).collect()
    }

    /// Replays a block on what a witness has of the state before it, and checks its form ([`Forks::check_form`](crate::Forks::check_form))
    /// and all that its header says of its content and of what it leads to. Its place in the chain (number, time, difficulty, limits and prices of gas) is not looked at; the parent is the one
    /// whose hash it names. Before Byzantium receipts have the roots between transactions, for which a witness has no nodes: there
    /// the receipts' root is not checked.
    ///
    /// # Errors
    /// Whenever it is not proven that the block leads to what its header says: see [`ReplayError`].
    pub fn replay(&self, witness: &Witness, block: &Block<TxEnvelope>) -> Result<Replayed, ReplayError> {
        self.forks().check_form(block)?;
        let state = Stateless::new(PartialState::after_block(witness, block.header.parent_hash)?);
        // Code that others have read must not stand in for what the witness lacks.
        let chain = self.with_codes(CodeCache::default());
        let executed = chain.execute(state.clone(), block, &self.senders(block)?);
        if let Some(failure) = state.failure() {
            return Err(failure.clone().into());
        }
        let executed = executed?;
        let state_root = state.state().root_after(&executed.changes.by_account())?;
        let mut sealed = block.clone();
        self.seal(&mut sealed, &executed, state_root);
        if !self.forks().is_byzantium_active_at_block(block.header.number) {
            sealed.header.receipts_root = block.header.receipts_root;
        }
        if sealed.header != block.header {
            return Err(ReplayError::Header { block: Box::new(block.header.clone()), replay: Box::new(sealed.header) });
        }
        Ok(Replayed { executed, state_root })
    }
}
