//! What was judged, counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Figures of a run, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Histories, each of several sessions.
    pub histories: u64,
    /// Operations that were cut.
    pub cuts: u64,
    /// States judged: distinct by the image of the disk and by what was known.
    pub states: u64,
    /// Those whose disk is like none before, whatever was known.
    pub images: u64,
    /// Those that an interrupted recovery left.
    pub in_recovery: u64,
    /// States that were judged before, and skipped.
    pub repeated: u64,
    /// Cuts of which every possible state was judged.
    pub exhausted: u64,
    /// Segments dropped, and growths of the index, in histories that were not cut.
    pub dropped_segments: u64,
    /// See there.
    pub index_growths: u64,
    /// States by the operation that was cut and the kind of file.
    pub by_operation: BTreeMap<String, u64>,
    /// States by what the user was doing.
    pub by_activity: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        let Self {
            histories,
            cuts,
            states,
            images,
            in_recovery,
            repeated,
            exhausted,
            dropped_segments,
            index_growths,
            ..
        } = self;
        for (own, other) in [
            (histories, other.histories),
            (cuts, other.cuts),
            (states, other.states),
            (images, other.images),
            (in_recovery, other.in_recovery),
            (repeated, other.repeated),
            (exhausted, other.exhausted),
            (dropped_segments, other.dropped_segments),
            (index_growths, other.index_growths),
        ] {
            *own += other;
        }
        for (own, other) in [(&mut self.by_operation, &other.by_operation), (&mut self.by_activity, &other.by_activity)]
        {
            for (class, count) in other {
                *own.entry(class.clone()).or_default() += count;
            }
        }
    }
}
