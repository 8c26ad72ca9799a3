//! What is read: a version of the database, or a proposal.

use alloy_primitives::{Address, B256, Bytes, U256};
use metisdb::{Account, Changes, Db, Proposal, Recorder, Result, Snapshot, proof::WitnessError};

use crate::stateless::Stateless;

/// A state that can be executed on: a version that is committed, a proposal, which nobody else sees yet, or what a witness has of one.
///
/// Reading takes no lock and waits for nobody. Cloning is cheap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Base {
    /// A committed version.
    Snapshot(Snapshot),
    /// What a chain of proposals leads to.
    Proposal(Proposal),
    /// One of those, whose reads are noted for a witness.
    Recorder(Recorder),
    /// What a witness has: whatever else is read is an error.
    Stateless(Stateless),
}

impl From<Snapshot> for Base {
    fn from(snapshot: Snapshot) -> Self {
        Self::Snapshot(snapshot)
    }
}

impl From<Proposal> for Base {
    fn from(proposal: Proposal) -> Self {
        Self::Proposal(proposal)
    }
}

impl From<Recorder> for Base {
    fn from(recorder: Recorder) -> Self {
        Self::Recorder(recorder)
    }
}

impl From<Stateless> for Base {
    fn from(state: Stateless) -> Self {
        Self::Stateless(state)
    }
}

impl Base {
    /// The state root. A root that is still being computed is waited for.
    ///
    /// # Errors
    /// [`metisdb::Error::Corruption`], and [`metisdb::Error::Witness`] where a witness does not have it; so for all reads.
    pub fn root(&self) -> Result<B256> {
        match self {
            Self::Snapshot(snapshot) => snapshot.root(),
            Self::Proposal(proposal) => Ok(proposal.root()),
            Self::Recorder(recorder) => recorder.root(),
            Self::Stateless(state) => Ok(state.state().root()),
        }
    }

    /// An account, or `None` where it does not exist.
    #[inline]
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        match self {
            Self::Snapshot(snapshot) => snapshot.account(address),
            Self::Proposal(proposal) => proposal.account(address),
            Self::Recorder(recorder) => recorder.account(address),
            Self::Stateless(state) => state.account(address),
        }
    }

    /// A storage slot; zero where it is not set.
    #[inline]
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        match self {
            Self::Snapshot(snapshot) => snapshot.storage(address, slot),
            Self::Proposal(proposal) => proposal.storage(address, slot),
            Self::Recorder(recorder) => recorder.storage(address, slot),
            Self::Stateless(state) => state.storage(address, slot),
        }
    }

    /// Whether any slot of the account is set. Asks the trie; see [`Snapshot::has_storage`].
    pub fn has_storage(&self, address: &Address) -> Result<bool> {
        match self {
            Self::Snapshot(snapshot) => snapshot.has_storage(address),
            Self::Proposal(proposal) => proposal.has_storage(address),
            Self::Recorder(recorder) => recorder.has_storage(address),
            Self::Stateless(state) => state.has_storage(address),
        }
    }

    /// Code by its hash; `None` where it was never stored.
    pub fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        match self {
            Self::Snapshot(snapshot) => snapshot.code(code_hash),
            Self::Proposal(proposal) => proposal.code(code_hash),
            Self::Recorder(recorder) => recorder.code(code_hash),
            Self::Stateless(state) => state.code(code_hash),
        }
    }

    /// Code was read from a cache.
    pub(crate) fn note_code(&self, code_hash: &B256) {
        match self {
            Self::Recorder(recorder) => recorder.note_code(code_hash),
            Self::Stateless(state) => state.note_code(code_hash),
            Self::Snapshot(_) | Self::Proposal(_) => {}
        }
    }

    /// The hash of a block, as it was given with its changes.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        match self {
            Self::Snapshot(snapshot) => snapshot.block_hash(number),
            Self::Proposal(proposal) => proposal.block_hash(number),
            Self::Recorder(recorder) => recorder.block_hash(number),
            Self::Stateless(state) => state.block_hash(number),
        }
    }

    /// Proposes changes on this state. Blocks on nothing; takes the time of computing a root.
    ///
    /// # Errors
    /// As [`Db::propose`]. `db` must be the database that this state is of; [`WitnessError::NoDatabase`] where it is a witness's.
    pub fn propose(&self, db: &Db, changes: &Changes) -> Result<Proposal> {
        match self {
            Self::Snapshot(snapshot) => db.propose(snapshot, changes),
            Self::Proposal(proposal) => proposal.propose(changes),
            Self::Recorder(recorder) => recorder.propose(changes),
            Self::Stateless(_) => Err(WitnessError::NoDatabase.into()),
        }
    }
}
