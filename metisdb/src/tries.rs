//! The tries of the versions: which are there, and what keeps the pages under them.
//!
//! The newest version's trie is always there, and those of older versions for as long as a snapshot holds them. Any other retained version's is
//! made when it is asked for, from the newest one and the records that changed since (see `history`).
//!
//! **Sequence** (rule 8). Commits and sweeps draw numbers from one counter. A tree that may lead into the arena holds the
//! number that was current when its places were right: what is retired later stays where it is until the hold is gone. Proposals hold
//! the number of the tree that they began with.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use alloy_primitives::B256;
use parking_lot::Mutex;

use crate::{
    error::Result,
    pins::Pins,
    probe,
    trie::{
        Trie,
        arena::{Arena, Place, bytes::node_bytes, writer::Written},
        commitment::Commitment,
        node::Child,
        update::{self, LeafSource, Retired, TrieChanges, Updated},
        walk,
    },
};

/// Retired branches whose memory is on its way while one is dealt with.
const PREFETCHED: usize = 16;

/// Nodes from which on it is worth a thread to free them.
const FREED_ASIDE: usize = if cfg!(all(test, not(miri))) { 64 } else { 4096 };

/// What a hold is for: a sequence, and the version of the snapshot on whose behalf.
type Held = (u64, u64);

/// Counts holders.
#[derive(Debug, Default)]
struct Holds(Mutex<BTreeMap<Held, usize>>);

/// Keeps what was retired after its sequence, as long as snapshots of its version have not expired; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    held: Held,
}

impl Hold {
    fn new(holds: &Arc<Holds>, held: Held) -> Self {
        *holds.0.lock().entry(held).or_default() += 1;
        Self { holds: holds.clone(), held }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.holds.0.lock();
        if let Some(count) = counts.get_mut(&self.held) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.held);
            }
        }
    }
}

/// A trie that a version will have.
#[derive(Debug)]
pub(crate) struct NewTrie {
    pub(crate) trie: Arc<Trie>,
    /// What the one before used, and it does not.
    pub(crate) retired: Vec<Retired>,
    /// Memory that its own nodes take.
    pub(crate) memory_bytes: u64,
}

/// A trie whose nodes stay where they are for as long as this lives.
#[derive(Debug)]
pub(crate) struct HeldTrie {
    pub(crate) trie: Arc<Trie>,
    hold: Hold,
}

impl HeldTrie {
    /// Another trie that was made from this one, for the same snapshot: what it shares stays, too.
    pub(crate) fn derive(&self, trie: Arc<Trie>) -> Arc<Self> {
        self.derive_for(self.hold.held.1, trie)
    }

    /// The same for snapshots of another version.
    pub(crate) fn derive_for(&self, version: u64, trie: Arc<Trie>) -> Arc<Self> {
        let (sequence, _) = self.hold.held;
        Arc::new(Self { trie, hold: Hold::new(&self.hold.holds, (sequence, version)) })
    }
}

/// Tries by version, under one lock that is held for a few instructions; commits change it under their own lock.
#[derive(Debug)]
struct Current {
    /// Of the newest version that has one, and those that snapshots hold or may just be about to.
    kept: BTreeMap<u64, Arc<HeldTrie>>,
    sequence: u64,
    /// Since the running checkpoint began: what it may be writing, and the sequence at which that was retired.
    retired_meanwhile: Option<Vec<(u64, Retired)>>,
    /// Memory of branches that are not in the arena, about.
    unwritten_bytes: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Tries {
    pub(crate) arena: Arena,
    pub(crate) commitment: Box<dyn Commitment>,
    /// That an update may use.
    threads: usize,
    holds: Arc<Holds>,
    current: Mutex<Current>,
    /// Pages written again while an older trie than the newest was held.
    pub(crate) reused_beside_holds: AtomicU64,
}

impl Tries {
    /// Begins with the trie of one version.
    pub(crate) fn new(
        arena: Arena,
        (commitment, threads): (Box<dyn Commitment>, usize),
        version: u64,
        sequence: u64,
        trie: Trie,
    ) -> Self {
        let holds = Arc::new(Holds::default());
        let held = Arc::new(HeldTrie { trie: Arc::new(trie), hold: Hold::new(&holds, (sequence, version)) });
        let current =
            Current { kept: BTreeMap::from([(version, held)]), sequence, retired_meanwhile: None, unwritten_bytes: 0 };
        Self { arena, commitment, threads, holds, current: current.into(), reused_beside_holds: AtomicU64::new(0) }
    }

    /// The trie of the newest version that has one, with that version.
    pub(crate) fn newest(&self) -> (u64, Arc<HeldTrie>) {
        let current = self.current.lock();
        let (version, held) = current.kept.last_key_value().expect("the newest trie is always there");
        (*version, held.clone())
    }

