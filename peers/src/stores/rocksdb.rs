//! RocksDB as its own preset for point lookups has it: Bloom filters of ten bits a key, also for what is in memory, a hash
//! index in each block, and a cache that holds everything, though of the kind that it recommends by now. Values are
//! random, so there is no compression. Compactions end before a store is closed: they are work of its writes, and would
//! otherwise go on beside the next visit's reads.

use std::{path::Path, thread};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME, DataBlockIndexType, Options,
    ReadOptions, Snapshot, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, cache_bytes, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

pub(crate) struct RocksDb(DB);

pub(crate) struct View<'s> {
    db: &'s DB,
    /// Made once: each is an allocation. They name the snapshot.
    options: ReadOptions,
    _snapshot: Snapshot<'s>,
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
        options.set_block_based_table_factory(&tables(cache_bytes(space) as usize));
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_memtable_whole_key_filtering(true);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(thread::available_parallelism()?.get() as i32);
        // By its name, lest nobody has a handle of it, which `batched_multi_get_cf_opt` wants.
        Ok(Self(DB::open_cf_with_opts(&options, path, [(DEFAULT_COLUMN_FAMILY_NAME, options.clone())])?))
    }

    fn reader(&self) -> Result<View<'_>> {
        let snapshot = self.0.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        Ok(View { db: &self.0, options, _snapshot: snapshot })
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
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.0.wait_for_compact(&options)?)
    }
}

impl Reader<Key> for View<'_> {
    fn get(&self, key: &Key) -> Result<Words> {
        self.db.get_pinned_opt(key, &self.options)?.map_or(Ok(ABSENT), |value| from_bytes(&value))
    }

    fn get_many(&self, keys: &[Key], mut each: impl FnMut(Words)) -> Result<()> {
        let family = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).ok_or("no column family")?;
        for value in self.db.batched_multi_get_cf_opt(&family, keys, false, &self.options) {
            each(value?.map_or(Ok(ABSENT), |value| from_bytes(&value))?);
        }
        Ok(())
    }
}

fn tables(cache_bytes: usize) -> BlockBasedOptions {
    let mut options = BlockBasedOptions::default();
    options.set_bloom_filter(10.0, false);
    options.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    options.set_data_block_hash_ratio(0.75);
    options.set_block_cache(&Cache::new_hyper_clock_cache(cache_bytes, 0));
    options
}
