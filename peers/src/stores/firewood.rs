//! Firewood with Ethereum's hashing: slots lie under the hash of their account, and the account's storage root is put in
//! while hashing. It never syncs. Keys are hashed before the clock starts, which a reader of plain keys would have to do.

use std::{
    num::NonZero,
    path::Path,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, U256, keccak256};
use firewood::{
    api::{ArcDynDbView, BatchOp, Db as _, Proposal as _},
    db::{Db, DbConfig},
    manager::{CacheReadStrategy, RevisionManagerConfig},
};
use firewood_storage::NodeHashAlgorithm;

use crate::{
    Result,
    keys::KeySpace,
    store::{ABSENT, Change, Commits, Durability, Reader, Store, Words, cache_bytes},
};

/// The hash of an address, and that of a slot.
type Key = [u8; 64];

/// RLP of 32 bytes that do not begin with zeros.
const PREFIX: u8 = 0xa0;
type Rlp = [u8; 33];

pub(crate) struct Firewood(Db);

impl Store for Firewood {
    const NAME: &'static str = "firewood";
    const TITLE: &'static str = "Firewood";
    const COMMITS: Commits = Commits::Unsynced;

    type Key = Key;
    type Reader<'s> = ArcDynDbView;

    fn key(space: &KeySpace, number: u64) -> Key {
        let (address, slot) = space.key(number);
        let mut key = [0; 64];
        key[..32].copy_from_slice(keccak256(address).as_slice());
        key[32..].copy_from_slice(keccak256(slot.to_be_bytes::<32>()).as_slice());
        key
    }

    fn open(path: &Path, space: &KeySpace) -> Result<Self> {
        // Nodes in memory are larger than what they take on disk.
        let cache = NonZero::new(2 * cache_bytes(space) as usize).ok_or("no cache")?;
        let manager = RevisionManagerConfig::builder()
            .node_cache_memory_limit(cache)
            .cache_read_strategy(CacheReadStrategy::All)
            .build();
        let config = DbConfig::builder().node_hash_algorithm(NodeHashAlgorithm::Ethereum).manager(manager).build();
        Ok(Self(Db::new(path, config)?))
    }

    fn reader(&self) -> Result<ArcDynDbView> {
        let root = self.0.root_hash().ok_or("no root")?;
        Ok(self.0.view(root)?)
    }

    fn add_accounts(&self, accounts: &[Address]) -> Result<()> {
        let account = account_rlp();
        let put = |address: &Address| BatchOp::Put { key: keccak256(address).0, value: account.as_slice() };
        let mut batch: Vec<_> = accounts.iter().map(put).collect();
        batch.sort_unstable_by_key(|operation| *operation.key());
        Ok(self.0.propose(batch)?.commit()?)
    }

    fn commit(&self, block: &[Change<Key>], _durability: Durability) -> Result<()> {
        let operation = |(key, value): &Change<Key>| match value {
            Some(value) => BatchOp::Put { key: *key, value: rlp(*value) },
            None => BatchOp::Delete { key: *key },
        };
        Ok(self.0.propose(block.iter().map(operation))?.commit()?)
    }

    fn ethereum_root(&self) -> Result<Option<String>> {
        let root = self.0.root_hash().ok_or("no root")?;
        Ok(Some(alloy_primitives::hex::encode_prefixed(root.as_ref())))
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl Reader<Key> for ArcDynDbView {
    fn get(&self, key: &Key) -> Result<Words> {
        self.val(key)?.map_or(Ok(ABSENT), |value| words(&value))
    }

    fn prove(&self, key: &Key, value: Words) -> Result<Option<Duration>> {
        let started = Instant::now();
        let proof = self.single_key_proof(key)?;
        let elapsed = started.elapsed();
        proof.verify(key, Some(rlp(value)), &self.root_hash().ok_or("no root")?)?;
        Ok(Some(elapsed))
    }
}

/// What MetisDB makes of an account with nonce 1: no balance, no code. The storage root is a place for the real one.
fn account_rlp() -> Vec<u8> {
    const CONTENT: u8 = 1 + 1 + 33 + 33;
    let mut rlp = vec![0xf8, CONTENT, 1, 0x80];
    for hash in
        [alloy_primitives::b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"), keccak256([])]
    {
        rlp.push(PREFIX);
        rlp.extend(hash);
    }
    rlp
}

fn rlp(words: Words) -> Rlp {
    let mut rlp = [PREFIX; 33];
    rlp[1..].copy_from_slice(&U256::from_limbs(words).to_be_bytes::<32>());
    rlp
}

fn words(rlp: &[u8]) -> Result<Words> {
    let bytes: &Rlp = rlp.try_into()?;
    let value: [u8; 32] = bytes[1..].try_into()?;
    Ok(U256::from_be_bytes(value).into_limbs())
}
