//! The log, its checkpoints and the two superblocks, cut off by the death of the process or of the power at any step.
//!
//! A version is one frame, a segment two of them, and every frame supersedes the one two before it: so a sealed segment is dead once the next
//! one is full. What the process does is a row of steps, each one write or one sync. A power loss keeps any subset of the unsynced writes, and may tear
//! a superblock. One superblock may be damaged besides, one sync may fail.

mod disk;
mod recovery;

use stateright::{Model, Property};

use self::disk::{Disk, Frame, Superblock};
use super::{assert_found, assert_sound};

const FRAMES: usize = 4;
const SEGMENT_FRAMES: usize = 2;
const SEGMENTS: usize = FRAMES / SEGMENT_FRAMES;
/// Frames of as many versions are of different keys.
const KEYS: u8 = 2;
const CHECKPOINTS: u8 = 2;
const DEATHS: u8 = 2;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Right,
    /// A2 would fail: the commit is acknowledged before the sync (A3).
    AcknowledgeUnsynced,
    /// A1: the segment before is not synced.
    RollWithoutSync,
    /// A1: the directory entry of the new segment is not synced.
    RollWithoutDirectory,
    /// K1: a segment goes after the first superblock that leaves it out.
    DropAfterOneSuperblock,
    /// K2, I1: the superblock is written while the log is not synced.
    SuperblockBeforeLog,
    /// V1: what recovery found is not written again.
    NoRewrite,
    /// V1: the superblock that recovery found is not written again before the other one is overwritten.
    NoProof,
    /// S2: no frame says which one it follows.
    NoChain,
    /// V2: what stands behind the end of the log stays.
    NoErasing,
    /// Both.
    NoChainNoErasing,
}

/// Where a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Checkpoint {
    Idle,
    Captured(Superblock),
    ImageWritten(Superblock),
    LogSynced(Superblock),
    SuperblockWritten(Superblock),
    InForce(Superblock),
}

/// Why the database is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Loss {
    /// Promise 1.
    Acknowledged,
    /// Promise 2.
    Foreign,
    /// A sound history that is refused, or a record that is not there.
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Open,
    Down,
    /// Recovery has written and not synced.
    Recovering,
    Lost(Loss),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    disk: Disk,
    phase: Phase,
    /// Of the process.
    session: u8,
    appended: u8,
    durable: u8,
    poisoned: bool,
    checkpoint: Checkpoint,
    proven: bool,
    newest: Superblock,
    /// Segments before this one go with the next superblock (K1).
    leaving_before: u8,
    /// Who wrote each version, as far as the world knows.
    history: [u8; FRAMES],
    acknowledged: u8,
    /// What has happened, so that it ends.
    checkpoints: u8,
    deaths: u8,
    failed_sync: bool,
    damaged: bool,
    /// A segment was dropped.
    dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Roll,
    SyncDirectory,
    Append,
    Sync,
    FailSync,
    Checkpoint,
    Kill,
    LosePower { survivors: u32, tears_superblock: bool },
    Open { damages_newest: bool },
    FinishRecovery,
}

struct Log(Variant);

impl State {
    /// The segment that is written to.
    fn active(&self) -> usize {
        self.disk.segments.iter().rposition(|cell| cell.cache).unwrap_or(0)
    }

    fn sync_segment(&mut self, segment: usize) {
        self.disk.frames[segment * SEGMENT_FRAMES..][..SEGMENT_FRAMES].iter_mut().for_each(|cell| cell.sync());
    }

    /// The active segment's file is synced, and all that was appended passes for durable.
    fn sync_log(&mut self) {
        self.sync_segment(self.active());
        self.durable = self.appended;
        self.acknowledged = self.acknowledged.max(self.appended);
    }

    fn append(&mut self) {
        let position = usize::from(self.appended);
        let follows = position.checked_sub(1).map_or(0, |before| self.history[before]);
        self.disk.frames[position].write(Some(Frame { session: self.session, follows, mark: self.durable }));
        self.history[position] = self.session;
        self.appended += 1;
    }

    /// Segments before this one hold no record that is newest of its key.
    fn dead_before(&self) -> u8 {
        let needed = self.appended.saturating_sub(KEYS) / SEGMENT_FRAMES as u8;
        needed.min(self.active() as u8)
    }

