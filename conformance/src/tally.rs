//! Counting what passed, what failed and what could not be run.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// How many failures are told in full.
const SHOWN: usize = 20;

/// The count of one suite. It writes past the test runner, which hides what a passing test prints: nothing is left out silently.
#[derive(Debug)]
pub struct Tally {
    suite: &'static str,
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

fn say(line: impl Display) {
    // Nobody is left to tell where the standard error output is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(suite: &'static str) -> Self {
        Self { suite, passed: 0, failed: Vec::new(), skipped: 0 }
    }

    /// Counts a case by its result.
    pub fn count(&mut self, case: impl Display, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(reason) => self.failed.push(format!("{case}: {reason}")),
        }
    }

    /// Says something that is no result.
    pub fn note(&self, text: impl Display) {
        say(format_args!("{}: {text}", self.suite));
    }

    /// Counts a case that cannot be run.
    pub fn skip(&mut self, case: impl Display, reason: impl Display) {
        self.skipped += 1;
        say(format_args!("{}: skipped {case}: {reason}", self.suite));
    }

    /// Says the numbers.
    ///
    /// # Panics
    /// If a case failed, or none was run and none skipped.
    pub fn finish(self) {
        let (suite, failed) = (self.suite, self.failed.len());
        say(format_args!("{suite}: {} passed, {failed} failed, {} skipped", self.passed, self.skipped));
        let shown = &self.failed[..failed.min(SHOWN)];
        assert!(failed == 0, "{failed} cases of {suite} failed, the first of them:\n{}", shown.join("\n"));
        assert!(self.passed + self.skipped > 0, "{suite} has no cases");
    }
}
