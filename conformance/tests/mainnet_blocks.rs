//! Real blocks of Ethereum's mainnet: executed on a committed snapshot and on a proposal, one transaction after the other and by
//! several threads. The state before is only the part that they touch, so there is no root to compare with, but the logs of
//! each transaction are known.

use std::{collections::BTreeMap, num::NonZeroUsize};

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256};
use metisdb::{Account, Changes, Durability};
use metisdb_conformance::{
    data,
    database::{self, Checked, same, told},
    hex,
    tally::Tally,
};
use metisdb_execution::{Chain, Executed, Forks, Parallel};
use metisdb_revm::Base;
use serde::Deserialize;

const SEGMENT_BYTES: u64 = 1 << 24;

#[derive(Deserialize)]
struct Test {
    env: Environment,
    transactions: BTreeMap<u64, Written>,
    logs: BTreeMap<u64, BTreeMap<u64, WrittenLog>>,
    #[serde(default)]
    block_hashes: BTreeMap<u64, String>,
    pre: BTreeMap<String, Whole>,
}

/// Files write numbers as such or as texts, hexadecimal (`0x…`) or decimal.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn small(&self) -> u64 {
        match self {
            Self::Plain(number) => *number,
            Self::Text(text) if text.starts_with("0x") => hex::small(text),
            Self::Text(text) => text.parse().unwrap_or_else(|error| panic!("{text}: {error}")),
        }
    }
}

#[derive(Deserialize)]
struct Environment {
    block_number: Number,
    current_coinbase: String,
    current_gas_limit: Number,
    current_timestamp: Number,
    previous_hash: String,
    base_fee_per_gas: Number,
    mix_hash: String,
}

#[derive(Deserialize)]
struct Written {
    data: String,
    gas_limit: String,
    gas_price: String,
    nonce: String,
    sender: String,
    to: Option<String>,
    value: String,
    max_fee_per_gas: String,
    max_priority_fee_per_gas: Option<String>,
    #[serde(default)]
    access_list: Vec<Access>,
}

#[derive(Deserialize)]
struct Access {
    address: String,
    storage_keys: Vec<String>,
}

#[derive(Deserialize)]
struct WrittenLog {
    address: String,
    data: String,
    topics: Vec<String>,
}

#[derive(Deserialize)]
struct Whole {
    balance: String,
    code: String,
    nonce: Number,
    storage: BTreeMap<String, String>,
}

impl Written {
    /// The transaction without its signature, which the file leaves out; its sender is known.
    fn envelope(&self) -> TxEnvelope {
        let (chain_id, nonce, gas_limit) = (1, hex::small(&self.nonce), hex::small(&self.gas_limit));
        let to = self.to.as_deref().filter(|to| to.len() > 2).map_or(TxKind::Create, |to| hex::address(to).into());
        let (value, input): (U256, Bytes) = (hex::number(&self.value), hex::bytes(&self.data));
        let items = self.access_list.iter().map(|access| AccessListItem {
            address: hex::address(&access.address),
            storage_keys: access.storage_keys.iter().map(|key| hex::number(key).into()).collect(),
        });
        let access_list = AccessList(items.collect());
        let price = |text: &str| hex::number(text).to::<u128>();
        let gas_price = price(&self.gas_price);
        let signature = Signature::test_signature();
        let max_fee_per_gas = price(&self.max_fee_per_gas);
        // Of a transaction with one price, one file leaves out the priority fee, and the other writes the maximum as zero.
        match self.max_priority_fee_per_gas.as_deref().filter(|_| max_fee_per_gas > 0) {
            Some(priority) => {
                let max_priority_fee_per_gas = price(priority);
                TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to,
                    value,
                    access_list,
                    input,
                }
                .into_signed(signature)
                .into()
            }
            None if access_list.is_empty() => {
                TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input }
                    .into_signed(signature)
                    .into()
            }
            None => TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }
                .into_signed(signature)
                .into(),
        }
    }
}

impl Test {
    fn pre(&self) -> Changes {
        let mut changes = Changes::new();
        for (address, whole) in &self.pre {
            let (address, code) = (hex::address(address), hex::bytes(&whole.code));
            let code_hash = keccak256(&code);
            changes.set_account(
                address,
                Account { nonce: whole.nonce.small(), balance: hex::number(&whole.balance), code_hash },
            );
            if !code.is_empty() {
                changes.set_code(code_hash, code);
            }
            for (slot, value) in &whole.storage {
                changes.set_storage(address, hex::number(slot), hex::number(value));
            }
        }
        changes
    }

