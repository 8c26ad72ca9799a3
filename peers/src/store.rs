//! What a store does to be measured. Everything is generic over it, so that no read goes through a table of functions.

use std::{path::Path, time::Duration};

use alloy_primitives::Address;

use crate::{Result, keys::KeySpace};

/// A value of 32 bytes; every stored one has its highest bit set.
pub(crate) type Words = [u64; 4];

/// What a read of an absent key gives.
pub(crate) const ABSENT: Words = [0; 4];

/// A key's new value; `None` deletes it.
pub(crate) type Change<K> = (K, Option<Words>);

/// What a commit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives a power cut once acknowledged, in stores that can do so.
    Durable,
    /// Visible, and on its way to the disk whenever the store or the system likes.
    Unsynced,
}

/// What kinds of commits a store offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// Durable or not, as asked for.
    Either,
    /// Always durable.
    Durable,
    /// Never durable.
    Unsynced,
}

/// A store, open for reading and writing.
pub(crate) trait Store: Sized + Sync {
    /// Its name on the command line.
    const NAME: &'static str;
    /// Its name in the table.
    const TITLE: &'static str;
    /// Whether it has files; one without is filled anew by every process.
    const PERSISTENT: bool = true;
    /// What its commits are.
    const COMMITS: Commits;

    /// The form in which it takes a key. Made before the clock starts.
    type Key: Clone + Ord + Send + Sync;
    /// A consistent view, taken without waiting where the store can do that.
    type Reader<'s>: Reader<Self::Key>
    where
        Self: 's;

    /// The key of a number.
    fn key(space: &KeySpace, number: u64) -> Self::Key;

    /// Opens what is at the path, or creates it there.
    fn open(path: &Path, space: &KeySpace) -> Result<Self>;

    /// A view of the newest state. One that belongs to the thread which took it.
    fn reader(&self) -> Result<Self::Reader<'_>>;

    /// Makes the accounts that slots belong to, in stores that know accounts.
    fn add_accounts(&self, _accounts: &[Address]) -> Result<()> {
        Ok(())
    }

    /// Commits a block, whose changes are sorted by key, with its root where the store has one.
    fn commit(&self, block: &[Change<Self::Key>], durability: Durability) -> Result<()>;

    /// The root of Ethereum's state trie, in stores that have it.
    fn ethereum_root(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Closes it in good order.
    fn close(self) -> Result<()>;
}

/// A view of a store.
pub(crate) trait Reader<K> {
    /// The value of a key, copied out.
    fn get(&self, key: &K) -> Result<Words>;

    /// The values of several keys in their order; one by one where the store has nothing better.
    fn get_many(&self, keys: &[K], mut each: impl FnMut(Words)) -> Result<()> {
        for key in keys {
            each(self.get(key)?);
        }
        Ok(())
    }

    /// Makes a proof that the key has the value, checks it, and says how long the making took. `None` where there are no
    /// proofs.
    fn prove(&self, _key: &K, _value: Words) -> Result<Option<Duration>> {
        Ok(None)
    }
}

/// A value as bytes, for stores of bytes.
pub(crate) fn to_bytes(words: Words) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The value that bytes stand for.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Words> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let words: &[[u8; 8]; 4] = chunks.try_into()?;
    if rest.is_empty() { Ok(words.map(u64::from_le_bytes)) } else { Err("a value of more than 32 bytes".into()) }
}

/// A key of 32 bytes, for stores that know no accounts: the slot's number, random already.
pub(crate) fn plain_key(space: &KeySpace, number: u64) -> [u8; 32] {
    space.key(number).1.to_be_bytes()
}

/// For stores with a cache of their own: room for everything, so that no reader waits for the disk.
pub(crate) fn cache_bytes(space: &KeySpace) -> u64 {
    const LEAST: u64 = 1 << 30;
    const A_KEY: u64 = 512;
    LEAST.max(space.keys * A_KEY)
}
