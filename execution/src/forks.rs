//! Which rules hold when.

use alloy_eips::eip7840::BlobParams;
use alloy_evm::eth::spec::EthExecutorSpec;
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, U256, address};

use EthereumHardfork as Fork;

/// Where mainnet, Hoodi and Ethereum's tests take deposits (EIP-6110).
const DEPOSIT_CONTRACT: Address = address!("00000000219ab540356cbb839cbe05303d7705fa");
/// Where other chains do, by their ids: Sepolia, Holesky.
const OTHER_DEPOSIT_CONTRACTS: [(u64, Address); 2] = [
    (11_155_111, address!("7f02c3e3c98b133055b8b348b2ac625669ed295d")),
    (17_000, address!("4242424242424242424242424242424242424242")),
];

/// The forks by the names that Ethereum's tests give them, oldest first.
const NAMES: &[(&str, Fork)] = &[
    ("Frontier", Fork::Frontier),
    ("Homestead", Fork::Homestead),
    ("Dao", Fork::Dao),
    ("EIP150", Fork::Tangerine),
    ("EIP158", Fork::SpuriousDragon),
    ("Byzantium", Fork::Byzantium),
    ("ConstantinopleFix", Fork::Petersburg),
    ("Istanbul", Fork::Istanbul),
    ("MuirGlacier", Fork::MuirGlacier),
    ("Berlin", Fork::Berlin),
    ("London", Fork::London),
    ("ArrowGlacier", Fork::ArrowGlacier),
    ("GrayGlacier", Fork::GrayGlacier),
    ("Paris", Fork::Paris),
    ("Merge", Fork::Paris),
    ("Shanghai", Fork::Shanghai),
    ("Cancun", Fork::Cancun),
    ("Prague", Fork::Prague),
    ("Osaka", Fork::Osaka),
    ("BPO1", Fork::Bpo1),
    ("BPO2", Fork::Bpo2),
    ("Amsterdam", Fork::Amsterdam),
];

/// The forks of a chain: those up to one from its beginning, those up to another from some point on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forks {
    first: Fork,
    second: Option<(Fork, ForkCondition)>,
    deposit_contract: Address,
}

/// No rules are known by this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rules are known by the name {0}")]
pub struct UnknownForks(pub String);

fn by_name(name: &str) -> Option<Fork> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, fork)| *fork)
}

/// A number as tests write it: `5`, `15k`.
fn count(text: &str) -> Option<u64> {
    match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1_000),
        None => text.parse().ok(),
    }
}

impl Forks {
    /// All forks up to one, from the beginning.
    pub fn since_genesis(fork: EthereumHardfork) -> Self {
        Self { first: fork, second: None, deposit_contract: DEPOSIT_CONTRACT }
    }

    /// The forks that Ethereum's tests mean by a name such as `Cancun`, `HomesteadToDaoAt5` or `CancunToPragueAtTime15k`.
    ///
    /// # Errors
    /// [`UnknownForks`].
    pub fn named(name: &str) -> Result<Self, UnknownForks> {
        Self::parse(name).ok_or_else(|| UnknownForks(name.to_owned()))
    }

    /// The rules of a block whose parent's chain has a total difficulty: that decides where the merge does not come at a known
    /// block; elsewhere these are all the rules.
    pub fn after_total_difficulty(self, difficulty: U256) -> Self {
        match self.second {
            Some((fork, ForkCondition::TTD { total_difficulty, .. })) => {
                Self { first: if difficulty >= total_difficulty { fork } else { self.first }, second: None, ..self }
            }
            _ => self,
        }
    }

    /// The same rules where the chain of this id takes deposits.
    pub(crate) fn with_deposits_of(self, chain: u64) -> Self {
        let other = OTHER_DEPOSIT_CONTRACTS.iter().find(|(id, _)| *id == chain);
        Self { deposit_contract: other.map_or(DEPOSIT_CONTRACT, |(_, contract)| *contract), ..self }
    }

    /// Whether the block of this number is the first of the DAO fork.
    pub(crate) fn begins_dao(&self, number: u64) -> bool {
        self.ethereum_fork_activation(Fork::Dao).transitions_at_block(number)
    }

