//! Noting what an execution reads, for its witness.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use parking_lot::Mutex;

use crate::{
    changes::Changes,
    error::Result,
    proof::{Accessed, Witness, WitnessMode},
    proposal::{self, Proposal},
    snapshot::Snapshot,
    types::Account,
};

/// Over so many sets the keys are spread, so that threads seldom meet.
const SHARDS: usize = 16;

#[derive(Clone, Debug)]
enum State {
    Snapshot(Snapshot),
    Proposal(Proposal),
}

/// Reads a snapshot or a proposal, and notes what was read: what [`Recorder::witness`] is made from.
///
/// Clones share the notes, and any number of threads may read through them; noting takes a lock for a moment, one of sixteen, and waits for
/// nobody else. What was read in vain, by an execution that is thrown away, is noted as well. Reading fails as it does without the recorder; what could
/// not be read is not noted.
///
/// ```
/// use alloy_primitives::{Address, U256};
/// use metisdb::{Account, Changes, Durability, Options, Recorder, proof::{PartialState, WitnessMode}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let db = Options::new().create(folder.path().join("state"))?;
/// let (alice, bob) = (Address::repeat_byte(1), Address::repeat_byte(2));
/// let mut changes = Changes::new();
/// changes.set_account(alice, Account { balance: U256::from(5), ..Account::default() });
/// db.commit(&changes, Durability::Durable)?;
///
/// let recorder = Recorder::new(db.snapshot()?);
/// let mut account = recorder.account(&alice)?.unwrap();
/// account.nonce += 1;
/// let mut changes = Changes::new();
/// changes.set_account(alice, account).set_account(bob, Account::default());
/// let witness = recorder.witness(&changes, WitnessMode::Canonical)?;
///
/// // Elsewhere, without the database: the root before is trusted, the root after follows.
/// let state = PartialState::of_root(&witness, db.snapshot()?.root()?);
/// assert_eq!(state.account(&alice)?.unwrap().balance, U256::from(5));
/// assert_eq!(state.root_after(&changes.by_account())?, db.propose(&db.snapshot()?, &changes)?.root());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    state: State,
    shards: Arc<[Mutex<Accessed>; SHARDS]>,
}

impl Recorder {
    /// Reads a snapshot; nothing is noted yet.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { state: State::Snapshot(snapshot), shards: Arc::default() }
    }

    /// Reads a proposal; nothing is noted yet.
    pub fn of_proposal(proposal: Proposal) -> Self {
        Self { state: State::Proposal(proposal), shards: Arc::default() }
    }

    /// The state root: [`Snapshot::root`].
    pub fn root(&self) -> Result<B256> {
        match &self.state {
            State::Snapshot(snapshot) => snapshot.root(),
            State::Proposal(proposal) => Ok(proposal.root()),
        }
    }

    /// An account, or `None` where it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        let account = match &self.state {
            State::Snapshot(snapshot) => snapshot.account(address)?,
            State::Proposal(proposal) => proposal.account(address)?,
        };
        self.note_account(address);
        Ok(account)
    }

    /// A storage slot; zero where it is not set.
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256> {
        let value = match &self.state {
            State::Snapshot(snapshot) => snapshot.storage(address, slot)?,
            State::Proposal(proposal) => proposal.storage(address, slot)?,
        };
        self.shard(slot.byte(0)).lock().slots.insert((*address, slot));
        Ok(value)
    }

    /// Whether any slot of the account is set: [`Snapshot::has_storage`]. The account tells it, so no slot is noted.
    pub fn has_storage(&self, address: &Address) -> Result<bool> {
        let has_storage = match &self.state {
            State::Snapshot(snapshot) => snapshot.has_storage(address)?,
            State::Proposal(proposal) => proposal.has_storage(address)?,
        };
        self.note_account(address);
        Ok(has_storage)
    }

    /// Code by its hash; `None` where it was never stored.
    pub fn code(&self, code_hash: &B256) -> Result<Option<Bytes>> {
        let code = match &self.state {
            State::Snapshot(snapshot) => snapshot.code(code_hash)?,
            State::Proposal(proposal) => proposal.code(code_hash)?,
        };
        self.note_code(code_hash);
        Ok(code)
    }

    /// Notes code that was read elsewhere: for caches above.
    pub fn note_code(&self, code_hash: &B256) {
        self.shard(code_hash[31]).lock().codes.insert(*code_hash);
    }

    /// The hash of a block, as it was given with a commit.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>> {
        let hash = match &self.state {
            State::Snapshot(snapshot) => snapshot.block_hash(number)?,
            State::Proposal(proposal) => proposal.block_hash(number)?,
        };
        self.shard(number as u8).lock().blocks.insert(number);
        Ok(hash)
    }

    /// Proposes changes on what is read; reads through the proposal are not noted. As [`Db::propose`](crate::Db::propose).
    pub fn propose(&self, changes: &Changes) -> Result<Proposal> {
        match &self.state {
            State::Snapshot(snapshot) => proposal::propose(snapshot, changes),
            State::Proposal(proposal) => proposal.propose(changes),
        }
    }

    /// What was read so far, by all clones.
    pub fn accessed(&self) -> Accessed {
        let mut all = Accessed::default();
        for shard in self.shards.iter() {
            all.extend(shard.lock().clone());
        }
        all
    }

    /// The witness of an execution that has read what was noted and made these changes: [`Snapshot::witness`].
    pub fn witness(&self, changes: &Changes, mode: WitnessMode) -> Result<Witness> {
        let accessed = self.accessed();
        match &self.state {
            State::Snapshot(snapshot) => snapshot.witness(&accessed, changes, mode),
            State::Proposal(proposal) => proposal.witness(&accessed, changes, mode),
        }
    }

    fn note_account(&self, address: &Address) {
        self.shard(address[19]).lock().accounts.insert(*address);
    }

    fn shard(&self, byte: u8) -> &Mutex<Accessed> {
        &self.shards[usize::from(byte) % SHARDS]
    }
}
