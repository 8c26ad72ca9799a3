//! Why an execution failed whose state could not be read: it is told apart from rules that the block breaks.

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEnvelope, TxLegacy};
use alloy_eips::eip4895::Withdrawals;
use alloy_hardforks::EthereumHardfork as Fork;
use alloy_primitives::{Address, B256, Signature, TxKind};
use metisdb::proof::{PartialState, Witness};
use metisdb_execution::{Chain, Forks};
use metisdb_revm::Stateless;

/// An export that met damage while it executed the block refused the block, as if that were wrong.
#[test]
fn a_state_that_cannot_be_read_is_not_the_blocks_fault() {
    let chain = Chain::new(Forks::since_genesis(Fork::Shanghai), 1);
    let header = Header { number: 1, gas_limit: 30_000_000, base_fee_per_gas: Some(7), ..Header::default() };
    let payment = |gas_limit| -> TxEnvelope {
        let to = TxKind::Call(Address::repeat_byte(2));
        let transaction = TxLegacy { chain_id: Some(1), gas_price: 9, gas_limit, to, ..TxLegacy::default() };
        transaction.into_signed(Signature::test_signature()).into()
    };
    // The second has more gas than the block.
    for (gas_limit, is_unread) in [(21_000, true), (30_000_001, false)] {
        let transactions = vec![payment(gas_limit)];
        let senders = vec![Address::repeat_byte(1); transactions.len()];
        let body = BlockBody { transactions, withdrawals: Some(Withdrawals::default()), ..BlockBody::default() };
        let block = Block { header: header.clone(), body };
        // Of a state of which nothing is known, nothing can be read.
        let state = Stateless::new(PartialState::of_root(&Witness::default(), B256::repeat_byte(1)));
        let error = chain.execute(state, &block, &senders).unwrap_err();
        let is_of_witness = matches!(error.database(), Some(metisdb::Error::Witness(_)));
        assert_eq!((is_of_witness, error.database().is_some()), (is_unread, is_unread), "{error:?}");
    }
}
