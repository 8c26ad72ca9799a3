//! Real blocks of Ethereum's mainnet, from files: each holds a block, the part of the state before it that it touches, and the
//! logs that each transaction left on mainnet.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_hardforks::EthereumHardfork;
use alloy_primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256};
use metisdb::{Account, Changes, Db, Durability, Options};
use metisdb_execution::{Chain, Executed, Forks};
use serde::Deserialize;

use super::{
    blocks,
    checks::{Outcome, same},
};
use crate::{failure::Failure, genesis, interrupt::Interrupt, output::count};

/// The blocks of Shanghai, whose headers need no more than the files hold.
const SHANGHAI: std::ops::Range<u64> = 17_034_870..19_426_587;

#[derive(Debug, Deserialize)]
struct Recorded {
    env: Environment,
    transactions: BTreeMap<u64, Sent>,
    logs: BTreeMap<u64, BTreeMap<u64, Left>>,
    #[serde(default)]
    block_hashes: BTreeMap<u64, B256>,
    pre: BTreeMap<Address, Touched>,
}

#[derive(Debug, Deserialize)]
struct Environment {
    block_number: U256,
    current_coinbase: Address,
    current_gas_limit: U256,
    current_timestamp: U256,
    previous_hash: B256,
    base_fee_per_gas: U256,
    mix_hash: B256,
}

#[derive(Debug, Deserialize)]
struct Sent {
    data: Bytes,
    gas_limit: U256,
    gas_price: U256,
    nonce: U256,
    sender: Address,
    to: Option<String>,
    value: U256,
    #[serde(default)]
    max_fee_per_gas: U256,
    max_priority_fee_per_gas: Option<U256>,
    #[serde(default)]
    access_list: Vec<Announced>,
}

#[derive(Debug, Deserialize)]
struct Announced {
    address: Address,
    storage_keys: Vec<B256>,
}

#[derive(Debug, Deserialize)]
struct Left {
    address: Address,
    data: Bytes,
    topics: Vec<B256>,
}

#[derive(Debug, Deserialize)]
struct Touched {
    balance: U256,
    code: Bytes,
    nonce: U256,
    storage: BTreeMap<U256, U256>,
}

/// How much of a block was as on mainnet.
struct Compared {
    transactions: usize,
    logs: usize,
}

impl Sent {
    /// The transaction without its signature, which the file leaves out.
    fn envelope(&self) -> Outcome<TxEnvelope> {
        let to = match self.to.as_deref() {
            None | Some("" | "0x") => TxKind::Create,
            Some(to) => TxKind::Call(to.parse().map_err(|error| format!("{to}: {error}"))?),
        };
        let access_list = AccessList(self.access_list.iter().map(Announced::item).collect());
        let (chain_id, value, input) = (1, self.value, self.data.clone());
        let (nonce, gas_limit, gas_price) = (self.nonce.to(), self.gas_limit.to(), self.gas_price.to());
        let max_fee_per_gas = self.max_fee_per_gas.to();
        let signature = Signature::test_signature();
        // Where a transaction has one price, a file leaves out the other fee, or writes zero for the highest.
        Ok(match self.max_priority_fee_per_gas.filter(|_| max_fee_per_gas > 0) {
            Some(priority) => TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas: priority.to(),
                to,
                value,
                access_list,
                input,
            }
            .into_signed(signature)
            .into(),
            None if access_list.is_empty() => {
                let chain_id = Some(chain_id);
                TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input }.into_signed(signature).into()
            }
            None => TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }
                .into_signed(signature)
                .into(),
        })
    }
}

impl Announced {
    fn item(&self) -> AccessListItem {
        AccessListItem { address: self.address, storage_keys: self.storage_keys.clone() }
    }
}

impl Recorded {
    /// Makes the state before the block.
    fn load(&self, db: &Db) -> metisdb::Result<()> {
        for (number, hash) in &self.block_hashes {
            let mut changes = Changes::new();
            changes.set_block(metisdb::Block { number: *number, hash: *hash, ..metisdb::Block::default() });
            db.commit(&changes, Durability::Pipelined)?;
        }
        let mut changes = Changes::new();
        for (address, touched) in &self.pre {
            let code_hash = keccak256(&touched.code);
            let account = Account { nonce: touched.nonce.to(), balance: touched.balance, code_hash };
            changes.set_account(*address, account);
            if !touched.code.is_empty() {
                changes.set_code(code_hash, touched.code.clone());
            }
            for (slot, value) in &touched.storage {
                changes.set_storage(*address, *slot, *value);
            }
        }
        db.commit(&changes, Durability::Durable).map(drop)
    }

