//! Applying changes to a trie: a new trie that shares with the old one all that did not change.
//!
//! The structure comes first: paths are walked with all their changes at once, sorted, and the branches on them become
//! *drafts* (see `draft`), in which nothing is hashed yet. Depth of the recursion: each step consumes a nibble, so at most 64 for the
//! accounts and 64 for the storage of one.
//!
//! A change says whether its key is in the old trie (`existed`). So the leaf that a path leads to is known to be the key's own or
//! another's, and hashes of keys are never compared.

mod split;

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use alloy_primitives::{B256, U256};

use super::{
    Loaded, Trie,
    arena::{Arena, Place},
    commitment::{Commitment, Payload},
    draft::{Draft, DraftLeaf, Drafts, Slot, Tier},
    nibbles::{Nibbles, nibble, shared},
    node::{Branch, Child, KeyTag, Leaf, Link, NodeRef},
    warm,
};
use crate::{error::Result, key::AccountId, log::Damage, types::Account};

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Item<C> {
    pub(crate) path: B256,
    pub(crate) key: KeyTag,
    /// Whether the key is in the trie before.
    pub(crate) existed: bool,
    pub(crate) change: C,
}

/// What becomes of an account.
#[derive(Clone, Debug)]
pub(crate) struct AccountChange {
    pub(crate) id: AccountId,
    /// `None`: it is gone.
    pub(crate) account: Option<Account>,
    /// Its storage is dropped first; then no slot of it `existed`.
    pub(crate) wiped: bool,
    /// Its changed slots, in [`TrieChanges::slots`].
    pub(crate) slots: Range<usize>,
}

/// The changes of one update.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrieChanges {
    /// Sorted by path; every account that is changed or any of whose slots is.
    pub(crate) accounts: Vec<Item<AccountChange>>,
    /// Sorted by path within an account; `None`: the slot is cleared.
    pub(crate) slots: Vec<Item<Option<Payload>>>,
}

/// Finds what leaves only name, for any thread.
pub(crate) trait LeafSource: Sync {
    /// Path and payload of the leaf with this key, the only one whose path begins with `prefix`, in the storage trie of
    /// an account or among the accounts; as of the version of the trie that is read.
    ///
    /// # Errors
    /// Corruption where there is none.
    fn leaf(&self, account: Option<AccountId>, key: KeyTag, prefix: &Nibbles) -> Result<(B256, Payload)>;
}

/// The new trie, and what it does not use any more.
#[derive(Debug)]
pub(crate) struct Updated {
    pub(crate) trie: Trie,
    /// Branches of the old trie that the new one replaces, each once.
    pub(crate) retired: Vec<Retired>,
    /// Memory that the new branches take.
    pub(crate) memory_bytes: usize,
}

/// A branch that a trie does not use any more.
#[derive(Clone, Debug)]
pub(crate) enum Retired {
    /// In the arena, so many bytes long.
    Written(Place, usize),
    /// It was in memory only, and may have been written since.
    Unwritten(Branch),
}

/// Applies changes to `base`, on at most so many threads.
///
/// # Errors
/// Corruption where a node or a leaf's record is damaged, or trie and records contradict each other. `base` stays as it is.
pub(crate) fn update(
    arena: &Arena,
    commitment: &dyn Commitment,
    base: &Trie,
    changes: &TrieChanges,
    source: &impl LeafSource,
    threads: usize,
) -> Result<Updated> {
    if changes.accounts.is_empty() {
        return Ok(Updated { trie: base.clone(), retired: Vec::new(), memory_bytes: 0 });
    }
    let mut update = Update { arena, source, changes, threads, drafts: Drafts::new(commitment), retired: Vec::new() };
    let existing = base.top.as_ref().map_or(Existing::Nothing, |child| Existing::Child(child.settled(), u32::MAX));
    let top = update.descend(&Accounts, existing, 0, &changes.accounts)?;
    let Update { drafts, retired, .. } = update;
    let hashed = drafts.finish(top);
    Ok(Updated { trie: hashed.trie, retired, memory_bytes: hashed.memory_bytes })
}

