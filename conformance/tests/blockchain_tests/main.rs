//! Ethereum's block tests: blocks executed one upon the other with MetisDB as revm's only state; every root is compared, and
//! blocks that are to be refused are. Every block is replayed from its witnesses alone. Every block is a proposal on its parent's, so chains may fork; a chain that does not is
//! committed as well, block by block.

mod header;
mod witness;

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy_consensus::{
    Block, Eip658Value, Header, ReceiptEnvelope, TxEnvelope,
    proofs::{calculate_ommers_root, calculate_receipt_root, calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::Decodable;
use metisdb::{Db, Durability, Proposal, Recorder};
use metisdb_conformance::{
    data,
    database::{self, Checked, caught, same, told},
    hex,
    state::{State, Written},
    tally::Tally,
};
use metisdb_execution::{Chain, Executed, Forks, metadata};
use metisdb_revm::Base;
use serde::{Deserialize, de::IgnoredAny};

use self::witness::Witnesses;

const SEGMENT_BYTES: u64 = 1 << 22;
/// The longest block since Osaka (EIP-7934), in bytes.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// As far back as `BLOCKHASH` reaches.
const MAX_PARENTS: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test<'t> {
    network: String,
    #[serde(borrow)]
    pre: BTreeMap<&'t str, Written<'t>>,
    #[serde(rename = "genesisRLP")]
    genesis_rlp: &'t str,
    blocks: Vec<TestBlock<'t>>,
    lastblockhash: &'t str,
    post_state: Option<BTreeMap<&'t str, Written<'t>>>,
    post_state_hash: Option<&'t str>,
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
    expect_exception: Option<String>,
    /// Older tests leave it out of the blocks that are to be refused, and say no more.
    block_header: Option<IgnoredAny>,
}

impl TestBlock<'_> {
    /// Why the block is to be refused, if it is.
    fn refusal(&self) -> Option<&str> {
        self.expect_exception.as_deref().or(self.block_header.is_none().then_some("a refusal"))
    }
}

/// A block that was accepted, and the state that it left.
struct Accepted {
    block: Block<TxEnvelope>,
    state: Proposal,
    /// Of the chain up to the block.
    total_difficulty: U256,
}

/// A tree of blocks upon one genesis.
struct Tree<'d> {
    db: &'d Db,
    witnesses: &'d Witnesses,
    chain: Chain,
    accepted: HashMap<B256, Accepted>,
}

fn decode(rlp: &str) -> Checked<Block<TxEnvelope>> {
    let bytes = alloy_primitives::hex::decode(rlp).map_err(|error| error.to_string())?;
    let mut rest = &bytes[..];
    let block = Block::decode(&mut rest).map_err(|error| format!("the block's encoding: {error}"))?;
    if rest.is_empty() { Ok(block) } else { Err("the block's encoding has more than the block".into()) }
}

/// Compares the header with the block's content.
fn check_body(block: &Block<TxEnvelope>) -> Checked {
    let (header, body) = (&block.header, &block.body);
    same("the transactions' root", calculate_transaction_root(&body.transactions), header.transactions_root)?;
    same("the ommers' hash", calculate_ommers_root(&body.ommers), header.ommers_hash)?;
    let withdrawals = body.withdrawals.as_ref().map(|withdrawals| calculate_withdrawals_root(withdrawals));
    if withdrawals == header.withdrawals_root { Ok(()) } else { Err("the withdrawals' root differs".into()) }
}

/// Compares the header with what a builder would begin with.
fn check_next(chain: &Chain, parent: &Header, header: &Header) -> Checked {
    let next = chain.next_header(parent, header.parent_hash, header.timestamp);
    let begun = Header {
        beneficiary: header.beneficiary,
        difficulty: header.difficulty,
        gas_limit: header.gas_limit,
        extra_data: header.extra_data.clone(),
        mix_hash: header.mix_hash,
        nonce: header.nonce,
        parent_beacon_block_root: next.parent_beacon_block_root.and(header.parent_beacon_block_root),
        // What only execution and the body tell.
        ommers_hash: header.ommers_hash,
        state_root: header.state_root,
        transactions_root: header.transactions_root,
        receipts_root: header.receipts_root,
        logs_bloom: header.logs_bloom,
        gas_used: header.gas_used,
        withdrawals_root: next.withdrawals_root.and(header.withdrawals_root),
        blob_gas_used: next.blob_gas_used.and(header.blob_gas_used),
        requests_hash: next.requests_hash.and(header.requests_hash),
        ..next
    };
    if begun == *header { Ok(()) } else { Err(format!("a builder would begin with {begun:?}")) }
}

