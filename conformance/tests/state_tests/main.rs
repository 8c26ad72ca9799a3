//! Ethereum's state tests: a transaction on a state, executed by revm with MetisDB as its only state, and the root after it.

mod transaction;

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Header;
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{B256, U256, keccak256};
use metisdb::{Block, Changes, Db, Durability, Proposal};
use metisdb_conformance::{
    data,
    database::{self, Checked, caught, same, told},
    hex,
    state::{State, Written},
    tally::Tally,
};
use metisdb_execution::{Chain, Forks};
use metisdb_revm::{Base, Overlay, changes_of_changeset, changes_of_state};
use revm::{
    DatabaseCommit,
    context::result::ResultAndState,
    database::{OriginalValuesKnown, State as Collected, states::bundle_state::BundleRetention},
    database_interface::{DatabaseCommitExt, WrapDatabaseRef},
    state::EvmState,
};
use serde::Deserialize;

use self::transaction::{Choice, Parts, logs_hash};

const SEGMENT_BYTES: u64 = 1 << 22;
/// Every so many cases are committed, too.
const COMMITTED: usize = 8;

#[derive(Deserialize)]
struct Test<'t> {
    env: Environment,
    #[serde(borrow)]
    pre: BTreeMap<&'t str, Written<'t>>,
    transaction: Parts,
    post: BTreeMap<String, Vec<Expected>>,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    chainid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    current_coinbase: String,
    current_difficulty: Option<String>,
    current_gas_limit: String,
    current_number: String,
    current_timestamp: String,
    current_base_fee: Option<String>,
    current_random: Option<String>,
    current_excess_blob_gas: Option<String>,
}

/// What a transaction leads to under one fork's rules.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    hash: String,
    logs: String,
    indexes: Choice,
    expect_exception: Option<String>,
}

impl Environment {
    fn header(&self, forks: &Forks) -> Header {
        let small = |text: &String| hex::number(text).saturating_to::<u64>();
        let (number, timestamp) = (small(&self.current_number), small(&self.current_timestamp));
        let base_fee =
            forks.is_london_active_at_block(number).then(|| self.current_base_fee.as_ref().map_or(10, small));
        Header {
            beneficiary: hex::address(&self.current_coinbase),
            difficulty: self.current_difficulty.as_deref().map_or(U256::ZERO, hex::number),
            gas_limit: small(&self.current_gas_limit),
            number,
            timestamp,
            base_fee_per_gas: base_fee,
            mix_hash: self.current_random.as_deref().map_or(B256::ZERO, |text| hex::number(text).into()),
            excess_blob_gas: Some(self.current_excess_blob_gas.as_ref().map_or(0, small)),
            ..Header::default()
        }
    }
}

/// A database without accounts that knows the hashes of blocks; every case is a proposal on it.
struct Ground {
    db: Db,
    known: BTreeSet<u64>,
}

impl Ground {
    fn new() -> Checked<Self> {
        Ok(Self { db: database::create(SEGMENT_BYTES)?, known: BTreeSet::new() })
    }

    /// A proposal of the state before a transaction in the block of a number.
    fn propose(&mut self, number: u64, changes: &Changes) -> Checked<Proposal> {
        for number in number.saturating_sub(256)..number {
            if self.known.insert(number) {
                // So the tests define the hashes of blocks before.
                let hash = keccak256(number.to_string());
                let mut changes = Changes::new();
                changes.set_block(Block { number, hash, ..Block::default() });
                told(self.db.commit(&changes, Durability::Pipelined))?;
            }
        }
        told(self.db.propose(&told(self.db.snapshot())?, changes))
    }
}

/// The changes as revm's own `State` collects them.
fn collected(chain: &Chain, base: &Base, state: &EvmState) -> Checked<Changes> {
    let below = WrapDatabaseRef(chain.reader(base.clone()));
    let mut all = Collected::builder().with_database(below).with_bundle_update().build();
    for address in state.keys() {
        all.load_cache_account(*address).map_err(|error| error.to_string())?;
    }
    all.commit(state.clone());
    all.merge_transitions(BundleRetention::Reverts);
    let (changeset, _) = all.take_bundle().to_plain_state_and_reverts(OriginalValuesKnown::Yes);
    Ok(changes_of_changeset(&changeset))
}

