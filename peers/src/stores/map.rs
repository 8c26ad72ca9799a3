//! `hashbrown` with `foldhash`, the bound for reads: no disk, no versions, no checksums. Behind a lock, so that one can
//! write beside readers; a reader takes it once for all its reads.

use std::{
    path::Path,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use hashbrown::HashMap;

use crate::{
    Result,
    keys::{KeySpace, packed},
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words},
};

type Key = [u8; 52];
type Inner = HashMap<Key, Words, foldhash::fast::RandomState>;

pub(crate) struct Map(RwLock<Inner>);

impl Store for Map {
    const NAME: &'static str = "map";
    const TITLE: &'static str = "hash map";
    const PERSISTENT: bool = false;
    const COMMITS: Commits = Commits::Unsynced;

    type Key = Key;
    type Reader<'s> = RwLockReadGuard<'s, Inner>;

    fn key(space: &KeySpace, number: u64) -> Key {
        packed(&space.key(number))
    }

    fn open(_path: &Path, space: &KeySpace) -> Result<Self> {
        Ok(Self(RwLock::new(Inner::with_capacity_and_hasher(space.keys as usize, Default::default()))))
    }

    fn reader(&self) -> Result<Self::Reader<'_>> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn commit(&self, block: &[Change<Key>], _durability: Durability) -> Result<()> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in block {
            match value {
                Some(value) => map.insert(*key, *value),
                None => map.remove(key),
            };
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader<Key> for RwLockReadGuard<'_, Inner> {
    #[inline]
    fn get(&self, key: &Key) -> Result<Words> {
        Ok(HashMap::get(self, key).copied().unwrap_or(ABSENT))
    }
}