/// Compares the header with what execution led to, but for the state root.
fn check_outcome(block: &Block<TxEnvelope>, executed: &Executed) -> Checked {
    let header = &block.header;
    same("the receipts' root", calculate_receipt_root(&executed.receipts), header.receipts_root)?;
    let requests = header.requests_hash.is_none_or(|hash| hash == executed.requests.requests_hash());
    let blobs = header.blob_gas_used.is_none_or(|used| used == executed.blob_gas_used);
    match (executed.gas_used == header.gas_used, executed.logs_bloom() == header.logs_bloom, requests, blobs) {
        (true, true, true, true) => Ok(()),
        matches => Err(format!("gas, bloom, requests and blob gas match the header: {matches:?}")),
    }
}

/// Executes a block on its parent's state. Before Byzantium a receipt has the root after its transaction: so each is compared.
fn execute(db: &Db, chain: &Chain, base: &Base, block: &Block<TxEnvelope>, senders: &[Address]) -> Checked<Executed> {
    if chain.forks().is_byzantium_active_at_block(block.header.number) {
        return chain.execute(base.clone(), block, senders).map_err(|error| error.to_string());
    }
    let mut roots = Vec::new();
    let executed = chain.execute_observed(base.clone(), (block, senders), |overlay| {
        roots.push(overlay.propose(db)?.root());
        Ok(())
    });
    let mut executed = executed.map_err(|error| error.to_string())?;
    for (receipt, root) in executed.receipts.iter_mut().zip(roots) {
        if let ReceiptEnvelope::Legacy(receipt) = receipt {
            receipt.receipt.status = Eip658Value::PostState(root);
        }
    }
    Ok(executed)
}

impl Tree<'_> {
    /// The block of a hash and those before it, newest first, as many as are asked for at most.
    fn ancestors(&self, mut hash: B256, count: usize) -> Vec<&Block<TxEnvelope>> {
        let mut found = Vec::new();
        while let Some(accepted) = self.accepted.get(&hash).filter(|_| found.len() < count) {
            found.push(&accepted.block);
            hash = accepted.block.header.parent_hash;
        }
        found
    }

    /// Accepts a block, or says why not; then nothing has changed.
    fn accept(&mut self, rlp: &str) -> Checked {
        let block = decode(rlp)?;
        let parent = self.accepted.get(&block.header.parent_hash).ok_or("the block's parent is unknown")?;
        let forks = self.chain.forks().after_total_difficulty(parent.total_difficulty);
        if forks.is_osaka_active_at_timestamp(block.header.timestamp) && rlp.len() / 2 > MAX_BLOCK_BYTES {
            return Err("the block is too long".into());
        }
        let hash = block.header.hash_slow();
        forks.check_form(&block).map_err(|error| error.to_string())?;
        header::check(&forks, &block.header, &parent.block.header)?;
        header::check_ommers(&forks, &block, &self.ancestors(block.header.parent_hash, 7))?;
        check_body(&block)?;
        check_next(&self.chain.clone().with_forks(forks), &parent.block.header, &block.header)?;
        let parents = self.ancestors(block.header.parent_hash, MAX_PARENTS);
        let parents: Vec<&Header> = parents.iter().map(|block| &block.header).collect();
        let recorder = Recorder::of_proposal(parent.state.clone());
        let state = self.execute(&block, (hash, forks), &recorder, &parents)?;
        let total_difficulty = parent.total_difficulty.saturating_add(block.header.difficulty);
        self.accepted.insert(hash, Accepted { block, state, total_difficulty });
        Ok(())
    }

    /// `parents` are the headers before the block's, newest first.
    fn execute(
        &self,
        block: &Block<TxEnvelope>,
        (hash, forks): (B256, Forks),
        recorder: &Recorder,
        parents: &[&Header],
    ) -> Checked<Proposal> {
        let chain = self.chain.clone().with_forks(forks);
        let base = &Base::from(recorder.clone());
        let senders = chain.senders(block).map_err(|error| error.to_string())?;
        let mut executed = execute(self.db, &chain, base, block, &senders)?;
        check_outcome(block, &executed)?;
        let changes = executed.changes.clone();
        executed.changes.set_block(metadata(&block.header, hash));
        let proposal = told(base.propose(self.db, &executed.changes)).map_err(broken)?;
        same("the root", proposal.root(), block.header.state_root)?;
        // Who builds a block with this chain must arrive at the same header.
        let mut sealed = block.clone();
        chain.seal(&mut sealed, &executed, proposal.root());
        same("the hash of the block when sealed anew", sealed.header.hash_slow(), hash)?;
        self.witnesses.check(&chain, block, (recorder, &changes), parents).map_err(broken)?;
        Ok(proposal)
    }
}

/// How it begins where it is not the block that is wrong.
const BROKEN: &str = "broken: ";

fn broken(error: String) -> String {
    format!("{BROKEN}{error}")
}

