//! Who is told how far a measurement is.

use crate::Result;

/// Is told how far a measurement is, and may end it.
pub trait Progress {
    /// A step begins, of so many units.
    fn begin(&mut self, step: &'static str, units: u64);

    /// So many of them are done.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped), and the measurement ends.
    fn advance(&mut self, done: u64) -> Result<()>;
}

/// Nobody is told.
impl Progress for () {
    fn begin(&mut self, _: &'static str, _: u64) {}

    fn advance(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}
