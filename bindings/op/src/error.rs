//! Why a block cannot be made, or a replay proves nothing.

use alloy_consensus::crypto::RecoveryError;
use alloy_evm::block::BlockExecutionError;
use alloy_primitives::B256;
use metisdb::proof::WitnessError;
use op_alloy_consensus::EIP1559ParamError;

/// Why a block cannot be made, or a replay proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// The block belongs to a fork after Isthmus.
    #[error("timestamp {timestamp} is in a fork after Isthmus, whose headers are not known here; use a newer release")]
    UnknownFork {
        /// The block's time, in seconds since the Unix epoch.
        timestamp: u64,
    },
    /// The block would not be later than its parent.
    #[error("timestamp {timestamp} is not after that of the parent, {parent}; the attributes are not for this parent")]
    Timestamp {
        /// The block's time, in seconds since the Unix epoch.
        timestamp: u64,
        /// That of the parent.
        parent: u64,
    },
    /// Attributes that every block of that time has are missing.
    #[error("the attributes have no {0}, which a block of that time must have; ask the consensus layer again")]
    Missing(&'static str),
    /// Attributes that no block of that time has are there.
    #[error("the attributes have {0}, which no block of that time has; ask the consensus layer again")]
    Unexpected(&'static str),
    /// What Holocene says of the base fee, in the parent's extra data or in the attributes, is unsound.
    #[error("the parameters of the base fee in {place} are unsound: {source}")]
    BaseFee {
        /// Where they stand.
        place: &'static str,
        /// What is wrong.
        source: EIP1559ParamError,
    },
    /// They would have something divided by zero.
    #[error("the parameters of the base fee in {place} have a zero where it would divide; no chain has such a block")]
    BaseFeeZero {
        /// Where they stand.
        place: &'static str,
    },
    /// A transaction cannot be decoded, or its signature is none.
    #[error("transaction {index} of the attributes is unsound: {source}; no chain has such a block")]
    Transaction {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        source: RecoveryError,
    },
    /// A transaction is of a type that comes after Isthmus.
    #[error("transaction {index} of the attributes is of type {kind}, which no block up to Isthmus has")]
    TransactionType {
        /// Which, from 0.
        index: usize,
        /// Its type.
        kind: u8,
    },
    /// A transaction, or the whole block, breaks a rule; or the state could not be read while it was executed.
    #[error(transparent)]
    Execution(#[from] BlockExecutionError),
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] metisdb::Error),
    /// The witness is unsound, or lacks something.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The state is not the one after the parent.
    #[error("the state has the root {state}, the parent's header says {parent}; take the state after the parent")]
    ParentState {
        /// The root of the state.
        state: B256,
        /// What the parent's header says.
        parent: B256,
    },
}
