//! ethrex as one who has no database: what it makes of a witness and a block.

use std::sync::Arc;

use bytes::Bytes;
use ethrex_common::{
    types::{
        Block, ChainConfig, ELASTICITY_MULTIPLIER,
        block_execution_witness::{ExtWitness, GuestProgramState, RpcExecutionWitness, validate_witness_headers_chain},
        validate_block_body,
    },
    validation::{
        validate_block_pre_execution, validate_gas_used, validate_receipts_root_and_logs_bloom, validate_requests_hash,
    },
};
use ethrex_crypto::{Crypto, NativeCrypto};
use ethrex_rlp::{decode::RLPDecode, encode::RLPEncode};
use ethrex_vm::{Evm, GuestProgramStateWrapper};

use crate::Checked;

/// Replays a block from a witness in geth's form, and compares all that its header says: the order of steps is that of ethrex' own program for
/// provers.
///
/// # Errors
/// What is missing or differs, in ethrex' words.
pub(crate) fn replay(witness: &[u8], block: &[u8], config: ChainConfig) -> Checked {
    let crypto: Arc<dyn Crypto> = Arc::new(NativeCrypto);
    let block = Block::decode(block).map_err(told)?;
    let ExtWitness { headers, codes, state, keys } = ExtWitness::decode(witness).map_err(told)?;
    validate_witness_headers_chain(&headers, &*crypto).map_err(told)?;
    let encoded = headers.iter().map(|header| Bytes::from(header.encode_to_vec())).collect();
    let witness = RpcExecutionWitness { state, codes, keys, headers: encoded };
    let number = block.header.number;
    let witness = witness.into_execution_witness(config, number, &headers, &*crypto).map_err(told)?;
    let state = GuestProgramState::from_witness(witness, &*crypto).map_err(told)?;
    let mut state = GuestProgramStateWrapper::new(state, crypto.clone());
    state.initialize_block_header_hashes(std::slice::from_ref(&block)).map_err(told)?;
    let parent = state.get_block_parent_header(number).map_err(told)?;
    if parent.hash() != block.header.parent_hash {
        return Err("the parent is another one".into());
    }
    if state.state_trie_root().map_err(told)? != parent.state_root {
        return Err("the state is not the parent's".into());
    }
    validate_block_body(&block.header, &block.body, &*crypto).map_err(told)?;
    validate_block_pre_execution(&block, &parent, &config, ELASTICITY_MULTIPLIER).map_err(told)?;
    let mut evm = Evm::new_for_l1(state.clone(), crypto.clone());
    let (result, _) = evm.execute_block(&block).map_err(told)?;
    state.apply_account_updates(&evm.get_state_transitions().map_err(told)?).map_err(told)?;
    validate_gas_used(result.block_gas_used, &block.header).map_err(told)?;
    validate_receipts_root_and_logs_bloom(&block.header, &result.receipts, &*crypto).map_err(told)?;
    validate_requests_hash(&block.header, &config, &result.requests).map_err(told)?;
    if state.state_trie_root().map_err(told)? == block.header.state_root {
        Ok(())
    } else {
        Err("the state root after it is another one".into())
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
