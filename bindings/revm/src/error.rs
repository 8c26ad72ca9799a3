//! Why a read failed.

use alloy_primitives::B256;

/// Why a read failed. Cheap to clone, as parallel executors ask for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] metisdb::Error),
    /// An account refers to code that was never stored.
    #[error("no code with the hash {0} is stored; commit the code together with its account")]
    MissingCode(B256),
    /// Stored code starts like a delegation (EIP-7702) but is not one.
    #[error("the code with the hash {0} is malformed")]
    MalformedCode(B256),
}