/// What was there before, at some depth.
enum Existing {
    Nothing,
    /// A child, and the latest birth that it can have.
    Child(Child, u32),
    /// A branch with another prefix than it had.
    Branch(Loaded),
}

impl Existing {
    /// What stood at a nibble of a draft.
    fn of(draft: &Draft, step: u8) -> Self {
        draft.clean(step).map_or(Self::Nothing, |(child, birth)| Self::Child(child, birth))
    }
}

struct Update<'a, S> {
    arena: &'a Arena,
    source: &'a S,
    changes: &'a TrieChanges,
    /// It may be spread over so many (see `split`).
    threads: usize,
    drafts: Drafts<'a>,
    retired: Vec<Retired>,
}

/// The two kinds of tries.
trait Kind<S: LeafSource>: Sync {
    type Change: Sync;
    /// The account whose storage it is.
    fn account(&self) -> Option<AccountId>;
    fn tier(&self) -> Tier;
    /// How many keys change with these items.
    fn weight(&self, items: &[Item<Self::Change>]) -> usize;
    /// Brings what is below a child closer, for these items.
    fn warm(&self, update: &Update<'_, S>, child: &Child, depth: usize, items: &[Item<Self::Change>]);
    /// The leaf that a change makes of what was there; `None` if there is none.
    fn change_leaf(
        &self,
        update: &mut Update<'_, S>,
        item: &Item<Self::Change>,
        old: Option<(Leaf, u32)>,
    ) -> Result<Option<DraftLeaf>>;
}

/// Items below one branch that are dealt with as a group: enough to fill the lanes, few enough for the processor's cache.
const GROUP: RangeInclusive<usize> = 8..=64;

struct Accounts;

struct Storage(AccountId);

impl<S: LeafSource> Kind<S> for Accounts {
    type Change = AccountChange;

    fn account(&self) -> Option<AccountId> {
        None
    }

    fn tier(&self) -> Tier {
        Tier::Accounts
    }

    fn weight(&self, items: &[Item<AccountChange>]) -> usize {
        items.iter().map(|item| 1 + item.change.slots.len()).sum()
    }

    fn warm(&self, update: &Update<'_, S>, child: &Child, depth: usize, items: &[Item<AccountChange>]) {
        warm::warm(update.arena, child, depth, items, update.changes);
    }

    fn change_leaf(
        &self,
        update: &mut Update<'_, S>,
        item: &Item<AccountChange>,
        old: Option<(Leaf, u32)>,
    ) -> Result<Option<DraftLeaf>> {
        let change = &item.change;
        let storage = old.and_then(|(leaf, birth)| Some((leaf.storage?, birth)));
        let storage = match (storage, change.account.is_none() || change.wiped) {
            (Some((storage, birth)), true) => {
                update.retire_all(&storage, birth)?;
                Existing::Nothing
            }
            (Some((storage, birth)), false) => Existing::Child(Child::clone(&storage), birth),
            (None, _) => Existing::Nothing,
        };
        let slots = &update.changes.slots[change.slots.clone()];
        let storage = match storage {
            Existing::Child(child, _) if slots.is_empty() => Slot::Clean(child),
            storage => update.descend(&Storage(change.id), storage, 0, slots)?,
        };
        update.drafts.end_storage();
        let Some(account) = change.account else { return Ok(None) };
        let payload = Payload::Account(account);
        Ok(Some(DraftLeaf { path: item.path, depth: 0, key: item.key, payload, storage, tier: Tier::Accounts }))
    }
}

impl<S: LeafSource> Kind<S> for Storage {
    type Change = Option<Payload>;

    fn account(&self) -> Option<AccountId> {
        Some(self.0)
    }

