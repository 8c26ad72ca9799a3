//! Histories that the input writes, against a model, their roots judged by an independent implementation.
//!
//! Few addresses and slots, so that everything meets: proposals in forks and chains, deferred roots, held snapshots, wipes, accounts that go and
//! come back, checkpoints, reopening with and without a clean end, power cuts.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::TrieAccount;
use arbitrary::{Result, Unstructured};

use super::oracle_root;
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Error, Options, Proposal, Snapshot, proof::AccountProof,
    storage::SimulatedDisk,
};

const ADDRESSES: u8 = 5;
const SLOTS: u8 = 6;
/// Steps of one commit, snapshots and proposals that are held, at most.
const MOST: usize = 6;
const RETAIN: u64 = 3;

/// The state at one version.
#[derive(Clone, Debug, Default)]
struct State {
    accounts: BTreeMap<Address, Account>,
    slots: BTreeMap<(Address, U256), U256>,
}

impl State {
    fn storage(&self, address: Address) -> BTreeMap<B256, Vec<u8>> {
        let own = self.slots.range((address, U256::ZERO)..=(address, U256::MAX));
        own.map(|((_, slot), value)| (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value))).collect()
    }

    fn root(&self) -> B256 {
        let leaf = |(address, account): (&Address, &Account)| {
            let Account { nonce, balance, code_hash } = *account;
            let storage_root = oracle_root(&self.storage(*address));
            (keccak256(address), alloy_rlp::encode(TrieAccount { nonce, balance, storage_root, code_hash }))
        };
        oracle_root(&self.accounts.iter().map(leaf).collect())
    }

    fn wipe(&mut self, address: Address) {
        self.slots.retain(|(own, _), _| *own != address);
    }

    /// The next state, and the changes that make it.
    fn next(&self, input: &mut Unstructured<'_>) -> Result<(Self, Changes)> {
        let (mut state, mut changes) = (self.clone(), Changes::new());
        for _ in 0..input.int_in_range(0..=MOST)? {
            let address = Address::repeat_byte(input.int_in_range(1..=ADDRESSES)?);
            let account = Account { nonce: input.int_in_range(0..=2)?, ..Account::default() };
            match input.int_in_range(0..=9)? {
                0 => {
                    state.accounts.remove(&address);
                    state.wipe(address);
                    changes.delete_account(address);
                }
                1 => {
                    state.wipe(address);
                    changes.wipe_storage(address);
                }
                2 => {
                    state.accounts.insert(address, account);
                    changes.set_account(address, account);
                }
                _ => {
                    if state.accounts.insert(address, account) != Some(account) {
                        changes.set_account(address, account);
                    }
                    let slot = U256::from(input.int_in_range(0..=SLOTS - 1)?);
                    let value =
                        U256::from(input.int_in_range(0..=3_u8)?) << usize::from(input.int_in_range(0..=250_u8)?);
                    state.slots.insert((address, slot), value);
                    changes.set_storage(address, slot, value);
                }
            }
        }
        state.slots.retain(|_, value| !value.is_zero());
        Ok((state, changes))
    }
}

/// A proposal, and the state that it leads to.
struct Forked {
    proposal: Proposal,
    state: State,
    /// The version that it was made on, once that is one,
    parent: Rc<Cell<Option<u64>>>,
    /// and the one that it is itself.
    version: Rc<Cell<Option<u64>>>,
}

struct Machine {
    disk: Arc<SimulatedDisk>,
    db: Option<Db>,
    /// Index is the version.
    states: Vec<State>,
    /// The newest version that a power cut must not take.
    durable: u64,
    held: Vec<Snapshot>,
    proposals: Vec<Forked>,
}

