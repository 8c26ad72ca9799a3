//! Every state that power losses can leave of one history, as far as they are few; else a sample.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use metisdb::storage::SimulatedDisk;

use super::{
    case::{Case, Cut, Loss},
    history::{History, Known, SESSIONS},
    judge::judge,
    tally::Tally,
};
use crate::{injector::class_of, random::mix};

/// Parts up to which each of their subsets is a state.
const EXHAUSTIVE_PARTS: usize = 5;
/// States of a cut with more parts; of a cut of a recovery.
const DRAWN: u64 = 20;
const DRAWN_IN_RECOVERY: usize = 4;
/// One in how many recoveries that write something is cut.
const RECOVERIES: u64 = 2;
/// Recoveries in a row that are cut.
const NESTED: usize = 2;

/// A state that is not as it must be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What makes the state again.
    pub case: Case,
    /// What is wrong.
    pub wrong: String,
}

/// Judges the states of one history after the other.
pub(crate) struct Explorer<'s> {
    case: Case,
    /// Hashes of images with what was known of them, of one session.
    judged: HashSet<(u64, bool, u64, u64)>,
    images: HashSet<u64>,
    /// Of the last cut of the session.
    last: Option<Extent>,
    tally: Tally,
    /// Called with the figures of each session; and, before each cut, to learn whether to go on.
    goes_on: &'s (dyn Fn(&mut Tally) -> bool + Sync),
}

/// What tells the states of a cut from those of the cut before: how many parts there are, what is left without any of them and with all,
/// and what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    parts: usize,
    nothing: u64,
    everything: u64,
    known: (bool, u64, u64),
}

/// A class of states: the operation that was cut, on which kind of file, and what the user was doing.
#[derive(Clone, Debug)]
struct Class {
    operation: String,
    activity: &'static str,
}

impl<'s> Explorer<'s> {
    pub(crate) fn new(seed: u64, goes_on: &'s (dyn Fn(&mut Tally) -> bool + Sync)) -> Self {
        let case = Case { seed, session: 0, cuts: Vec::new() };
        Self { case, judged: HashSet::new(), images: HashSet::new(), last: None, tally: Tally::default(), goes_on }
    }

    /// Judges the history's states, session by session.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let seed = self.case.seed;
        let mut history = calmly(|| History::begin(seed)).map_err(|wrong| self.failure(wrong))?;
        while self.session(&history)? && self.case.session + 1 < SESSIONS {
            self.case.session += 1;
            calmly(|| history.advance()).map_err(|wrong| self.failure(wrong))?;
            self.judged.clear();
            self.images.clear();
            self.last = None;
        }
        self.tally.histories = 1;
        (self.goes_on)(&mut self.tally);
        Ok(())
    }

    fn failure(&self, wrong: String) -> Failure {
        Failure { case: self.case.clone(), wrong }
    }

    /// Cuts the session at each of its operations. Returns whether to go on.
    fn session(&mut self, history: &History) -> Result<bool, Failure> {
        let whole = history.disk();
        let outcome = calmly(|| history.run(&whole)).map_err(|wrong| self.failure(wrong))?;
        self.tally.dropped_segments += outcome.dropped_segments;
        self.tally.index_growths += outcome.index_growths;
        for at in 0..whole.operations() {
            if !(self.goes_on)(&mut self.tally) {
                return Ok(false);
            }
            let disk = history.disk();
            disk.cut_after(at);
            self.case.cuts = vec![Cut { at, loss: Loss::Keeping(0) }];
            let known = calmly(|| history.run(&disk)).map_err(|wrong| self.failure(wrong))?.known;
            self.tally.cuts += 1;
            self.tally.exhausted += u64::from(disk.unsynced_parts() <= EXHAUSTIVE_PARTS);
            let extent = Extent {
                parts: disk.unsynced_parts(),
                nothing: disk.after_power_loss(0).image_hash(),
                everything: disk.after_power_loss(1).image_hash(),
                known: (known.created, known.acknowledged, known.submitted),
            };
            // An operation that changes nothing, a sync or a reservation, adds no state.
            let adds_none = self.last.replace(extent) == Some(extent) && extent.parts <= EXHAUSTIVE_PARTS;
            if adds_none {
                self.tally.repeated += 1 << extent.parts;
                continue;
            }
            let class = Class::of(&disk, &known);
            for loss in losses(&disk, mix(self.case.seed ^ at << 32 ^ self.case.session)) {
                self.case.cuts = vec![Cut { at, loss }];
                self.visit(&disk, history, &known, &class)?;
            }
        }
        Ok(true)
    }

    /// Judges what the last cut of the case leaves of the disk, unless it was judged before.
    fn visit(&mut self, disk: &SimulatedDisk, history: &History, known: &Known, class: &Class) -> Result<(), Failure> {
        let loss = self.case.cuts.last().map_or(Loss::Keeping(0), |cut| cut.loss);
        let left = Arc::new(loss.of(disk));
        let image = left.image_hash();
        if !self.judged.insert((image, known.created, known.acknowledged, known.submitted)) {
            self.tally.repeated += 1;
            return Ok(());
        }
        let operations = calmly(|| judge(&left, known, history)).map_err(|wrong| self.failure(wrong))?;
        self.count(image, class);
        if operations > 0 && self.case.cuts.len() <= NESTED && mix(image).is_multiple_of(RECOVERIES) {
            let left = Arc::new(loss.of(disk));
            let at = mix(image ^ 1) % operations;
            left.cut_after(at);
            calmly(|| open_and_drop(&left, history)).map_err(|wrong| self.failure(wrong))?;
            let depth = self.case.cuts.len();
            for loss in losses(&left, mix(image ^ 2)).take(DRAWN_IN_RECOVERY) {
                self.case.cuts.truncate(depth);
                self.case.cuts.push(Cut { at, loss });
                self.visit(&left, history, known, class)?;
            }
            self.case.cuts.truncate(depth);
        }
        Ok(())
    }

    fn count(&mut self, image: u64, class: &Class) {
        self.tally.states += 1;
        self.tally.images += u64::from(self.images.insert(image));
        self.tally.in_recovery += u64::from(self.case.cuts.len() > 1);
        *self.tally.by_operation.entry(class.operation.clone()).or_default() += 1;
        *self.tally.by_activity.entry(class.activity.to_string()).or_default() += 1;
    }
}

