//! Where a real chain began: its first block with the whole state, and its rules.

use std::collections::BTreeMap;

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, Sealable, Sealed};
use alloy_primitives::{B64, B256};
use kona_genesis::{ChainConfig, RollupConfig};
use metisdb_conformance::{
    data, hex,
    state::{State, Written},
};
use metisdb_op::Rollup;
use serde::Deserialize;
use serde_json::{Value, from_slice, from_value, json, to_value};

/// A chain's first block.
pub(crate) struct Genesis {
    pub(crate) header: Sealed<Header>,
    pub(crate) state: State,
    /// The chain's rules, in kona's words.
    pub(crate) config: RollupConfig,
    /// The same, made of them.
    pub(crate) rollup: Rollup,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'t> {
    #[serde(borrow)]
    alloc: BTreeMap<&'t str, Written<'t>>,
    coinbase: &'t str,
    gas_limit: &'t str,
    timestamp: &'t str,
    extra_data: &'t str,
    base_fee_per_gas: &'t str,
}

impl Genesis {
    /// Reads the genesis of a chain of the registry that began at block 0, after Bedrock and before Isthmus.
    ///
    /// # Panics
    /// If the registry has no such chain, or its first block is not the one that the registry names.
    pub(crate) fn read(name: &str) -> Self {
        let folder = data::package("kona-registry");
        let mut config = config(&from_slice(&data::read(&folder.join("etc/chainList.json"))).unwrap(), name, &{
            from_slice(&data::read(&folder.join("etc/configs.json"))).unwrap()
        });
        // All its chains had it from their first block on, so the registry does not list it.
        config.hardforks.regolith_time = Some(0);
        let extra = folder.join("superchain-registry/superchain/extra");
        let text = data::unpack(&extra.join(format!("genesis/{name}.json.zst")), Some(&extra.join("dictionary")));
        let file: File<'_> = from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let state = State::new(&file.alloc);
        let header = file.header(state.root(), &config).seal_slow();
        assert_eq!(header.hash().0, config.genesis.l2.hash.0, "{name}: the hash of the first block");
        let mut rollup = to_value(&config).unwrap();
        rollup["l2_chain_id"] = json!(config.l2_chain_id.id());
        Self { header, state, rollup: from_value(rollup).unwrap(), config }
    }

    /// The forks to make blocks of, and when: what the chain began with, and those after it as long as contracts of L1 attributes
    /// of the first block are those of the fork.
    pub(crate) fn forks(&self) -> Vec<(&'static str, u64)> {
        let first = self.header.timestamp + self.config.block_time;
        let forks = &self.config.hardforks;
        if self.is_ecotone(first) {
            vec![
                ("Granite", first),
                ("Holocene", forks.holocene_time.unwrap()),
                ("Isthmus", forks.isthmus_time.unwrap()),
            ]
        } else {
            vec![("Regolith", first), ("Canyon", forks.canyon_time.unwrap())]
        }
    }

    pub(crate) fn is_ecotone(&self, timestamp: u64) -> bool {
        self.config.is_ecotone_active(timestamp)
    }
}

/// The rollup configuration of the chain that the list has under this name.
fn config(list: &Value, name: &str, configs: &Value) -> RollupConfig {
    let listed = list.as_array().unwrap().iter().find(|chain| chain["identifier"] == name);
    let id = &listed.unwrap_or_else(|| panic!("no chain is called {name}"))["chainId"];
    let mut chains =
        configs["superchains"].as_array().unwrap().iter().flat_map(|all| all["chains"].as_array().unwrap());
    let chain = chains.find(|chain| chain["l2_chain_id"] == *id).expect("the configuration of a chain that is listed");
    from_value::<ChainConfig>(chain.clone()).unwrap().as_rollup_config()
}

impl File<'_> {
    fn header(&self, state_root: B256, config: &RollupConfig) -> Header {
        let timestamp = hex::small(self.timestamp);
        let is_ecotone = config.is_ecotone_active(timestamp);
        Header {
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: hex::address(self.coinbase),
            state_root,
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            gas_limit: hex::small(self.gas_limit),
            timestamp,
            extra_data: hex::bytes(self.extra_data),
            nonce: B64::ZERO,
            base_fee_per_gas: Some(hex::small(self.base_fee_per_gas)),
            withdrawals_root: config.is_canyon_active(timestamp).then_some(EMPTY_ROOT_HASH),
            blob_gas_used: is_ecotone.then_some(0),
            excess_blob_gas: is_ecotone.then_some(0),
            parent_beacon_block_root: is_ecotone.then_some(B256::ZERO),
            ..Header::default()
        }
    }
}
