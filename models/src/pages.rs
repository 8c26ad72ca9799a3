//! Pages of the arena: written by checkpoints, dead by commits and sweeps, written again when nothing can read them any more.
//!
//! A trie is two nodes. A commit replaces one, a sweep moves one; each draws the next sequence. A checkpoint writes the nodes that are in memory only into one
//! page, which holds both. Snapshots hold older tries, two superblocks name one each, and a death of the process leaves one of them.

use stateright::{Model, Property};

use super::{assert_found, assert_sound};

const PAGES: usize = 3;
/// Behind these, nothing is written any more.
const NODE_IDS: u8 = 6;
const NODES: usize = 2;
const CHECKPOINTS: u8 = 3;

/// What is left out, or taken for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Right,
    /// The floor is the newest superblock's sequence, not the older one's.
    NewestSuperblock,
    /// Tries that are held do not count.
    HoldsForgotten,
    /// A page is free once the first of its nodes has died.
    FirstDeath,
    /// A page that died right after the floor is free.
    FloorOffByOne,
    /// What commits replaced while the checkpoint wrote it is not taken off.
    RetireMeanwhileForgotten,
    /// It is taken off node by node, each after it was counted.
    SettleOneByOne,
    /// Pages of a checkpoint that failed are not free again.
    FailedPagesForgotten,
    /// Without an image, pages that the trie does not reach pass for long dead.
    UnreachedIsFree,
}

/// A node: which one it is, and its page once it was written. A number is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    id: u8,
    page: Option<u8>,
}

type Trie = [Node; NODES];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Page {
    /// What was written there last.
    content: [Option<u8>; NODES],
    live: u8,
    died: u8,
    /// A checkpoint writes it.
    taken: bool,
}

/// A trie whose nodes stay, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    sequence: u8,
    trie: Trie,
}

/// What recovery starts from: a trie, and the books of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Superblock {
    held: Held,
    books: [Page; PAGES],
}

/// A checkpoint under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Writing {
    captured: Superblock,
    page: Option<u8>,
    /// When a node that it may be writing was replaced.
    replaced: [Option<u8>; NODES],
    settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    pages: [Page; PAGES],
    newest: Held,
    snapshot: Option<Held>,
    superblocks: [Superblock; 2],
    /// Which of them is the newest.
    slot: usize,
    writing: Option<Writing>,
    next_id: u8,
    checkpoints: u8,
    crashed: bool,
    reused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Replaces a node; or moves one out of its page, which is the same to the pages.
    Commit(usize),
    Snapshot,
    Release,
    Capture,
    Write,
    Settle,
    Superblock,
    /// The checkpoint fails where it is.
    Fail,
    /// Writes the newest superblock over the other one.
    Repeat,
    Crash(Opening),
}

/// What is left after the death of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Whole,
    ImageLost,
    NewestSuperblockDamaged,
}

impl Page {
    fn add(&mut self) {
        if self.live == 0 {
            self.died = 0;
        }
        self.live += 1;
    }

    fn retire(&mut self, sequence: u8, variant: Variant) {
        self.live -= 1;
        self.died = match variant {
            Variant::FirstDeath if self.died > 0 => self.died,
            _ => self.died.max(sequence),
        };
    }

    fn is_free(&self, floor: u8) -> bool {
        !self.taken && self.live == 0 && self.died <= floor
    }
}

/// The nodes of a trie that no checkpoint has written.
fn unwritten(trie: &Trie) -> impl Iterator<Item = usize> {
    (0..NODES).filter(|index| trie[*index].page.is_none())
}

impl State {
    fn commit(&mut self, index: usize, variant: Variant) {
        let sequence = self.newest.sequence + 1;
        let old = self.newest.trie[index];
        match (old.page, &mut self.writing) {
            (Some(page), _) => self.pages[usize::from(page)].retire(sequence, variant),
            (None, Some(writing)) if !writing.settled && writing.captured.held.trie[index] == old => {
                writing.replaced[index] = Some(sequence);
            }
            (None, _) => {}
        }
        self.newest.trie[index] = Node { id: self.next_id, page: None };
        self.newest.sequence = sequence;
        self.next_id += 1;
    }

