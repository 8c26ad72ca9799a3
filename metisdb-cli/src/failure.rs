//! Why a command fails, and the exit code that says so.

use std::{
    fmt::{self, Display, Formatter},
    io,
    path::Path,
};

use metisdb::Error;

/// What the exit codes mean, for the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; what was asked for is there, the files are sound
  1    the account, code, block or version that was asked for is not there
  2    the command line is wrong
  3    the database or a snapshot file is damaged, or something that `demo` or `bench` checks does not hold
  4    the database cannot be used: none there, locked, another format, no space, an I/O error
  5    an import, an export, a demonstration, a proof or a witness is refused: a wrong file, another root than expected, a place that is taken
  130  interrupted";

/// What was asked for is not there.
pub(crate) const ABSENT: u8 = 1;

/// Something is not as it must be.
pub(crate) const UNSOUND: u8 = 3;

/// Why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database says no.
    Database(Error),
    /// The system says no: what was attempted, on which file, and the answer.
    System(String, io::Error),
    /// Somebody else is at it.
    Busy(String),
    /// What is to be imported or verified, or the place for it, is not as it must be.
    Refused(String),
    /// What was read is not what was written.
    Unsound(String),
    /// A signal asks to stop.
    Interrupted,
}

impl Failure {
    /// The system said no to an operation on a file.
    pub(crate) fn system(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let attempted = format!("{operation} {}", path.display());
        move |error| Self::System(attempted, error)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Database(Error::VersionNotRetained { .. }) => ABSENT,
            Self::Database(Error::Corruption { .. }) | Self::Unsound(_) => UNSOUND,
            Self::Database(_) | Self::System(..) | Self::Busy(_) => 4,
            Self::Refused(_) => 5,
            Self::Interrupted => 130,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(formatter),
            Self::System(attempted, error) => write!(formatter, "{attempted}: {error}"),
            Self::Busy(reason) | Self::Refused(reason) | Self::Unsound(reason) => reason.fmt(formatter),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}
