//! The trie of the newest version when a database is opened.
//!
//! Reads need no trie, so the open does not wait for it: what is left to do joins the outstanding roots (see `roots`), before all others. It is
//! the trie of the checkpoint with the changes since as one update; or, where the arena does not have that, all of it from the log.
//!
//! Whatever is wrong with the arena costs time, not data: the trie is derived, and its root must be the one in the log.

mod from_log;

use std::{collections::HashMap, sync::Arc, time::Instant};

use alloy_primitives::{Address, B256};

use crate::{
    difference::changes_between,
    error::{Error, Result},
    key::AccountId,
    log::{Damage, scan::SegmentFile},
    lookup::Lookup,
    probe,
    retrace::changed_keys,
    store::Store,
    superblock::{Superblock, TopReference, TrieReference},
    trie::{
        Loaded, Trie,
        arena::{
            Arena,
            pages::{PAGE_BYTES, Page, Pages},
        },
        commitment::{Commitment, Reference, ethereum::Ethereum},
        node::{Child, Leaf, Link, NodeRef},
    },
    tries::{NewTrie, Tries},
    view::View,
};

/// What is known before the trie is.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) superblock: Superblock,
    /// The log, each segment with its end.
    pub(crate) segments: Vec<SegmentFile>,
    /// The newest version.
    pub(crate) version: u64,
    /// Its root, if the log says so.
    pub(crate) root: Option<B256>,
    /// Memory that nodes may take before they are written to the arena; `None`: nothing is written.
    pub(crate) spill_bytes: Option<u64>,
    /// That make the trie, at most.
    pub(crate) threads: usize,
}

/// The state that a trie is made of.
#[derive(Clone, Copy)]
pub(crate) struct State<'a> {
    pub(crate) lookup: &'a Lookup,
    /// Addresses of accounts with salted ids.
    pub(crate) salted: &'a HashMap<AccountId, Address>,
}

/// The trie of the newest version, still to be made of that of the checkpoint.
#[derive(Debug)]
pub(crate) struct Regrowth {
    known: Known,
    /// Frames with the changes behind the checkpoint.
    frames: Vec<u64>,
}

/// The tries to begin with, and what is left to do for that of the newest version, where `frames` change it. `pages` are those of the image, if it was loaded.
pub(crate) fn begin(
    known: Known,
    state: State<'_>,
    frames: Vec<u64>,
    arena: Arena,
    (scheme, pages): (Ethereum, Option<Pages>),
) -> Result<(Tries, Option<Regrowth>)> {
    let sequence = known.superblock.trie.sequence;
    match of_checkpoint(&known, &arena, &scheme, pages) {
        Ok(base) if frames.is_empty() && known.is_root(&base) => {
            Ok((Tries::new(arena, (Box::new(scheme), known.threads), known.version, sequence, base), None))
        }
        Ok(base) => {
            let tries = Tries::new(
                arena,
                (Box::new(scheme), known.threads),
                known.superblock.checkpoint_version,
                sequence,
                base,
            );
            Ok((tries, Some(Regrowth { known, frames })))
        }
        Err(error) if error.is_damage() => {
            warn_of(&error);
            let (trie, memory_bytes) = from_log::from_log(&known, state, &arena, &scheme)?;
            let tries = Tries::new(arena, (Box::new(scheme), known.threads), known.version, sequence + 1, trie);
            tries.add_unwritten(memory_bytes);
            Ok((tries, None))
        }
        Err(error) => Err(error),
    }
}

fn warn_of(error: &Error) {
    tracing::warn!(%error, "the trie of the checkpoint is not usable; making it anew from the log");
}

/// The trie of the checkpoint, as far as its top tells.
fn of_checkpoint(known: &Known, arena: &Arena, scheme: &Ethereum, pages: Option<Pages>) -> Result<Trie> {
    let superblock = &known.superblock;
    if superblock.trie.top == TopReference::Absent {
        return Err(Damage::new("a trie in the arena", "none, for want of space").at("trie", arena.path(), 0));
    }
    let trie = trie_of(&superblock.trie);
    check_top(arena, scheme, &trie, superblock)?;
    let pages = match pages {
        Some(pages) => pages,
        None => count_pages(arena, &trie, superblock.trie.sequence)?,
    };
    arena.set_pages(pages)?;
    Ok(trie)
}

