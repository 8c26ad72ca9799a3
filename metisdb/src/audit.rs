//! Auditing the trie: every node against its hash, every leaf against its record, every retained root against the changes.

use alloy_primitives::B256;

use crate::{
    error::Result,
    key::AccountId,
    log::Damage,
    retrace,
    snapshot::Snapshot,
    store::Store,
    trie::{
        Loaded, Trie,
        commitment::{BranchView, LeafView, Payload, Reference},
        nibbles::Nibbles,
        node::{Child, Leaf, Link, NodeRef},
        update::LeafSource,
    },
    view::View,
};

/// Nodes that are read and hashed at once, for the lanes.
const BATCH: usize = 64;

/// What was found to be sound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Audit {
    pub(crate) nodes: u64,
    pub(crate) accounts: u64,
    pub(crate) slots: u64,
    /// Versions whose root was computed and compared.
    pub(crate) roots: u64,
}

/// Audits the trie of a snapshot, and, going back from it, the roots of all versions down to `oldest`, which the caller has pinned.
pub(crate) fn audit(store: &Store, snapshot: &Snapshot, oldest: u64) -> Result<Audit> {
    let mut auditor = Auditor { store, view: snapshot.view(), found: Audit::default() };
    let mut held = snapshot.trie()?;
    auditor.trie(&held.trie)?;
    let mut found = auditor.found;
    retrace::expect_root(store, snapshot.version(), held.trie.root)?;
    found.roots = 1;
    let mut at = snapshot.version();
    // A version without a row is as the one before. (A forged superblock may count as many versions as it likes.)
    for version in store.history.rows().iter().rev().map(|row| row.version).filter(|version| *version >= oldest) {
        if version < at {
            held = retrace::trie_from(store, at, &held, version)?;
            found.roots += 1;
            at = version;
        }
    }
    Ok(found)
}

struct Auditor<'a> {
    store: &'a Store,
    view: View<'a>,
    found: Audit,
}

/// A child still to be looked at.
struct Waiting {
    child: Child,
    birth: u32,
    /// The nibbles that lead to it.
    prefix: Nibbles,
    /// The account whose storage it is in.
    account: Option<AccountId>,
    /// Whether it is the topmost node, which is referred to by the root.
    is_top: bool,
}

impl Auditor<'_> {
    fn trie(&mut self, trie: &Trie) -> Result<()> {
        let top = |child: &Child| Waiting {
            child: child.settled(),
            birth: u32::MAX,
            prefix: Nibbles::EMPTY,
            account: None,
            is_top: true,
        };
        let mut waiting: Vec<Waiting> = trie.top.iter().map(top).collect();
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            let (mut branches, mut leaves) = (Vec::new(), Vec::new());
            for own in batch {
                match own.child.link.clone() {
                    Link::Leaf(leaf) => leaves.push((own, leaf)),
                    Link::Branch(node) => branches.push((own, node)),
                }
            }
            self.branches(branches, &mut waiting)?;
            self.leaves(leaves, &mut waiting)?;
        }
        Ok(())
    }

    fn branches(&mut self, given: Vec<(Waiting, NodeRef)>, waiting: &mut Vec<Waiting>) -> Result<()> {
        let read = |(own, node): (Waiting, NodeRef)| {
            let loaded = Loaded::read(&self.store.tries.arena, &node, own.birth, own.prefix.len())?;
            Ok((own, loaded))
        };
        let read = given.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        self.found.nodes += read.len() as u64;
        let views: Vec<BranchView<'_>> = read.iter().map(|(_, loaded)| loaded.view()).collect();
        let references = self.store.tries.commitment.branches(&views);
        for ((own, loaded), reference) in read.iter().zip(references) {
            self.expect(own, reference)?;
            let mut start = own.prefix;
            (0..loaded.prefix.len()).for_each(|index| start.push(loaded.prefix.get(index)));
            for (nibble, child) in loaded.children.view().iter() {
                let mut prefix = start;
                prefix.push(nibble);
                waiting.push(Waiting { child, birth: loaded.birth, prefix, account: own.account, is_top: false });
            }
        }
        Ok(())
    }

    fn leaves(&mut self, given: Vec<(Waiting, Leaf)>, waiting: &mut Vec<Waiting>) -> Result<()> {
        let tags: Vec<u64> = given.iter().map(|(_, leaf)| leaf.key.get()).collect();
        self.store.lookup.prefetch(&tags);
        let records = given.iter().map(|(own, leaf)| self.record(own, leaf, waiting)).collect::<Result<Vec<_>>>()?;
        let commitment = &self.store.tries.commitment;
        let empty = commitment.root(None);
        let mut views = Vec::with_capacity(given.len());
        for ((own, leaf), (path, payload)) in given.iter().zip(&records) {
            let storage_root = leaf.storage.as_ref().map_or(empty, |top| B256::new(*top.reference.padded()));
            views.push(LeafView { path, depth: own.prefix.len(), payload, storage_root });
        }
        let references = commitment.leaves(&views);
        given.iter().zip(references).try_for_each(|((own, _), reference)| self.expect(own, reference))
    }

    /// The path and the payload of a leaf, by its record. The storage of an account waits then.
    fn record(&mut self, own: &Waiting, leaf: &Leaf, waiting: &mut Vec<Waiting>) -> Result<(B256, Payload)> {
        if let Some(account) = own.account {
            self.found.slots += 1;
            return self.view.leaf(Some(account), leaf.key, &own.prefix);
        }
        self.found.accounts += 1;
        let (path, address, stored) = self.view.account_of_leaf(leaf.key, &own.prefix)?;
        if let Some(storage) = &leaf.storage {
            let account = Some(self.store.lookup.hasher.account_id(&address, stored.salt));
            let (child, prefix) = (storage.settled(), Nibbles::EMPTY);
            waiting.push(Waiting { child, birth: own.birth, prefix, account, is_top: true });
        }
        Ok((path, Payload::Account(stored.account)))
    }

    /// A node has the reference by which its parent knows it.
    fn expect(&self, own: &Waiting, mut actual: Reference) -> Result<()> {
        if own.is_top {
            actual = Reference::hash(self.store.tries.commitment.root(Some(&actual)));
        }
        if actual == own.child.reference {
            return Ok(());
        }
        let place = format!("under {:02x?}", own.prefix.packed());
        let damage = Damage::new(
            format!("a node {:02x?} {place}", own.child.reference.as_bytes()),
            format!("{:02x?}", actual.as_bytes()),
        );
        Err(damage.at("trie", self.store.lookup.storage.path(), 0))
    }
}
