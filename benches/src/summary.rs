//! Several measurements of the same thing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The smallest, the middle and the largest of several measurements.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle; of an even number, the larger of the two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of one measurement or more.
    pub fn of(mut measured: Vec<f64>) -> Self {
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
