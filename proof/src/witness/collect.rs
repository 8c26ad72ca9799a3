//! Collecting a witness: reading what was accessed and applying the changes, as a replay does, and keeping the nodes that were used.

use alloc::{collections::BTreeSet, vec::Vec};
use core::cell::RefCell;

use alloy_primitives::{B256, Bytes};

use super::{Accessed, Witness, WitnessMode};
use crate::partial::{NodePath, Source, StateChanges, state::State};

/// A source that keeps what it has given.
#[derive(Debug)]
struct Keeping<'s, S> {
    source: &'s S,
    nodes: RefCell<BTreeSet<Bytes>>,
}

impl<S: Source> Source for Keeping<'_, S> {
    type Error = S::Error;

    fn node(&self, hash: &B256, path: &NodePath) -> Result<Bytes, S::Error> {
        let node = self.source.node(hash, path)?;
        self.nodes.borrow_mut().insert(node.clone());
        Ok(node)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, S::Error> {
        self.source.code(hash)
    }
}

/// The witness of an execution on the state of a root that has read what is `accessed` and made the `changes`. It has no headers.
///
/// `source` is whatever has the nodes: a database (`Snapshot::witness` of `metisdb` is this), or a
/// [`PartialState`](crate::PartialState), of which a smaller witness is made so. Code that the source does not have was created by the
/// execution, and is left out. Takes the time of a replay without execution; walks every changed path once, in superset mode twice.
///
/// # Errors
/// Those of the source; [`WitnessError::SlotWithoutAccount`](crate::WitnessError::SlotWithoutAccount) for changes that no state can take.
pub fn collect<S: Source>(
    source: &S,
    root: B256,
    accessed: &Accessed,
    changes: &StateChanges,
    mode: WitnessMode,
) -> Result<Witness, S::Error> {
    let keeping = Keeping { source, nodes: RefCell::default() };
    let state = State { source: &keeping, root };
    for address in &accessed.accounts {
        state.account(address)?;
    }
    for (address, slot) in &accessed.slots {
        state.slot(address, slot)?;
    }
    state.root_after(changes)?;
    if mode == WitnessMode::Superset {
        state.read_removals(changes)?;
    }
    let mut codes = BTreeSet::new();
    for hash in &accessed.codes {
        codes.extend(source.code(hash)?.filter(|code| !code.is_empty()));
    }
    Ok(Witness {
        state: keeping.nodes.into_inner().into_iter().collect(),
        codes: codes.into_iter().collect(),
        keys: keys(accessed, changes),
        headers: Vec::new(),
    })
}

/// The plain keys of the paths that are followed.
fn keys(accessed: &Accessed, changes: &StateChanges) -> Vec<Bytes> {
    let read = accessed.slots.iter().map(|(address, slot)| (*address, *slot));
    let changed = changes.iter().flat_map(|(address, change)| change.slots.keys().map(|slot| (*address, *slot)));
    let mut keys = BTreeSet::new();
    for (address, slot) in read.chain(changed) {
        keys.insert(Bytes::copy_from_slice(address.as_slice()));
        keys.insert(Bytes::from(slot.to_be_bytes::<32>()));
    }
    let accounts = accessed.accounts.iter().chain(changes.keys());
    keys.extend(accounts.map(|address| Bytes::copy_from_slice(address.as_slice())));
    keys.into_iter().collect()
}