/// Executes one transaction on a state and compares logs and root; the changes are those that lead there.
fn check(db: &Db, base: &Base, chain: &Chain, test: &Test<'_>, expected: &Expected) -> Checked<Changes> {
    let header = test.env.header(chain.forks());
    let empty = chain.empty_accounts(header.number);
    let mut overlay = Overlay::new(chain.reader(base.clone()), empty);
    let root = hex::hash(&expected.hash);
    let propose = |what: &str, changes: &Changes| same(what, told(base.propose(db, changes))?.root(), root);
    let executed = test
        .transaction
        .choose(expected.indexes, test.chain_id())
        .and_then(|transaction| chain.transact(&mut overlay, &header, transaction).map_err(|error| error.to_string()));
    let logs = match (executed, &expected.expect_exception) {
        (Ok(_), Some(exception)) => return Err(format!("executed, but expected {exception}")),
        (Err(error), None) => return Err(error),
        (Err(_), Some(_)) => {
            // The tests' blocks are paid all the same, with nothing.
            let payment = [(header.beneficiary, 0)];
            overlay.increment_balances(payment).map_err(|error| error.to_string())?;
            Vec::new()
        }
        (Ok(ResultAndState { result, state }), None) => {
            propose("the root of one execution", &changes_of_state(&state, empty))?;
            propose("the root of a bundle", &collected(chain, base, &state)?)?;
            overlay.commit(state);
            result.into_logs()
        }
    };
    same("the hash of the logs", logs_hash(&logs), hex::hash(&expected.logs))?;
    let changes = told(overlay.changes())?;
    propose("the root", &changes)?;
    Ok(changes)
}

/// The same in a database of its own: the state is committed, executed on, and committed again.
fn check_committed(chain: &Chain, test: &Test<'_>, pre: &Changes, expected: &Expected) -> Checked {
    let db = database::create(SEGMENT_BYTES)?;
    told(db.commit(pre, Durability::Pipelined))?;
    let before = told(db.snapshot())?;
    let changes = check(&db, &before.clone().into(), chain, test, expected)?;
    let after = told(told(db.propose(&before, &changes))?.commit(Durability::Pipelined))?;
    same("the committed root", told(told(db.snapshot_at(after.version()))?.root())?, hex::hash(&expected.hash))
}

impl Test<'_> {
    fn chain_id(&self) -> u64 {
        self.config.chainid.as_deref().map_or(1, hex::small)
    }
}

/// All that the cases share.
struct Runner {
    tally: Tally,
    ground: Ground,
    chains: BTreeMap<(String, u64), Chain>,
    count: usize,
}

impl Runner {
    fn run(&mut self, name: &str, test: &Test<'_>) {
        let number = hex::number(&test.env.current_number).saturating_to();
        let made = caught(|| {
            let pre = State::new(&test.pre);
            let changes = pre.changes_since(&State::default());
            let base: Base = self.ground.propose(number, &changes)?.into();
            Ok((pre.has_storage_without_code(), changes, base))
        });
        let (collides, pre, base) = match made {
            Ok(made) => made,
            Err(error) => return self.tally.count(name, Err(error)),
        };
        for (fork, cases) in &test.post {
            let forks = match Forks::named(fork) {
                Ok(forks) => forks,
                Err(error) => {
                    cases.iter().for_each(|_| self.tally.skip(format_args!("{name} {fork}"), &error));
                    continue;
                }
            };
            let chain = self
                .chains
                .entry((fork.clone(), test.chain_id()))
                .or_insert_with(|| Chain::new(forks, test.chain_id()))
                .clone();
            let chain = if collides { chain.refusing_storage_collisions() } else { chain };
            for (index, expected) in cases.iter().enumerate() {
                let case = format!("{name} {fork} {index}");
                let result = caught(|| check(&self.ground.db, &base, &chain, test, expected));
                self.count += 1;
                let result = match result {
                    Ok(_) if self.count.is_multiple_of(COMMITTED) && number <= 1 => {
                        check_committed(&chain, test, &pre, expected)
                    }
                    other => other.map(drop),
                };
                self.tally.count(case, result);
            }
        }
    }
}

#[test]
fn state_tests() {
    let tally = Tally::new("state_tests");
    let ground = Ground::new().expect("a database in memory");
    let mut runner = Runner { tally, ground, chains: BTreeMap::new(), count: 0 };
    match data::fixtures().map(|folder| folder.join("state_tests")).filter(|folder| folder.is_dir()) {
        None => runner.tally.skip("all", "no fixtures"),
        Some(folder) => {
            for path in data::files(&folder, "json") {
                let text = data::read(&path);
                let file = path.strip_prefix(&folder).unwrap_or(&path).display();
                match serde_json::from_slice::<BTreeMap<String, Test<'_>>>(&text) {
                    Ok(tests) => tests.iter().for_each(|(name, test)| runner.run(&format!("{file} {name}"), test)),
                    Err(error) => runner.tally.count(file, Err(format!("not a state test: {error}"))),
                }
            }
        }
    }
    runner.tally.finish();
}
