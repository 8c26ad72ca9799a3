//! Several measurements of the same thing.

use std::fmt;

use serde::Serialize;

/// The smallest, the middle and the largest of several measurements.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of one measurement or more.
    pub(crate) fn of(mut measured: Vec<f64>) -> Self {
        measured.sort_by(f64::total_cmp);
        Self { min: measured[0], median: measured[measured.len() / 2], max: measured[measured.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let number = |value: f64| format!("{value:.decimals$}");
        write!(f, "{:>7} {:>7} {:>7}", number(self.min), number(self.median), number(self.max))
    }
}
