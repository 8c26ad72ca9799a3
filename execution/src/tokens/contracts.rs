//! The contracts: two tokens, and a pair by which one is swapped for the other.
//!
//! Their sources are `token.evm` and `pair.evm`. Here is what the outside knows of them: where in their storage things are, and how they are called.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::assembler::{SourceError, assemble};

const TOKEN: &str = include_str!("token.evm");
const PAIR: &str = include_str!("pair.evm");

/// The two tokens.
pub const TOKENS: [Address; 2] = [Address::repeat_byte(0xa0), Address::repeat_byte(0xb0)];
/// Where one is swapped for the other.
pub const PAIR_ADDRESS: Address = Address::repeat_byte(0xc0);

const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
const SWAP: [u8; 4] = [0x9d, 0x98, 0x92, 0xcd];

/// What is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Gives tokens to somebody.
    Transfer {
        /// Which of the two.
        token: usize,
        /// Who receives.
        to: Address,
        /// How much.
        amount: U256,
    },
    /// Pays `amount` of a token for the other one, of which at least `least` must come out.
    Swap {
        /// Which of the two is paid.
        paid: usize,
        /// How much of it.
        amount: U256,
        /// How much of the other one must come out.
        least: U256,
    },
}

impl Call {
    /// The contract that is called.
    pub fn to(self) -> Address {
        match self {
            Self::Transfer { token, .. } => TOKENS[token],
            Self::Swap { .. } => PAIR_ADDRESS,
        }
    }

    /// The input.
    pub fn input(self) -> Bytes {
        match self {
            Self::Transfer { to, amount, .. } => input(TRANSFER, &[to.into_word(), amount.into()]),
            Self::Swap { paid, amount, least } => input(SWAP, &[U256::from(paid).into(), amount.into(), least.into()]),
        }
    }
}

fn input(selector: [u8; 4], words: &[B256]) -> Bytes {
    selector.into_iter().chain(words.iter().flat_map(|word| word.0)).collect()
}

/// The code of both tokens, and that of the pair.
pub(super) fn codes() -> Result<(Bytes, Bytes), SourceError> {
    Ok((assemble(TOKEN)?, assemble(PAIR)?))
}

/// What comes out of a swap: the product of the reserves stays, but for a fee of 0.3 %, which makes it grow.
pub(super) fn output(paid: U256, reserve_in: U256, reserve_out: U256) -> U256 {
    let less = paid * U256::from(997);
    less * reserve_out / (reserve_in * U256::from(1_000) + less)
}

fn entry(key: B256, mapping: B256) -> B256 {
    keccak256([key.0, mapping.0].concat())
}

/// The slot of a token that holds a balance.
pub fn balance_slot(holder: &Address) -> U256 {
    entry(holder.into_word(), B256::ZERO).into()
}

/// The slot of a token that says how much of the holder's the spender may move.
pub(super) fn allowance_slot(holder: &Address, spender: &Address) -> U256 {
    entry(spender.into_word(), entry(holder.into_word(), U256::ONE.into())).into()
}

/// The slot of the pair that holds a token's address.
pub(super) fn token_slot(token: usize) -> U256 {
    U256::from(token)
}

/// The slot of the pair that holds its reserve of a token.
pub fn reserve_slot(token: usize) -> U256 {
    U256::from(2 + token)
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
