//! Execution by several threads on one snapshot leads to the root of execution in turn, whatever part of the transactions conflicts.

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    sync::Arc,
};

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex, keccak256};
use metisdb::{Account, Changes, Db, Durability, Options, Snapshot, storage::SimulatedDisk};
use metisdb_execution::{Chain, Executed, Forks, Parallel};

const COUNT: u64 = 400;
const THREADS: NonZeroUsize = NonZeroUsize::new(4).unwrap();
const ETHER: u64 = 1_000_000_000_000_000_000;
const BENEFICIARY: Address = Address::repeat_byte(0xbe);
const COUNTER: Address = Address::repeat_byte(0xc0);
const CREATOR: Address = Address::repeat_byte(0xcc);
/// Adds one to the slot that the input names: `slot := input; storage[slot] += 1; log0(slot)`.
const COUNTER_CODE: [u8; 18] =
    hex!("6000358054600101905560005460005260206000a000")[..18].first_chunk().copied().unwrap();

fn chain() -> Chain {
    Chain::new(Forks::since_genesis(EthereumHardfork::Cancun), 1)
}
