//! Genesis states of real chains: the root of each, put into the genesis header, must give the block hash that the chain is known by.

use std::{collections::BTreeMap, path::Path};

use alloy_primitives::{Address, B256, address, b256};
use metisdb::Db;
use metisdb_conformance::{
    data,
    database::{Checked, check, check_from_empty, commit, create, same},
    header::{Genesis, empty_root},
    hex,
    state::{State, Written},
    tally::Tally,
};
use serde::{Deserialize, de::DeserializeOwned};

const SEGMENT_BYTES: u64 = 1 << 24;
/// Its storage root stands in the header since Isthmus.
const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");

/// A genesis file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'t> {
    #[serde(borrow)]
    alloc: BTreeMap<&'t str, Written<'t>>,
    parent_hash: &'t str,
    coinbase: &'t str,
    difficulty: &'t str,
    number: &'t str,
    gas_limit: &'t str,
    gas_used: &'t str,
    timestamp: &'t str,
    extra_data: &'t str,
    mix_hash: &'t str,
    nonce: &'t str,
    base_fee_per_gas: Option<&'t str>,
    excess_blob_gas: Option<&'t str>,
    blob_gas_used: Option<&'t str>,
    /// Takes the place of the accounts of a chain that began before its present form.
    state_hash: Option<&'t str>,
}

/// The registry's list of chains, which names their files.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    identifier: String,
    chain_id: u64,
}

#[derive(Deserialize)]
struct Registry {
    superchains: Vec<Superchain>,
}

#[derive(Deserialize)]
struct Superchain {
    chains: Vec<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    l2_chain_id: u64,
    hardfork_configuration: Forks,
    genesis: Registered,
}

/// When the forks that change the header begin.
#[derive(Deserialize)]
struct Forks {
    canyon_time: Option<u64>,
    ecotone_time: Option<u64>,
    isthmus_time: Option<u64>,
}

#[derive(Deserialize)]
struct Registered {
    l2: FirstBlock,
}

#[derive(Deserialize)]
struct FirstBlock {
    hash: String,
}

fn parse<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&data::read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl File<'_> {
    fn header(&self, state: &State, forks: &Forks) -> Genesis {
        let timestamp = hex::small(self.timestamp);
        let has_begun = |fork: Option<u64>| fork.is_some_and(|time| time <= timestamp);
        let message_passer = || state.0.get(&MESSAGE_PASSER).map_or(empty_root(), |whole| whole.storage_root());
        let isthmus = has_begun(forks.isthmus_time);
        Genesis {
            parent_hash: hex::hash(self.parent_hash),
            beneficiary: hex::address(self.coinbase),
            state_root: state.root(),
            difficulty: hex::number(self.difficulty),
            number: hex::small(self.number),
            gas_limit: hex::small(self.gas_limit),
            gas_used: hex::small(self.gas_used),
            timestamp,
            extra_data: hex::bytes(self.extra_data),
            mix_hash: hex::hash(self.mix_hash),
            nonce: hex::small(self.nonce),
            base_fee: self.base_fee_per_gas.map(hex::number),
            withdrawals_root: has_begun(forks.canyon_time)
                .then(|| if isthmus { message_passer() } else { empty_root() }),
            blob_gas: has_begun(forks.ecotone_time)
                .then(|| (self.blob_gas_used.map_or(0, hex::small), self.excess_blob_gas.map_or(0, hex::small))),
            requests: isthmus,
        }
    }
}

/// The states of the chains one after the other in one database: each a commit of its difference from the one before.
struct Succession {
    db: Db,
    newest: State,
}

impl Succession {
    fn check_next(&mut self, state: State, root: B256) -> Checked {
        let snapshot = commit(&self.db, &state.changes_since(&self.newest))?;
        self.newest = state;
        check(&snapshot, &self.newest, root)
    }
}

fn check_chain(file: &File<'_>, chain: &Chain, succession: &mut Succession) -> Checked {
    let state = State::new(&file.alloc);
    let header = file.header(&state, &chain.hardfork_configuration);
    same("the harness: the hash of the genesis block", header.hash(), hex::hash(&chain.genesis.l2.hash))?;
    check_from_empty(SEGMENT_BYTES, &state, header.state_root)?;
    succession.check_next(state, header.state_root)
}

#[test]
fn op_stack_genesis() {
    let mut tally = Tally::new("op_stack_genesis");
    let folder = data::package("kona-registry");
    let states = folder.join("superchain-registry/superchain/extra");
    let mut names: BTreeMap<u64, String> = parse::<Vec<Listed>>(&folder.join("etc/chainList.json"))
        .into_iter()
        .map(|listed| (listed.chain_id, listed.identifier))
        .collect();
    let registry: Registry = parse(&folder.join("etc/configs.json"));
    let mut succession = Succession { db: create(SEGMENT_BYTES).unwrap(), newest: State::default() };
    for chain in registry.superchains.iter().flat_map(|superchain| &superchain.chains) {
        let Some(name) = names.remove(&chain.l2_chain_id) else {
            tally.skip(chain.l2_chain_id, "the registry's list has no name of its file");
            continue;
        };
        let path = states.join(format!("genesis/{name}.json.zst"));
        if !path.exists() {
            tally.skip(name, "the registry has no genesis file of it");
            continue;
        }
        let text = data::unpack(&path, Some(&states.join("dictionary")));
        let file: File<'_> = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        match file.state_hash {
            Some(hash) if file.alloc.is_empty() => {
                tally.skip(
                    name,
                    format_args!("its genesis file has the hash of an older state, {hash}, and no accounts"),
                );
            }
            _ => tally.count(name, check_chain(&file, chain, &mut succession)),
        }
    }
    for name in names.into_values() {
        tally.skip(name, "the registry has no configuration of it");
    }
    tally.finish();
}

#[test]
fn ethereum_genesis() {
    const STATE_ROOT: B256 = b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
    const PIECE: usize = 500;
    let text = data::read(&data::package("alloy-genesis").join("dumpgenesis/mainnet.json"));
    let file: File<'_> = serde_json::from_slice(&text).unwrap();
    let state = State::new(&file.alloc);
    assert_eq!(state.0.len(), 8_893);
    let header = file.header(&state, &Forks { canyon_time: None, ecotone_time: None, isthmus_time: None });
    let mut tally = Tally::new("ethereum_genesis");
    tally.count("the harness: the naive root", same("the root", header.state_root, STATE_ROOT));
    let block = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
    tally.count("the harness: the header", same("the hash of the genesis block", header.hash(), block));
    tally.count("from empty", check_from_empty(SEGMENT_BYTES, &state, STATE_ROOT));
    let mut growing = Succession { db: create(SEGMENT_BYTES).unwrap(), newest: State::default() };
    let accounts: Vec<_> = state.0.iter().collect();
    for end in (PIECE..accounts.len()).step_by(PIECE).chain([accounts.len()]) {
        let part = State(accounts[..end].iter().map(|(address, whole)| (**address, (*whole).clone())).collect());
        let root = part.root();
        tally.count(format_args!("the first {end} accounts"), growing.check_next(part, root));
    }
    tally.finish();
}