    fn tier(&self) -> Tier {
        Tier::Storage
    }

    fn weight(&self, items: &[Item<Option<Payload>>]) -> usize {
        items.len()
    }

    fn warm(&self, _: &Update<'_, S>, _: &Child, _: usize, _: &[Item<Option<Payload>>]) {
        // That of the accounts went into their storage.
    }

    fn change_leaf(
        &self,
        _: &mut Update<'_, S>,
        item: &Item<Option<Payload>>,
        _: Option<(Leaf, u32)>,
    ) -> Result<Option<DraftLeaf>> {
        let leaf = |payload: &Payload| DraftLeaf::of_slot(item.path, item.key, payload.clone());
        Ok(item.change.as_ref().map(leaf))
    }
}

impl<S: LeafSource> Update<'_, S> {
    /// Applies `items`, whose paths all share their first `depth` nibbles, to what is there at that depth.
    fn descend<K: Kind<S>>(
        &mut self,
        kind: &K,
        existing: Existing,
        depth: usize,
        items: &[Item<K::Change>],
    ) -> Result<Slot> {
        match existing {
            Existing::Nothing if self.is_worth_splitting(kind, items) => self.merge_anew(kind, depth, items),
            Existing::Nothing => self.change_leaves(kind, None, depth, items),
            Existing::Child(Child { link: Link::Leaf(leaf), .. }, birth) => {
                self.change_leaves(kind, Some((leaf, birth)), depth, items)
            }
            Existing::Child(Child { link: Link::Branch(node), .. }, birth) => {
                let loaded = self.take_apart(node, birth, depth)?;
                self.change_branch(kind, loaded, depth, items)
            }
            Existing::Branch(loaded) => self.change_branch(kind, loaded, depth, items),
        }
    }

    /// Where nothing was, and there is much to build: splits it at the first branch that there will be.
    fn merge_anew<K: Kind<S>>(&mut self, kind: &K, depth: usize, items: &[Item<K::Change>]) -> Result<Slot> {
        match items {
            [first, .., last] if first.path != last.path => {
                let prefix = Nibbles::of(&first.path, depth, shared(&first.path, &last.path));
                self.merge(kind, Draft::new(kind.tier(), depth, prefix), None, items)
            }
            _ => self.change_leaves(kind, None, depth, items),
        }
    }

    /// Where at most one leaf was: builds a subtrie of it and the items.
    fn change_leaves<K: Kind<S>>(
        &mut self,
        kind: &K,
        mut old: Option<(Leaf, u32)>,
        depth: usize,
        items: &[Item<K::Change>],
    ) -> Result<Slot> {
        if let [item] = items
            && let Some(own) = old.take_if(|(leaf, _)| item.existed && leaf.key == item.key)
        {
            // By far the most frequent case.
            let Some(leaf) = kind.change_leaf(self, item, Some(own))? else { return Ok(Slot::Empty) };
            let leaf = self.drafts.add_leaf(leaf);
            self.drafts.set_depth(leaf, depth);
            return Ok(Slot::Leaf(leaf));
        }
        let mut leaves = Vec::with_capacity(items.len() + 1);
        if let Some((leaf, _)) = &old
            && !items.iter().any(|item| item.existed)
        {
            let prefix = items.first().map_or(Nibbles::EMPTY, |item| Nibbles::of(&item.path, 0, depth));
            leaves.push(self.resolve(kind, leaf, &prefix)?);
            old = None;
        }
        for item in items {
            let own = if item.existed {
                Some(old.take().ok_or_else(|| self.contradiction("a leaf", "none", item.path))?)
            } else {
                None
            };
            if let Some((leaf, _)) = &own
                && leaf.key != item.key
            {
                return Err(self.contradiction("the leaf of this key", "another", item.path));
            }
            if let Some(leaf) = kind.change_leaf(self, item, own)? {
                leaves.push(self.drafts.add_leaf(leaf));
            }
        }
        if leaves.len() > 1 {
            leaves.sort_unstable_by_key(|leaf| self.drafts.path(*leaf));
        }
        self.build(kind.tier(), depth, &leaves)
    }

