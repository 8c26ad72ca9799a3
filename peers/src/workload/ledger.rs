//! What a store has to hold after the blocks that it was given: a pure function of the seed and of the blocks' sizes.

use serde::{Deserialize, Serialize};

use crate::{
    keys::KeySpace,
    store::{Change, Store, Words},
};

/// Changes of a large block: other values for keys that were loaded, new keys, and new keys of the large block before.
pub(crate) const UPDATES: usize = 10_000;
pub(crate) const INSERTS: u64 = 500;
pub(crate) const DELETES: u64 = 100;
/// Updates of a small block, which does nothing else.
pub(crate) const SMALL_UPDATES: usize = 500;

/// Numbers from here on are keys that no store ever holds.
const ABSENT: u64 = 1 << 40;

/// Stream of draws of the first block; reads use those before.
const FIRST_STREAM: u64 = 1 << 20;

/// How large a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Size {
    #[serde(rename = "L")]
    Large,
    #[serde(rename = "S")]
    Small,
}

/// All blocks after the load, in their order.
pub(crate) type History = Vec<Size>;

/// A key's number, and the block whose value it has; `None` where the key is deleted.
pub(crate) type Stroke = (u64, Option<u64>);

/// Which block each key's value comes from.
#[derive(Clone)]
pub(crate) struct Ledger {
    space: KeySpace,
    history: History,
    /// By number, for the keys that were loaded; 0 is the load.
    blocks: Vec<u32>,
    /// The large blocks, the load being the first of them: it inserts, too.
    large: Vec<u64>,
}

impl Ledger {
    /// What is there after a load and these blocks.
    pub(crate) fn after(space: KeySpace, history: &[Size]) -> Self {
        let blocks = vec![0; space.keys as usize];
        let mut ledger = Self { space, history: History::new(), blocks, large: vec![0] };
        for size in history {
            ledger.advance(*size);
        }
        ledger
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The number of the newest block.
    pub(crate) fn newest(&self) -> u64 {
        self.history.len() as u64
    }

    /// The changes of one more block.
    pub(crate) fn advance(&mut self, size: Size) -> Vec<Stroke> {
        self.history.push(size);
        let block = self.newest();
        let updates = match size {
            Size::Large => UPDATES,
            Size::Small => SMALL_UPDATES,
        };
        let mut strokes: Vec<Stroke> = Vec::with_capacity(updates + (INSERTS + DELETES) as usize);
        for number in distinct_draws(&self.space, FIRST_STREAM + block, updates) {
            self.blocks[number as usize] = block as u32;
            strokes.push((number, Some(block)));
        }
        if size == Size::Large {
            let before = self.inserted(self.large.len() - 1);
            strokes.extend((before..before + DELETES).map(|number| (number, None)));
            let now = self.inserted(self.large.len());
            strokes.extend((now..now + INSERTS).map(|number| (number, Some(block))));
            self.large.push(block);
        }
        strokes
    }

    /// All keys that are there, in random order, and with them some that were deleted.
    pub(crate) fn all(&self) -> impl Iterator<Item = Stroke> {
        let loaded = (0..self.space.keys).map(|turn| self.space.in_random_order(turn));
        let newest = self.large.len() - 1;
        let inserted = self.large.iter().enumerate().flat_map(move |(index, block)| {
            let first = self.inserted(index);
            (first..first + INSERTS).map(move |number| {
                let deleted = index < newest && number < first + DELETES;
                (number, (!deleted).then_some(*block))
            })
        });
        loaded.map(|number| (number, Some(u64::from(self.blocks[number as usize])))).chain(inserted)
    }

    /// The `turn`-th draw of a stream of keys that were loaded, and the value that it has to have.
    pub(crate) fn present(&self, stream: u64, turn: u64) -> (u64, Words) {
        let number = self.space.draw(stream, turn);
        (number, value(&self.space, number, u64::from(self.blocks[number as usize])))
    }

    /// The `turn`-th draw of a stream of keys that no store has.
    pub(crate) fn absent(&self, stream: u64, turn: u64) -> u64 {
        ABSENT + self.space.draw(stream, turn)
    }

    /// The first number that a large block inserts, by its place among the large ones.
    fn inserted(&self, index: usize) -> u64 {
        self.space.keys + index as u64 * INSERTS
    }
}

/// The value that a block gives to a key. It names the block, so that a reader beside a writer can check what it reads.
pub(crate) fn value(space: &KeySpace, number: u64, block: u64) -> Words {
    let mut words = space.value(number, block).into_limbs();
    words[3] = 1 << 63 | block;
    words
}

/// The block that a value names; `None` where it is not a value of this key.
pub(crate) fn block_of(space: &KeySpace, number: u64, words: Words) -> Option<u64> {
    let block = words[3] & !(1 << 63);
    (value(space, number, block) == words).then_some(block)
}

/// Changes as a store takes them: in its own form, sorted by key, as trees like them best.
pub(crate) fn prepare<S: Store>(space: &KeySpace, strokes: &[Stroke]) -> Vec<Change<S::Key>> {
    let change = |(number, block): &Stroke| (S::key(space, *number), block.map(|block| value(space, *number, block)));
    let mut changes: Vec<_> = strokes.iter().map(change).collect();
    changes.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    changes
}

fn distinct_draws(space: &KeySpace, stream: u64, count: usize) -> Vec<u64> {
    let mut drawn: Vec<u64> = Vec::with_capacity(count);
    let mut turn = 0;
    while drawn.len() < count {
        while drawn.len() < count {
            drawn.push(space.draw(stream, turn));
            turn += 1;
        }
        drawn.sort_unstable();
        drawn.dedup();
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_ledger_is_what_its_blocks_make() {
        let space = KeySpace { keys: 20_000, accounts: 200, seed: 7 };
        let mut ledger = Ledger::after(space, &[]);
        let mut state: BTreeMap<u64, Option<u64>> = ledger.all().collect();
        assert_eq!(state.len() as u64, space.keys + INSERTS);
        for size in [Size::Large, Size::Small, Size::Large, Size::Large] {
            let strokes = ledger.advance(size);
            let numbers: std::collections::BTreeSet<u64> = strokes.iter().map(|stroke| stroke.0).collect();
            assert_eq!(numbers.len(), strokes.len(), "a block names no key twice");
            for (number, block) in strokes {
                assert!(block.is_some() || state[&number].is_some(), "only what is there is deleted");
                state.insert(number, block);
            }
        }
        assert_eq!(state, ledger.all().collect());
        assert_eq!(state, Ledger::after(space, ledger.history()).all().collect());
    }

    #[test]
    fn a_value_names_its_block_and_its_key_only() {
        let space = KeySpace { keys: 20_000, accounts: 200, seed: 7 };
        assert_eq!(block_of(&space, 5, value(&space, 5, 9)), Some(9));
        assert_eq!(block_of(&space, 6, value(&space, 5, 9)), None);
        assert_eq!(block_of(&space, 5, crate::store::ABSENT), None);
    }
}
