//! A made-up chain: two tokens that many hold, a pair by which one is swapped for the other, and blocks of transfers and swaps,
//! some to a few whom everybody pays, some of which must fail. Everything follows from numbers, so any size can be made anywhere.
//!
//! | module | what lives there |
//! |---|---|
//! | `random` | numbers to choose by |
//! | `assembler`, `contracts` | the code that is executed |
//! | `holders` | the state before the first block |
//! | `model` | what must be in the tokens, by plain arithmetic |
//! | `workload` | transactions |

mod assembler;
mod contracts;
mod holders;
mod model;
mod random;
mod workload;

pub use self::{
    contracts::{Call, PAIR_ADDRESS, TOKENS, balance_slot, reserve_slot},
    holders::{Size, add_holder, chain, contracts, first_balance, first_reserve, holder, parent},
    model::{Model, Planned},
    random::Random,
    workload::{GAS, Task, Workload},
};
