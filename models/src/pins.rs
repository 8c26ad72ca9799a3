//! Readers that pin versions beside a writer that commits, raises the horizon and reclaims.
//!
//! Every load and every store is a step, one after the other: that the hardware keeps to such an order is for the model checker of the code itself to
//! show (`.ci/loom`). A version's record is gone once the floor is above it.

use stateright::{Model, Property};

use super::{assert_found, assert_sound};

const READERS: usize = 2;
/// A reader may take a slot that the reclaimer has looked at already.
const SLOTS: usize = 2;
const VERSIONS: u8 = 3;
const READS: u8 = 2;

/// What is left out, or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Right,
    /// The reader does not look at the horizon again.
    NoRecheck,
    /// The reader looks at the horizon first, then registers.
    RecheckBeforeRegistering,
    /// The writer looks at the slots first, then raises the horizon.
    FloorBeforeHorizon,
    /// What was superseded at the floor, and at the version after it, goes.
    FloorOffByOne,
    /// The floor is the horizon.
    PinsForgotten,
    /// The version is published before its record is there (C2).
    PublishBeforeIndex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Idle,
    Chosen(u8),
    /// In a slot, not yet looked at the horizon.
    Registered(u8, usize),
    Reading(u8, usize),
    /// It has read what was not there.
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// Half of the commit is done: its record is there and it is not published, or the other way round.
    Committing,
    Published,
    /// It looks at one slot after the other: the next one, and the lowest pin so far.
    Looking(usize, u8),
    /// It has looked at all slots.
    Looked(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    readers: [Reader; READERS],
    reads: [u8; READERS],
    slots: [Option<u8>; SLOTS],
    writer: Writer,
    head: u8,
    horizon: u8,
    /// Versions before this one are reclaimed.
    reclaimed_before: u8,
    /// Versions from this one on have no record yet.
    written_before: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The newest version, or a given one.
    Choose(usize, u8),
    Register(usize, usize),
    Recheck(usize),
    Read(usize),
    Release(usize),
    Write,
}

/// The protocol, and how many versions before the newest stay readable.
struct Pins {
    variant: Variant,
    retained: u8,
}

impl Pins {
    fn writer_step(&self, state: &mut State) {
        let lowest = |pin: Option<u8>, floor: u8| pin.map_or(floor, |pin| pin.min(floor));
        state.writer = match state.writer {
            Writer::Idle => {
                if self.variant == Variant::PublishBeforeIndex {
                    state.head += 1;
                } else {
                    state.written_before += 1;
                }
                Writer::Committing
            }
            Writer::Committing => {
                state.head = state.head.max(state.written_before - 1);
                state.written_before = state.written_before.max(state.head + 1);
                Writer::Published
            }
            Writer::Published => {
                if self.variant != Variant::FloorBeforeHorizon {
                    state.horizon = self.next_horizon(state);
                }
                let slot = if self.variant == Variant::PinsForgotten { SLOTS } else { 0 };
                Writer::Looking(slot, self.next_horizon(state))
            }
            Writer::Looking(SLOTS, floor) => Writer::Looked(floor),
            Writer::Looking(slot, floor) => Writer::Looking(slot + 1, lowest(state.slots[slot], floor)),
            Writer::Looked(floor) => {
                state.horizon = self.next_horizon(state);
                let floor = floor + u8::from(self.variant == Variant::FloorOffByOne);
                state.reclaimed_before = state.reclaimed_before.max(floor);
                Writer::Idle
            }
        };
    }

    fn next_horizon(&self, state: &State) -> u8 {
        state.horizon.max(state.head.saturating_sub(self.retained))
    }

    /// What the reader decides when it has looked at the horizon.
    fn recheck(&self, state: &mut State, reader: usize) {
        state.readers[reader] = match state.readers[reader] {
            Reader::Registered(version, slot) if version < state.horizon && self.checks_behind() => {
                state.slots[slot] = None;
                Reader::Idle
            }
            Reader::Registered(version, slot) => Reader::Reading(version, slot),
            other => other,
        };
    }