    /// What died at or before this sequence is out of reach.
    fn floor(&self, variant: Variant) -> u8 {
        let captured = self.writing.map_or(u8::MAX, |writing| writing.captured.held.sequence);
        let held = match variant {
            Variant::HoldsForgotten => u8::MAX,
            _ => self.snapshot.map_or(self.newest.sequence, |held| held.sequence),
        };
        let newest = self.superblocks[self.slot].held.sequence;
        let on_disk = match variant {
            Variant::NewestSuperblock => newest,
            _ => newest.min(self.superblocks[1 - self.slot].held.sequence),
        };
        let floor = captured.min(held).min(on_disk);
        if variant == Variant::FloorOffByOne { floor + 1 } else { floor }
    }

    /// Writes what the captured trie has in memory only.
    fn write(&mut self, variant: Variant) -> Option<()> {
        let floor = self.floor(variant);
        let page = self.pages.iter().position(|page| page.is_free(floor))?;
        let writing = self.writing.as_mut()?;
        let trie = writing.captured.held.trie;
        self.reused |= self.pages[page].content != [None; NODES];
        self.pages[page].taken = true;
        self.pages[page].content = std::array::from_fn(|index| trie[index].page.is_none().then_some(trie[index].id));
        writing.page = Some(page as u8);
        Some(())
    }

    /// From now on the nodes that were written are read by place, whoever has them. All are counted before any is taken off: a count that
    /// falls to zero in between would forget when the last one died.
    fn settle(&mut self, variant: Variant) -> Option<()> {
        let writing = self.writing.as_mut()?;
        writing.settled = true;
        let Writing { captured: Superblock { held: captured, books }, replaced, page: Some(place), .. } = writing
        else {
            return Some(());
        };
        let page = &mut self.pages[usize::from(*place)];
        page.taken = false;
        let nodes: Vec<usize> = unwritten(&captured.trie).collect();
        for &index in &nodes {
            page.add();
            books[usize::from(*place)].add();
            if variant == Variant::SettleOneByOne {
                replaced[index].take().into_iter().for_each(|sequence| page.retire(sequence, variant));
            }
            let node = captured.trie[index];
            let tries = [Some(&mut self.newest), self.snapshot.as_mut(), Some(&mut *captured)];
            for held in tries.into_iter().flatten().filter(|held| held.trie[index] == node) {
                held.trie[index].page = Some(*place);
            }
        }
        if variant != Variant::RetireMeanwhileForgotten {
            nodes.iter().filter_map(|index| replaced[*index]).for_each(|sequence| page.retire(sequence, variant));
        }
        Some(())
    }

    fn fail(&mut self, variant: Variant) {
        self.writing = None;
        for page in self.pages.iter_mut().filter(|page| page.taken && variant != Variant::FailedPagesForgotten) {
            *page = Page { content: page.content, ..Page::default() };
        }
    }

    fn crash(&mut self, opening: Opening, variant: Variant) {
        self.crashed = true;
        self.writing = None;
        self.snapshot = None;
        if opening == Opening::NewestSuperblockDamaged {
            // The other one is written over it, and its image is gone.
            self.superblocks[self.slot] = self.superblocks[1 - self.slot];
        }
        let Superblock { held, books } = self.superblocks[self.slot];
        self.newest = held;
        let died = if variant == Variant::UnreachedIsFree { 0 } else { held.sequence };
        let counted = |number: usize| {
            let mut page = Page { died, ..Page::default() };
            held.trie.iter().filter(|node| node.page == Some(number as u8)).for_each(|_| page.add());
            page
        };
        for (number, page) in self.pages.iter_mut().enumerate() {
            let known = if opening == Opening::Whole { books[number] } else { counted(number) };
            *page = Page { content: page.content, ..known };
        }
    }

    /// All tries that someone may still read.
    fn readable(&self) -> impl Iterator<Item = &Trie> {
        let captured = self.writing.as_ref().map(|writing| &writing.captured.held);
        let on_disk = self.superblocks.iter().map(|superblock| &superblock.held);
        on_disk.chain([&self.newest]).chain(&self.snapshot).chain(captured).map(|held| &held.trie)
    }

    fn is_intact(&self) -> bool {
        self.readable()
            .flatten()
            .all(|node| node.page.is_none_or(|page| self.pages[usize::from(page)].content.contains(&Some(node.id))))
    }

