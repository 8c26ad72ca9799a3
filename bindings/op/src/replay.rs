//! Replaying a block on what a witness has of the state before it.

use alloy_consensus::{Header, Sealed};
use metisdb::proof::{PartialState, Witness, WitnessError, WitnessMode, collect};
use metisdb_revm::Stateless;
use op_alloy_rpc_types_engine::OpPayloadAttributes;

use crate::{Executed, MESSAGE_PASSER, OpError, Rollup};

/// What a replay led to.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What the block does.
    pub executed: Executed,
    /// Its header and hash: whoever compares the hash has compared everything.
    pub header: Sealed<Header>,
    state: Stateless,
}

impl Rollup {
    /// Replays the block of the attributes, without a database. The parent's hash has to be trusted; whether the block is one that the
    /// chain has is known by comparing the hash of [`Replayed::header`].
    ///
    /// # Errors
    /// [`OpError::ParentState`]; [`OpError::Witness`] where the witness does not suffice; and as for [`Rollup::execute`].
    pub fn replay(
        &self,
        state: PartialState,
        parent: &Sealed<Header>,
        attributes: &OpPayloadAttributes,
    ) -> Result<Replayed, OpError> {
        if state.root() != parent.state_root {
            return Err(OpError::ParentState { state: state.root(), parent: parent.state_root });
        }
        let state = Stateless::new(state);
        let executed = self.execute(state.clone(), parent, attributes);
        if let Some(failure) = state.failure() {
            return Err(failure.clone().into());
        }
        let executed = executed?;
        let changes = executed.changes.by_account();
        let state_root = state.state().root_after(&changes)?;
        let header = executed.seal(state_root, || state.state().storage_root_after(&MESSAGE_PASSER, &changes))?;
        Ok(Replayed { header, executed, state })
    }
}

impl Replayed {
    /// The witness that the replay needed, of what the other had: headers are left out.
    ///
    /// # Errors
    /// [`WitnessError::MissingNode`] in superset mode, where the witness did not have all that other orders of the changes need.
    pub fn witness(&self, mode: WitnessMode) -> Result<Witness, WitnessError> {
        let (state, changes) = (self.state.state(), self.executed.changes.by_account());
        collect(state, state.root(), &self.state.accessed(), &changes, mode)
    }
}
