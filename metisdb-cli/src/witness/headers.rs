//! The headers of a witness: the parent's, and those before it down to the oldest block that `BLOCKHASH` asks for.

use std::collections::{BTreeSet, HashMap};

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};
use metisdb::{Changes, Recorder, Snapshot};
use metisdb_execution::metadata;

/// `BLOCKHASH` reaches no further back.
const MOST_HEADERS: usize = 256;

/// A header of the chain before a block.
pub(super) struct Ancestor {
    header: Header,
    hash: B256,
    pub(super) encoded: Bytes,
}

/// Of the headers given, those that lead from a block's parent back; oldest first.
pub(super) fn ancestors(given: Vec<(Header, Bytes)>, parent: B256) -> Vec<Ancestor> {
    let mut by_hash: HashMap<B256, _> = given.into_iter().map(|given| (keccak256(&given.1), given)).collect();
    let mut hash = parent;
    let mut ancestors = Vec::new();
    while let Some((header, encoded)) = by_hash.remove(&hash).filter(|_| ancestors.len() < MOST_HEADERS) {
        let parent = header.parent_hash;
        ancestors.push(Ancestor { header, hash, encoded });
        hash = parent;
    }
    ancestors.reverse();
    ancestors
}

/// Reads the snapshot, and has the hashes of the ancestors, which the database need not have: a proposal holds each, and is never
/// committed.
pub(super) fn recorder(snapshot: &Snapshot, ancestors: &[Ancestor]) -> metisdb::Result<Recorder> {
    let mut recorder = Recorder::new(snapshot.clone());
    for Ancestor { header, hash, .. } in ancestors {
        if snapshot.block_hash(header.number)? != Some(*hash) {
            let mut changes = Changes::new();
            changes.set_block(metadata(header, *hash));
            recorder = Recorder::of_proposal(recorder.propose(&changes)?);
        }
    }
    Ok(recorder)
}

/// The headers that a replay needs which asks for the hashes of these blocks.
///
/// # Errors
/// Which block's header is missing, in words.
pub(super) fn needed(ancestors: &[Ancestor], asked: &BTreeSet<u64>) -> Result<Vec<Bytes>, String> {
    let is_there = |number: &u64| ancestors.iter().any(|ancestor| ancestor.header.number == *number);
    if let Some(number) = asked.iter().find(|number| !is_there(number)) {
        return Err(format!(
            "it asks for the hash of block {number}, which no header tells; give the headers of that block and of all behind it with --headers"
        ));
    }
    let oldest = asked.first().copied().unwrap_or(u64::MAX);
    let first_asked = ancestors.partition_point(|ancestor| ancestor.header.number < oldest);
    // The parent's header has the root before, whatever is asked for.
    let first = first_asked.min(ancestors.len().saturating_sub(1));
    Ok(ancestors[first..].iter().map(|ancestor| ancestor.encoded.clone()).collect())
}