    /// The subtrie of these leaves, sorted by path.
    fn build(&mut self, tier: Tier, depth: usize, leaves: &[u32]) -> Result<Slot> {
        let (first, last) = match leaves {
            [] => return Ok(Slot::Empty),
            [leaf] => {
                self.drafts.set_depth(*leaf, depth);
                return Ok(Slot::Leaf(*leaf));
            }
            [first, .., last] => (self.drafts.path(*first), self.drafts.path(*last)),
        };
        let branching = shared(&first, &last);
        if first == last {
            return Err(self.contradiction("one leaf on a path", "two", first));
        }
        let mut draft = Draft::new(tier, depth, Nibbles::of(&first, depth, branching));
        let mut rest = leaves;
        while let Some(leaf) = rest.first() {
            let step = nibble(&self.drafts.path(*leaf), branching);
            let count = rest.partition_point(|leaf| nibble(&self.drafts.path(*leaf), branching) <= step);
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let slot = self.build(tier, branching + 1, group)?;
            draft.set(step, slot);
        }
        Ok(self.drafts.add(draft))
    }

    /// Applies items to a branch.
    fn change_branch<K: Kind<S>>(
        &mut self,
        kind: &K,
        loaded: Loaded,
        depth: usize,
        items: &[Item<K::Change>],
    ) -> Result<Slot> {
        let prefix = loaded.prefix;
        let common =
            |item: Option<&Item<K::Change>>| item.map_or(prefix.len(), |item| prefix.shared_with(&item.path, depth));
        let matched = common(items.first()).min(common(items.last()));
        let (draft, inner) = if matched == prefix.len() {
            (Draft::of(kind.tier(), depth, prefix, loaded), None)
        } else {
            // The branch moves down: the items leave its prefix in the middle.
            let inner = Loaded { prefix: prefix.without_first(matched + 1), ..loaded };
            (Draft::new(kind.tier(), depth, prefix.first(matched)), Some((prefix.get(matched), inner)))
        };
        self.merge(kind, draft, inner, items)
    }

    /// Applies items to the children of a draft. `inner` is a branch that becomes one of them, at a nibble.
    fn merge<K: Kind<S>>(
        &mut self,
        kind: &K,
        mut draft: Draft,
        mut inner: Option<(u8, Loaded)>,
        items: &[Item<K::Change>],
    ) -> Result<Slot> {
        let branching = draft.depth + draft.prefix.len();
        let path = items.first().map_or(B256::ZERO, |item| item.path);
        let mut rest = items;
        if inner.is_none() && self.is_worth_splitting(kind, items) && self.split(kind, &mut draft, items)? {
            rest = &[];
        }
        loop {
            let next = rest.first().map(|item| nibble(&item.path, branching));
            let step = match (inner.as_ref().map(|(step, _)| *step), next) {
                (Some(old), Some(new)) => old.min(new),
                (Some(step), None) | (None, Some(step)) => step,
                (None, None) => break,
            };
            let count = rest.partition_point(|item| nibble(&item.path, branching) <= step);
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let existing = match inner.take_if(|(own, _)| *own == step) {
                Some((_, inner)) => Existing::Branch(inner),
                None => Existing::of(&draft, step),
            };
            let is_group = items.len() > *GROUP.end() && GROUP.contains(&group.len());
            if let Existing::Child(child, _) = &existing
                && is_group
            {
                kind.warm(self, child, branching + 1, group);
            }
            let mark = self.drafts.mark();
            let mut slot = self.descend(kind, existing, branching + 1, group)?;
            if is_group {
                slot = self.drafts.hash_group(kind.tier(), mark, slot);
            }
            draft.set(step, slot);
        }
        self.finish(kind, draft, &path)
    }

