//! NOMT: a key-ordered binary trie hashed with BLAKE3, its default. Every commit is synced. A reader holds a session,
//! for which commits wait.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bitvec::{order::Msb0, view::BitView};
use nomt::{
    KeyReadWrite, Nomt as Inner, Options, Root, Session, SessionParams,
    hasher::{Blake3Hasher, ValueHasher},
    trie::LeafData,
};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, cache_bytes, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

/// Pages of the trie that its hash table has room for: the default, or twice what this many random keys need.
const LEAST_BUCKETS: u64 = 64_000;
const KEYS_A_BUCKET: u64 = 20;

pub(crate) struct Nomt(Inner<Blake3Hasher>);

impl Store for Nomt {
    const NAME: &'static str = "nomt";
    const TITLE: &'static str = "NOMT";
    const COMMITS: Commits = Commits::Durable;

    type Key = Key;
    type Reader<'s> = Session<Blake3Hasher>;

    fn key(space: &KeySpace, number: u64) -> Key {
        plain_key(space, number)
    }

    fn open(path: &Path, space: &KeySpace) -> Result<Self> {
        let cache = (cache_bytes(space) >> 20) as usize;
        let mut options = Options::new();
        options.path(path);
        options.commit_concurrency(thread::available_parallelism()?.get());
        options.hashtable_buckets(LEAST_BUCKETS.max(space.keys / KEYS_A_BUCKET) as u32);
        options.page_cache_size(cache);
        options.leaf_cache_size(cache);
        options.prepopulate_page_cache(true);
        options.page_cache_upper_levels(stored_levels(space.keys));
        Ok(Self(Inner::open(options)?))
    }

    fn reader(&self) -> Result<Session<Blake3Hasher>> {
        Ok(self.0.begin_session(SessionParams::default()))
    }

    fn commit(&self, block: &[Change<Key>], _durability: Durability) -> Result<()> {
        let session = self.0.begin_session(SessionParams::default());
        let write =
            |(key, value): &Change<Key>| (*key, KeyReadWrite::Write(value.map(|value| to_bytes(value).to_vec())));
        let finished = session.finish(block.iter().map(write).collect())?;
        Ok(finished.commit(&self.0)?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader<Key> for Session<Blake3Hasher> {
    fn get(&self, key: &Key) -> Result<Words> {
        self.read(*key)?.map_or(Ok(ABSENT), |value| from_bytes(&value))
    }

    fn prove(&self, key: &Key, value: Words) -> Result<Option<Duration>> {
        let started = Instant::now();
        let proof = Session::prove(self, *key)?;
        let elapsed = started.elapsed();
        let leaf = LeafData { key_path: *key, value_hash: Blake3Hasher::hash_value(&to_bytes(value)) };
        let root: Root = self.prev_root();
        let verified = proof
            .verify::<Blake3Hasher>(key.view_bits::<Msb0>(), root.into_inner())
            .map_err(|error| format!("the proof is not valid: {error:?}"))?;
        match verified.confirm_value(&leaf) {
            Ok(true) => Ok(Some(elapsed)),
            _ => Err("the proof is one of another value".into()),
        }
    }
}

/// Levels of the trie's pages that are stored, the default or more: NOMT stores a page with 20 keys under it or more, which
/// hardly any has where the mean is below 10. They stay in memory, since files are read past the system's cache, and a
/// block would begin with reads from the disk that no other store needs.
fn stored_levels(keys: u64) -> usize {
    const LEAST_LEVELS: usize = 2;
    const PAGES_UNDER_A_PAGE: u64 = 64;
    const KEYS_UNDER_A_PAGE: u64 = 10;
    let mut levels = LEAST_LEVELS;
    while keys >= KEYS_UNDER_A_PAGE * PAGES_UNDER_A_PAGE.pow(levels as u32 + 1) {
        levels += 1;
    }
    levels
}
