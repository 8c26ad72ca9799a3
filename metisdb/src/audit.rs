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
        commitment::{LeafView, Payload, Reference},
        nibbles::Nibbles,
        node::{Child, Leaf, Link, NodeRef},
        update::LeafSource,
    },
    view::View,
};

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
    expect_root(store, snapshot.version(), held.trie.root)?;
    found.roots = 1;
    for version in (oldest..snapshot.version()).rev() {
        held = retrace::trie_from(store, version + 1, &held, version)?;
        expect_root(store, version, held.trie.root)?;
        found.roots += 1;
    }
    Ok(found)
}

/// The root of a version is the one that was committed, if that is known.
fn expect_root(store: &Store, version: u64, root: B256) -> Result<()> {
    match store.history.row(version).and_then(|row| row.root) {
        Some(stated) if stated != root => {
            let damage = Damage::new(format!("the root {stated} of version {version}"), format!("{root}"));
            Err(damage.at("trie", store.lookup.storage.path(), 0))
        }
        _ => Ok(()),
    }
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
        while let Some(next) = waiting.pop() {
            match &next.child.link {
                Link::Leaf(leaf) => self.leaf(&next, leaf, &mut waiting)?,
                Link::Branch(node) => self.branch(&next, node, &mut waiting)?,
            }
        }
        Ok(())
    }

    fn branch(&mut self, own: &Waiting, node: &NodeRef, waiting: &mut Vec<Waiting>) -> Result<()> {
        let loaded = Loaded::read(&self.store.tries.arena, node, own.birth, own.prefix.len())?;
        self.found.nodes += 1;
        let references = self.store.tries.commitment.branches(&[loaded.view()]);
        self.expect(own, references.first())?;
        let mut start = own.prefix;
        (0..loaded.prefix.len()).for_each(|index| start.push(loaded.prefix.get(index)));
        for (nibble, child) in loaded.children.view().iter() {
            let mut prefix = start;
            prefix.push(nibble);
            waiting.push(Waiting { child, birth: loaded.birth, prefix, account: own.account, is_top: false });
        }
        Ok(())
    }

    fn leaf(&mut self, own: &Waiting, leaf: &Leaf, waiting: &mut Vec<Waiting>) -> Result<()> {
        let (path, payload) = match own.account {
            Some(account) => {
                self.found.slots += 1;
                self.view.leaf(Some(account), leaf.key, &own.prefix)?
            }
            None => {
                self.found.accounts += 1;
                let (path, address, stored) = self.view.account_of_leaf(leaf.key, &own.prefix)?;
                if let Some(storage) = &leaf.storage {
                    let account = Some(self.store.lookup.hasher.account_id(&address, stored.salt));
                    let (child, prefix) = (storage.settled(), Nibbles::EMPTY);
                    waiting.push(Waiting { child, birth: own.birth, prefix, account, is_top: true });
                }
                (path, Payload::Account(stored.account))
            }
        };
        let commitment = &self.store.tries.commitment;
        let empty = commitment.root(None);
        let storage_root = leaf.storage.as_ref().map_or(empty, |top| B256::new(*top.reference.padded()));
        let view = LeafView { path: &path, depth: own.prefix.len(), payload: &payload, storage_root };
        let references = commitment.leaves(&[view]);
        self.expect(own, references.first())
    }

    /// A node has the reference by which its parent knows it.
    fn expect(&self, own: &Waiting, actual: Option<&Reference>) -> Result<()> {
        let actual = match actual {
            Some(reference) if own.is_top => Reference::hash(self.store.tries.commitment.root(Some(reference))),
            Some(reference) => *reference,
            None => return Ok(()),
        };
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
