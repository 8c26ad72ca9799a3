//! The name of one crash state, from which it is made again.

use std::{fmt, str::FromStr};

use metisdb::storage::SimulatedDisk;

/// Which of the parts that were not synced survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// Those whose bits are set.
    Keeping(u64),
    /// Drawn from a seed.
    Drawn(u64),
}

/// A power cut and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    /// Number of the operation that is cut.
    pub(crate) at: u64,
    pub(crate) loss: Loss,
}

/// A session of a history, where the power is cut in it, and in the recoveries from that; none where it goes wrong without a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub(crate) seed: u64,
    pub(crate) session: u64,
    pub(crate) cuts: Vec<Cut>,
}

impl Loss {
    pub(crate) fn of(self, disk: &SimulatedDisk) -> SimulatedDisk {
        match self {
            Self::Keeping(kept) => disk.after_keeping(kept),
            Self::Drawn(seed) => disk.after_power_loss(seed),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loss {
            Loss::Keeping(kept) => write!(formatter, "{}k{kept:x}", self.at),
            Loss::Drawn(seed) => write!(formatter, "{}s{seed:x}", self.at),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.seed, self.session)?;
        self.cuts.iter().try_for_each(|cut| write!(formatter, ".{cut}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is not a case, such as 7.0.31k5 or 7.2.31k5.2s9f");
        let mut parts = text.split('.');
        let mut number = || parts.next()?.parse().ok();
        let (seed, session) = number().zip(number()).ok_or_else(unknown)?;
        let cut = |part: &str| {
            let kind = part.find(['k', 's'])?;
            let at = part[..kind].parse().ok()?;
            let value = u64::from_str_radix(&part[kind + 1..], 16).ok()?;
            let loss = if part[kind..].starts_with('k') { Loss::Keeping(value) } else { Loss::Drawn(value) };
            Some(Cut { at, loss })
        };
        let cuts: Vec<Cut> = parts.map(cut).collect::<Option<_>>().ok_or_else(unknown)?;
        Ok(Self { seed, session, cuts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_as_they_are_written() {
        for text in ["7.0", "7.0.31k5", "18446744073709551615.6.0s0.2kff"] {
            assert_eq!(text.parse::<Case>().map(|case| case.to_string()), Ok(text.to_string()));
        }
        for text in ["", "7", "7.0.31", "7.0.31k", "7.0.k5", "a.0.1k1", "7.0.1k1."] {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
