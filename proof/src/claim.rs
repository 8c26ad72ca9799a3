//! What is claimed of accounts and slots, compared with what was found in a trie.

use alloy_primitives::{Address, B256, U256};

use crate::{
    EMPTY_ROOT,
    account::{Account, decode_account},
    error::ProofError,
    rlp::Item,
    walk::Leaf,
};

/// An account must be what its leaf holds, and absent where there is no leaf. `nodes` is how many proved it.
pub(crate) fn check_account(
    address: Address,
    (claimed, claimed_root): (Option<Account>, B256),
    leaf: Option<Leaf<'_>>,
    nodes: usize,
) -> Result<(), ProofError> {
    let (proven, storage_root) = match leaf {
        Some(Leaf { value, index }) => decode_account(value)
            .map(|(account, root)| (Some(account), root))
            .map_err(|source| ProofError::Leaf { index, what: "an account", source })?,
        None => (None, EMPTY_ROOT),
    };
    let differs = |what| Err(ProofError::AccountMismatch { address, what, nodes });
    match (claimed, proven) {
        (None, None) => {}
        (None, Some(_)) | (Some(_), None) => return differs("existence"),
        (Some(claimed), Some(proven)) if claimed.nonce != proven.nonce => return differs("nonce"),
        (Some(claimed), Some(proven)) if claimed.balance != proven.balance => return differs("balance"),
        (Some(claimed), Some(proven)) if claimed != proven => return differs("code hash"),
        (Some(_), Some(_)) => {}
    }
    if claimed_root == storage_root { Ok(()) } else { differs("storage root") }
}

/// A slot's value must be what its leaf holds, and zero where there is no leaf. `nodes` is how many proved it.
pub(crate) fn check_value(claimed: U256, leaf: Option<Leaf<'_>>, nodes: usize) -> Result<(), ProofError> {
    let proven = match leaf {
        Some(Leaf { value, index }) => {
            let decoded = Item::only(value).and_then(Item::u256);
            let value = decoded.map_err(|source| ProofError::Leaf { index, what: "a slot's value", source })?;
            if value.is_zero() {
                return Err(ProofError::ZeroLeaf { index });
            }
            value
        }
        None => U256::ZERO,
    };
    if claimed == proven { Ok(()) } else { Err(ProofError::ValueMismatch { claimed, proven, nodes }) }
}
