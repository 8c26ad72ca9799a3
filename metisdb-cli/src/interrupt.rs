//! Signals that ask to stop: work that would leave something behind asks for them, and tidies up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use crate::failure::Failure;

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the first signal is noted, and the second ends the program at once.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        let failed = |error| Failure::System("watch for signals".to_owned(), error);
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let code = i32::from(Failure::Interrupted.code());
            // In this order: the first signal must not see the note of its own.
            flag::register_conditional_shutdown(signal, code, interrupt.0.clone()).map_err(failed)?;
            flag::register(signal, interrupt.0.clone()).map_err(failed)?;
        }
        Ok(interrupt)
    }

    /// Whether a signal has come.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if a signal has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.is_raised() { Err(Failure::Interrupted) } else { Ok(()) }
    }
}
