//! MetisDB with its default options.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, U256};
use metisdb::{Account, Changes, Db, Key, Options, Snapshot, Value};

use crate::{
    Result,
    keys::KeySpace,
    store::{Change, Commits, Durability, Reader, Store, Words},
};

pub(crate) struct MetisDb(Db);

impl Store for MetisDb {
    const NAME: &'static str = "metisdb";
    const TITLE: &'static str = "MetisDB";
    const COMMITS: Commits = Commits::Either;

    type Key = Key;
    type Reader<'s> = Snapshot;

    fn key(space: &KeySpace, number: u64) -> Key {
        let (address, slot) = space.key(number);
        Key::Storage(address, slot)
    }

    fn open(path: &Path, _space: &KeySpace) -> Result<Self> {
        let options = Options::new();
        Ok(Self(if path.exists() { options.open(path)? } else { options.create(path)? }))
    }

    fn reader(&self) -> Result<Snapshot> {
        Ok(self.0.snapshot()?)
    }

    fn add_accounts(&self, accounts: &[Address]) -> Result<()> {
        let mut changes = Changes::new();
        for address in accounts {
            changes.set_account(*address, Account { nonce: 1, ..Account::default() });
        }
        self.0.commit(&changes, metisdb::Durability::Durable)?;
        Ok(())
    }

    fn commit(&self, block: &[Change<Key>], durability: Durability) -> Result<()> {
        let mut changes = Changes::new();
        for (key, value) in block {
            let (address, slot) = storage(key)?;
            changes.set_storage(*address, *slot, value.map_or(U256::ZERO, U256::from_limbs));
        }
        let durability = match durability {
            Durability::Durable => metisdb::Durability::Durable,
            Durability::Unsynced => metisdb::Durability::Pipelined,
        };
        self.0.commit(&changes, durability)?;
        Ok(())
    }

    fn ethereum_root(&self) -> Result<Option<String>> {
        Ok(Some(self.0.snapshot()?.root()?.to_string()))
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl Reader<Key> for Snapshot {
    #[inline]
    fn get(&self, key: &Key) -> Result<Words> {
        let (address, slot) = storage(key)?;
        Ok(self.storage(address, *slot)?.into_limbs())
    }

    fn get_many(&self, keys: &[Key], mut each: impl FnMut(Words)) -> Result<()> {
        for value in Snapshot::get_many(self, keys)? {
            if let Value::Storage(value) = value {
                each(value.into_limbs());
            }
        }
        Ok(())
    }

    fn prove(&self, key: &Key, value: Words) -> Result<Option<Duration>> {
        let (address, slot) = storage(key)?;
        let started = Instant::now();
        let proof = self.proof(address, &[*slot])?;
        let elapsed = started.elapsed();
        proof.verify(self.root()?)?;
        if proof.slots.iter().map(|slot| slot.value.into_limbs()).ne([value]) {
            return Err("the proof is one of another value".into());
        }
        Ok(Some(elapsed))
    }
}

#[inline]
fn storage(key: &Key) -> Result<(&Address, &U256)> {
    match key {
        Key::Storage(address, slot) => Ok((address, slot)),
        Key::Account(_) | Key::Code(_) => Err("a key of another kind".into()),
    }
}