/// Makes the state of a case again and judges it.
///
/// # Errors
/// What is wrong.
pub fn replay(case: &Case) -> Result<(), String> {
    calmly(|| replay_as_it_comes(case))
}

fn replay_as_it_comes(case: &Case) -> Result<(), String> {
    let mut history = History::begin(case.seed)?;
    for _ in 0..case.session {
        history.advance()?;
    }
    let mut disk = history.disk();
    let mut known = None;
    for cut in &case.cuts {
        disk.cut_after(cut.at);
        match known {
            None => known = Some(history.run(&disk)?.known),
            Some(_) => open_and_drop(&disk, &history)?,
        }
        disk = Arc::new(cut.loss.of(&disk));
    }
    match known {
        Some(known) => judge(&disk, &known, &history).map(|_| ()),
        None => history.run(&disk).map(|_| ()),
    }
}

/// Recovers what is left, as far as the disk goes: it was cut.
fn open_and_drop(left: &Arc<SimulatedDisk>, history: &History) -> Result<(), String> {
    drop(history.options().open_on(left.clone()));
    Ok(())
}

/// A panic is an answer, too, with a case that replays it.
fn calmly<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<String>().cloned();
        let told = told.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Err(format!("a panic: {}", told.unwrap_or_default()))
    })
}

impl Class {
    fn of(disk: &SimulatedDisk, known: &Known) -> Self {
        let operation = match disk.interrupted() {
            None => "nothing".to_string(),
            Some((operation, path)) => class_of(operation, &path),
        };
        Self { operation, activity: known.activity.name() }
    }
}

/// Every subset of the parts that were not synced, if they are few; else nothing, everything, and some that are drawn. The ones of fewer
/// than all are in no order.
fn losses(disk: &SimulatedDisk, salt: u64) -> impl Iterator<Item = Loss> {
    let parts = disk.unsynced_parts();
    let all = parts <= EXHAUSTIVE_PARTS;
    let count = if all { 1 << parts } else { DRAWN };
    (0..count).map(move |number| match number {
        _ if all => Loss::Keeping(number ^ salt & (count - 1)),
        0 | 1 => Loss::Drawn(number),
        _ => Loss::Drawn(mix(salt ^ number) | 2),
    })
}
