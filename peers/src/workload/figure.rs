//! What is measured, in the order of the table.

use serde::{Deserialize, Serialize};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    Present,
    PresentFenced,
    Absent,
    AbsentFenced,
    PresentTwo,
    PresentFencedTwo,
    AbsentTwo,
    AbsentFencedTwo,
    Batches,
    LargeDurable,
    SmallDurable,
    LargeUnsynced,
    SmallUnsynced,
    RateAlone,
    RateBeside,
    RateShare,
    BesideMedian,
    Beside99,
    Beside999,
    BesideWorst,
    BlocksBeside,
    Proof,
    Load,
    DiskLoaded,
    DiskWritten,
    OpenClosed,
    OpenKilled,
    Lost,
    Anonymous,
    Mapped,
}

impl Figure {
    /// What it is, and its unit.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Present => "read, present, independent, ns",
            Self::PresentFenced => "read, present, fenced, ns",
            Self::Absent => "read, absent, independent, ns",
            Self::AbsentFenced => "read, absent, fenced, ns",
            Self::PresentTwo => "two threads: present, independent, ns a read of both",
            Self::PresentFencedTwo => "two threads: present, fenced, ns a read of both",
            Self::AbsentTwo => "two threads: absent, independent, ns a read of both",
            Self::AbsentFencedTwo => "two threads: absent, fenced, ns a read of both",
            Self::Batches => "read, present, batches of 64, ns a key",
            Self::LargeDurable => "block of 10,600 changes, durable, ms",
            Self::SmallDurable => "block of 500 changes, durable, ms",
            Self::LargeUnsynced => "block of 10,600 changes, not synced, ms",
            Self::SmallUnsynced => "block of 500 changes, not synced, ms",
            Self::RateAlone => "reader alone, thousand reads/s",
            Self::RateBeside => "reader beside a writer, thousand reads/s",
            Self::RateShare => "the latter of the former, %",
            Self::BesideMedian => "read beside a writer, p50, ns",
            Self::Beside99 => "read beside a writer, p99, ns",
            Self::Beside999 => "read beside a writer, p99.9, ns",
            Self::BesideWorst => "read beside a writer, worst, µs",
            Self::BlocksBeside => "that writer, blocks of 10,600/s",
            Self::Proof => "proof of one key, µs",
            Self::Load => "load, s",
            Self::DiskLoaded => "on disk after the load, MB",
            Self::DiskWritten => "on disk after blocks without pause, MB",
            Self::OpenClosed => "open after a close, first read included, ms",
            Self::OpenKilled => "open after a kill, first read included, ms",
            Self::Lost => "acknowledged blocks that the kill lost",
            Self::Anonymous => "memory after reading all keys, anonymous, MB",
            Self::Mapped => "memory after reading all keys, mapped files, MB",
        }
    }
}
