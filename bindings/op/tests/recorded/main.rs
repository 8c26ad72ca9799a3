//! Real blocks of OP Sepolia, and the nodes and codes that kona asked for when it executed them, as `kona-executor` ships them.

mod archive;
mod fixture;
mod reading;
mod sorted_table;
mod write_ahead_log;

use std::collections::BTreeSet;

use alloy_eips::Encodable2718;
use alloy_primitives::{B64, B256, Bytes, keccak256};
use metisdb::proof::{PartialState, Witness, WitnessError, WitnessMode};
use metisdb_op::{OpError, Replayed};
use op_alloy_consensus::{OpTxEnvelope, PostExecPayload, TxPostExec};
use op_alloy_rpc_types_engine::OpPayloadAttributes;

use crate::fixture::Fixture;

/// Of each block so many nodes and codes are left out, one at a time.
const LEFT_OUT: usize = 40;

fn replay(fixture: &Fixture, witness: &Witness) -> Result<Replayed, OpError> {
    let state = PartialState::after_block(witness, fixture.parent.hash())?;
    fixture.rollup.replay(state, &fixture.parent, &fixture.attributes)
}

/// Kona deletes and inserts in the order of hashed keys; none of these blocks has a deletion for which that makes a difference.
#[test]
fn recorded_blocks_replay_and_export_the_same_nodes() {
    let fixtures = Fixture::all();
    assert_eq!(fixtures.len(), 8);
    for fixture in fixtures {
        let name = &fixture.name;
        let replayed = replay(&fixture, &fixture.witness(&fixture.values)).unwrap();
        assert_eq!(replayed.header.hash(), fixture.block_hash, "{name}: {:?}", replayed.header);
        for mode in [WitnessMode::Canonical, WitnessMode::Superset] {
            let Witness { state, codes, .. } = replayed.witness(mode).unwrap();
            println!("{name}, {mode:?}: {} nodes, {} codes", state.len(), codes.len());
            let all: BTreeSet<Bytes> = state.iter().chain(&codes).cloned().collect();
            assert_eq!(state.len() + codes.len(), all.len(), "{name}, {mode:?}: nothing twice");
            assert!(all == fixture.values, "{name}, {mode:?}: not the nodes and codes that were recorded");
        }
    }
}

#[test]
fn nothing_of_a_recorded_witness_can_be_left_out() {
    for fixture in Fixture::all() {
        let name = &fixture.name;
        for left_out in fixture.values.iter().step_by(fixture.values.len() / LEFT_OUT) {
            let mut values = fixture.values.clone();
            values.remove(left_out);
            let missing = match replay(&fixture, &fixture.witness(&values)) {
                Err(OpError::Witness(WitnessError::MissingNode { hash, .. })) => hash,
                Err(OpError::Witness(WitnessError::MissingCode { code_hash })) => code_hash,
                other => panic!("{name} without {left_out}: {other:?}"),
            };
            assert_eq!(missing, keccak256(left_out), "{name}");
        }
    }
}

/// What becomes of a recorded block when its attributes are changed.
fn changed(fixture: &Fixture, change: impl FnOnce(&mut OpPayloadAttributes)) -> OpError {
    let mut attributes = fixture.attributes.clone();
    change(&mut attributes);
    let state = PartialState::after_block(&fixture.witness(&fixture.values), fixture.parent.hash()).unwrap();
    fixture.rollup.replay(state, &fixture.parent, &attributes).unwrap_err()
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let fixture = &Fixture::all()[0];
    let parent = fixture.parent.timestamp;
    let error = changed(fixture, |attributes| attributes.payload_attributes.timestamp = parent);
    assert!(matches!(error, OpError::Timestamp { .. }), "{error}");
    let error = changed(fixture, |attributes| attributes.payload_attributes.parent_beacon_block_root = None);
    assert!(matches!(error, OpError::Missing("parentBeaconBlockRoot")), "{error}");
    let error = changed(fixture, |attributes| attributes.gas_limit = None);
    assert!(matches!(error, OpError::Missing("gasLimit")), "{error}");
    let error = changed(fixture, |attributes| attributes.transactions = Some(Vec::new()));
    assert!(matches!(error, OpError::Missing("transactions")), "{error}");
    let error =
        changed(fixture, |attributes| attributes.payload_attributes.withdrawals = Some(vec![Default::default()]));
    assert!(matches!(error, OpError::Unexpected("withdrawals")), "{error}");
    let error = changed(fixture, |attributes| attributes.eip_1559_params = None);
    assert!(matches!(error, OpError::BaseFee { .. }), "{error}");
    let error = changed(fixture, |attributes| attributes.eip_1559_params = Some(B64::with_last_byte(6)));
    assert!(matches!(error, OpError::BaseFeeZero { .. }), "{error}");
}

#[test]
fn transactions_that_no_block_has_are_refused() {
    let fixture = &Fixture::all()[0];
    let error = changed(fixture, |attributes| attributes.transactions.as_mut().unwrap().push(Bytes::from_static(&[2])));
    assert!(matches!(error, OpError::Transaction { index: 10, .. }), "{error}");
    let error = changed(fixture, |attributes| {
        let list = attributes.transactions.as_mut().unwrap();
        let last = list.last().unwrap().clone();
        list.push(last);
    });
    assert!(matches!(error, OpError::Execution(_)), "a nonce for the second time: {error}");
    let later = OpTxEnvelope::from(TxPostExec::new(PostExecPayload { version: 1, ..PostExecPayload::default() }))
        .encoded_2718();
    let error = changed(fixture, |attributes| attributes.transactions.as_mut().unwrap().push(later.into()));
    assert!(matches!(error, OpError::TransactionType { index: 10, kind: 0x7d }), "{error}");
}

#[test]
fn other_states_and_later_forks_are_refused() {
    let fixture = &Fixture::all()[0];
    let state = PartialState::of_root(&fixture.witness(&fixture.values), B256::ZERO);
    let error = fixture.rollup.replay(state, &fixture.parent, &fixture.attributes).unwrap_err();
    assert!(matches!(error, OpError::ParentState { .. }), "{error}");
    let config = r#"{"l2_chain_id": 11155420, "jovian_time": 1,
        "chain_op_config": {"eip1559Elasticity": 6, "eip1559Denominator": 50, "eip1559DenominatorCanyon": 250}}"#;
    let rollup: metisdb_op::Rollup = serde_json::from_str(config).unwrap();
    let state = PartialState::after_block(&fixture.witness(&fixture.values), fixture.parent.hash()).unwrap();
    let error = rollup.replay(state, &fixture.parent, &fixture.attributes).unwrap_err();
    assert!(matches!(error, OpError::UnknownFork { .. }), "{error}");
}
