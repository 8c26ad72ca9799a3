//! A block test: its blocks executed on a database, their witnesses replayed by ethrex.

use std::collections::BTreeMap;

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_primitives::hex;
use alloy_rlp::Decodable;
use ethrex_common::types::ChainConfig;
use metisdb::{
    Changes, Durability, Recorder,
    proof::{Witness, WitnessMode},
};
use metisdb_conformance::{
    database::{self, same, told},
    hex as numbers,
    state::{State, Written},
};
use metisdb_execution::{Chain, Executed, Forks, metadata};
use metisdb_revm::Base;
use serde::{Deserialize, de::IgnoredAny};

use crate::{Checked, client, counts::Counts, forks};

const SEGMENT_BYTES: u64 = 1 << 22;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Test<'t> {
    network: String,
    #[serde(borrow)]
    pre: BTreeMap<&'t str, Written<'t>>,
    #[serde(rename = "genesisRLP")]
    genesis_rlp: &'t str,
    blocks: Vec<TestBlock<'t>>,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    chainid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestBlock<'t> {
    rlp: &'t str,
    #[serde(alias = "expectExceptionALL")]
    expect_exception: Option<IgnoredAny>,
    block_header: Option<IgnoredAny>,
}

/// How a test went.
pub(crate) enum Verdict {
    Passed,
    /// Why it is not for ethrex.
    Skipped(&'static str),
}

/// A block, and what others need to replay it.
struct Export<'e> {
    block: &'e [u8],
    config: ChainConfig,
    canonical: Witness,
    superset: Witness,
}

impl Test<'_> {
    /// Every sound block of the chain, one upon the other.
    pub(crate) fn run(&self, counts: &mut Counts) -> Checked<Verdict> {
        let forks = Forks::named(&self.network).map_err(|error| error.to_string())?;
        let chain_id = self.config.chainid.as_deref().map_or(1, numbers::small);
        let Some(config) = forks::config(&forks, chain_id) else {
            return Ok(Verdict::Skipped("blocks from before the merge"));
        };
        if self.network.contains("Amsterdam") {
            return Ok(Verdict::Skipped("blocks with access lists"));
        }
        let pre = State::new(&self.pre);
        if pre.has_storage_without_code() {
            return Ok(Verdict::Skipped("storage without code, which clients treat in ways of their own"));
        }
        let chain = Chain::new(forks, chain_id);
        let (genesis, _) = decode(self.genesis_rlp)?;
        let db = database::create(SEGMENT_BYTES)?;
        let mut changes = pre.changes_since(&State::default());
        changes.set_block(metadata(&genesis.header, genesis.header.hash_slow()));
        told(db.commit(&changes, Durability::Pipelined))?;
        let mut headers = vec![genesis.header];
        let sound = |block: &&TestBlock<'_>| block.expect_exception.is_none() && block.block_header.is_some();
        for given in self.blocks.iter().filter(sound) {
            let (block, bytes) = decode(given.rlp)?;
            if headers.last().is_none_or(|parent| parent.hash_slow() != block.header.parent_hash) {
                return Ok(Verdict::Skipped("a chain with forks"));
            }
            let recorder = Recorder::new(told(db.snapshot())?);
            let mut executed = execute(&chain, &recorder, &block)?;
            let [canonical, superset] = witnesses(&recorder, &executed.changes, &headers)?;
            counts.add(&Export { block: &bytes, config, canonical, superset })?;
            executed.changes.set_block(metadata(&block.header, block.header.hash_slow()));
            let proposal = told(Base::from(recorder).propose(&db, &executed.changes))?;
            same("the root", proposal.root(), block.header.state_root)?;
            told(proposal.commit(Durability::Pipelined))?;
            headers.push(block.header);
        }
        Ok(Verdict::Passed)
    }
}

fn decode(text: &str) -> Checked<(Block<TxEnvelope>, Vec<u8>)> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    let block = Block::decode(&mut &bytes[..]).map_err(|error| format!("the block's encoding: {error}"))?;
    Ok((block, bytes))
}

fn execute(chain: &Chain, recorder: &Recorder, block: &Block<TxEnvelope>) -> Checked<Executed> {
    let senders = chain.senders(block).map_err(|error| error.to_string())?;
    chain.execute(Base::from(recorder.clone()), block, &senders).map_err(|error| error.to_string())
}

/// Both modes, with the headers that the block asked for and its parent's.
fn witnesses(recorder: &Recorder, changes: &Changes, headers: &[Header]) -> Checked<[Witness; 2]> {
    let oldest = recorder.accessed().blocks.first().copied().unwrap_or(u64::MAX);
    let needed = |header: &&Header| header.number >= oldest || Some(*header) == headers.last();
    let headers: Vec<_> = headers.iter().filter(needed).map(|header| alloy_rlp::encode(header).into()).collect();
    let export =
        |mode| told(recorder.witness(changes, mode)).map(|witness| Witness { headers: headers.clone(), ..witness });
    Ok([export(WitnessMode::Canonical)?, export(WitnessMode::Superset)?])
}

impl Counts {
    /// Replays the block from both witnesses, and from the canonical one without each of its nodes.
    fn add(&mut self, export: &Export<'_>) -> Checked {
        let Export { block, config, canonical, superset } = export;
        let replay = |witness: &Witness| client::replay(&witness.to_rlp(), block, *config);
        replay(canonical).map_err(|error| format!("the canonical witness: {error}"))?;
        replay(superset).map_err(|error| format!("the superset: {error}"))?;
        self.blocks += 1;
        self.nodes += canonical.state.len();
        self.spare += superset.state.len() - canonical.state.len();
        for index in 0..canonical.state.len() {
            let mut less = canonical.clone();
            let removed = less.state.remove(index);
            match replay(&less) {
                Ok(()) => return Err(format!("ethrex replays without the node {removed}")),
                Err(_) => self.removed += 1,
            }
        }
        Ok(())
    }
}
