//! The hash of a genesis header.

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};

use crate::naive_trie::{list, number, root, string};

/// The hash of an empty list of ommers.
const NO_OMMERS: B256 = b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
/// SHA-256 of nothing: the hash of no requests (EIP-7685).
const NO_REQUESTS: B256 = b256!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

/// A genesis header. The optional fields are those of the forks that the chain begins with.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// Hash of the parent, which is zero of a chain's first block.
    pub parent_hash: B256,
    /// Whom the block pays.
    pub beneficiary: Address,
    /// Root of the state trie.
    pub state_root: B256,
    /// Difficulty.
    pub difficulty: U256,
    /// Number of the block.
    pub number: u64,
    /// Gas that the block may use.
    pub gas_limit: u64,
    /// Gas that the block used.
    pub gas_used: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Free bytes.
    pub extra_data: Bytes,
    /// Mix hash of the proof of work.
    pub mix_hash: B256,
    /// Nonce of the proof of work.
    pub nonce: u64,
    /// London.
    pub base_fee: Option<U256>,
    /// Shanghai, and Canyon; since Isthmus it is a storage root.
    pub withdrawals_root: Option<B256>,
    /// Cancun, and Ecotone: blob gas used and excess blob gas.
    pub blob_gas: Option<(u64, u64)>,
    /// Prague, and Isthmus: the block has a hash of requests.
    pub requests: bool,
}

/// The root of a trie without entries.
pub fn empty_root() -> B256 {
    root([] as [(&[u8], &[u8]); 0])
}

impl Genesis {
    /// The block hash.
    pub fn hash(&self) -> B256 {
        let hash = |hash: B256| string(hash.as_slice());
        let small = |value: u64| number(U256::from(value));
        let mut fields = vec![
            hash(self.parent_hash),
            hash(NO_OMMERS),
            string(self.beneficiary.as_slice()),
            hash(self.state_root),
            hash(empty_root()),
            hash(empty_root()),
            string(&[0; 256]),
            number(self.difficulty),
            small(self.number),
            small(self.gas_limit),
            small(self.gas_used),
            small(self.timestamp),
            string(&self.extra_data),
            hash(self.mix_hash),
            string(&self.nonce.to_be_bytes()),
        ];
        fields.extend(self.base_fee.map(number));
        fields.extend(self.withdrawals_root.map(hash));
        if let Some((used, excess)) = self.blob_gas {
            fields.extend([small(used), small(excess), hash(B256::ZERO)]);
        }
        fields.extend(self.requests.then(|| hash(NO_REQUESTS)));
        keccak256(list(&fields))
    }
}
