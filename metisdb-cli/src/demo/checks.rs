//! What was checked, and what came out.

use std::fmt::Display;

use serde::Serialize;

/// What was seen, or what does not hold.
pub(super) type Outcome<T = String> = Result<T, String>;

/// One thing that must hold.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// A short name, for programs.
    pub(super) name: &'static str,
    /// Whether it held.
    pub(super) held: bool,
    /// What was seen; where it did not hold, what is wrong.
    pub(super) told: String,
}

/// Everything that was checked, in its order.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    /// Notes what came out.
    pub(super) fn note(&mut self, name: &'static str, outcome: Outcome) {
        let held = outcome.is_ok();
        self.0.push(Check { name, held, told: outcome.unwrap_or_else(|wrong| wrong) });
    }

    /// Whether everything held.
    pub(super) fn all_held(&self) -> bool {
        self.0.iter().all(|check| check.held)
    }

    /// One after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Check> {
        self.0.iter()
    }
}

/// An error unless both are the same.
pub(super) fn same<T: PartialEq + Display>(what: impl Display, found: T, expected: T) -> Outcome<()> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found}, expected is {expected}")) }
}