    /// A branch of one child is none.
    fn finish<K: Kind<S>>(&mut self, kind: &K, draft: Draft, path: &B256) -> Result<Slot> {
        match draft.len() {
            0 => return Ok(Slot::Empty),
            1 => {}
            _ => return Ok(self.drafts.add(draft)),
        }
        let (step, slot, birth) = draft.only();
        match slot {
            Slot::Leaf(leaf) => {
                self.drafts.set_depth(leaf, draft.depth);
                Ok(Slot::Leaf(leaf))
            }
            Slot::Draft(index) => {
                self.drafts.raise(index, draft.depth, &draft.prefix, step);
                Ok(Slot::Draft(index))
            }
            Slot::Clean(Child { link: Link::Leaf(leaf), .. }) => {
                let prefix = Nibbles::of(path, 0, draft.depth + draft.prefix.len()).joined(step, &Nibbles::EMPTY);
                let leaf = self.resolve(kind, &leaf, &prefix)?;
                self.drafts.set_depth(leaf, draft.depth);
                Ok(Slot::Leaf(leaf))
            }
            Slot::Clean(Child { link: Link::Branch(node), .. }) => {
                let loaded = self.take_apart(node, birth, draft.depth + draft.prefix.len() + 1)?;
                let prefix = draft.prefix.joined(step, &loaded.prefix);
                Ok(self.drafts.add(Draft::of(kind.tier(), draft.depth, prefix, loaded)))
            }
            Slot::Empty => Ok(Slot::Empty),
        }
    }

    /// A leaf of the old trie that gets another place.
    fn resolve<K: Kind<S>>(&mut self, kind: &K, leaf: &Leaf, prefix: &Nibbles) -> Result<u32> {
        let (path, payload) = self.source.leaf(kind.account(), leaf.key, prefix)?;
        let storage = leaf.storage.as_ref().map_or(Slot::Empty, |child| Slot::Clean(Child::clone(child)));
        let leaf = DraftLeaf { path, depth: 0, key: leaf.key, payload, storage, tier: kind.tier() };
        Ok(self.drafts.add_leaf(leaf))
    }

    /// Loads a branch that will be replaced.
    fn take_apart(&mut self, node: NodeRef, birth: u32, depth: usize) -> Result<Loaded> {
        let loaded = Loaded::read(self.arena, &node, birth, depth)?;
        self.retired.push(match node {
            NodeRef::Arena(place) => Retired::Written(place, loaded.bytes),
            NodeRef::Memory(branch) => Retired::Unwritten(branch),
        });
        Ok(loaded)
    }

    /// Retires all branches of a storage trie.
    fn retire_all(&mut self, top: &Arc<Child>, birth: u32) -> Result<()> {
        let mut waiting = vec![(Child::settled(top), birth, 0)];
        let mut bytes = 0;
        while let Some((child, birth, depth)) = waiting.pop() {
            if let Link::Branch(node) = child.link {
                let loaded = self.take_apart(node, birth, depth)?;
                bytes += loaded.bytes as u64;
                if bytes > self.arena.bytes() {
                    let damage = Damage::new("nodes each with one parent", "more of them than the arena holds");
                    return Err(damage.at("trie", self.arena.path(), 0));
                }
                let below = depth + loaded.prefix.len() + 1;
                waiting.extend(loaded.children.view().iter().map(|(_, child)| (child, loaded.birth, below)));
            }
        }
        Ok(())
    }

    fn contradiction(&self, expected: &str, got: &str, path: B256) -> crate::Error {
        let damage = Damage::new(format!("{expected} on path {path}"), got);
        damage.at("trie", self.arena.path(), 0)
    }
}

/// A slot's payload; `None` for zero.
pub(crate) fn slot_payload(value: U256) -> Option<Payload> {
    (!value.is_zero()).then_some(Payload::Slot(value))
}