    fn checks_behind(&self) -> bool {
        !matches!(self.variant, Variant::NoRecheck | Variant::RecheckBeforeRegistering)
    }

    fn reader_actions(&self, state: &State, reader: usize, actions: &mut Vec<Action>) {
        match state.readers[reader] {
            Reader::Idle if state.reads[reader] < READS => {
                actions.extend((0..=state.head).map(|version| Action::Choose(reader, version)));
            }
            Reader::Chosen(_) => {
                let free = (0..SLOTS).filter(|slot| state.slots[*slot].is_none());
                actions.extend(free.map(|slot| Action::Register(reader, slot)));
            }
            Reader::Registered(..) => actions.push(Action::Recheck(reader)),
            Reader::Reading(..) => actions.extend([Action::Read(reader), Action::Release(reader)]),
            Reader::Idle | Reader::Wrong => {}
        }
    }
}

impl Model for Pins {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            readers: [Reader::Idle; READERS],
            reads: [0; READERS],
            slots: [None; SLOTS],
            writer: Writer::Idle,
            head: 0,
            horizon: 0,
            reclaimed_before: 0,
            written_before: 1,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.writer != Writer::Idle || state.head < VERSIONS {
            actions.push(Action::Write);
        }
        (0..READERS).for_each(|reader| self.reader_actions(state, reader, actions));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Choose(reader, version) => {
                state.reads[reader] += 1;
                state.readers[reader] = Reader::Chosen(version);
            }
            Action::Register(reader, slot) => {
                let Reader::Chosen(version) = state.readers[reader] else { return None };
                state.slots[slot] = Some(version);
                state.readers[reader] = Reader::Registered(version, slot);
            }
            Action::Recheck(reader) => self.recheck(&mut state, reader),
            Action::Read(reader) => {
                let Reader::Reading(version, _) = state.readers[reader] else { return None };
                if (state.reclaimed_before..state.written_before).contains(&version) {
                    return None;
                }
                state.readers[reader] = Reader::Wrong;
            }
            Action::Release(reader) => {
                let Reader::Reading(_, slot) = state.readers[reader] else { return None };
                state.slots[slot] = None;
                state.readers[reader] = Reader::Idle;
            }
            Action::Write => self.writer_step(&mut state),
        }
        if self.variant == Variant::RecheckBeforeRegistering
            && let Action::Choose(reader, version) = action
            && version < state.horizon
        {
            state.readers[reader] = Reader::Idle;
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(READABLE, |_, state: &State| !state.readers.contains(&Reader::Wrong)),
            Property::always("the newest version stays readable", |_, state: &State| {
                state.horizon <= state.head && state.reclaimed_before <= state.head
            }),
        ];
        if self.variant == Variant::Right {
            properties.extend([
                Property::sometimes(
                    "a pin holds the floor below the horizon",
                    |_, state: &State| matches!(state.writer, Writer::Looked(floor) if floor < state.horizon),
                ),
                Property::sometimes("a reader has to choose anew", |_, state: &State| {
                    state
                        .readers
                        .iter()
                        .any(|reader| matches!(reader, Reader::Registered(version, _) if *version < state.horizon))
                }),
            ]);
        }
        properties
    }
}

const READABLE: &str = "P1: what a pin holds is there";

#[test]
fn a_pinned_version_is_readable() {
    for retained in [0, 1] {
        assert_sound(&format!("pins, {retained} retained"), Pins { variant: Variant::Right, retained });
    }
}

#[test]
fn every_step_is_needed() {
    for variant in [
        Variant::NoRecheck,
        Variant::RecheckBeforeRegistering,
        Variant::FloorBeforeHorizon,
        Variant::FloorOffByOne,
        Variant::PinsForgotten,
        Variant::PublishBeforeIndex,
    ] {
        assert_found(&format!("{variant:?}"), Pins { variant, retained: 0 }, READABLE);
    }
}
