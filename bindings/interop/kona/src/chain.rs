//! A chain on a database in a temporary folder: its blocks, and the witness of each.

use std::error::Error;

use alloy_consensus::{Header, Sealed, TxReceipt};
use alloy_primitives::{B64, Bytes, address};
use metisdb::{
    Block, Db, Durability, Options, Recorder,
    proof::{Accessed, Witness, WitnessMode},
};
use metisdb_conformance::state::State;
use metisdb_op::{Executed, MESSAGE_PASSER};
use op_alloy_rpc_types_engine::OpPayloadAttributes;
use tempfile::TempDir;

use crate::{deposits::Deposits, genesis::Genesis, random::Random};

/// A chain, and what its users do.
pub(crate) struct Chain<'g> {
    genesis: &'g Genesis,
    db: Db,
    headers: Vec<Sealed<Header>>,
    deposits: Deposits,
    random: Random,
    /// Removed when the database is closed.
    _folder: TempDir,
}

/// A block, and what others need to replay it.
pub(crate) struct Made {
    pub(crate) parent: Sealed<Header>,
    pub(crate) attributes: OpPayloadAttributes,
    pub(crate) header: Sealed<Header>,
    pub(crate) canonical: Witness,
    pub(crate) superset: Witness,
}

impl<'g> Chain<'g> {
    /// Imports the state of the first block.
    pub(crate) fn create(genesis: &'g Genesis, seed: u64) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let db = Options::new().create(folder.path().join("state"))?;
        let mut changes = genesis.state.changes_since(&State::default());
        changes.set_block(metadata(&genesis.header));
        db.commit(&changes, Durability::Durable)?;
        let headers = vec![genesis.header.clone()];
        let (deposits, random) = (Deposits::new(seed), Random::new(!seed));
        Ok(Self { genesis, db, headers, deposits, random, _folder: folder })
    }

    /// Makes the next block and commits it.
    pub(crate) fn make(&mut self, timestamp: u64) -> Result<Made, Box<dyn Error>> {
        let parent = self.headers.last().expect("there is a first block").clone();
        let attributes = self.attributes(&parent, timestamp);
        let recorder = Recorder::new(self.db.snapshot()?);
        let executed = self.genesis.rollup.execute(recorder.clone(), &parent, &attributes)?;
        check_receipts(&executed)?;
        let proposal = recorder.propose(&executed.changes)?;
        let header = executed.seal(proposal.root(), || proposal.storage_root(&MESSAGE_PASSER))?;
        let headers = self.headers_for(&recorder.accessed());
        let canonical =
            Witness { headers: headers.clone(), ..recorder.witness(&executed.changes, WitnessMode::Canonical)? };
        let superset = Witness { headers, ..recorder.witness(&executed.changes, WitnessMode::Superset)? };
        proposal.seal(metadata(&header))?;
        proposal.commit(Durability::Pipelined)?;
        self.headers.push(header.clone());
        Ok(Made { parent, attributes, header, canonical, superset })
    }

    fn attributes(&mut self, parent: &Header, timestamp: u64) -> OpPayloadAttributes {
        let is_ecotone = self.genesis.is_ecotone(timestamp);
        let number = parent.number + 1;
        let mut attributes = OpPayloadAttributes {
            transactions: Some(self.deposits.next(number, timestamp, is_ecotone)),
            gas_limit: Some(30_000_000),
            ..OpPayloadAttributes::default()
        };
        let about = &mut attributes.payload_attributes;
        about.timestamp = timestamp;
        about.prev_randao = self.random.hash();
        about.suggested_fee_recipient = address!("4200000000000000000000000000000000000011");
        about.parent_beacon_block_root = is_ecotone.then(|| self.random.hash());
        if self.genesis.config.is_holocene_active(timestamp) {
            // Zero stands for the rules since Canyon; else denominator and elasticity.
            let own = 50 << 32 | 10 + number;
            attributes.eip_1559_params =
                Some(if number.is_multiple_of(2) { B64::ZERO } else { own.to_be_bytes().into() });
        }
        attributes
    }

    /// The parent's header, and those before as far back as the block asked for hashes.
    fn headers_for(&self, accessed: &Accessed) -> Vec<Bytes> {
        let parent = self.headers.len() - 1;
        let lowest = accessed.blocks.first().map_or(parent, |number| parent.min(*number as usize));
        self.headers[lowest..].iter().map(|header| alloy_rlp::encode(header.inner()).into()).collect()
    }
}

fn metadata(header: &Sealed<Header>) -> Block {
    Block { number: header.number, hash: header.hash(), parent_hash: header.parent_hash, timestamp: header.timestamp }
}

/// Blocks are as they are meant to be: only the last transaction fails.
fn check_receipts(executed: &Executed) -> Result<(), String> {
    let status: Vec<bool> = executed.receipts.iter().map(TxReceipt::status).collect();
    match status.iter().position(|succeeds| !succeeds) {
        Some(index) if index + 1 == status.len() => Ok(()),
        failing => Err(format!("the first failing transaction is {failing:?} of {}", status.len())),
    }
}