impl Test<'_> {
    fn chain(&self, forks: Forks) -> Chain {
        let chain = Chain::new(forks, self.config.chainid.as_deref().map_or(1, hex::small));
        let collides = State::new(&self.pre).has_storage_without_code();
        if collides { chain.refusing_storage_collisions() } else { chain }
    }

    /// All blocks as proposals; those on the way to the last one, genesis left out, are handed back.
    fn check(&self, db: &Db, forks: Forks, witnesses: &Witnesses) -> Checked<Vec<Block<TxEnvelope>>> {
        let genesis = decode(self.genesis_rlp)?;
        let pre = State::new(&self.pre);
        same("the harness: the naive root of `pre`", pre.root(), genesis.header.state_root)?;
        let hash = genesis.header.hash_slow();
        let mut changes = pre.changes_since(&State::default());
        changes.set_block(metadata(&genesis.header, hash));
        let state = told(db.propose(&told(db.snapshot())?, &changes))?;
        same("the root of genesis", state.root(), pre.root())?;
        let total_difficulty = genesis.header.difficulty;
        let accepted = HashMap::from([(hash, Accepted { block: genesis, state, total_difficulty })]);
        let mut tree = Tree { db, witnesses, chain: self.chain(forks), accepted };
        for (index, block) in self.blocks.iter().enumerate() {
            match (tree.accept(block.rlp), block.refusal()) {
                (Ok(()), Some(exception)) => {
                    return Err(format!("block {index} is accepted, but expected {exception}"));
                }
                (Err(error), None) => return Err(format!("block {index}: {error}")),
                (Err(error), Some(_)) if error.starts_with(BROKEN) => return Err(format!("block {index}: {error}")),
                _ => {}
            }
        }
        let last = hex::hash(self.lastblockhash);
        let newest = tree.accepted.get(&last).ok_or("the last block was not accepted")?;
        let post_root = match (&self.post_state, self.post_state_hash) {
            (Some(state), _) => State::new(state).root(),
            (None, Some(hash)) => hex::hash(hash),
            (None, None) => newest.block.header.state_root,
        };
        same("the root in the end", newest.state.root(), post_root)?;
        let mut blocks: Vec<_> = tree.ancestors(last, usize::MAX).into_iter().cloned().collect();
        blocks.reverse();
        Ok(blocks.split_off(1))
    }

    /// The same blocks, each committed before the next is executed.
    fn check_committed(&self, forks: Forks, blocks: &[Block<TxEnvelope>], witnesses: &Witnesses) -> Checked {
        let db = &database::create(SEGMENT_BYTES)?;
        let genesis = decode(self.genesis_rlp)?.header;
        let mut changes = State::new(&self.pre).changes_since(&State::default());
        changes.set_block(metadata(&genesis, genesis.hash_slow()));
        told(db.commit(&changes, Durability::Pipelined))?;
        let tree = Tree { db, witnesses, chain: self.chain(forks), accepted: HashMap::new() };
        let mut total_difficulty = genesis.difficulty;
        let mut parents = VecDeque::from([&genesis]);
        for block in blocks {
            let rules = (block.header.hash_slow(), forks.after_total_difficulty(total_difficulty));
            total_difficulty = total_difficulty.saturating_add(block.header.difficulty);
            let recorder = Recorder::new(told(db.snapshot())?);
            let proposal = tree.execute(block, rules, &recorder, parents.make_contiguous())?;
            parents.push_front(&block.header);
            parents.truncate(MAX_PARENTS);
            told(proposal.commit(Durability::Pipelined))?;
            same("the committed root", told(told(db.snapshot())?.root())?, block.header.state_root)?;
        }
        Ok(())
    }

    fn run(&self, ground: &Db, forks: Forks, witnesses: &Witnesses) -> Checked {
        let blocks = self.check(ground, forks, witnesses)?;
        self.check_committed(forks, &blocks, witnesses)
    }
}

#[test]
fn blockchain_tests() {
    let mut tally = Tally::new("blockchain_tests");
    let ground = database::create(SEGMENT_BYTES).expect("a database in memory");
    let witnesses = Witnesses::default();
    match data::fixtures().map(|folder| folder.join("blockchain_tests")).filter(|folder| folder.is_dir()) {
        None => tally.skip("all", "no fixtures"),
        Some(folder) => {
            for path in data::files(&folder, "json") {
                let text = data::read(&path);
                let file = path.strip_prefix(&folder).unwrap_or(&path).display();
                match serde_json::from_slice::<BTreeMap<String, Test<'_>>>(&text) {
                    Ok(tests) => {
                        for (name, test) in &tests {
                            match Forks::named(&test.network) {
                                Ok(forks) if forks.is_amsterdam_active_at_timestamp(u64::MAX) => {
                                    tally.skip(
                                        format_args!("{file} {name}"),
                                        "blocks with access lists are not built yet",
                                    );
                                }
                                Ok(forks) => tally.count(
                                    format_args!("{file} {name}"),
                                    caught(|| test.run(&ground, forks, &witnesses)),
                                ),
                                Err(error) => tally.skip(format_args!("{file} {name}"), error),
                            }
                        }
                    }
                    Err(error) => tally.count(file, Err(format!("not a block test: {error}"))),
                }
            }
        }
    }
    tally.note(&witnesses);
    tally.finish();
}