    /// The same, held for a snapshot of an older version, too: as long as that one is read, nothing takes the nodes away from under what is
    /// made of them, whatever else expires.
    pub(crate) fn newest_for(&self, version: u64) -> (u64, Arc<HeldTrie>) {
        let current = self.current.lock();
        let (newest, held) = current.kept.last_key_value().expect("the newest trie is always there");
        (*newest, held.derive_for(version, held.trie.clone()))
    }

    /// The trie of a version, if it is there.
    pub(crate) fn kept(&self, version: u64) -> Option<Arc<HeldTrie>> {
        self.current.lock().kept.get(&version).cloned()
    }

    /// A new version has this trie. Called under the commit lock.
    pub(crate) fn install(&self, version: u64, new: NewTrie, pins: &Pins) {
        let mut current = self.current.lock();
        current.sequence += 1;
        let sequence = current.sequence;
        let hold = Hold::new(&self.holds, (sequence, version));
        let held = Arc::new(HeldTrie { trie: new.trie, hold });
        let retired = new.retired.len();
        self.retire(&mut current, new.retired, new.memory_bytes, sequence);
        current.kept.insert(version, held);
        // A snapshot of the version before may have been chosen and not registered yet: it stays for one more commit.
        let mut pinned: Vec<u64> = pins.pinned().collect();
        pinned.sort_unstable();
        let is_needed = |own: &u64| *own + 1 >= version || pinned.binary_search(own).is_ok();
        let unneeded: Vec<_> = current.kept.extract_if(.., |own, _| !is_needed(own)).collect();
        drop(current);
        self.free(unneeded, retired);
    }

    /// Lets go of tries at once, and frees their nodes, about so many: where they are many, beside what the caller goes on with.
    fn free(&self, unneeded: Vec<(u64, Arc<HeldTrie>)>, nodes: usize) {
        let tries = unneeded.into_iter().filter_map(|(_, held)| Arc::into_inner(held).map(|held| held.trie));
        let tries: Vec<Arc<Trie>> = tries.collect();
        if self.threads > 1 && nodes >= FREED_ASIDE {
            // Without a thread, the closure is dropped here with all that it has.
            let _ = thread::Builder::new().name("metisdb-free".into()).spawn(move || drop(tries));
        }
    }

    /// All tries before turned out to be wrong: that of the newest version was made without them. Called under the commit lock, before
    /// anyone has used one.
    pub(crate) fn begin_anew(&self, version: u64, trie: Trie, memory_bytes: u64) {
        let mut current = self.current.lock();
        current.sequence += 1;
        let held = HeldTrie { trie: Arc::new(trie), hold: Hold::new(&self.holds, (current.sequence, version)) };
        current.kept = BTreeMap::from([(version, Arc::new(held))]);
        current.unwritten_bytes = memory_bytes;
    }

    /// Lets go of the tries of versions that are neither the newest nor pinned.
    pub(crate) fn prune(&self, pins: &Pins) {
        let pinned: HashSet<u64> = pins.pinned().collect();
        let mut current = self.current.lock();
        let newest = current.kept.last_key_value().map(|(version, _)| *version);
        let unneeded: Vec<_> =
            current.kept.extract_if(.., |own, _| Some(*own) != newest && !pinned.contains(own)).collect();
        drop(current);
        drop(unneeded);
    }

    /// The newest version's trie was swept: it is the same one in other places. Called under the commit lock.
    pub(crate) fn replace_newest(&self, trie: Trie, retired: Vec<Retired>, memory_bytes: u64) {
        let mut current = self.current.lock();
        current.sequence += 1;
        let sequence = current.sequence;
        self.retire(&mut current, retired, memory_bytes, sequence);
        let (version, _) = current.kept.last_key_value().expect("the newest trie is always there");
        let version = *version;
        let held = Arc::new(HeldTrie { trie: Arc::new(trie), hold: Hold::new(&self.holds, (sequence, version)) });
        let before = current.kept.insert(version, held);
        drop(current);
        drop(before);
    }

    fn retire(&self, current: &mut Current, retired: Vec<Retired>, memory_bytes: u64, sequence: u64) {
        let mut pages = self.arena.pages.lock();
        current.unwritten_bytes += memory_bytes;
        for (index, node) in retired.iter().enumerate() {
            if let Some(Retired::Unwritten(ahead)) = retired.get(index + PREFETCHED) {
                ahead.prefetch();
            }
            match node {
                Retired::Written(place, bytes) => pages.retire(*place, *bytes, sequence),
                Retired::Unwritten(branch) => match branch.written().place() {
                    Some(place) => {
                        pages.retire(place, node_bytes(branch.view()), sequence);
                    }
                    None => {
                        current.unwritten_bytes = current.unwritten_bytes.saturating_sub(branch.memory_bytes() as u64);
                        if let Some(meanwhile) = &mut current.retired_meanwhile {
                            meanwhile.push((sequence, node.clone()));
                        }
                    }
                },
            }
        }
    }

