//! The trie alone, without a database around it: any bytes in its leaves, as in Ethereum's trie tests.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};

use super::{Random, disk, mix, naive_trie, small};
use crate::{
    Account, Result,
    key::AccountId,
    log::segment::Identity,
    trie::{
        Trie,
        arena::Arena,
        commitment::{Commitment, Payload, ethereum::Ethereum},
        nibbles::Nibbles,
        node::{KeyTag, Link},
        update::{AccountChange, Item, LeafSource, TrieChanges, update},
    },
};

const ACCOUNT: AccountId = AccountId(1);

/// What the leaves only name.
#[derive(Clone, Default)]
struct Leaves(BTreeMap<B256, Vec<u8>>);

fn tag(path: &B256) -> KeyTag {
    KeyTag::of(u64::from_be_bytes(std::array::from_fn(|index| path[index] ^ path[index + 24])))
}

impl LeafSource for Leaves {
    fn leaf(&self, account: Option<AccountId>, key: KeyTag, prefix: &Nibbles) -> Result<(B256, Payload)> {
        assert_eq!(account, Some(ACCOUNT), "the one account stays where it is");
        let mut same =
            self.0.iter().filter(|(path, _)| tag(path) == key && prefix.shared_with(path, 0) == prefix.len());
        let (path, value) = same.next().expect("the leaf is there");
        assert!(same.next().is_none(), "the prefix tells leaves of one tag apart");
        Ok((*path, Payload::Raw(value.clone())))
    }
}

/// A trie whose storage trie of one account is the one under test.
pub(super) struct Bench {
    arena: Arena,
    trie: Trie,
    leaves: Leaves,
    threads: usize,
}

impl Bench {
    pub(super) fn new(threads: usize) -> Self {
        let identity = Identity { database_id: [0; 16], seed: [0; 32], segment_bytes: small().segment_bytes };
        let arena = Arena::open(disk(0), identity, None).unwrap();
        let root = Ethereum::default().root(None);
        Self { arena, trie: Trie { top: None, root }, leaves: Leaves::default(), threads }
    }

    /// Applies changes as one update; `None` removes.
    pub(super) fn apply(&mut self, changes: &BTreeMap<B256, Option<Vec<u8>>>) {
        let before = self.leaves.clone();
        let mut slots = Vec::new();
        for (path, value) in changes {
            if self.leaves.0.get(path) == value.as_ref() {
                continue;
            }
            let existed = match value {
                Some(value) => self.leaves.0.insert(*path, value.clone()),
                None => self.leaves.0.remove(path),
            };
            let change = value.clone().map(Payload::Raw);
            slots.push(Item { path: *path, key: tag(path), existed: existed.is_some(), change });
        }
        let range = 0..slots.len();
        let change = AccountChange { id: ACCOUNT, account: Some(Account::default()), wiped: false, slots: range };
        let account = Item { path: B256::ZERO, key: KeyTag::of(1), existed: self.trie.top.is_some(), change };
        let changes = TrieChanges { accounts: vec![account], slots };
        self.trie =
            update(&self.arena, &Ethereum::default(), &self.trie, &changes, &before, self.threads).unwrap().trie;
    }

    pub(super) fn root(&self) -> B256 {
        let Some(Link::Leaf(leaf)) = self.trie.top.as_ref().map(|top| &top.link) else { panic!("one account") };
        leaf.storage.as_ref().map_or(Ethereum::default().root(None), |top| B256::new(*top.reference.padded()))
    }
}

/// Random sets and removals on paths that share much or little; every root is the naive trie's.
#[test]
fn random_updates_have_the_naive_roots() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let threads = 1 + seed as usize % 3;
        let mut bench = Bench::new(threads);
        // How many of the lower nibbles differ, and how long values are.
        let (nibbles, longest) = (1 + random.below(8), 1 + random.below(60));
        for step in 0..12 {
            let mut changes = BTreeMap::new();
            for _ in 0..random.below(20) {
                let number = mix(random.below(60)) % 16u64.pow(nibbles as u32);
                let path = B256::left_padding_from(&number.to_be_bytes());
                let path = if random.one_in(4) { keccak256(path) } else { path };
                let value = vec![random.next() as u8 | 1; 1 + random.below(longest) as usize];
                changes.insert(path, (!random.one_in(3)).then_some(value));
            }
            bench.apply(&changes);
            let naive = naive_trie::root(bench.leaves.0.iter().map(|(path, value)| (path.as_slice(), value)));
            assert_eq!(bench.root(), naive, "seed {seed}, step {step}");
            let mut anew = Bench::new(threads);
            anew.apply(&bench.leaves.0.iter().map(|(path, value)| (*path, Some(value.clone()))).collect());
            assert_eq!(anew.root(), naive, "seed {seed}, step {step}, from empty");
        }
    }
}
