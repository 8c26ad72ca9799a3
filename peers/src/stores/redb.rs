//! redb: durable commits as by default, a cache that holds everything.

use std::path::Path;

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition, TableError};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, cache_bytes, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

const TABLE: TableDefinition<'_, Key, Key> = TableDefinition::new("slots");

pub(crate) struct Redb(Database);

impl Store for Redb {
    const NAME: &'static str = "redb";
    const TITLE: &'static str = "redb";
    const COMMITS: Commits = Commits::Either;

    type Key = Key;
    type Reader<'s> = ReadOnlyTable<Key, Key>;

    fn key(space: &KeySpace, number: u64) -> Key {
        plain_key(space, number)
    }

    fn open(path: &Path, space: &KeySpace) -> Result<Self> {
        let database = Database::builder().set_cache_size(cache_bytes(space) as usize).create(path)?;
        // A reader needs the table to be there.
        if let Err(TableError::TableDoesNotExist(_)) = database.begin_read()?.open_table(TABLE) {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?;
            transaction.commit()?;
        }
        Ok(Self(database))
    }

    fn reader(&self) -> Result<Self::Reader<'_>> {
        Ok(self.0.begin_read()?.open_table(TABLE)?)
    }

    fn commit(&self, block: &[Change<Key>], durability: Durability) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(match durability {
            Durability::Durable => redb::Durability::Immediate,
            Durability::Unsynced => redb::Durability::None,
        })?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in block {
            match value {
                Some(value) => table.insert(key, to_bytes(*value))?,
                None => table.remove(key)?,
            };
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader<Key> for ReadOnlyTable<Key, Key> {
    fn get(&self, key: &Key) -> Result<Words> {
        match ReadOnlyTable::get(self, key)? {
            Some(value) => from_bytes(&value.value()),
            None => Ok(ABSENT),
        }
    }
}