    fn block(&self) -> (Block<TxEnvelope>, Vec<Address>) {
        let env = &self.env;
        let header = Header {
            number: env.block_number.small(),
            parent_hash: hex::hash(&env.previous_hash),
            beneficiary: hex::address(&env.current_coinbase),
            gas_limit: env.current_gas_limit.small(),
            timestamp: env.current_timestamp.small(),
            base_fee_per_gas: Some(env.base_fee_per_gas.small()),
            mix_hash: hex::hash(&env.mix_hash),
            ..Header::default()
        };
        let transactions = self.transactions.values().map(Written::envelope).collect();
        let senders = self.transactions.values().map(|transaction| hex::address(&transaction.sender)).collect();
        (Block { header, body: BlockBody { transactions, ommers: Vec::new(), withdrawals: None } }, senders)
    }

    fn check_logs(&self, executed: &Executed) -> Checked {
        if executed.receipts.len() != self.logs.len() {
            return Err(format!("{} receipts, but logs of {}", executed.receipts.len(), self.logs.len()));
        }
        for (index, (receipt, logs)) in executed.receipts.iter().zip(self.logs.values()).enumerate() {
            let expected = logs.values().map(|log| {
                let topics: Vec<B256> = log.topics.iter().map(|topic| hex::hash(topic)).collect();
                Log::new_unchecked(hex::address(&log.address), topics, hex::bytes(&log.data))
            });
            if !expected.eq(receipt.logs().iter().cloned()) {
                let (own, status) = (receipt.logs().len(), receipt.status());
                return Err(format!("transaction {index} (success: {status}): {own} logs differ from {}", logs.len()));
            }
        }
        Ok(())
    }

    /// Executes the block in several ways, compares the logs of each and the roots with each other; how many transactions there
    /// are, and how many ran twice.
    fn check(&self) -> Checked<(usize, usize)> {
        let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
        let db = database::create(SEGMENT_BYTES)?;
        for (number, hash) in &self.block_hashes {
            let mut changes = Changes::new();
            changes.set_block(metisdb::Block { number: *number, hash: hex::hash(hash), ..metisdb::Block::default() });
            told(db.commit(&changes, Durability::Pipelined))?;
        }
        let pre = self.pre();
        let proposed: Base = told(db.propose(&told(db.snapshot())?, &pre))?.into();
        told(db.commit(&pre, Durability::Pipelined))?;
        let committed: Base = told(db.snapshot())?.into();
        let (block, senders) = self.block();
        let mut roots = Vec::new();
        let mut parallel = Parallel::new(NonZeroUsize::MIN.saturating_add(2));
        for base in [&proposed, &committed] {
            let in_turn = chain.execute(base.clone(), &block, &senders);
            let at_once = chain.execute_parallel(base.clone(), (&block, &senders), &mut parallel);
            for executed in [in_turn, at_once] {
                let executed = executed.map_err(|error| error.to_string())?;
                self.check_logs(&executed)?;
                roots.push(told(base.propose(&db, &executed.changes))?.root());
            }
        }
        for root in &roots {
            same("the root of another way to execute the block", *root, roots[0])?;
        }
        Ok((senders.len(), parallel.reexecuted / 2))
    }
}

#[test]
fn mainnet_blocks() {
    let mut tally = Tally::new("mainnet_blocks");
    match data::fixtures().map(|folder| folder.join("mainnet_blocks")).filter(|folder| folder.is_dir()) {
        None => tally.skip("all", "no fixtures"),
        Some(folder) => {
            for path in data::files(&folder, "zst") {
                let tests: BTreeMap<String, Test> =
                    serde_json::from_slice(&data::unpack(&path, None)).expect("a file of the folder's shape");
                for test in tests.values() {
                    let number = test.env.block_number.small();
                    let checked = test.check();
                    if let Ok((count, again)) = checked {
                        tally.note(format_args!(
                            "block {number}: {count} transactions, {again} of them ran again in parallel"
                        ));
                    }
                    tally.count(number, checked.map(drop));
                }
            }
        }
    }
    tally.finish();
}
