use std::sync::Arc;

use alloy_primitives::{Log, address};
use metisdb::{Account, Changes, Db, Durability, Options, storage::SimulatedDisk};
use metisdb_revm::{EmptyAccounts, Overlay};
use revm::{
    Database, DatabaseCommit,
    context::{TxEnv, result::ExecutionResult},
};

use super::*;
use crate::{Chain, tokens::holders};

const ALICE: Address = address!("00000000000000000000000000000000000a11ce");
const BOB: Address = address!("0000000000000000000000000000000000000b0b");
const TRANSFER_FROM: [u8; 4] = [0x23, 0xb8, 0x72, 0xdd];
const APPROVE: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];
const BALANCE_OF: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];

/// Both tokens and the pair; Alice has a thousand of each token, which the pair may take, and Bob has none.
struct Place {
    chain: Chain,
    overlay: Overlay,
    _db: Db,
}

/// A word of input or output.
fn word(number: u64) -> B256 {
    U256::from(number).into()
}

impl Place {
    fn new() -> Self {
        let db = Options::new().create_on(Arc::new(SimulatedDisk::new(1))).unwrap();
        let mut changes: Changes = holders::contracts();
        for person in [ALICE, BOB] {
            changes.set_account(person, Account { balance: U256::MAX >> 8, ..Account::default() });
        }
        for token in TOKENS {
            changes.set_storage(token, balance_slot(&ALICE), U256::from(1_000));
            changes.set_storage(token, allowance_slot(&ALICE, &PAIR_ADDRESS), U256::MAX);
            changes.set_storage(token, balance_slot(&PAIR_ADDRESS), U256::from(50_000));
        }
        for token in 0..2 {
            changes.set_storage(PAIR_ADDRESS, reserve_slot(token), U256::from(50_000));
        }
        db.commit(&changes, Durability::Pipelined).unwrap();
        let chain = holders::chain();
        let overlay = Overlay::new(chain.reader(db.snapshot().unwrap()), EmptyAccounts::Removed);
        Self { chain, overlay, _db: db }
    }

    /// Calls a contract: what it answers and logs, or `None` where it refuses, and then has changed nothing.
    fn call(&mut self, caller: Address, to: Address, data: Bytes) -> Option<(Bytes, Vec<Log>)> {
        let header = self.chain.next_header(&holders::parent(300), B256::ZERO, 12);
        let nonce = self.overlay.basic(caller).unwrap().unwrap().nonce;
        let transaction = TxEnv::builder()
            .caller(caller)
            .nonce(nonce)
            .chain_id(Some(1))
            .gas_limit(200_000)
            .gas_price(u128::from(header.base_fee_per_gas.unwrap()))
            .to(to)
            .data(data)
            .build()
            .unwrap();
        let done = self.chain.transact(&mut self.overlay, &header, transaction).unwrap();
        self.overlay.commit(done.state);
        match done.result {
            ExecutionResult::Success { output, logs, .. } => Some((output.into_data(), logs)),
            ExecutionResult::Revert { .. } => None,
            halt @ ExecutionResult::Halt { .. } => panic!("{halt:?}"),
        }
    }

    fn make(&mut self, caller: Address, call: Call) -> Option<(Bytes, Vec<Log>)> {
        self.call(caller, call.to(), call.input())
    }

    /// By the slot and by the contract's own word.
    fn balance(&mut self, token: usize, holder: Address) -> u64 {
        let stored = self.overlay.storage(TOKENS[token], balance_slot(&holder)).unwrap();
        let (told, _) = self.call(BOB, TOKENS[token], input(BALANCE_OF, &[holder.into_word()])).unwrap();
        assert_eq!(U256::from_be_slice(&told), stored);
        stored.to()
    }

    fn reserve(&mut self, token: usize) -> u64 {
        self.overlay.storage(PAIR_ADDRESS, reserve_slot(token)).unwrap().to()
    }
}

fn transfer(to: Address, amount: u64) -> Call {
    Call::Transfer { token: 0, to, amount: U256::from(amount) }
}

fn swap(paid: usize, amount: u64, least: u64) -> Call {
    Call::Swap { paid, amount: U256::from(amount), least: U256::from(least) }
}

#[test]
fn selectors_are_those_of_the_signatures() {
    let selector = |signature: &str| keccak256(signature).0[..4].to_vec();
    assert_eq!(selector("transfer(address,uint256)"), TRANSFER);
    assert_eq!(selector("transferFrom(address,address,uint256)"), TRANSFER_FROM);
    assert_eq!(selector("approve(address,uint256)"), APPROVE);
    assert_eq!(selector("balanceOf(address)"), BALANCE_OF);
    assert_eq!(selector("swap(uint256,uint256,uint256)"), SWAP);
}

