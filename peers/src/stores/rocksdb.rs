//! RocksDB with its own preset for point lookups: Bloom filters of ten bits a key, a hash index in each block, and a cache
//! that holds everything. Values are random, so there is no compression.

use std::{path::Path, thread};

use rocksdb::{DB, DBCompressionType, Options, ReadOptions, Snapshot, WriteBatch, WriteOptions};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, cache_bytes, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

pub(crate) struct RocksDb(DB);

pub(crate) struct View<'s> {
    db: &'s DB,
    snapshot: Snapshot<'s>,
}

impl Store for RocksDb {
    const NAME: &'static str = "rocksdb";
    const TITLE: &'static str = "RocksDB";
    const COMMITS: Commits = Commits::Either;

    type Key = Key;
    type Reader<'s> = View<'s>;

    fn key(space: &KeySpace, number: u64) -> Key {
        plain_key(space, number)
    }

    fn open(path: &Path, space: &KeySpace) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.optimize_for_point_lookup(cache_bytes(space) >> 20);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(thread::available_parallelism()?.get() as i32);
        Ok(Self(DB::open(&options, path)?))
    }

    fn reader(&self) -> Result<View<'_>> {
        Ok(View { db: &self.0, snapshot: self.0.snapshot() })
    }

    fn commit(&self, block: &[Change<Key>], durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in block {
            match value {
                Some(value) => batch.put(key, to_bytes(*value)),
                None => batch.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Durable);
        Ok(self.0.write_opt(batch, &options)?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader<Key> for View<'_> {
    fn get(&self, key: &Key) -> Result<Words> {
        self.snapshot.get_pinned(key)?.map_or(Ok(ABSENT), |value| from_bytes(&value))
    }

    fn get_many(&self, keys: &[Key], mut each: impl FnMut(Words)) -> Result<()> {
        let family = self.db.cf_handle("default").ok_or("no column family")?;
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        for value in self.db.batched_multi_get_cf_opt(&family, keys, false, &options) {
            each(value?.map_or(Ok(ABSENT), |value| from_bytes(&value))?);
        }
        Ok(())
    }
}
