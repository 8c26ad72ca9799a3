//! What MetisDB proves of a state, verified by alloy-trie, which shares no code with it: accounts and slots, present and absent, on every retained
//! version and on a proposal.
//!
//! ```text
//! cargo run --release -- --versions 20
//! ```

mod history;

use std::{collections::BTreeMap, error::Error};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{
    Nibbles, TrieAccount,
    proof::verify_proof,
    root::{state_root_unhashed, storage_root_unhashed},
};
use clap::Parser;
use metisdb::{Account, Durability, Options, proof::AccountProof};

use self::history::{History, State};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Parser)]
struct Arguments {
    /// Versions to commit and to prove.
    #[arg(long, default_value_t = 20)]
    versions: u64,
    /// What the state and its changes follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was verified.
#[derive(Debug, Default)]
struct Counts {
    accounts: usize,
    absent_accounts: usize,
    slots: usize,
    absent_slots: usize,
}

impl Counts {
    /// Every account and slot that the history knows, proved by `prove`, whether or not the state has it.
    fn verify(&mut self, state: &State, prove: impl Fn(&Address, &[U256]) -> metisdb::Result<AccountProof>) -> Result {
        let root = root_of(state);
        for address in history::addresses() {
            let slots: Vec<U256> = history::slots().collect();
            let proof = prove(&address, &slots)?;
            let known = state.get(&address);
            let leaf = known.map(|(account, slots)| leaf(account, slots));
            verify(root, keccak256(address), leaf.map(alloy_rlp::encode), &proof.nodes)?;
            *(if known.is_some() { &mut self.accounts } else { &mut self.absent_accounts }) += 1;
            let storage_root = leaf.map_or(alloy_trie::EMPTY_ROOT_HASH, |leaf| leaf.storage_root);
            for slot in &proof.slots {
                let value = known.and_then(|(_, slots)| slots.get(&slot.slot));
                let path = keccak256(slot.slot.to_be_bytes::<32>());
                verify(storage_root, path, value.map(alloy_rlp::encode), &slot.nodes)?;
                *(if value.is_some() { &mut self.slots } else { &mut self.absent_slots }) += 1;
            }
        }
        Ok(())
    }
}

fn verify(root: B256, path: B256, value: Option<Vec<u8>>, nodes: &[Bytes]) -> Result {
    verify_proof(root, Nibbles::unpack(path), value, nodes)
        .map_err(|error| format!("{path} under {root}: {error}").into())
}

fn leaf(account: &Account, slots: &BTreeMap<U256, U256>) -> TrieAccount {
    let Account { nonce, balance, code_hash } = *account;
    let storage_root = storage_root_unhashed(slots.iter().map(|(slot, value)| (B256::from(*slot), *value)));
    TrieAccount { nonce, balance, storage_root, code_hash }
}

/// By alloy-trie.
fn root_of(state: &State) -> B256 {
    state_root_unhashed(state.iter().map(|(address, (account, slots))| (*address, leaf(account, slots))))
}

fn main() -> Result {
    let Arguments { versions, seed } = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let db = Options::new().retain_versions(versions).create(folder.path().join("state"))?;
    let (mut history, mut states, mut counts) = (History::new(seed), vec![], Counts::default());
    for _ in 0..versions {
        let changes = history.advance();
        // Before it is committed, and then again, behind all that follow.
        let proposal = db.propose(&db.snapshot()?, &changes)?;
        counts.verify(history.state(), |address, slots| proposal.proof(address, slots))?;
        let version = proposal.commit(Durability::Durable)?.version();
        states.push((version, history.state().clone()));
    }
    for (version, state) in states {
        let snapshot = db.snapshot_at(version)?;
        counts.verify(&state, |address, slots| snapshot.proof(address, slots))?;
    }
    let Counts { accounts, absent_accounts, slots, absent_slots } = counts;
    println!(
        "alloy-trie verified {accounts} accounts and {slots} slots, and the absence of {absent_accounts} accounts and {absent_slots} slots (seed {seed})"
    );
    Ok(())
}