    /// The same rules without the DAO fork, which is the last of its chain.
    pub(crate) fn without_dao(self) -> Self {
        Self { second: self.second.filter(|(fork, _)| *fork != Fork::Dao), ..self }
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some(fork) = by_name(name) {
            return Some(Self::since_genesis(fork));
        }
        let (first, rest) = name.split_once("To")?;
        let (second, when) = rest.split_once("At")?;
        let condition = if let Some(time) = when.strip_prefix("Time") {
            ForkCondition::Timestamp(count(time)?)
        } else if let Some(difficulty) = when.strip_prefix("Diff") {
            let total_difficulty = U256::from_str_radix(difficulty, 16).ok()?;
            ForkCondition::TTD { activation_block_number: u64::MAX, fork_block: None, total_difficulty }
        } else {
            ForkCondition::Block(count(when)?)
        };
        let forks = Self::since_genesis(by_name(first)?);
        Some(Self { second: Some((by_name(second)?, condition)), ..forks })
    }

    /// What blobs cost and how many there may be at a time; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        let is_active = |fork| self.is_ethereum_fork_active_at_timestamp(fork, timestamp);
        [
            (Fork::Bpo2, BlobParams::bpo2()),
            (Fork::Bpo1, BlobParams::bpo1()),
            (Fork::Osaka, BlobParams::osaka()),
            (Fork::Prague, BlobParams::prague()),
            (Fork::Cancun, BlobParams::cancun()),
        ]
        .into_iter()
        .find_map(|(fork, params)| is_active(fork).then_some(params))
    }
}

impl EthereumHardforks for Forks {
    fn ethereum_fork_activation(&self, fork: Fork) -> ForkCondition {
        if fork == Fork::Dao {
            // An event rather than rules: only where it is what a chain goes to.
            return match self.second {
                Some((Fork::Dao, condition)) => condition,
                _ => ForkCondition::Never,
            };
        }
        let condition = match self.second {
            _ if fork <= self.first => ForkCondition::Block(0),
            Some((second, condition)) if fork <= second => condition,
            _ => ForkCondition::Never,
        };
        match condition {
            ForkCondition::Block(number) if fork >= Fork::Shanghai => ForkCondition::Timestamp(number),
            ForkCondition::Block(number) if fork == Fork::Paris => ForkCondition::TTD {
                activation_block_number: number,
                fork_block: Some(number),
                total_difficulty: U256::ZERO,
            },
            other => other,
        }
    }
}

impl EthExecutorSpec for Forks {
    fn deposit_contract_address(&self) -> Option<Address> {
        Some(self.deposit_contract)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        let dao = Forks::named("HomesteadToDaoAt5").unwrap();
        assert_eq!(dao.ethereum_fork_activation(Fork::Dao), ForkCondition::Block(5));
        assert!(dao.is_homestead_active_at_block(0) && !dao.is_tangerine_whistle_active_at_block(9));
        let cancun = Forks::named("ShanghaiToCancunAtTime15k").unwrap();
        assert!(cancun.is_shanghai_active_at_timestamp(0) && !cancun.is_cancun_active_at_timestamp(14_999));
        assert!(cancun.is_cancun_active_at_timestamp(15_000) && !cancun.is_prague_active_at_timestamp(u64::MAX));
        assert_eq!(cancun.blob_params(14_999), None);
        assert_eq!(cancun.blob_params(15_000), Some(BlobParams::cancun()));
        assert_eq!(cancun.ethereum_fork_activation(Fork::Dao), ForkCondition::Never);
        let merge = Forks::named("ArrowGlacierToParisAtDiffC0000").unwrap();
        assert_eq!(merge.after_total_difficulty(U256::from(0xbffff)), Forks::since_genesis(Fork::ArrowGlacier));
        assert_eq!(merge.after_total_difficulty(U256::from(0xc0000)), Forks::since_genesis(Fork::Paris));
        assert_eq!(cancun.after_total_difficulty(U256::ZERO), cancun);
        assert!(Forks::named("Paris").unwrap().is_paris_active_at_block(0));
        assert!(!Forks::named("London").unwrap().is_paris_active_at_block(u64::MAX));
        assert_eq!(merge.with_deposits_of(17_000).deposit_contract, Address::repeat_byte(0x42));
        assert_eq!(merge.with_deposits_of(17_000).with_deposits_of(1), merge);
        assert_eq!(Forks::named("EIP158ToNowhereAt5"), Err(UnknownForks("EIP158ToNowhereAt5".into())));
    }
}
