//! MDBX through `signet-libmdbx`, which goes on from reth's binding; set up as reth does it: a writable map, no read-ahead,
//! reclaimed pages used last in, first out.

use std::{fs, path::Path};

use signet_libmdbx::{
    Database, DatabaseFlags, Environment, EnvironmentFlags, Geometry, MdbxError, Mode, Ro, SyncMode, TxUnsync,
    WriteFlags, ffi,
};

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, from_bytes, plain_key, to_bytes},
};

type Key = [u8; 32];

/// Address space for the map, and how much longer the file gets when it is full; it has holes.
const MAP_BYTES: usize = 1 << 38;
const GROWTH_BYTES: isize = 4 << 30;

/// What reth looks through at once in search of free pages.
const RECLAIM_LIMIT: u64 = 256 * 1024;

pub(crate) struct Mdbx {
    environment: Environment,
    database: Database,
}

pub(crate) struct View {
    transaction: TxUnsync<Ro>,
    database: Database,
}

impl Store for Mdbx {
    const NAME: &'static str = "mdbx";
    const TITLE: &'static str = "MDBX";
    const COMMITS: Commits = Commits::Either;

    type Key = Key;
    type Reader<'s> = View;

    fn key(space: &KeySpace, number: u64) -> Key {
        plain_key(space, number)
    }

    fn open(path: &Path, _space: &KeySpace) -> Result<Self> {
        fs::create_dir_all(path)?;
        let geometry = Geometry {
            size: Some(0..MAP_BYTES),
            growth_step: Some(GROWTH_BYTES),
            shrink_threshold: Some(0),
            page_size: None,
        };
        let environment = Environment::builder()
            .set_geometry(geometry)
            .write_map()
            .set_flags(EnvironmentFlags {
                mode: Mode::ReadWrite { sync_mode: SyncMode::Durable },
                no_rdahead: true,
                coalesce: true,
                liforeclaim: true,
                ..EnvironmentFlags::default()
            })
            .set_rp_augment_limit(RECLAIM_LIMIT)
            .open(path)?;
        let transaction = environment.begin_rw_unsync()?;
        let database = transaction.create_db(None, DatabaseFlags::empty())?;
        transaction.commit()?;
        Ok(Self { environment, database })
    }

    fn reader(&self) -> Result<View> {
        Ok(View { transaction: self.environment.begin_ro_unsync()?, database: self.database })
    }

    fn commit(&self, block: &[Change<Key>], durability: Durability) -> Result<()> {
        self.sync_commits(durability == Durability::Durable)?;
        let transaction = self.environment.begin_rw_unsync()?;
        for (key, value) in block {
            match value {
                Some(value) => transaction.put(self.database, key, to_bytes(*value), WriteFlags::empty())?,
                None => drop(transaction.del(self.database, key, None)?),
            }
        }
        Ok(transaction.commit()?)
    }

    fn close(self) -> Result<()> {
        self.environment.sync(true)?;
        Ok(())
    }
}

impl Mdbx {
    /// Whether commits are synced from now on; where not, MDBX falls back to the last synced one after a power cut.
    fn sync_commits(&self, sync: bool) -> Result<()> {
        // SAFETY: the environment is open, and the flag is one that may change while it is.
        let code = self.environment.with_raw_env_ptr(|environment| unsafe {
            ffi::mdbx_env_set_flags(environment, ffi::MDBX_SAFE_NOSYNC, !sync)
        });
        if code == ffi::MDBX_SUCCESS { Ok(()) } else { Err(MdbxError::from_err_code(code).into()) }
    }
}

impl Reader<Key> for View {
    fn get(&self, key: &Key) -> Result<Words> {
        let value: Option<[u8; 32]> = self.transaction.get(self.database.dbi(), key)?;
        value.map_or(Ok(ABSENT), |value| from_bytes(&value))
    }
}
