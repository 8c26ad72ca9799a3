//! Kona's side: nothing of MetisDB is here but bytes.

use std::collections::BTreeMap;

use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, encode};
use kona_alloy_consensus::{Header as KonaHeader, Sealable};
use kona_alloy_op_evm::OpEvmFactory;
use kona_executor::{ExecutorError, StatelessL2Builder, TrieDBProvider};
use kona_genesis::RollupConfig;
use kona_mpt::{NoopTrieHinter, TrieNode, TrieProvider};
use kona_op_alloy_rpc_types_engine::OpPayloadAttributes as KonaAttributes;
use metisdb::proof::Witness;
use op_alloy_rpc_types_engine::OpPayloadAttributes;

/// An oracle of preimages. It answers by their keys alone.
#[derive(Clone, Debug)]
pub(crate) struct Preimages<'w> {
    values: BTreeMap<B256, &'w Bytes>,
}

impl<'w> Preimages<'w> {
    pub(crate) fn of(witness: &'w Witness) -> Self {
        Self { values: witness.preimages().collect() }
    }

    pub(crate) fn without(&self, key: B256) -> Self {
        let mut values = self.values.clone();
        values.remove(&key);
        Self { values }
    }
}

/// Why the oracle has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPreimage {
    #[error("no preimage of {0}")]
    Missing(B256),
    #[error("the preimage of {0} is malformed: {1}")]
    Malformed(B256, alloy_rlp::Error),
}

impl Preimages<'_> {
    fn get(&self, hash: B256) -> Result<&Bytes, NoPreimage> {
        let mut key = hash;
        key.0[0] = 2;
        self.values.get(&key).copied().ok_or(NoPreimage::Missing(hash))
    }

    fn decoded<T: Decodable>(&self, hash: B256) -> Result<T, NoPreimage> {
        T::decode(&mut &self.get(hash)?[..]).map_err(|error| NoPreimage::Malformed(hash, error))
    }
}

impl TrieProvider for &Preimages<'_> {
    type Error = NoPreimage;

    fn trie_node_by_hash(&self, key: B256) -> Result<TrieNode, NoPreimage> {
        self.decoded(key)
    }
}

impl TrieDBProvider for &Preimages<'_> {
    fn bytecode_by_hash(&self, code_hash: B256) -> Result<Bytes, NoPreimage> {
        self.get(code_hash).cloned()
    }

    fn header_by_hash(&self, hash: B256) -> Result<KonaHeader, NoPreimage> {
        self.decoded(hash)
    }
}

/// The header of the block after `parent`, in RLP, by kona.
pub(crate) fn replay(
    config: &RollupConfig,
    parent: &Sealed<Header>,
    attributes: &OpPayloadAttributes,
    preimages: &Preimages<'_>,
) -> Result<Vec<u8>, ExecutorError> {
    let parent = KonaHeader::decode(&mut &encode(parent.inner())[..]).expect("a header is one to kona, too");
    let json = serde_json::to_value(attributes).expect("attributes are JSON");
    let attributes: KonaAttributes = serde_json::from_value(json).expect("attributes are those of kona, too");
    let mut builder =
        StatelessL2Builder::new(config, OpEvmFactory::default(), preimages, NoopTrieHinter, parent.seal_slow());
    Ok(encode(builder.build_block(attributes)?.header.inner()))
}
