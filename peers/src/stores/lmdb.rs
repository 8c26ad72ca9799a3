//! LMDB through `heed`: synced by default, read from its map.

use std::{convert::Infallible, fs, path::Path};

use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, RoTxn, WithTls, types::Bytes};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

type Slots = Database<'static, Bytes, Bytes>;

/// Address space for the map, not memory.
const MAP_BYTES: usize = 1 << 38;

pub(crate) struct Lmdb {
    env: Env,
    database: Slots,
}

pub(crate) struct View<'s> {
    transaction: RoTxn<'s, WithTls>,
    database: Slots,
}

impl Store for Lmdb {
    const NAME: &'static str = "lmdb";
    const TITLE: &'static str = "LMDB";
    const COMMITS: Commits = Commits::Either;

    type Key = Key;
    type Reader<'s> = View<'s>;

    fn key(space: &KeySpace, number: u64) -> Key {
        plain_key(space, number)
    }

    fn open(path: &Path, _space: &KeySpace) -> Result<Self> {
        fs::create_dir_all(path)?;
        // SAFETY: the folder is this process's own, nothing else changes the file under the map.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(path)? };
        let database = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, Infallible>::Commit)
            })?
            .unwrap_commit();
        Ok(Self { env, database })
    }

    fn reader(&self) -> Result<View<'_>> {
        Ok(View { transaction: self.env.read_txn()?, database: self.database })
    }

    fn commit(&self, block: &[Change<Key>], durability: Durability) -> Result<()> {
        let mode = match durability {
            Durability::Durable => FlagSetMode::Disable,
            Durability::Unsynced => FlagSetMode::Enable,
        };
        // SAFETY: there is one writer; what an unsynced commit may lose in a power cut is known.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
        let mut transaction = self.env.write_txn()?;
        for (key, value) in block {
            match value {
                Some(value) => self.database.put(&mut transaction, key, &to_bytes(*value))?,
                None => drop(self.database.delete(&mut transaction, key)?),
            }
        }
        Ok(transaction.commit()?)
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

impl Reader<Key> for View<'_> {
    fn get(&self, key: &Key) -> Result<Words> {
        self.database.get(&self.transaction, key)?.map_or(Ok(ABSENT), from_bytes)
    }
}