impl Regrowth {
    /// Makes the trie and installs it. Until then nothing may be dropped from the log, nor written to the arena, nor may anyone use the
    /// trie of the checkpoint, which may turn out to be wrong.
    ///
    /// # Errors
    /// Corruption where the log itself leads to another root than it says; and whatever failing reads and writes can be.
    pub(crate) fn install(&self, store: &Store) -> Result<()> {
        let started = Instant::now();
        let salted = store.writer.lock().ledger.salted.clone();
        let state = State { lookup: &store.lookup, salted: &salted };
        let version = self.known.version;
        match self.over_checkpoint(&store.tries, state) {
            Ok(new) => {
                let _writer = store.writer.lock();
                store.tries.install(version, new, &store.pins);
            }
            Err(error) if error.is_damage() => {
                warn_of(&error);
                let Tries { arena, commitment, .. } = &store.tries;
                let (trie, memory_bytes) = from_log::from_log(&self.known, state, arena, &**commitment)?;
                let _writer = store.writer.lock();
                store.tries.begin_anew(version, trie, memory_bytes);
            }
            Err(error) => return Err(error),
        }
        store.history.set_root(version, store.tries.newest().1.trie.root);
        tracing::debug!(milliseconds = started.elapsed().as_millis() as u64, "the trie is up to date");
        Ok(())
    }

    fn over_checkpoint(&self, tries: &Tries, State { lookup, salted }: State<'_>) -> Result<NewTrie> {
        let Self { known, frames } = self;
        let (_, base) = tries.newest();
        let view = |version| View { lookup, commitment: &*tries.commitment, version, staged: &[] };
        let from = view(known.superblock.checkpoint_version);
        let mut keys = changed_keys(lookup, &known.superblock.identity.seed, frames)?;
        let changes = changes_between(&from, &view(known.version), &mut keys, salted)?;
        let new = tries.update(&base.trie, &changes, &from)?;
        known.expect_root(lookup, &new.trie)?;
        Ok(new)
    }
}

impl Known {
    /// Whether the log agrees that this is the root of the newest version.
    fn is_root(&self, trie: &Trie) -> bool {
        self.root.is_none_or(|root| root == trie.root) || probe::skip("root-compare")
    }

    fn expect_root(&self, lookup: &Lookup, trie: &Trie) -> Result<()> {
        match self.root {
            Some(root) if !self.is_root(trie) => {
                let expected = format!("the root {root} of version {}", self.version);
                Err(Damage::new(expected, format!("{}", trie.root)).at("trie", lookup.storage.path(), 0))
            }
            _ => Ok(()),
        }
    }
}

/// The trie that a superblock refers to.
pub(crate) fn trie_of(reference: &TrieReference) -> Trie {
    let link = |top: TopReference, storage: Option<Arc<Child>>| match top {
        TopReference::Nothing | TopReference::Absent => None,
        TopReference::Leaf(key) => Some(Link::Leaf(Leaf { key, storage })),
        TopReference::Branch(place) => Some(Link::Branch(NodeRef::Arena(place))),
    };
    let storage = reference
        .storage
        .and_then(|(root, top)| Some(Arc::new(Child { reference: Reference::hash(root), link: link(top, None)? })));
    let top = link(reference.top, storage).map(|link| Child { reference: Reference::hash(reference.root), link });
    Trie { top, root: reference.root }
}

/// The topmost branch is sound and has the hash that the superblock names.
fn check_top(arena: &Arena, scheme: &Ethereum, trie: &Trie, superblock: &Superblock) -> Result<()> {
    let Some(Child { link: Link::Branch(node), .. }) = &trie.top else { return Ok(()) };
    let loaded = Loaded::read(arena, node, superblock.trie.generation, 0)?;
    let references = scheme.branches(&[loaded.view()]);
    let root = scheme.root(references.first());
    if root != trie.root {
        let damage = Damage::new(format!("the root {}", trie.root), format!("{root}"));
        return Err(damage.at("node", arena.path(), 0));
    }
    Ok(())
}

/// Counts the live bytes of all pages by going through the trie. What it does not reach may be needed by the older superblock.
///
/// # Errors
/// Corruption where a node is damaged, or more nodes lead into a page than fit.
pub(crate) fn count_pages(arena: &Arena, trie: &Trie, sequence: u64) -> Result<Pages> {
    let mut pages = arena.empty_pages(Page { live_bytes: 0, died: sequence });
    let mut waiting: Vec<(Child, u32, usize)> = trie.top.iter().map(|child| (child.clone(), u32::MAX, 0)).collect();
    while let Some((child, birth, depth)) = waiting.pop() {
        match child.link {
            Link::Leaf(leaf) => waiting.extend(leaf.storage.map(|storage| (Child::clone(&storage), birth, 0))),
            Link::Branch(node) => {
                let loaded = Loaded::read(arena, &node, birth, depth)?;
                if let NodeRef::Arena(place) = node {
                    if pages.live_bytes_beside(place) + loaded.bytes as u64 > PAGE_BYTES {
                        let damage = Damage::new("a page of nodes each with one parent", "a node that two lead to");
                        return Err(arena.damage(damage, place));
                    }
                    pages.add(place, loaded.bytes);
                }
                let below = depth + loaded.prefix.len() + 1;
                waiting.extend(loaded.children.view().iter().map(|(_, child)| (child, loaded.birth, below)));
            }
        }
    }
    Ok(pages)
}
