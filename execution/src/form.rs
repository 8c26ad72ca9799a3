//! The form of a block: which fields its fork demands, and which ommers it may have.
//!
//! A header says by leaving a field out that there is nothing to compare: so whoever takes blocks from strangers asks first
//! whether it may be left out.

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_hardforks::EthereumHardforks;

use crate::Forks;

/// So many blocks an ommer is older than the block that has it, at most.
const OMMER_DEPTH: u64 = 6;

/// Why a block does not have the form of its fork.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The block leaves out what its fork demands.
    #[error("the block has no {field}, which its fork demands; do not accept it")]
    Missing {
        /// The field of the header or body.
        field: &'static str,
    },
    /// The block has what its fork does not know.
    #[error("the block has a {field}, which its fork does not know; do not accept it")]
    Unknown {
        /// The field of the header or body.
        field: &'static str,
    },
    /// The block's fork demands something that is not computed here.
    #[error("the block's fork demands a {field}, which is not verified yet; name the forks that the block is of")]
    Unverified {
        /// The field of the header.
        field: &'static str,
    },
    /// The block has more ommers than its fork allows.
    #[error("the block has {ommers} ommers, the limit is {limit}; do not accept it")]
    TooManyOmmers {
        /// Its ommers.
        ommers: usize,
        /// The limit: none since Paris.
        limit: usize,
    },
    /// An ommer has a number that no ommer of the block has.
    #[error("block {block} has an ommer with the number {ommer}; ommers are at most {OMMER_DEPTH} blocks older")]
    OmmerNumber {
        /// The block.
        block: u64,
        /// The ommer's number.
        ommer: u64,
    },
}

impl Forks {
    /// Checks that a header has the fields that its fork demands, and no others. What they hold is not looked at.
    ///
    /// # Errors
    /// [`FormError`], which names the field.
    pub fn check_fields(&self, header: &Header) -> Result<(), FormError> {
        let time = header.timestamp;
        if self.is_amsterdam_active_at_timestamp(time) {
            return Err(FormError::Unverified { field: "block_access_list_hash" });
        }
        let london = self.is_london_active_at_block(header.number);
        let shanghai = self.is_shanghai_active_at_timestamp(time);
        let cancun = self.is_cancun_active_at_timestamp(time);
        let prague = self.is_prague_active_at_timestamp(time);
        presence("base_fee_per_gas", header.base_fee_per_gas.is_some(), london)?;
        presence("withdrawals_root", header.withdrawals_root.is_some(), shanghai)?;
        presence("blob_gas_used", header.blob_gas_used.is_some(), cancun)?;
        presence("excess_blob_gas", header.excess_blob_gas.is_some(), cancun)?;
        presence("parent_beacon_block_root", header.parent_beacon_block_root.is_some(), cancun)?;
        presence("requests_hash", header.requests_hash.is_some(), prague)?;
        presence("block_access_list_hash", header.block_access_list_hash.is_some(), false)?;
        presence("slot_number", header.slot_number.is_some(), false)
    }

    /// Checks that a block has the form of its fork: the fields of its header and body, and how many ommers there are, of which
    /// numbers. Neither what else they hold nor the block's place in the chain is looked at.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn check_form(&self, block: &Block<TxEnvelope>) -> Result<(), FormError> {
        let Block { header, body } = block;
        self.check_fields(header)?;
        let shanghai = self.is_shanghai_active_at_timestamp(header.timestamp);
        presence("list of withdrawals", body.withdrawals.is_some(), shanghai)?;
        self.check_ommers(block)
    }

    /// Checks how many ommers a block has, and their numbers: the rewards of a block follow from those. Whether they are ommers of
    /// its chain is not looked at.
    ///
    /// # Errors
    /// [`FormError::TooManyOmmers`], [`FormError::OmmerNumber`].
    pub(crate) fn check_ommers(&self, block: &Block<TxEnvelope>) -> Result<(), FormError> {
        let (block, ommers) = (block.header.number, &block.body.ommers);
        let limit = if self.is_paris_active_at_block(block) { 0 } else { 2 };
        if ommers.len() > limit {
            return Err(FormError::TooManyOmmers { ommers: ommers.len(), limit });
        }
        for ommer in ommers.iter().map(|ommer| ommer.number) {
            let is_near = block.checked_sub(ommer).is_some_and(|depth| (1..=OMMER_DEPTH).contains(&depth));
            // Rewards are computed with eight more than the number.
            if !is_near || ommer.checked_add(8).is_none() {
                return Err(FormError::OmmerNumber { block, ommer });
            }
        }
        Ok(())
    }
}

fn presence(field: &'static str, is_there: bool, is_demanded: bool) -> Result<(), FormError> {
    match (is_there, is_demanded) {
        (false, true) => Err(FormError::Missing { field }),
        (true, false) => Err(FormError::Unknown { field }),
        _ => Ok(()),
    }
}
