//! Blocks of a real chain, recorded with the part of the state before them that they touch and with the logs that each
//! transaction left: files of JSON, an object of blocks by any name.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256};
use metisdb::{Account, Changes};
use serde::Deserialize;

use crate::unpack;

/// A recorded block; its transactions have senders instead of signatures.
#[derive(Debug, Deserialize)]
pub struct Recorded {
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

impl Sent {
    /// The transaction without its signature, which the file leaves out.
    fn envelope(&self) -> Result<TxEnvelope, String> {
        let to = match self.to.as_deref() {
            None | Some("" | "0x") => TxKind::Create,
            Some(to) => TxKind::Call(to.parse().map_err(|error| format!("{to}: {error}"))?),
        };
        let access_list = AccessList(self.access_list.iter().map(Announced::item).collect());
        let (chain_id, value, input) = (1, self.value, self.data.clone());
        let (nonce, gas_limit) = (small("nonce", self.nonce)?, small("gas_limit", self.gas_limit)?);
        let gas_price = small("gas_price", self.gas_price)?;
        let max_fee_per_gas: u128 = small("max_fee_per_gas", self.max_fee_per_gas)?;
        let signature = Signature::test_signature();
        // Where a transaction has one price, a file leaves out the other fee, or writes zero for the highest.
        Ok(match self.max_priority_fee_per_gas.filter(|_| max_fee_per_gas > 0) {
            Some(priority) => TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas: small("max_priority_fee_per_gas", priority)?,
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
    /// The files of blocks of a folder, in order; of a file, itself.
    ///
    /// # Errors
    /// Where the folder cannot be read, or has no such file ([`io::ErrorKind::InvalidData`]).
    pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".json") || name.ends_with(".json.zst") {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no files of blocks (.json, .json.zst) are there"));
        }
        Ok(files)
    }

    /// The blocks of a file, which may be compressed with zstd.
    ///
    /// # Errors
    /// Those of the file, [`io::ErrorKind::InvalidData`] where it holds something else.
    pub fn read(file: &Path) -> io::Result<Vec<Self>> {
        let content = unpack::content(BufReader::new(File::open(file)?))?;
        let blocks: BTreeMap<String, Self> = serde_json::from_reader(BufReader::new(content))?;
        Ok(blocks.into_values().collect())
    }

    /// The block's number.
    ///
    /// # Errors
    /// What is wrong with it, for people; so for the whole block.
    pub fn number(&self) -> Result<u64, String> {
        small("block_number", self.env.block_number)
    }

    /// Numbers and hashes of blocks before it that it asks for, one to a commit.
    pub fn earlier_blocks(&self) -> impl Iterator<Item = Changes> {
        self.block_hashes.iter().map(|(number, hash)| {
            let mut changes = Changes::new();
            changes.set_block(metisdb::Block { number: *number, hash: *hash, ..metisdb::Block::default() });
            changes
        })
    }

    /// The part of the state before the block that is known.
    ///
    /// # Errors
    /// As [`Recorded::number`].
    pub fn state_before(&self) -> Result<Changes, String> {
        let mut changes = Changes::new();
        for (address, touched) in &self.pre {
            let code_hash = keccak256(&touched.code);
            let nonce = small("nonce", touched.nonce)?;
            changes.set_account(*address, Account { nonce, balance: touched.balance, code_hash });
            if !touched.code.is_empty() {
                changes.set_code(code_hash, touched.code.clone());
            }
            for (slot, value) in &touched.storage {
                changes.set_storage(*address, *slot, *value);
            }
        }
        Ok(changes)
    }

    /// The block, with the senders of its transactions. Of its header only what execution asks for is there.
    ///
    /// # Errors
    /// As [`Recorded::number`].
    pub fn block(&self) -> Result<(Block<TxEnvelope>, Vec<Address>), String> {
        let env = &self.env;
        let header = Header {
            number: self.number()?,
            parent_hash: env.previous_hash,
            beneficiary: env.current_coinbase,
            gas_limit: small("current_gas_limit", env.current_gas_limit)?,
            timestamp: small("current_timestamp", env.current_timestamp)?,
            base_fee_per_gas: Some(small("base_fee_per_gas", env.base_fee_per_gas)?),
            mix_hash: env.mix_hash,
            ..Header::default()
        };
        let transactions = self.transactions.values().map(Sent::envelope).collect::<Result<_, _>>()?;
        let senders = self.transactions.values().map(|sent| sent.sender).collect();
        Ok((Block { header, body: BlockBody { transactions, ommers: Vec::new(), withdrawals: None } }, senders))
    }

    /// The logs of each transaction.
    pub fn logs(&self) -> Vec<Vec<Log>> {
        let log = |log: &Left| Log::new_unchecked(log.address, log.topics.clone(), log.data.clone());
        self.logs.values().map(|logs| logs.values().map(log).collect()).collect()
    }
}

/// A number that has to be a short one, whatever the file says.
fn small<T: TryFrom<U256>>(name: &str, number: U256) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{name} is too large: {number}"))
}
