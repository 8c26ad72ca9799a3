//! A state of which only a part is at hand: reading it, and the root that changes lead to.
//!
//! * `error`, `source`, `changes`: plain values; where nodes come from.
//! * `subtree`: nodes in memory; `trie`: looking up and changing one trie.
//! * `state`: the accounts and their storage; `headers`: the hashes of blocks.

mod changes;
mod error;
mod headers;
mod source;
pub(crate) mod state;
mod subtree;
pub(crate) mod trie;

use alloc::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};

use self::state::State;
pub use self::{
    changes::{AccountChange, Fields, StateChanges},
    error::WitnessError,
    source::{NodePath, Source},
};
use crate::{Account, EMPTY_ROOT, witness::Witness};

/// The part of a state that a [`Witness`] has, under a root or after a block that the caller trusts.
///
/// Every answer follows from nodes with the right hashes, down from that root: what is absent is proven to be, and what the witness
/// lacks is [`WitnessError::MissingNode`] or another error, never a default. It does not matter in which order the witness has its parts,
/// whether it has some twice, or more than is needed. Reading changes nothing: any number of threads may share it.
#[derive(Clone, Debug)]
pub struct PartialState {
    nodes: BTreeMap<B256, Bytes>,
    codes: BTreeMap<B256, Bytes>,
    hashes: BTreeMap<u64, B256>,
    root: B256,
}

impl PartialState {
    /// The state of a root that the caller trusts. It knows no hashes of blocks. Takes the time of hashing the witness, once.
    pub fn of_root(witness: &Witness, state_root: B256) -> Self {
        let hashed = |all: &[Bytes]| all.iter().map(|bytes| (keccak256(bytes), bytes.clone())).collect();
        let (nodes, codes) = (hashed(&witness.state), hashed(&witness.codes));
        Self { nodes, codes, hashes: BTreeMap::new(), root: state_root }
    }

    /// The state after a block whose hash the caller trusts, for instance the parent of one that is to be replayed: the root stands in its
    /// header, and the hashes of the blocks before in the others.
    ///
    /// # Errors
    /// [`WitnessError::MissingHeader`], [`WitnessError::Header`], [`WitnessError::HeaderNumber`], [`WitnessError::TooManyHeaders`].
    pub fn after_block(witness: &Witness, block_hash: B256) -> Result<Self, WitnessError> {
        let (hashes, root) = headers::chain(&witness.headers, block_hash)?;
        Ok(Self { hashes, ..Self::of_root(witness, root) })
    }

    /// The root.
    pub fn root(&self) -> B256 {
        self.root
    }

    /// An account, or `None` where it is proven not to exist.
    ///
    /// # Errors
    /// [`WitnessError::MissingNode`], and [`WitnessError::Node`] or [`WitnessError::Leaf`] for nodes that no honest state has; so for all reads.
    pub fn account(&self, address: &Address) -> Result<Option<Account>, WitnessError> {
        Ok(self.state().account(address)?.map(|(account, _)| account))
    }

    /// The root of an account's storage; [`EMPTY_ROOT`] where it has none or does not exist.
    pub fn storage_root(&self, address: &Address) -> Result<B256, WitnessError> {
        Ok(self.state().account(address)?.map_or(EMPTY_ROOT, |(_, root)| root))
    }

    /// A slot; zero where it is proven not to be set.
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256, WitnessError> {
        self.state().slot(address, &slot)
    }

    /// Code by its hash.
    ///
    /// # Errors
    /// [`WitnessError::MissingCode`].
    pub fn code(&self, code_hash: &B256) -> Result<Bytes, WitnessError> {
        if *code_hash == KECCAK256_EMPTY {
            return Ok(Bytes::new());
        }
        self.codes.get(code_hash).cloned().ok_or(WitnessError::MissingCode { code_hash: *code_hash })
    }

    /// The hash of the block that the state is after, or of one before it.
    ///
    /// # Errors
    /// [`WitnessError::MissingBlockHash`].
    pub fn block_hash(&self, number: u64) -> Result<B256, WitnessError> {
        self.hashes.get(&number).copied().ok_or(WitnessError::MissingBlockHash { number })
    }

    /// The root that the changes lead to. The state stays as it is.
    ///
    /// # Errors
    /// [`WitnessError::MissingNode`] also where a branch is left with one child whose node the witness lacks;
    /// [`WitnessError::SlotWithoutAccount`]; and as for reads.
    pub fn root_after(&self, changes: &StateChanges) -> Result<B256, WitnessError> {
        self.state().root_after(changes)
    }

    /// The root of an account's storage that the changes lead to; [`EMPTY_ROOT`] where the account has none or does not exist then.
    ///
    /// # Errors
    /// As for [`PartialState::root_after`].
    pub fn storage_root_after(&self, address: &Address, changes: &StateChanges) -> Result<B256, WitnessError> {
        match changes.get(address) {
            Some(change) => self.state().storage_root_after(address, change),
            None => self.storage_root(address),
        }
    }

    fn state(&self) -> State<'_, Self> {
        State { source: self, root: self.root }
    }
}

impl Source for PartialState {
    type Error = WitnessError;

    fn node(&self, hash: &B256, path: &NodePath) -> Result<Bytes, WitnessError> {
        self.nodes.get(hash).cloned().ok_or(WitnessError::MissingNode { hash: *hash, path: *path })
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, WitnessError> {
        Ok(self.codes.get(hash).cloned())
    }
}
