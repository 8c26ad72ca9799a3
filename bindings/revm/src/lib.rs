//! MetisDB as the state that revm reads.
//!
//! [`SnapshotState`] gives one version of a database to any number of executors at once: it needs no lock and is
//! `Send + Sync + Clone`.
//!
//! ```
//! use alloy_primitives::{Address, U256};
//! use metisdb::{Account, Changes, Durability, Options};
//! use metisdb_revm::SnapshotState;
//! use revm_database_interface::DatabaseRef;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let db = Options::new().create(folder.path().join("state"))?;
//! let address = Address::repeat_byte(7);
//! let mut changes = Changes::new();
//! changes.set_account(address, Account { balance: U256::from(5), ..Account::default() });
//! db.commit(&changes, Durability::Durable)?;
//!
//! let state = SnapshotState::new(db.snapshot()?);
//! assert_eq!(state.basic_ref(address)?.unwrap().balance, U256::from(5));
//! # Ok(())
//! # }
//! ```

use metisdb::Snapshot;
use revm_database_interface::{
    DBErrorMarker, DatabaseRef,
    primitives::{Address, B256, KECCAK_EMPTY, StorageKey, StorageValue},
    state::{AccountInfo, bytecode::Bytecode},
};

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] metisdb::Error),
    /// An account refers to code that was never stored.
    #[error("no code with the hash {0} is stored; commit the code together with its account")]
    MissingCode(B256),
    /// Stored code starts like a delegation (EIP-7702) but is not one.
    #[error("the code with the hash {0} is malformed")]
    MalformedCode(B256),
}

impl DBErrorMarker for ReadError {}

/// One version of the state, as revm reads it.
#[derive(Clone, Debug)]
pub struct SnapshotState {
    snapshot: Snapshot,
}

impl SnapshotState {
    /// The state that the snapshot holds.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// The snapshot that is read.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DatabaseRef for SnapshotState {
    type Error = ReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let account = self.snapshot.account(&address)?;
        Ok(account.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: None,
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, ReadError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let code = self.snapshot.code(&code_hash)?.ok_or(ReadError::MissingCode(code_hash))?;
        Bytecode::new_raw_checked(code).map_err(|_| ReadError::MalformedCode(code_hash))
    }

    fn storage_ref(&self, address: Address, index: StorageKey) -> Result<StorageValue, ReadError> {
        Ok(self.snapshot.storage(&address, index)?)
    }

    /// Zero for blocks whose metadata was not committed.
    fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
        Ok(self.snapshot.block_hash(number)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Bytes, U256, keccak256};
    use metisdb::{Account, Block, Changes, Durability, Options};

    use super::*;

    fn assert_shareable<T: Send + Sync + Clone>(_: &T) {}

    #[test]
    fn revm_reads_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let db = Options::new().create(folder.path().join("state")).unwrap();
        let address = Address::repeat_byte(0xaa);
        let code = Bytes::from_static(&[0x60, 0x01, 0x00]);
        let code_hash = keccak256(&code);
        let block = Block { number: 9, hash: B256::repeat_byte(9), ..Block::default() };
        let mut changes = Changes::new();
        changes.set_account(address, Account { nonce: 3, balance: U256::MAX, code_hash });
        changes.set_code(code_hash, code.clone());
        changes.set_storage(address, U256::from(1), U256::from(2));
        changes.set_block(block);
        db.commit(&changes, Durability::Durable).unwrap();

        let state = SnapshotState::new(db.snapshot().unwrap());
        assert_shareable(&state);
        let info = state.basic_ref(address).unwrap().unwrap();
        assert_eq!((info.nonce, info.balance, info.code_hash), (3, U256::MAX, code_hash));
        assert_eq!(state.code_by_hash_ref(code_hash).unwrap().original_bytes(), code);
        assert_eq!(state.storage_ref(address, U256::from(1)).unwrap(), U256::from(2));
        assert_eq!(state.storage_ref(address, U256::from(2)).unwrap(), U256::ZERO);
        assert_eq!(state.block_hash_ref(9).unwrap(), block.hash);
        assert_eq!(state.block_hash_ref(8).unwrap(), B256::ZERO);
        assert!(state.basic_ref(Address::ZERO).unwrap().is_none());
    }

    #[test]
    fn missing_and_malformed_code_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let db = Options::new().create(folder.path().join("state")).unwrap();
        let malformed = Bytes::from_static(&[0xef, 0x01, 0x00, 0x01]);
        let code_hash = keccak256(&malformed);
        let mut changes = Changes::new();
        changes.set_code(code_hash, malformed);
        db.commit(&changes, Durability::Durable).unwrap();

        let state = SnapshotState::new(db.snapshot().unwrap());
        let unknown = B256::repeat_byte(1);
        assert!(matches!(state.code_by_hash_ref(unknown), Err(ReadError::MissingCode(hash)) if hash == unknown));
        assert!(matches!(state.code_by_hash_ref(code_hash), Err(ReadError::MalformedCode(hash)) if hash == code_hash));
        assert!(state.code_by_hash_ref(KECCAK_EMPTY).unwrap().is_empty());
    }
}
