//! Execution by several threads on one snapshot leads where execution in turn leads, whatever part of the transactions conflicts.

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    sync::Arc,
};

use alloy_consensus::{
    Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEnvelope, proofs::calculate_receipt_root,
};
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex, keccak256};
use metisdb::{Account, Changes, Db, Durability, Options, storage::SimulatedDisk};
use metisdb_execution::{Chain, Executed, Forks, Parallel};
use metisdb_revm::Base;

const COUNT: u64 = 400;
const ETHER: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
const BENEFICIARY: Address = Address::repeat_byte(0xbe);
const COUNTER: Address = Address::repeat_byte(0xc0);
/// Adds one to the slot whose number is the input.
const COUNTER_CODE: [u8; 11] = hex!("6000358054600101905500");
/// Sends one wei to the block's beneficiary: `call(gas, coinbase, 1, 0, 0, 0, 0)`.
const TIPPER: Address = Address::repeat_byte(0x77);
const TIPPER_CODE: [u8; 15] = hex!("60006000600060006001415af15000");

fn say(line: std::fmt::Arguments<'_>) {
    // Past the test runner, which hides what a passing test prints; nobody is left to tell where that is closed.
    let _ = writeln!(io::stderr(), "parallel: {line}");
}

fn sender(number: u64) -> Address {
    Address::from_slice(&keccak256(number.to_le_bytes())[..20])
}

/// The senders, the contracts, and a first value in each slot that is used.
fn ground() -> Db {
    let db = Options::new().create_on(Arc::new(SimulatedDisk::new(1))).unwrap();
    let mut changes = Changes::new();
    for number in 0..COUNT {
        changes.set_account(sender(number), Account { balance: ETHER, ..Account::default() });
    }
    for (address, code) in [(COUNTER, &COUNTER_CODE[..]), (TIPPER, &TIPPER_CODE[..])] {
        let code = Bytes::copy_from_slice(code);
        let code_hash = keccak256(&code);
        changes.set_account(address, Account { nonce: 1, balance: ETHER, code_hash });
        changes.set_code(code_hash, code);
    }
    for slot in 0..=COUNT {
        changes.set_storage(COUNTER, U256::from(slot), U256::from(7));
    }
    db.commit(&changes, Durability::Pipelined).unwrap();
    db
}

fn transaction(nonce: u64, to: TxKind, value: u64, input: Bytes) -> TxEnvelope {
    let transaction = TxEip1559 {
        chain_id: 1,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 20_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000 + u128::from(value),
        to,
        value: U256::from(value),
        input,
        ..TxEip1559::default()
    };
    transaction.into_signed(Signature::test_signature()).into()
}

/// Counts in a slot.
fn count(nonce: u64, slot: u64) -> TxEnvelope {
    transaction(nonce, COUNTER.into(), 0, U256::from(slot).to_be_bytes_vec().into())
}

fn block(chain: &Chain, transactions: Vec<TxEnvelope>) -> Block<TxEnvelope> {
    let genesis = Header { gas_limit: 200_000 * COUNT, base_fee_per_gas: Some(1_000_000_000), ..Header::default() };
    let mut header = chain.next_header(&genesis, genesis.hash_slow(), 12);
    header.beneficiary = BENEFICIARY;
    let withdrawals = Some(Default::default());
    Block { header, body: BlockBody { transactions, ommers: Vec::new(), withdrawals } }
}

/// Executes a block in turn and by numbers of threads, and compares; how many ran again with most threads.
fn check(db: &Db, chain: &Chain, (block, senders): (&Block<TxEnvelope>, &[Address])) -> usize {
    let base: Base = db.snapshot().unwrap().into();
    let outcome = |executed: &Executed| {
        let root = base.propose(db, &executed.changes).unwrap().root();
        (root, calculate_receipt_root(&executed.receipts), executed.gas_used)
    };
    let in_turn = chain.execute(base.clone(), block, senders).unwrap();
    assert!(in_turn.receipts.iter().all(|receipt| receipt.is_success()), "the workload is meant to succeed");
    let mut reexecuted = 0;
    for threads in [1, 2, 4] {
        let mut parallel = Parallel::new(NonZeroUsize::new(threads).unwrap());
        let at_once = chain.execute_parallel(base.clone(), (block, senders), &mut parallel).unwrap();
        assert_eq!(outcome(&at_once), outcome(&in_turn), "{threads} threads");
        assert_eq!(at_once.changes, in_turn.changes, "{threads} threads");
        reexecuted = parallel.reexecuted;
    }
    reexecuted
}

#[test]
fn roots_agree_at_every_rate_of_conflicts() {
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Cancun), 1);
    let db = ground();
    for percent in [0, 1, 5, 10, 20, 50, 100] {
        // So many of a hundred count in one slot, all others each in its own.
        let is_hot = |number: u64| (number + 1) * percent / 100 > number * percent / 100;
        let slot = |number: u64| if is_hot(number) { 0 } else { 1 + number };
        let transactions = (0..COUNT).map(|number| count(0, slot(number))).collect();
        let senders: Vec<_> = (0..COUNT).map(sender).collect();
        let again = check(&db, &chain, (&block(&chain, transactions), &senders));
        let hot = (0..COUNT).filter(|number| is_hot(*number)).count();
        say(format_args!("{percent} % conflict: {again} of {COUNT} transactions ran again"));
        // Of those that count in one slot, the first is alone.
        assert_eq!(again, hot.saturating_sub(1));
    }
}

#[test]
fn roots_agree_where_transactions_build_on_each_other() {
    let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Cancun), 1);
    let db = ground();
    let mut transactions = Vec::new();
    let mut senders = Vec::new();
    for number in 0..COUNT / 4 {
        // One sender twice; money passed on; a contract; the beneficiary paid by a contract and read for it.
        let deploy = [&hex!("600b600c600039600b6000f3")[..], &COUNTER_CODE].concat();
        let next = sender((number + 1) % (COUNT / 4));
        let four = [
            count(0, number),
            transaction(1, next.into(), 5 + number, Bytes::new()),
            transaction(2, TxKind::Create, 0, deploy.into()),
            transaction(3, TIPPER.into(), 0, Bytes::new()),
        ];
        transactions.extend(four);
        senders.extend([sender(number); 4]);
    }
    let block = block(&chain, transactions);
    let again = check(&db, &chain, (&block, &senders));
    say(format_args!("built on each other: {again} of {} transactions ran again", senders.len()));
    assert!(again >= senders.len() / 4 * 3, "of one sender's transactions only the first can run before its turn");
}
