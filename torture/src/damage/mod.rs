//! Damaged files: whatever happens to the bytes of a closed database, a read gives what was written or an error.
//!
//! | file | what lives there |
//! |---|---|
//! | `walk` | which bytes of the log are in use, told without the product |
//! | `subject` | the database that is damaged, and what it must give |
//! | `wound` | the kinds of damage |

mod subject;
mod walk;
mod wound;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use parking_lot::Mutex;
use serde::Serialize;

pub use self::wound::Wound;
use self::{
    subject::{Subject, Verdict},
    wound::{every_bit, other_wounds, random_bits},
};
use crate::allocator;

/// Bytes of code with which the small database has 64 KiB in use.
pub const SMALL_CODE_BYTES: usize = 44_000;

/// What to damage.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of code in the small database, all of whose bits in use are flipped.
    pub code_bytes: usize,
    /// Flips of a larger database, drawn.
    pub samples: usize,
    /// What the larger database and the flips depend on.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Which of all this.
    pub share: Share,
}

/// Every so many wounds, so that a long run is done in pieces whose figures add up.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Which one, from 1 on.
    pub number: usize,
    /// Of so many.
    pub of: usize,
}

impl Share {
    /// Everything.
    pub const ALL: Self = Self { number: 1, of: 1 };

    fn take<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("a number from 1 on, a slash, and of how many".to_string()),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Bytes in use of the small database.
    pub live_bytes: usize,
    /// Wounds.
    pub wounds: u64,
    /// Wounds by what was damaged and what came of it.
    pub verdicts: BTreeMap<String, u64>,
    /// The wound that ended it, and what was wrong.
    pub failure: Option<(String, String)>,
}

/// Damages a small database in every place, and a larger one in some.
///
/// # Errors
/// Where the databases cannot be made.
pub fn damage(plan: &Plan) -> Result<Report, String> {
    allocator::tune();
    let small = Subject::small(plan.code_bytes)?;
    let wounds = every_bit(&small)?;
    let mut report = Report { live_bytes: wounds.len() / 8, ..Report::default() };
    let mut inflict = |subject: &Subject, wounds| {
        if report.failure.is_none() {
            inflict(subject, &plan.share.take(wounds), plan.threads, &mut report);
        }
    };
    inflict(&small, wounds);
    inflict(&small, other_wounds(&small));
    if plan.samples > 0 {
        let large = Subject::large(plan.seed)?;
        inflict(&large, random_bits(&large, plan.seed, plan.samples));
    }
    Ok(report)
}

/// Inflicts each wound on the subject by itself.
fn inflict(subject: &Subject, wounds: &[Wound], threads: usize, report: &mut Report) {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(report));
    let work = || {
        let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
        let mut failure = None;
        while let Some(wound) = wounds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| subject.suffer(wound))) {
                Ok(Ok(verdict)) => *verdicts.entry(format!("{}: {}", wound.kind(), verdict.name())).or_default() += 1,
                Ok(Err(wrong)) => failure = Some((wound.to_string(), wrong)),
                Err(_) => failure = Some((wound.to_string(), "a panic".to_string())),
            }
            if failure.is_some() {
                next.store(wounds.len(), Ordering::Relaxed);
            }
        }
        let mut report = all.lock();
        for (verdict, count) in verdicts {
            report.wounds += count;
            *report.verdicts.entry(verdict).or_default() += count;
        }
        report.failure = report.failure.take().or(failure);
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused at open",
            Self::Told => "an error when read",
            Self::Found => "found by check only",
            Self::Harmless => "harmless",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares_are_all_and_each_once() {
        let shares = ["1/3", "2/3", "3/3"].map(|text| text.parse::<Share>().unwrap());
        let mut all = shares.map(|share| share.take((0..10).collect())).concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<i32>>());
        for wrong in ["0/3", "4/3", "3", "1/0", "a/b"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
