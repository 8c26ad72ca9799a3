//! A chain's rules, and what they say of a header before its block is executed.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Sealed};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_op_hardforks::{OpChainHardforks, OpHardforks};
use alloy_primitives::{Address, Bytes, address};
use op_alloy_consensus::{EIP1559ParamError, decode_holocene_extra_data};
use op_alloy_rpc_types_engine::OpPayloadAttributes;
use serde::Deserialize;

use crate::{OpError, config::Config};

/// The contract `L2ToL1MessagePasser`, whose storage root stands in the header since Isthmus: all withdrawals are proven from it.
pub const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");

/// What tells one OP-stack chain's rules from another's. It deserializes from a rollup configuration, op-node's `rollup.json`, where a fork
/// without a time begins with the next one that has a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Config")]
pub struct Rollup {
    /// The id of the chain, which signed transactions name.
    pub chain_id: u64,
    /// When its forks begin. All of them have to be listed, those that are not planned with `ForkCondition::Never`.
    pub forks: OpChainHardforks,
    /// How the base fee moves before Canyon.
    pub base_fee_params: BaseFeeParams,
    /// How it moves since; since Holocene only where the attributes, or a parent before it, do not say.
    pub canyon_base_fee_params: BaseFeeParams,
}

impl Rollup {
    /// The header of the block after `parent`, with all that is known before its transactions are executed.
    ///
    /// # Errors
    /// Where the attributes do not fit the parent or the fork: all of [`OpError`] that does not need a state.
    pub(crate) fn next_header(
        &self,
        parent: &Sealed<Header>,
        attributes: &OpPayloadAttributes,
    ) -> Result<Header, OpError> {
        let about = &attributes.payload_attributes;
        let timestamp = about.timestamp;
        if timestamp <= parent.timestamp {
            return Err(OpError::Timestamp { timestamp, parent: parent.timestamp });
        }
        let is_ecotone = self.forks.is_ecotone_active_at_timestamp(timestamp);
        match about.parent_beacon_block_root {
            None if is_ecotone => return Err(OpError::Missing("parentBeaconBlockRoot")),
            Some(_) if !is_ecotone => return Err(OpError::Unexpected("parentBeaconBlockRoot")),
            _ => {}
        }
        if about.withdrawals.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(OpError::Unexpected("withdrawals"));
        }
        if attributes.transactions.as_ref().is_none_or(Vec::is_empty) {
            return Err(OpError::Missing("transactions"));
        }
        Ok(Header {
            parent_hash: parent.hash(),
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: about.suggested_fee_recipient,
            number: parent.number + 1,
            gas_limit: attributes.gas_limit.ok_or(OpError::Missing("gasLimit"))?,
            timestamp,
            mix_hash: about.prev_randao,
            base_fee_per_gas: Some(self.base_fee(parent, timestamp)?),
            blob_gas_used: is_ecotone.then_some(0),
            excess_blob_gas: is_ecotone.then_some(0),
            parent_beacon_block_root: about.parent_beacon_block_root,
            extra_data: self.extra_data(attributes)?,
            ..Header::default()
        })
    }

    /// Refuses forks that came after this was written: their headers have other content.
    pub(crate) fn check_fork(&self, timestamp: u64) -> Result<(), OpError> {
        let forks = &self.forks;
        let is_later = forks.is_jovian_active_at_timestamp(timestamp)
            || forks.is_karst_active_at_timestamp(timestamp)
            || forks.is_interop_active_at_timestamp(timestamp);
        if is_later { Err(OpError::UnknownFork { timestamp }) } else { Ok(()) }
    }

    fn base_fee(&self, parent: &Header, timestamp: u64) -> Result<u64, OpError> {
        let (params, place) = if self.forks.is_holocene_active_at_timestamp(parent.timestamp) {
            let place = "the parent's extra data";
            let (elasticity, denominator) =
                decode_holocene_extra_data(&parent.extra_data).map_err(|source| OpError::BaseFee { place, source })?;
            (BaseFeeParams::new(denominator.into(), elasticity.into()), place)
        } else if self.forks.is_canyon_active_at_timestamp(timestamp) {
            (self.canyon_base_fee_params, "the rollup's rules since Canyon")
        } else {
            (self.base_fee_params, "the rollup's rules")
        };
        let BaseFeeParams { max_change_denominator, elasticity_multiplier } = params;
        let target = u128::from(parent.gas_limit).checked_div(elasticity_multiplier);
        if max_change_denominator == 0 || target.is_none_or(|target| target == 0) {
            return Err(OpError::BaseFeeZero { place });
        }
        Ok(parent.next_block_base_fee(params).unwrap_or_default())
    }

    fn extra_data(&self, attributes: &OpPayloadAttributes) -> Result<Bytes, OpError> {
        let place = "the attributes";
        if !self.forks.is_holocene_active_at_timestamp(attributes.payload_attributes.timestamp) {
            return match attributes.eip_1559_params {
                Some(_) => Err(OpError::Unexpected("eip1559Params")),
                None => Ok(Bytes::new()),
            };
        }
        let fail = |source: EIP1559ParamError| OpError::BaseFee { place, source };
        let extra = attributes.get_holocene_extra_data(self.canyon_base_fee_params).map_err(fail)?;
        match decode_holocene_extra_data(&extra).map_err(fail)? {
            (0, _) | (_, 0) => Err(OpError::BaseFeeZero { place }),
            _ => Ok(extra),
        }
    }
}
