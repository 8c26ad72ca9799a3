//! The headers of a witness: what they say counts if a chain of parents leads from a trusted block to them.

use alloc::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};

use super::WitnessError;
use crate::rlp::{Item, RlpError};

/// `BLOCKHASH` reaches no further back.
const MAX_HEADERS: usize = 256;

/// What a header says, as far as it is of use here.
struct Header {
    number: u64,
    parent_hash: B256,
    state_root: B256,
}

/// The hashes of the trusted block and of those before it, as far as the headers reach, by number; and the trusted block's state root.
pub(crate) fn chain(headers: &[Bytes], trusted: B256) -> Result<(BTreeMap<u64, B256>, B256), WitnessError> {
    if headers.len() > MAX_HEADERS {
        return Err(WitnessError::TooManyHeaders { headers: headers.len(), limit: MAX_HEADERS });
    }
    let by_hash: BTreeMap<B256, &Bytes> = headers.iter().map(|header| (keccak256(header), header)).collect();
    let decode = |hash: B256, bytes: &[u8]| decode(bytes).map_err(|source| WitnessError::Header { hash, source });
    let bytes = by_hash.get(&trusted).ok_or(WitnessError::MissingHeader { hash: trusted })?;
    let Header { mut number, mut parent_hash, state_root } = decode(trusted, bytes)?;
    let mut hashes = BTreeMap::from([(number, trusted)]);
    while let Some(bytes) = by_hash.get(&parent_hash) {
        let parent = decode(parent_hash, bytes)?;
        if parent.number.checked_add(1) != Some(number) {
            return Err(WitnessError::HeaderNumber { number, parent: parent.number });
        }
        hashes.insert(parent.number, parent_hash);
        (number, parent_hash) = (parent.number, parent.parent_hash);
    }
    Ok((hashes, state_root))
}

/// Reads the fields that are needed; forks add others behind them.
fn decode(bytes: &[u8]) -> Result<Header, RlpError> {
    let mut fields = Item::only(bytes)?.list()?;
    let parent_hash = fields.item()?.hash()?;
    // The ommers' hash and the beneficiary; the roots of transactions and receipts, the bloom filter and the difficulty.
    let (_, _, state_root) = (fields.item()?, fields.item()?, fields.item()?.hash()?);
    let (_, _, _, _) = (fields.item()?, fields.item()?, fields.item()?, fields.item()?);
    let number = fields.item()?.u64()?;
    while !fields.is_finished() {
        fields.item()?;
    }
    Ok(Header { number, parent_hash, state_root })
}
