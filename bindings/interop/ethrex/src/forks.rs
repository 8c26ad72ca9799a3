//! The rules of a test in ethrex' terms.

use alloy_hardforks::{EthereumHardfork as Fork, EthereumHardforks, ForkCondition};
use ethrex_common::types::ChainConfig;
use metisdb_execution::Forks;

/// The configuration of a chain that is past the merge from its beginning; `None` of any other, whose blocks ethrex does not execute.
pub(crate) fn config(forks: &Forks, chain_id: u64) -> Option<ChainConfig> {
    let since_beginning = forks.ethereum_fork_activation(Fork::Paris).active_at_block(0);
    let time = |fork| match forks.ethereum_fork_activation(fork) {
        ForkCondition::Timestamp(time) | ForkCondition::Block(time) => Some(time),
        _ => None,
    };
    let begun = Some(0);
    since_beginning.then(|| ChainConfig {
        chain_id,
        homestead_block: begun,
        eip150_block: begun,
        eip155_block: begun,
        eip158_block: begun,
        byzantium_block: begun,
        constantinople_block: begun,
        petersburg_block: begun,
        istanbul_block: begun,
        muir_glacier_block: begun,
        berlin_block: begun,
        london_block: begun,
        arrow_glacier_block: begun,
        gray_glacier_block: begun,
        merge_netsplit_block: begun,
        terminal_total_difficulty: Some(0),
        terminal_total_difficulty_passed: true,
        shanghai_time: time(Fork::Shanghai),
        cancun_time: time(Fork::Cancun),
        prague_time: time(Fork::Prague),
        osaka_time: time(Fork::Osaka),
        bpo1_time: time(Fork::Bpo1),
        bpo2_time: time(Fork::Bpo2),
        deposit_contract_address: ethrex_common::constants::MAINNET_DEPOSIT_CONTRACT_ADDRESS,
        ..ChainConfig::default()
    })
}