    fn block(&self) -> Outcome<(Block<TxEnvelope>, Vec<Address>)> {
        let env = &self.env;
        let header = Header {
            number: env.block_number.to(),
            parent_hash: env.previous_hash,
            beneficiary: env.current_coinbase,
            gas_limit: env.current_gas_limit.to(),
            timestamp: env.current_timestamp.to(),
            base_fee_per_gas: Some(env.base_fee_per_gas.to()),
            mix_hash: env.mix_hash,
            ..Header::default()
        };
        let transactions = self.transactions.values().map(Sent::envelope).collect::<Result<_, _>>()?;
        let senders = self.transactions.values().map(|sent| sent.sender).collect();
        Ok((Block { header, body: BlockBody { transactions, ommers: Vec::new(), withdrawals: None } }, senders))
    }

    /// Compares the logs of each transaction; how many there are.
    fn compare(&self, executed: &Executed) -> Outcome<usize> {
        same("the number of receipts", executed.receipts.len(), self.logs.len())?;
        let mut number = 0;
        for (index, (receipt, logs)) in executed.receipts.iter().zip(self.logs.values()).enumerate() {
            let expected =
                logs.values().map(|log| Log::new_unchecked(log.address, log.topics.clone(), log.data.clone()));
            if !expected.eq(receipt.logs().iter().cloned()) {
                return Err(format!("the logs of transaction {index} differ from those on mainnet"));
            }
            number += logs.len();
        }
        Ok(number)
    }

    /// Executes the block, commits it, and compares.
    fn execute(&self, path: &Path) -> Result<Outcome<Compared>, Failure> {
        let number: u64 = self.env.block_number.to();
        if !SHANGHAI.contains(&number) {
            return Ok(Err(format!("mainnet's block {number} is none of Shanghai, {SHANGHAI:?}")));
        }
        let chain = Chain::new(Forks::since_genesis(EthereumHardfork::Shanghai), 1);
        let db = Options::new().create(path)?;
        self.load(&db)?;
        let (block, senders) = match self.block() {
            Ok(block) => block,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let executed = match blocks::execute(&chain, db.snapshot()?.into(), (&block, &senders))? {
            Ok(executed) => executed,
            Err(wrong) => return Ok(Err(format!("mainnet's block {number} is not executed: {wrong}"))),
        };
        let proposal = db.propose(&db.snapshot()?, &executed.changes)?;
        proposal.commit(Durability::Durable)?;
        let (root, found) = (proposal.root(), db.snapshot()?.root()?);
        drop(proposal);
        db.close()?;
        let compared = same("the root that is read", found, root).and_then(|()| self.compare(&executed));
        Ok(match compared {
            Ok(logs) => Ok(Compared { transactions: senders.len(), logs }),
            Err(wrong) => Err(format!("mainnet's block {number}: {wrong}")),
        })
    }
}

/// The files, or those of a folder, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = || Failure::system("read", path);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed())? {
        let file = entry.map_err(failed())?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".json") || name.ends_with(".json.zst") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::Refused(format!("{} has no files of blocks (.json, .json.zst)", path.display())));
    }
    Ok(files)
}

/// Executes all blocks of some files, each on a new database in `folder`, up to one that is not as on mainnet.
pub(super) fn execute_all(paths: &[PathBuf], folder: &Path, interrupt: &Interrupt) -> Result<Outcome, Failure> {
    let (mut blocks, mut transactions, mut logs) = (0, 0, 0);
    for path in paths {
        for file in files(path)? {
            for recorded in read(&file)?.values() {
                interrupt.check()?;
                match recorded.execute(&folder.join(format!("block-{blocks}")))? {
                    Ok(compared) => {
                        blocks += 1;
                        transactions += compared.transactions;
                        logs += compared.logs;
                    }
                    Err(wrong) => return Ok(Err(wrong)),
                }
            }
        }
    }
    let [blocks, transactions, logs] = [blocks, transactions, logs].map(|number| count(number as u64));
    Ok(Ok(format!("{blocks} real blocks of mainnet, {transactions} transactions: their {logs} logs as there")))
}

fn read(file: &Path) -> Result<BTreeMap<String, Recorded>, Failure> {
    let open = File::open(file).map_err(Failure::system("open", file))?;
    let content = genesis::unpack(BufReader::new(open)).map_err(Failure::system("read", file))?;
    serde_json::from_reader(BufReader::new(content))
        .map_err(|error| Failure::Refused(format!("{} holds no blocks: {error}", file.display())))
}
