//! Blocks of strangers that do not have the form of their fork, or ommers that no chain has.

use alloy_consensus::{Block, BlockBody, Header, TxEnvelope};
use alloy_hardforks::EthereumHardfork as Fork;
use alloy_primitives::{B256, Bytes};
use metisdb::proof::{EMPTY_ROOT, PartialState, Witness};
use metisdb_execution::{Chain, ExecutionError, Forks, FormError, ReplayError};
use metisdb_revm::Stateless;

/// From which fork on a block has a field, and how the field is put in or taken out.
type Field = (&'static str, Option<Fork>, fn(&mut Block<TxEnvelope>));

const FIELDS: [Field; 9] = [
    ("base_fee_per_gas", Some(Fork::London), |block| toggle(&mut block.header.base_fee_per_gas)),
    ("withdrawals_root", Some(Fork::Shanghai), |block| toggle(&mut block.header.withdrawals_root)),
    ("list of withdrawals", Some(Fork::Shanghai), |block| toggle(&mut block.body.withdrawals)),
    ("blob_gas_used", Some(Fork::Cancun), |block| toggle(&mut block.header.blob_gas_used)),
    ("excess_blob_gas", Some(Fork::Cancun), |block| toggle(&mut block.header.excess_blob_gas)),
    ("parent_beacon_block_root", Some(Fork::Cancun), |block| toggle(&mut block.header.parent_beacon_block_root)),
    ("requests_hash", Some(Fork::Prague), |block| toggle(&mut block.header.requests_hash)),
    ("block_access_list_hash", None, |block| toggle(&mut block.header.block_access_list_hash)),
    ("slot_number", None, |block| toggle(&mut block.header.slot_number)),
];

fn toggle<T: Default>(field: &mut Option<T>) {
    *field = if field.is_some() { None } else { Some(T::default()) };
}

/// A witness of the state without accounts after a block of that number, and the header of the next block.
fn ground(chain: &Chain, number: u64) -> (Witness, Header) {
    let parent = Header { number, gas_limit: 30_000_000, base_fee_per_gas: Some(7), ..Header::default() };
    let witness = Witness { headers: vec![Bytes::from(alloy_rlp::encode(&parent))], ..Witness::default() };
    (witness, chain.next_header(&parent, parent.hash_slow(), 12))
}

/// The block with the header that its replay leads to.
fn sealed(chain: &Chain, witness: &Witness, mut block: Block<TxEnvelope>) -> Block<TxEnvelope> {
    block.header.state_root = B256::ZERO;
    match chain.replay(witness, &block) {
        Err(ReplayError::Header { replay, .. }) => block.header = *replay,
        other => panic!("{other:?}"),
    }
    chain.replay(witness, &block).expect("it is as its replay says");
    block
}

/// A block without transactions upon that state, and the witness.
fn honest(fork: Fork) -> (Chain, Witness, Block<TxEnvelope>) {
    let chain = Chain::new(Forks::since_genesis(fork), 1);
    let (witness, header) = ground(&chain, 7);
    let withdrawals = (fork >= Fork::Shanghai).then(Default::default);
    let block = Block { header, body: BlockBody { withdrawals, ..BlockBody::default() } };
    let block = sealed(&chain, &witness, block);
    (chain, witness, block)
}

fn refusal(chain: &Chain, witness: &Witness, block: &Block<TxEnvelope>) -> FormError {
    match chain.replay(witness, block) {
        Err(ReplayError::Form(error)) => error,
        other => panic!("{:?}: {other:?}", block.header),
    }
}

/// Once a field that a header left out was left out of what it was compared with, too: a block of Shanghai without the root of its
/// withdrawals was confirmed, whatever they were.
#[test]
fn a_block_has_the_fields_of_its_fork_and_no_others() {
    for fork in [
        Fork::Byzantium,
        Fork::Berlin,
        Fork::London,
        Fork::Paris,
        Fork::Shanghai,
        Fork::Cancun,
        Fork::Prague,
        Fork::Osaka,
    ] {
        let (chain, witness, block) = honest(fork);
        for (field, since, toggle) in FIELDS {
            let mut other = block.clone();
            toggle(&mut other);
            let is_demanded = since.is_some_and(|since| fork >= since);
            let expected = if is_demanded { FormError::Missing { field } } else { FormError::Unknown { field } };
            assert_eq!(refusal(&chain, &witness, &other), expected, "{fork}");
        }
    }
}

/// Once the hash of a block's access list was taken from its header, and compared with itself.
#[test]
fn a_fork_whose_commitments_are_not_computed_is_refused() {
    let (_, witness, mut block) = honest(Fork::Osaka);
    let chain = Chain::new(Forks::named("Amsterdam").unwrap(), 1);
    for hash in [None, Some(B256::ZERO)] {
        block.header.block_access_list_hash = hash;
        let expected = FormError::Unverified { field: "block_access_list_hash" };
        assert_eq!(refusal(&chain, &witness, &block), expected);
    }
}

/// Once a block since the merge could have ommers.
#[test]
fn a_block_since_paris_has_no_ommers() {
    let (chain, witness, mut block) = honest(Fork::Paris);
    block.body.ommers.push(Header { number: 7, ..Header::default() });
    assert_eq!(refusal(&chain, &witness, &block), FormError::TooManyOmmers { ommers: 1, limit: 0 });
}

/// Once an ommer's reward was computed of any number: a hostile one overflowed, or brought its beneficiary about 2^64 rewards.
#[test]
fn ommers_have_numbers_below_the_block() {
    let chain = Chain::new(Forks::since_genesis(Fork::London), 1);
    for (parent, ommer, is_refused) in [
        (7, 7, false),
        (7, 2, false),
        (7, 1, true),
        (7, 0, true),
        (7, 8, true),
        (7, 9, true),
        (7, u64::MAX, true),
        (2, u64::MAX - 4, true),
        (u64::MAX - 1, u64::MAX - 1, true),
        (u64::MAX - 2, u64::MAX - 7, true),
        (u64::MAX - 3, u64::MAX - 8, false),
    ] {
        let (witness, header) = ground(&chain, parent);
        let number = header.number;
        let ommers = vec![Header { number: ommer, ..Header::default() }];
        let block = Block { header, body: BlockBody { ommers, ..BlockBody::default() } };
        if is_refused {
            let expected = FormError::OmmerNumber { block: number, ommer };
            assert_eq!(refusal(&chain, &witness, &block), expected);
            let state = Stateless::new(PartialState::of_root(&witness, EMPTY_ROOT));
            let executed = chain.execute(state, &block, &[]);
            assert!(matches!(executed, Err(ExecutionError::Ommers(error)) if error == expected));
        } else {
            sealed(&chain, &witness, block);
        }
    }
}

/// Once a block could have any number of ommers, each with a reward.
#[test]
fn a_block_has_two_ommers_at_most() {
    let chain = Chain::new(Forks::since_genesis(Fork::London), 1);
    let (witness, header) = ground(&chain, 7);
    let with = |count: usize| {
        let ommers = vec![Header { number: 7, ..Header::default() }; count];
        Block { header: header.clone(), body: BlockBody { ommers, ..BlockBody::default() } }
    };
    sealed(&chain, &witness, with(2));
    assert_eq!(refusal(&chain, &witness, &with(3)), FormError::TooManyOmmers { ommers: 3, limit: 2 });
}