    fn capture(&self) -> Superblock {
        Superblock {
            generation: self.newest.generation + 1,
            checkpoint: self.appended,
            chain: self.appended.checked_sub(1).map_or(0, |last| self.history[usize::from(last)]),
            image_upto: 0,
            first_segment: self.dead_before(),
            segments_end: self.active() as u8 + 1,
        }
    }

    fn checkpoint_step(&mut self, variant: Variant) {
        self.checkpoint = match self.checkpoint {
            Checkpoint::Idle => {
                self.checkpoints += 1;
                Checkpoint::Captured(self.capture())
            }
            Checkpoint::Captured(superblock) => {
                if !self.proven && variant != Variant::NoProof {
                    let cell = &mut self.disk.superblocks[slot(&self.newest)];
                    cell.write(Some(self.newest));
                    cell.sync();
                    self.proven = true;
                }
                // The image may name what was appended meanwhile.
                Checkpoint::ImageWritten(Superblock { image_upto: self.appended, ..superblock })
            }
            Checkpoint::ImageWritten(superblock) => {
                if variant != Variant::SuperblockBeforeLog {
                    self.sync_log();
                }
                Checkpoint::LogSynced(superblock)
            }
            Checkpoint::LogSynced(superblock) => {
                self.disk.superblocks[slot(&superblock)].write(Some(superblock));
                Checkpoint::SuperblockWritten(superblock)
            }
            Checkpoint::SuperblockWritten(superblock) => {
                self.disk.superblocks[slot(&superblock)].sync();
                Checkpoint::InForce(superblock)
            }
            Checkpoint::InForce(superblock) => {
                let left_out_twice = match variant {
                    Variant::DropAfterOneSuperblock => superblock.first_segment,
                    _ => self.leaving_before.min(superblock.first_segment),
                };
                for segment in 0..usize::from(left_out_twice) {
                    if self.disk.segments[segment].cache {
                        self.disk.segments[segment].write(false);
                        self.dropped = true;
                    }
                }
                self.leaving_before = superblock.first_segment;
                self.newest = superblock;
                Checkpoint::Idle
            }
        };
    }

    /// The process is gone, and what it knew with it.
    fn die(&mut self) {
        self.phase = Phase::Down;
        self.checkpoint = Checkpoint::Idle;
        self.poisoned = false;
        self.proven = false;
        self.appended = 0;
        self.durable = 0;
        self.leaving_before = 0;
        self.deaths += 1;
    }
}

/// Superblocks alternate.
fn slot(superblock: &Superblock) -> usize {
    usize::from(superblock.generation % 2)
}

impl Log {
    fn open_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Log(variant) = *self;
        let full = usize::from(state.appended) == (state.active() + 1) * SEGMENT_FRAMES;
        let entry_is_durable = state.disk.segments.iter().all(|cell| !cell.dirty);
        if !entry_is_durable && variant != Variant::RollWithoutDirectory {
            actions.push(Action::SyncDirectory);
        }
        if !state.poisoned {
            if full && state.active() + 1 < SEGMENTS {
                actions.push(Action::Roll);
            }
            if !full && (entry_is_durable || variant == Variant::RollWithoutDirectory) {
                actions.push(Action::Append);
            }
            if state.durable < state.appended {
                actions.push(Action::Sync);
                if !state.failed_sync {
                    actions.push(Action::FailSync);
                }
            }
            // A segment is made under the lock that a capture takes.
            let captures = entry_is_durable || variant == Variant::RollWithoutDirectory;
            if state.checkpoint != Checkpoint::Idle || state.checkpoints < CHECKPOINTS && captures {
                actions.push(Action::Checkpoint);
            }
        }
    }
}

