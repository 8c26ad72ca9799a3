//! A chain's rules from its rollup configuration.

use alloy_eips::eip1559::BaseFeeParams;
use alloy_op_hardforks::{
    ForkCondition, OpChainHardforks,
    OpHardfork::{self, Bedrock, Canyon, Ecotone, Fjord, Granite, Holocene, Interop, Isthmus, Jovian, Karst, Regolith},
};
use serde::Deserialize;

use crate::Rollup;

/// The parts of op-node's `rollup.json` that execution asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    l2_chain_id: u64,
    regolith_time: Option<u64>,
    canyon_time: Option<u64>,
    ecotone_time: Option<u64>,
    fjord_time: Option<u64>,
    granite_time: Option<u64>,
    holocene_time: Option<u64>,
    isthmus_time: Option<u64>,
    jovian_time: Option<u64>,
    karst_time: Option<u64>,
    interop_time: Option<u64>,
    chain_op_config: BaseFee,
}

#[derive(Debug, Deserialize)]
struct BaseFee {
    #[serde(rename = "eip1559Elasticity")]
    elasticity: u128,
    #[serde(rename = "eip1559Denominator")]
    denominator: u128,
    #[serde(rename = "eip1559DenominatorCanyon")]
    canyon_denominator: u128,
}

impl From<Config> for Rollup {
    fn from(config: Config) -> Self {
        let BaseFee { elasticity, denominator, canyon_denominator } = config.chain_op_config;
        Self {
            chain_id: config.l2_chain_id,
            forks: config.forks(),
            base_fee_params: BaseFeeParams::new(denominator, elasticity),
            canyon_base_fee_params: BaseFeeParams::new(canyon_denominator, elasticity),
        }
    }
}

impl Config {
    fn forks(&self) -> OpChainHardforks {
        let times = [
            (Regolith, self.regolith_time),
            (Canyon, self.canyon_time),
            (Ecotone, self.ecotone_time),
            (Fjord, self.fjord_time),
            (Granite, self.granite_time),
            (Holocene, self.holocene_time),
            (Isthmus, self.isthmus_time),
            (Jovian, self.jovian_time),
            (Karst, self.karst_time),
        ];
        let at = |time: Option<u64>| time.map_or(ForkCondition::Never, ForkCondition::Timestamp);
        let mut forks: Vec<(OpHardfork, ForkCondition)> =
            vec![(Bedrock, ForkCondition::Block(0)), (Interop, at(self.interop_time))];
        // Every fork has what those before it brought: one without a time begins with the next that has one.
        let mut next = None;
        for (fork, time) in times.into_iter().rev() {
            next = time.or(next);
            forks.push((fork, at(next)));
        }
        OpChainHardforks::new(forks)
    }
}

#[cfg(test)]
mod tests {
    use alloy_op_hardforks::OpHardforks;

    use super::*;

    #[test]
    fn a_fork_without_a_time_begins_with_the_next() {
        let text = r#"{
            "l2_chain_id": 7, "block_time": 2, "canyon_time": 10, "fjord_time": 20, "isthmus_time": null,
            "chain_op_config": {"eip1559Elasticity": 6, "eip1559Denominator": 50, "eip1559DenominatorCanyon": 250}
        }"#;
        let rollup: Rollup = serde_json::from_str(text).unwrap();
        assert_eq!(rollup.chain_id, 7);
        assert_eq!(rollup.base_fee_params, BaseFeeParams::new(50, 6));
        assert_eq!(rollup.canyon_base_fee_params, BaseFeeParams::new(250, 6));
        let times = [Regolith, Canyon, Ecotone, Fjord].map(|fork| rollup.forks.op_fork_activation(fork));
        assert_eq!(times, [10, 10, 20, 20].map(ForkCondition::Timestamp));
        for fork in [Granite, Holocene, Isthmus, Jovian, Karst, Interop] {
            assert_eq!(rollup.forks.op_fork_activation(fork), ForkCondition::Never, "{fork:?}");
        }
    }
}