    /// Applies changes to a trie. `source` is the state that it is the trie of.
    pub(crate) fn update(&self, base: &Trie, changes: &TrieChanges, source: &impl LeafSource) -> Result<NewTrie> {
        let updated = update::update(&self.arena, &*self.commitment, base, changes, source, self.threads)?;
        let Updated { trie, retired, memory_bytes } = updated;
        Ok(NewTrie { trie: Arc::new(trie), retired, memory_bytes: memory_bytes as u64 })
    }

    /// The topmost node of the storage of an account that exists, by its path; `None` where no slot is set.
    pub(crate) fn storage(&self, trie: &Trie, path: &B256) -> Result<Option<(Arc<Child>, u32)>> {
        let met = walk::descend(&self.arena, trie.top.as_ref(), u32::MAX, path)?.leaf;
        Ok(met.and_then(|met| Some((met.leaf.storage?, met.birth))))
    }

    /// The lowest sequence that something holds: what was retired at or before it is out of reach of all tries in memory that anybody
    /// may read.
    pub(crate) fn floor(&self, pins: &Pins) -> u64 {
        let current = self.current.lock().sequence;
        let expired = pins.expired();
        // Tries of versions that have expired are read no more, unless it is just being done.
        let read: Vec<u64> =
            if expired > 0 { pins.pinned().filter(|version| *version < expired).collect() } else { Vec::new() };
        let is_held = |version: &u64| *version >= expired || read.contains(version);
        let held = self.holds.0.lock().keys().find(|(_, version)| is_held(version)).map(|(sequence, _)| *sequence);
        held.unwrap_or(current)
    }

    /// Whether a trie before the newest one is held.
    pub(crate) fn is_older_held(&self) -> bool {
        let current = self.current.lock().sequence;
        self.holds.0.lock().first_key_value().is_some_and(|((sequence, _), _)| *sequence < current)
    }

    /// A checkpoint begins: from now on what it may be writing is remembered when it is retired. Returns the trie to write, its
    /// version and its sequence. Called under the commit lock.
    pub(crate) fn begin_checkpoint(&self) -> (u64, Arc<HeldTrie>, u64) {
        let mut current = self.current.lock();
        current.retired_meanwhile = Some(Vec::new());
        let (version, held) = current.kept.last_key_value().expect("the newest trie is always there");
        (*version, held.clone(), current.sequence)
    }

    /// The checkpoint's nodes are durable at these places, or it failed and there are none.
    pub(crate) fn end_checkpoint(&self, written: Option<&Written>) {
        let mut current = self.current.lock();
        let meanwhile = current.retired_meanwhile.take().unwrap_or_default();
        let Some(written) = written else { return };
        let mut pages = self.arena.pages.lock();
        // What was retired meanwhile was taken off then: not once more with what was written.
        for (_, retired) in &meanwhile {
            if let Retired::Unwritten(branch) = retired
                && branch.written().planned().is_some()
            {
                current.unwritten_bytes += branch.memory_bytes() as u64;
            }
        }
        // All are added before any is retired: a page whose count touches zero in between would forget its last death.
        let places: Vec<(Place, usize)> = written.places().collect();
        for (node, (place, bytes)) in written.nodes.iter().zip(places) {
            pages.add(place, bytes);
            node.written().settle();
            current.unwritten_bytes = current.unwritten_bytes.saturating_sub(node.memory_bytes() as u64);
        }
        for (sequence, retired) in meanwhile {
            if let Retired::Unwritten(branch) = retired
                && let Some(place) = branch.written().place()
                && !probe::skip("retire-meanwhile")
            {
                pages.retire(place, node_bytes(branch.view()), sequence);
            }
        }
    }

    /// The trie began with so much memory in branches that no checkpoint has written.
    pub(crate) fn add_unwritten(&self, bytes: u64) {
        self.current.lock().unwritten_bytes += bytes;
    }

    /// Memory of branches that no checkpoint has written, about.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.current.lock().unwritten_bytes
    }

    /// Notes pages that were written again.
    pub(crate) fn count_reuse(&self, pages: u64) {
        if self.is_older_held() {
            self.reused_beside_holds.fetch_add(pages, Ordering::Relaxed);
        }
    }
}
