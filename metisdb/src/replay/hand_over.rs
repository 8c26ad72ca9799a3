//! Who enters what was read: the thread that reads, or another one beside it.

use std::{
    io,
    panic::resume_unwind,
    sync::mpsc::{self, Receiver, SyncSender},
    thread::{self, Scope, ScopedJoinHandle},
};

use parking_lot::Mutex;

use super::{enter::Entering, steps::Step};
use crate::error::Result;

/// Portions that wait to be entered, at most: with them, neither thread waits for short delays of the other.
const WAITING: usize = 4;

/// Takes portions in the order of the log.
pub(super) struct HandOver<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    entering: &'env Mutex<Entering<'env>>,
    may_start: bool,
    beside: Option<Beside<'scope>>,
}

/// The other thread.
struct Beside<'scope> {
    full: SyncSender<Vec<Step>>,
    /// What it has entered, to be filled again.
    emptied: Receiver<Vec<Step>>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

impl<'scope, 'env> HandOver<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        entering: &'env Mutex<Entering<'env>>,
        threads: usize,
    ) -> Self {
        Self { scope, entering, may_start: threads > 1, beside: None }
    }

    /// Takes a full portion and gives an empty one. With the first one the other thread starts: to enter less takes no longer than that.
    ///
    /// # Errors
    /// That of a step in it, or in one before.
    pub(super) fn portion(&mut self, mut portion: Vec<Step>) -> Result<Vec<Step>> {
        if std::mem::take(&mut self.may_start) {
            // Without a thread it takes longer, nothing else.
            self.beside = Beside::start(self.scope, self.entering).ok();
        }
        let Some(Beside { full, emptied, .. }) = &self.beside else {
            self.entering.lock().steps(&portion)?;
            portion.clear();
            return Ok(portion);
        };
        match full.send(portion) {
            Ok(()) => Ok(emptied.try_recv().unwrap_or_default()),
            // It has ended with an error.
            Err(_) => self.finish(&[]).map(|()| Vec::new()),
        }
    }

    /// Enters the rest once everything before it is entered.
    ///
    /// # Errors
    /// That of the first step that fails.
    pub(super) fn finish(&mut self, rest: &[Step]) -> Result<()> {
        if let Some(Beside { full, thread, .. }) = self.beside.take() {
            drop(full);
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        self.entering.lock().steps(rest)
    }
}

impl<'scope> Beside<'scope> {
    fn start<'env>(scope: &'scope Scope<'scope, 'env>, entering: &'env Mutex<Entering<'env>>) -> io::Result<Self> {
        let (full, waiting) = mpsc::sync_channel::<Vec<Step>>(WAITING);
        let (back, emptied) = mpsc::channel();
        let enter = move || {
            let mut entering = entering.lock();
            for mut portion in waiting {
                entering.steps(&portion)?;
                portion.clear();
                // Nobody wants it once all is read.
                let _ = back.send(portion);
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("metisdb-replay".into()).spawn_scoped(scope, enter)?;
        Ok(Self { full, emptied, thread })
    }
}