    /// A page counts the nodes of the newest trie in it, and is taken by a checkpoint under way only.
    fn is_counted(&self) -> bool {
        let is_writing = self.writing.is_some_and(|writing| !writing.settled);
        self.pages.iter().enumerate().all(|(number, page)| {
            let nodes = self.newest.trie.iter().filter(|node| node.page == Some(number as u8)).count();
            usize::from(page.live) == nodes && (!page.taken || is_writing)
        })
    }
}

struct Pages(Variant);

impl Pages {
    fn checkpoint_actions(state: &State, actions: &mut Vec<Action>) {
        match state.writing {
            None => {
                if state.checkpoints < CHECKPOINTS {
                    actions.push(Action::Capture);
                }
                if state.superblocks[0] != state.superblocks[1] {
                    actions.push(Action::Repeat);
                }
            }
            Some(writing) => {
                actions.push(Action::Fail);
                let is_written = writing.page.is_some() || unwritten(&writing.captured.held.trie).next().is_none();
                actions.push(match (is_written, writing.settled) {
                    (false, _) => Action::Write,
                    (true, false) => Action::Settle,
                    (true, true) => Action::Superblock,
                });
            }
        }
    }
}

impl Model for Pages {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let trie = std::array::from_fn(|index| Node { id: index as u8, page: None });
        let newest = Held { sequence: 0, trie };
        let superblock = Superblock { held: newest, books: Default::default() };
        vec![State {
            pages: Default::default(),
            newest,
            snapshot: None,
            superblocks: [superblock; 2],
            slot: 0,
            writing: None,
            next_id: NODES as u8,
            checkpoints: 0,
            crashed: false,
            reused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next_id < NODE_IDS {
            actions.extend((0..NODES).map(Action::Commit));
        }
        actions.push(if state.snapshot.is_some() { Action::Release } else { Action::Snapshot });
        Self::checkpoint_actions(state, actions);
        if !state.crashed {
            let openings = [Opening::Whole, Opening::ImageLost, Opening::NewestSuperblockDamaged];
            actions.extend(openings.map(Action::Crash));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let Pages(variant) = *self;
        let mut state = last.clone();
        match action {
            Action::Commit(index) => state.commit(index, variant),
            Action::Snapshot => state.snapshot = Some(state.newest),
            Action::Release => state.snapshot = None,
            Action::Capture => {
                state.checkpoints += 1;
                let captured = Superblock { held: state.newest, books: state.pages };
                state.writing = Some(Writing { captured, page: None, replaced: [None; NODES], settled: false });
            }
            Action::Write => state.write(variant)?,
            Action::Settle => state.settle(variant)?,
            Action::Superblock => {
                state.slot = 1 - state.slot;
                state.superblocks[state.slot] = state.writing.take()?.captured;
            }
            Action::Fail => state.fail(variant),
            Action::Repeat => {
                state.superblocks[1 - state.slot] = state.superblocks[state.slot];
                state.slot = 1 - state.slot;
            }
            Action::Crash(opening) => state.crash(opening, variant),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(INTACT, |_, state: &State| state.is_intact()),
            Property::always(COUNTED, |_, state: &State| state.is_counted()),
        ];
        if self.0 == Variant::Right {
            properties.extend([
                Property::sometimes("a page written again beside a snapshot", |_, state: &State| {
                    state.reused && state.snapshot.is_some_and(|held| held.sequence < state.newest.sequence)
                }),
                Property::sometimes("a page written again, and a death behind it", |_, state: &State| {
                    state.reused && state.crashed
                }),
            ]);
        }
        properties
    }
}

const INTACT: &str = "T1: what a trie leads to is what was written there";
const COUNTED: &str = "rule 15: free is what neither a trie nor a checkpoint uses";

#[test]
fn pages_are_written_again_when_nothing_reads_them() {
    assert_sound("pages, holds and two superblocks", Pages(Variant::Right));
}

#[test]
fn every_part_of_the_floor_is_needed() {
    for (variant, property) in [
        (Variant::NewestSuperblock, INTACT),
        (Variant::HoldsForgotten, INTACT),
        (Variant::FirstDeath, INTACT),
        (Variant::FloorOffByOne, INTACT),
        (Variant::UnreachedIsFree, INTACT),
        (Variant::SettleOneByOne, INTACT),
        (Variant::RetireMeanwhileForgotten, COUNTED),
        (Variant::FailedPagesForgotten, COUNTED),
    ] {
        assert_found(&format!("{variant:?}"), Pages(variant), property);
    }
}