/// A history.
pub fn operations(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let disk = Arc::new(SimulatedDisk::new(bytes.len() as u64));
    let db = Some(options().create_on(disk.clone()).expect("an empty disk"));
    let (held, proposals) = (Vec::new(), Vec::new());
    let mut machine = Machine { disk, db, states: vec![State::default()], durable: 0, held, proposals };
    // The input ends where it ends; what was done by then must be right.
    while !input.is_empty() && machine.step(&mut input).is_ok() {}
    machine.assert_newest();
    machine.shut().close().expect("a clean end");
    machine.open(false);
    let report = machine.db().check(CheckLevel::Full).expect("a sound database");
    assert_eq!(report.roots, machine.newest().min(RETAIN) + 1);
}

fn options() -> Options {
    Options::new().segment_bytes(1 << 16).expected_keys(0).checkpoint_log_bytes(u64::MAX).retain_versions(RETAIN)
}

impl Machine {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is open")
    }

    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=15)? {
            0..=2 => self.commit(input)?,
            3 | 4 => self.commit_deferred(input)?,
            5..=7 => self.propose(input)?,
            8 | 9 => self.commit_proposal(input)?,
            10 => {
                let version = self.newest().saturating_sub(input.int_in_range(0..=RETAIN)?);
                self.held.truncate(MOST - 1);
                self.held.push(self.db().snapshot_at(version).expect("a retained version"));
            }
            11 if !self.held.is_empty() => drop(self.held.swap_remove(input.choose_index(self.held.len())?)),
            12 if !self.proposals.is_empty() => {
                drop(self.proposals.swap_remove(input.choose_index(self.proposals.len())?));
            }
            13 => {
                self.db().checkpoint().expect("a checkpoint");
                self.durable = self.newest();
            }
            14 => self.reopen(input)?,
            _ => self.assert_held(),
        }
        Ok(())
    }

    fn commit(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (state, changes) = self.states[self.newest() as usize].next(input)?;
        let durability = durability(input)?;
        let commit = self.db().commit(&changes, durability).expect("a commit");
        self.committed(commit.version(), state, durability);
        self.assert_newest();
        Ok(())
    }

    fn commit_deferred(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (state, changes) = self.states[self.newest() as usize].next(input)?;
        let durability = durability(input)?;
        let (commit, root) = self.db().commit_deferred(&changes, durability).expect("a commit");
        if input.arbitrary()? {
            assert_eq!(root.wait().expect("a root"), state.root(), "of version {}", commit.version());
        }
        self.committed(commit.version(), state, durability);
        Ok(())
    }

    fn committed(&mut self, version: u64, state: State, durability: Durability) {
        self.states.push(state);
        assert_eq!(version, self.newest());
        if durability == Durability::Durable {
            self.durable = version;
        }
    }

    /// On a held version, on a proposal, or on the newest version.
    fn propose(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let choice = input.int_in_range(0..=3 * MOST)?;
        let (state, proposal, parent) = if let Some(below) = self.proposals.get(choice) {
            let (state, changes) = below.state.next(input)?;
            (state, below.proposal.propose(&changes), below.version.clone())
        } else {
            let newest = self.db().snapshot().expect("a snapshot");
            let snapshot = self.held.get(choice.wrapping_sub(MOST)).unwrap_or(&newest);
            let version = snapshot.version();
            let (state, changes) = self.states[version as usize].next(input)?;
            (state, self.db().propose(snapshot, &changes), Rc::new(Cell::new(Some(version))))
        };
        let proposal = proposal.expect("a proposal");
        assert_eq!(proposal.root(), state.root(), "of a proposal");
        self.proposals.truncate(MOST - 1);
        self.proposals.push(Forked { proposal, state, parent, version: Rc::default() });
        Ok(())
    }

    /// A child of the newest version is committed, anything else is refused.
    fn commit_proposal(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.proposals.is_empty() {
            return Ok(());
        }
        let chosen = self.proposals.swap_remove(input.choose_index(self.proposals.len())?);
        let durability = durability(input)?;
        let is_child = chosen.parent.get() == Some(self.newest());
        match chosen.proposal.commit(durability) {
            Ok(commit) if is_child => {
                chosen.version.set(Some(commit.version()));
                self.committed(commit.version(), chosen.state, durability);
                self.assert_newest();
            }
            Err(Error::NotChildOfNewest { .. }) if !is_child => {}
            other => panic!("a proposal on {:?} at {}: {other:?}", chosen.parent, self.newest()),
        }
        Ok(())
    }

    fn assert_newest(&self) {
        let snapshot = self.db().snapshot().expect("a snapshot");
        assert_eq!(snapshot.version(), self.newest());
        compare(&snapshot, self.states.last().expect("a state"));
    }

    /// Held snapshots and proposals are what they were.
    fn assert_held(&self) {
        for snapshot in &self.held {
            compare(snapshot, &self.states[snapshot.version() as usize]);
        }
        for Forked { proposal, state, .. } in &self.proposals {
            assert_eq!(proposal.root(), state.root(), "of a proposal");
            for number in 1..=ADDRESSES {
                let address = Address::repeat_byte(number);
                let account = proposal.account(&address).expect("an answer");
                assert_eq!(account.as_ref(), state.accounts.get(&address), "{address}");
                assert_proof(&proposal.proof(&address, &[U256::from(1)]).expect("a proof"), state);
            }
        }
    }

    fn shut(&mut self) -> Db {
        self.held.clear();
        self.proposals.clear();
        self.db.take().expect("it is open")
    }

    fn open(&mut self, rebuild: bool) {
        self.db = Some(options().rebuild(rebuild).open_on(self.disk.clone()).expect("a database"));
    }

    fn reopen(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (kind, rebuild, seed) = (input.int_in_range(0..=2)?, input.arbitrary()?, input.arbitrary()?);
        let db = self.shut();
        match kind {
            0 => db.close().expect("a clean end"),
            1 => drop(db),
            _ => {
                self.disk = Arc::new(self.disk.after_power_loss(seed));
                drop(db);
            }
        }
        self.open(rebuild);
        let found = self.db().stats().version;
        let least = if kind == 2 { self.durable } else { self.newest() };
        assert!((least..=self.newest()).contains(&found), "{found} of {least} to {}", self.newest());
        self.states.truncate(found as usize + 1);
        // Recovery made durable what it shows.
        self.durable = found;
        self.assert_newest();
        Ok(())
    }
}

