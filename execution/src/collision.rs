//! Creation at an address that has storage (EIP-7610), which revm leaves to its user.

use alloy_evm::{Database, eth::EthEvmContext};
use alloy_primitives::{Address, KECCAK256_EMPTY};
use metisdb_revm::{Overlay, ReadError};
use revm::{
    Inspector,
    context::{ContextTr, JournalTr},
    context_interface::context::ContextError,
    interpreter::{CreateInputs, CreateOutcome},
};

/// A state that can tell whether an account has storage.
pub(crate) trait Stored {
    fn has_storage(&self, address: &Address) -> Result<bool, ReadError>;
}

impl Stored for Overlay {
    fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
        self.has_storage(address)
    }
}

impl Stored for &mut Overlay {
    fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
        (**self).has_storage(address)
    }
}

/// Makes revm refuse to create a contract where storage is: revm refuses where the nonce is not zero, so for the moment of the
/// attempt it is told so.
#[derive(Debug, Default)]
pub(crate) struct StorageCollision {
    told: Option<Address>,
}

impl<D: Database<Error = ReadError> + Stored> Inspector<EthEvmContext<D>> for StorageCollision {
    fn create(&mut self, context: &mut EthEvmContext<D>, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        match self.tell(context, inputs) {
            Ok(told) => self.told = told,
            Err(error) => *context.error() = Err(ContextError::Db(error)),
        }
        None
    }

    fn create_end(&mut self, context: &mut EthEvmContext<D>, _inputs: &CreateInputs, _outcome: &mut CreateOutcome) {
        if let Some(account) = self.told.take().and_then(|told| context.journal_mut().evm_state_mut().get_mut(&told)) {
            account.info.nonce = 0;
        }
    }
}

impl StorageCollision {
    fn tell<D: Database<Error = ReadError> + Stored>(
        &self,
        context: &mut EthEvmContext<D>,
        inputs: &CreateInputs,
    ) -> Result<Option<Address>, ReadError> {
        let caller = context.journal_mut().load_account(inputs.caller())?;
        let (nonce, balance) = (caller.info.nonce, caller.info.balance);
        let address = inputs.created_address(nonce);
        // What fails before the address is looked at must not load it, for that makes it cheaper later.
        if balance < inputs.value() || nonce == u64::MAX || !context.db().has_storage(&address)? {
            return Ok(None);
        }
        context.journal_mut().load_account(address)?;
        let Some(account) = context.journal_mut().evm_state_mut().get_mut(&address) else { return Ok(None) };
        let looks_free = account.info.nonce == 0 && account.info.code_hash == KECCAK256_EMPTY && !account.is_created();
        if looks_free {
            account.info.nonce = 1;
        }
        Ok(looks_free.then_some(address))
    }
}
