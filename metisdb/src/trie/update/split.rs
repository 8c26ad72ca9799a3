//! An update on several threads: what is below the children of one branch does not depend on each other.
//!
//! The first branch on the way down whose changes spread over several children is split; what one thread makes of a child is hashed there,
//! and is to the branch as if it had been there before.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Existing, Item, Kind, LeafSource, Retired, Update};
use crate::{
    error::Result,
    trie::{
        draft::{Detached, Draft, Drafts},
        nibbles::nibble,
    },
};

/// Changed keys from which on threads are worth it: to start one takes as long as to deal with about twenty.
const WORTHWHILE: usize = if cfg!(test) { 6 } else { 512 };

/// A child with its changes, until a thread takes them.
struct Share<'i, C> {
    step: u8,
    items: &'i [Item<C>],
    existing: Mutex<Option<Existing>>,
}

/// What a thread has made.
#[derive(Default)]
struct Made {
    children: Vec<(u8, Detached)>,
    retired: Vec<Retired>,
    memory_bytes: usize,
}

impl<S: LeafSource> Update<'_, S> {
    /// Whether there is enough to do for several threads.
    pub(super) fn is_worth_splitting<K: Kind<S>>(&self, kind: &K, items: &[Item<K::Change>]) -> bool {
        self.threads > 1 && kind.weight(items) >= WORTHWHILE
    }

    /// Applies items to the children of a draft, on several threads. Returns whether that was done: not where one child has most of them,
    /// which is better split itself.
    pub(super) fn split<K: Kind<S>>(&mut self, kind: &K, draft: &mut Draft, items: &[Item<K::Change>]) -> Result<bool> {
        let branching = draft.depth + draft.prefix.len();
        let of_one_child = |one: &Item<K::Change>, other: &Item<K::Change>| {
            nibble(&one.path, branching) == nibble(&other.path, branching)
        };
        let weights: Vec<usize> = items.chunk_by(of_one_child).map(|items| kind.weight(items)).collect();
        let (most, all) = (weights.iter().max().copied().unwrap_or(0), weights.iter().sum::<usize>());
        if 4 * most > 3 * all {
            return Ok(false);
        }
        let shares: Vec<Share<'_, K::Change>> = items
            .chunk_by(of_one_child)
            .map(|items| {
                let step = nibble(&items[0].path, branching);
                Share { step, items, existing: Mutex::new(Some(Existing::of(draft, step))) }
            })
            .collect();
        for made in self.work_side_by_side(kind, &shares, branching + 1)? {
            self.retired.extend(made.retired);
            self.drafts.add_memory(made.memory_bytes);
            for (step, child) in made.children {
                let slot = self.drafts.attach(child);
                draft.set(step, slot);
            }
        }
        Ok(true)
    }

    /// Each thread takes the next share until there is none; this one, too.
    fn work_side_by_side<K: Kind<S>>(
        &self,
        kind: &K,
        shares: &[Share<'_, K::Change>],
        depth: usize,
    ) -> Result<Vec<Made>> {
        let next = AtomicUsize::new(0);
        let (arena, source, changes, commitment) = (self.arena, self.source, self.changes, self.drafts.commitment);
        let work = || -> Result<Made> {
            let mut update =
                Update { arena, source, changes, threads: 1, drafts: Drafts::new(commitment), retired: Vec::new() };
            let mut made = Made::default();
            while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                let existing = share.existing.lock().unwrap_or_else(PoisonError::into_inner).take();
                let slot = update.descend(kind, existing.unwrap_or(Existing::Nothing), depth, share.items)?;
                made.children.push((share.step, update.drafts.detach(kind.tier(), slot)));
            }
            made.memory_bytes = update.drafts.memory_bytes();
            made.retired = update.retired;
            Ok(made)
        };
        thread::scope(|scope| {
            // Without a thread it takes longer, nothing else: whoever is there takes the next share.
            let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..self.threads.min(shares.len())).filter_map(spawn).collect();
            let own = work();
            let others =
                others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            std::iter::once(own).chain(others).collect()
        })
    }
}
