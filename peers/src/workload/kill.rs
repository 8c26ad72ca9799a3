//! A process that writes until it is killed, and what is found afterwards.

use std::{io::Write, iter, path::Path};

use super::{
    commits::{Roots, note_root},
    figure::Figure,
    ledger::{Ledger, Size, block_of, prepare},
    load::check_all,
    visit::{Outcome, open_and_read},
};
use crate::{
    Result,
    keys::KeySpace,
    store::{Commits, Durability, Reader, Store},
};

/// Durable large blocks before the process says that it may be killed.
const ACKNOWLEDGED: u64 = 20;
/// Blocks after that, lest it writes for ever should its parent go first.
const MOST_BLOCKS: u64 = 1_000;

/// Writes blocks, says which were acknowledged, and writes on until it is killed.
pub(crate) fn write_until_killed<S: Store>(path: &Path, space: &KeySpace, mut ledger: Ledger) -> Result<Outcome> {
    let store = S::open(path, space)?;
    let mut roots = Roots::new();
    for written in 1..=MOST_BLOCKS {
        let changes = prepare::<S>(space, &ledger.advance(Size::Large));
        store.commit(&changes, Durability::Durable)?;
        note_root(&store, ledger.newest(), &mut roots)?;
        if written == ACKNOWLEDGED {
            let outcome = Outcome { roots: roots.clone(), history: ledger.history().clone(), samples: Vec::new() };
            let mut output = std::io::stdout();
            writeln!(output, "{}", serde_json::to_string(&outcome)?)?;
            output.flush()?;
        }
    }
    Err("nobody killed the process that was to be killed".into())
}

/// Opens what the killed process left, and finds out up to which block it goes; all up to there has to be there.
pub(crate) fn open_after_kill<S: Store>(path: &Path, space: &KeySpace, acknowledged: &Ledger) -> Result<Outcome> {
    let (store, milliseconds) = open_and_read::<S>(path, space, acknowledged)?;
    let found = newest_found(&store, space, acknowledged.history())?;
    check_all(&store, space, &found)?;
    let lost = acknowledged.newest().saturating_sub(found.newest());
    if lost > 0 && S::COMMITS != Commits::Unsynced {
        return Err(format!("{}: {lost} blocks that were acknowledged are lost", S::TITLE).into());
    }
    let mut roots = Roots::new();
    note_root(&store, found.newest(), &mut roots)?;
    store.close()?;
    let samples = vec![(Figure::OpenKilled, milliseconds), (Figure::Lost, lost as f64)];
    Ok(Outcome { samples, roots, history: found.history().clone() })
}

/// The ledger up to the newest block whose first key has the block's value, or a newer one.
fn newest_found<S: Store>(store: &S, space: &KeySpace, acknowledged: &[Size]) -> Result<Ledger> {
    let reader = store.reader()?;
    let mut ahead = Ledger::after(*space, &[]);
    for size in acknowledged.iter().copied().chain(iter::repeat(Size::Large)) {
        let number = ahead.advance(size)[0].0;
        let words = reader.get(&S::key(space, number))?;
        let block =
            block_of(space, number, words).ok_or_else(|| format!("{}: key {number} is {words:x?}", S::TITLE))?;
        if block < ahead.newest() {
            break;
        }
    }
    Ok(Ledger::after(*space, &ahead.history()[..ahead.newest() as usize - 1]))
}