#[test]
fn a_transfer_moves_a_balance() {
    let mut place = Place::new();
    let (told, logs) = place.make(ALICE, transfer(BOB, 300)).unwrap();
    assert_eq!(told[..], word(1)[..]);
    let topics = vec![keccak256("Transfer(address,address,uint256)"), ALICE.into_word(), BOB.into_word()];
    assert_eq!(logs, [Log::new_unchecked(TOKENS[0], topics, word(300).into())]);
    assert_eq!([ALICE, BOB].map(|person| place.balance(0, person)), [700, 300]);
    assert_eq!([ALICE, BOB].map(|person| place.balance(1, person)), [1_000, 0]);
    // To oneself, and all of it.
    place.make(ALICE, transfer(ALICE, 700)).unwrap();
    assert_eq!(place.balance(0, ALICE), 700);
    place.make(ALICE, transfer(BOB, 700)).unwrap();
    assert_eq!([ALICE, BOB].map(|person| place.balance(0, person)), [0, 1_000]);
}

#[test]
fn an_overdraft_is_refused() {
    let mut place = Place::new();
    assert_eq!(place.make(ALICE, transfer(BOB, 1_001)), None);
    assert_eq!(place.make(BOB, transfer(ALICE, 1)), None);
    assert_eq!([ALICE, BOB].map(|person| place.balance(0, person)), [1_000, 0]);
}

#[test]
fn an_allowance_is_used_up() {
    let mut place = Place::new();
    let take = |amount| input(TRANSFER_FROM, &[ALICE.into_word(), BOB.into_word(), word(amount)]);
    assert_eq!(place.call(BOB, TOKENS[0], take(1)), None);
    let allow = input(APPROVE, &[BOB.into_word(), word(500)]);
    let (_, logs) = place.call(ALICE, TOKENS[0], allow).unwrap();
    let topics = vec![keccak256("Approval(address,address,uint256)"), ALICE.into_word(), BOB.into_word()];
    assert_eq!(logs, [Log::new_unchecked(TOKENS[0], topics, word(500).into())]);
    assert!(place.call(BOB, TOKENS[0], take(400)).is_some());
    assert_eq!(place.overlay.storage(TOKENS[0], allowance_slot(&ALICE, &BOB)).unwrap(), U256::from(100));
    assert_eq!(place.call(BOB, TOKENS[0], take(101)), None);
    assert!(place.call(BOB, TOKENS[0], take(100)).is_some());
    assert_eq!([ALICE, BOB].map(|person| place.balance(0, person)), [500, 500]);
}

#[test]
fn a_swap_keeps_the_product_but_for_the_fee() {
    let mut place = Place::new();
    for (paid, amount) in [(0, 1_000), (1, 700), (1, 1), (0, 0)] {
        let (reserve_in, reserve_out) = (place.reserve(paid), place.reserve(1 - paid));
        // By definition: the whole numbers from which, with 99.7 % of what is paid, the product still does not fall; and not one more.
        let keeps = |out: u64| {
            let grown = 1_000 * u128::from(reserve_in) + 997 * u128::from(amount);
            grown * u128::from(reserve_out - out) >= 1_000 * u128::from(reserve_in) * u128::from(reserve_out)
        };
        let (told, logs) = place.make(ALICE, swap(paid, amount, 0)).unwrap();
        let out: u64 = U256::from_be_slice(&told).to();
        assert!(keeps(out) && !keeps(out + 1), "{amount} for {out}");
        assert_eq!(U256::from(out), output(U256::from(amount), U256::from(reserve_in), U256::from(reserve_out)));
        assert_eq!([paid, 1 - paid].map(|token| place.reserve(token)), [reserve_in + amount, reserve_out - out]);
        assert_eq!(logs.len(), 3, "two transfers, and the swap");
        let topics = vec![keccak256("Swapped(address,uint256,uint256,uint256)"), ALICE.into_word()];
        let data = [word(paid as u64).0, word(amount).0, word(out).0].concat().into();
        assert_eq!(logs[2], Log::new_unchecked(PAIR_ADDRESS, topics, data));
    }
    for token in 0..2 {
        assert_eq!(place.balance(token, PAIR_ADDRESS), place.reserve(token));
        assert_eq!(place.balance(token, ALICE), 51_000 - place.reserve(token));
    }
}

#[test]
fn swaps_are_refused() {
    let mut place = Place::new();
    // 100 * 997 * 50,000 / (50,000 * 1,000 + 100 * 997) = 99.
    assert_eq!(place.make(ALICE, swap(0, 100, 100)), None, "less than asked for comes out");
    assert_eq!(place.make(ALICE, swap(0, 1_001, 0)), None, "more is paid than there is");
    assert_eq!(place.make(ALICE, swap(2, 100, 0)), None, "there is no third token");
    assert_eq!(place.make(BOB, swap(0, 1, 0)), None, "nothing was allowed to the pair");
    assert_eq!([0, 1].map(|token| place.reserve(token)), [50_000, 50_000]);
    assert!(place.make(ALICE, swap(0, 100, 99)).is_some());
}

#[test]
fn unknown_calls_are_refused() {
    let mut place = Place::new();
    for contract in [TOKENS[0], PAIR_ADDRESS] {
        assert_eq!(place.call(ALICE, contract, Bytes::from([0x12, 0x34, 0x56, 0x78])), None);
        assert_eq!(place.call(ALICE, contract, Bytes::new()), None);
    }
}
