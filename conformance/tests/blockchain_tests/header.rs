//! Which headers a chain accepts. The database has no part in it; but without it blocks that the tests mean to be refused
//! would be executed.

use alloy_consensus::{Block, Header, TxEnvelope, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{B64, U256};
use metisdb_conformance::database::Checked;
use metisdb_execution::Forks;

const DAO_EXTRA: &[u8] = b"dao-hard-fork";
const MIN_DIFFICULTY: U256 = U256::from_limbs([131_072, 0, 0, 0]);
/// From which fork on the difficulty bomb is put off by how many blocks, newest first.
const BOMB_DELAYS: [(EthereumHardfork, u64); 6] = [
    (EthereumHardfork::GrayGlacier, 11_400_000),
    (EthereumHardfork::ArrowGlacier, 10_700_000),
    (EthereumHardfork::London, 9_700_000),
    (EthereumHardfork::MuirGlacier, 9_000_000),
    (EthereumHardfork::Petersburg, 5_000_000),
    (EthereumHardfork::Byzantium, 3_000_000),
];

fn require(holds: bool, what: &str) -> Checked {
    if holds { Ok(()) } else { Err(format!("the header breaks a rule: {what}")) }
}

/// Checks a header against its parent's.
pub(crate) fn check(forks: &Forks, header: &Header, parent: &Header) -> Checked {
    let is_paris = forks.is_paris_active_at_block(header.number);
    require(parent.number.checked_add(1) == Some(header.number), "number")?;
    require(header.timestamp > parent.timestamp, "timestamp")?;
    require(header.extra_data.len() <= 32, "length of the extra data")?;
    check_gas(forks, header, parent)?;
    check_dao(forks, header)?;
    if is_paris {
        let is_empty = header.ommers_hash == EMPTY_OMMER_ROOT_HASH && header.nonce == B64::ZERO;
        require(header.difficulty.is_zero() && is_empty, "difficulty, nonce or ommers after the merge")?;
    } else {
        require(header.difficulty == difficulty(forks, header, parent), "difficulty")?;
    }
    forks.check_fields(header).map_err(|error| error.to_string())?;
    check_blobs(forks, header, parent)
}

fn check_gas(forks: &Forks, header: &Header, parent: &Header) -> Checked {
    let is_london = forks.is_london_active_at_block(header.number);
    let begins = is_london && !forks.is_london_active_at_block(parent.number);
    let limit = if begins { parent.gas_limit.saturating_mul(2) } else { parent.gas_limit };
    require(header.gas_limit.abs_diff(limit) < limit / 1_024, "change of the gas limit")?;
    require((5_000..1 << 63).contains(&header.gas_limit), "gas limit")?;
    require(header.gas_used <= header.gas_limit, "gas used")?;
    let base_fee = if begins { Some(INITIAL_BASE_FEE) } else { parent.next_block_base_fee(BaseFeeParams::ethereum()) };
    require(header.base_fee_per_gas == base_fee.filter(|_| is_london), "base fee")
}

fn check_dao(forks: &Forks, header: &Header) -> Checked {
    match forks.ethereum_fork_activation(EthereumHardfork::Dao) {
        ForkCondition::Block(first) if (first..first + 10).contains(&header.number) => {
            require(header.extra_data[..] == *DAO_EXTRA, "extra data of the DAO fork")
        }
        _ => Ok(()),
    }
}

fn check_blobs(forks: &Forks, header: &Header, parent: &Header) -> Checked {
    let blob_params = forks.blob_params(header.timestamp);
    let excess = blob_params.map(|params| parent.next_block_excess_blob_gas(params).unwrap_or(0));
    require(header.excess_blob_gas == excess, "excess blob gas")?;
    let max = blob_params.map_or(0, |params| params.max_blob_gas_per_block());
    require(header.blob_gas_used.unwrap_or(0) <= max, "blob gas used")
}

/// The difficulty of proof of work.
fn difficulty(forks: &Forks, header: &Header, parent: &Header) -> U256 {
    let elapsed = header.timestamp.saturating_sub(parent.timestamp);
    let step = parent.difficulty / U256::from(2_048);
    // How many steps up, and how many down.
    let (up, down) = if forks.is_byzantium_active_at_block(header.number) {
        (if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH { 1 } else { 2 }, elapsed / 9)
    } else if forks.is_homestead_active_at_block(header.number) {
        (1, elapsed / 10)
    } else {
        (1, if elapsed < 13 { 0 } else { 2 })
    };
    let down = down.min(up + 99);
    let plain = (parent.difficulty + step * U256::from(up)).saturating_sub(step * U256::from(down)).max(MIN_DIFFICULTY);
    let is_active = |fork| forks.is_ethereum_fork_active_at_block(fork, header.number);
    let delay = BOMB_DELAYS.iter().find(|(fork, _)| is_active(*fork)).map_or(0, |(_, delay)| *delay);
    let delayed = if delay == 0 { header.number } else { (parent.number + 1).saturating_sub(delay) };
    match delayed / 100_000 {
        periods @ 2.. => plain + (U256::from(1) << (periods - 2)),
        _ => plain,
    }
}

/// Checks the ommers of a block, but not how many they are. `ancestors` are its parent, that one's parent, and so on.
pub(crate) fn check_ommers(forks: &Forks, block: &Block<TxEnvelope>, ancestors: &[&Block<TxEnvelope>]) -> Checked {
    let ommers = &block.body.ommers;
    let recent = &ancestors[..ancestors.len().min(7)];
    for (index, ommer) in ommers.iter().enumerate() {
        let is_same = |other: &Header| other == ommer;
        let is_known = ommers[..index].iter().any(is_same)
            || recent.iter().any(|block| is_same(&block.header) || block.body.ommers.iter().any(is_same));
        require(!is_known, "an ommer twice, or an ancestor as ommer")?;
        // The block's own parent may not be the ommer's: that would be its twin.
        let parent = recent.iter().skip(1).find(|block| block.header.hash_slow() == ommer.parent_hash);
        check(forks, ommer, &parent.ok_or("an ommer's parent is no recent ancestor")?.header)?;
    }
    Ok(())
}