fn durability(input: &mut Unstructured<'_>) -> Result<Durability> {
    Ok(if input.arbitrary()? { Durability::Durable } else { Durability::Pipelined })
}

/// Everything that can be read of a version.
fn compare(snapshot: &Snapshot, state: &State) {
    let version = snapshot.version();
    assert_eq!(snapshot.root().expect("a root"), state.root(), "version {version}");
    for number in 1..=ADDRESSES {
        let address = Address::repeat_byte(number);
        let account = snapshot.account(&address).expect("an answer");
        assert_eq!(account.as_ref(), state.accounts.get(&address), "{address} at {version}");
        for slot in (0..SLOTS).map(U256::from) {
            let value = snapshot.storage(&address, slot).expect("an answer");
            let expected = state.slots.get(&(address, slot)).copied().unwrap_or_default();
            assert_eq!(value, expected, "slot {slot} of {address} at {version}");
        }
        assert_proof(&snapshot.proof(&address, &[U256::ZERO, U256::from(1), U256::MAX]).expect("a proof"), state);
    }
}

fn assert_proof(proof: &AccountProof, state: &State) {
    proof.verify(state.root()).unwrap_or_else(|error| panic!("{error}: {proof:?}"));
    assert_eq!(proof.account.as_ref(), state.accounts.get(&proof.address));
    for slot in &proof.slots {
        assert_eq!(slot.value, state.slots.get(&(proof.address, slot.slot)).copied().unwrap_or_default());
    }
}
