//! Why a measurement ends early.

use std::io;

/// The result of everything that can end early.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a measurement ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database says no.
    #[error(transparent)]
    Database(#[from] metisdb::Error),
    /// The system says no: to what, and its answer.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// What was read is not what was written.
    #[error("{0}")]
    Wrong(String),
    /// Whoever is told of the progress has seen enough.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// The system said no to an operation.
    pub(crate) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System(operation, error)
    }
}
