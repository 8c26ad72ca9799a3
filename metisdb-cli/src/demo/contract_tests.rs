use alloy_primitives::Log;
use metisdb::{Durability, Options, storage::SimulatedDisk};

use super::*;

#[test]
fn selectors_are_those_of_the_signatures() {
    let selector = |signature: &str| keccak256(signature).0[..4].to_vec();
    assert_eq!(selector("transfer(address,uint256)"), TRANSFER);
    assert_eq!(selector("swap(uint256,uint256,uint256)"), SWAP);
}