impl Model for Log {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let disk = Disk::created();
        let newest = disk.sound_superblocks()[0].1;
        vec![State {
            disk,
            phase: Phase::Open,
            session: 1,
            appended: 0,
            durable: 0,
            poisoned: false,
            checkpoint: Checkpoint::Idle,
            proven: true,
            newest,
            leaving_before: 0,
            history: [0; FRAMES],
            acknowledged: 0,
            checkpoints: 0,
            deaths: 0,
            failed_sync: false,
            damaged: false,
            dropped: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.phase {
            Phase::Open => self.open_actions(state, actions),
            Phase::Recovering => actions.push(Action::FinishRecovery),
            Phase::Down => {
                actions.push(Action::Open { damages_newest: false });
                if !state.damaged && state.disk.sound_superblocks().len() == 2 {
                    actions.push(Action::Open { damages_newest: true });
                }
            }
            Phase::Lost(_) => {}
        }
        if state.deaths < DEATHS && matches!(state.phase, Phase::Open | Phase::Recovering) {
            actions.push(Action::Kill);
            for survivors in 0..1 << state.disk.unsynced() {
                actions.push(Action::LosePower { survivors, tears_superblock: false });
                if state.disk.superblocks.iter().any(|cell| cell.dirty) {
                    actions.push(Action::LosePower { survivors, tears_superblock: true });
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let Log(variant) = *self;
        let mut state = last.clone();
        match action {
            Action::Append => {
                state.append();
                if variant == Variant::AcknowledgeUnsynced {
                    state.acknowledged = state.appended;
                }
            }
            Action::Roll => {
                if variant != Variant::RollWithoutSync {
                    state.sync_segment(state.active());
                }
                state.durable = state.appended;
                state.acknowledged = state.acknowledged.max(state.appended);
                let next = state.active() + 1;
                state.disk.segments[next].write(true);
            }
            Action::SyncDirectory => state.disk.segments.iter_mut().for_each(|cell| cell.sync()),
            Action::Sync => state.sync_log(),
            Action::FailSync => {
                state.disk.frames.iter_mut().for_each(|cell| cell.fail_sync());
                state.failed_sync = true;
                state.poisoned = true;
            }
            Action::Checkpoint => state.checkpoint_step(variant),
            Action::Kill => state.die(),
            Action::LosePower { survivors, tears_superblock } => {
                state.disk.lose_power(survivors, tears_superblock);
                state.die();
            }
            Action::Open { damages_newest } => recovery::open(&mut state, variant, damages_newest),
            Action::FinishRecovery => recovery::finish(&mut state, variant),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ACKNOWLEDGED, |_, state: &State| state.phase != Phase::Lost(Loss::Acknowledged)),
            Property::always(PREFIX, |_, state: &State| state.phase != Phase::Lost(Loss::Foreign)),
            Property::always(OPENS, |_, state: &State| !matches!(state.phase, Phase::Lost(Loss::Refused(_)))),
        ];
        if self.0 == Variant::Right {
            properties.extend([
                Property::sometimes("a dropped segment, and a recovery behind it", |_, state: &State| {
                    state.dropped && state.phase == Phase::Open && state.deaths > 0
                }),
                Property::sometimes("a power loss in a recovery", |_, state: &State| {
                    state.phase == Phase::Open && state.deaths == DEATHS && state.session == DEATHS
                }),
                Property::sometimes("a failed sync, and a recovery behind it", |_, state: &State| {
                    state.failed_sync && state.phase == Phase::Open && !state.poisoned
                }),
                Property::sometimes("a recovery from the older superblock", |_, state: &State| {
                    state.damaged && state.phase == Phase::Open
                }),
            ]);
        }
        properties
    }
}

const ACKNOWLEDGED: &str = "promise 1: what was acknowledged is found";
const PREFIX: &str = "promise 2: what is found is a prefix";
const OPENS: &str = "the database opens, and has every record";

#[test]
fn nothing_is_lost() {
    assert_sound("log, checkpoints and two superblocks", Log(Variant::Right));
}

#[test]
fn a_stale_frame_is_kept_out_twice() {
    assert_sound("frames without a chain", Log(Variant::NoChain));
    assert_sound("stale frames that stay", Log(Variant::NoErasing));
}

#[test]
fn every_step_is_needed() {
    for (variant, property) in [
        (Variant::AcknowledgeUnsynced, ACKNOWLEDGED),
        (Variant::RollWithoutSync, OPENS),
        (Variant::RollWithoutDirectory, ACKNOWLEDGED),
        (Variant::DropAfterOneSuperblock, OPENS),
        (Variant::SuperblockBeforeLog, OPENS),
        (Variant::NoRewrite, ACKNOWLEDGED),
        (Variant::NoProof, OPENS),
        (Variant::NoChainNoErasing, PREFIX),
    ] {
        assert_found(&format!("{variant:?}"), Log(variant), property);
    }
}
