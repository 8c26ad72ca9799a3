//! Blocks of OP-stack chains on MetisDB: executed on a database, or replayed from a witness without one.
//!
//! ```text
//! OpPayloadAttributes -> Rollup::execute -> Executed -> Base::propose -> Executed::seal -> Proposal::seal -> Proposal::commit
//!            PartialState -> Rollup::replay -> Replayed
//! ```
//!
//! What a fork demands of execution is the word of `alloy-op-evm` and `op-revm`; here stands what they leave to whoever makes the header:
//! the base fee, the roots, what Holocene and Isthmus put there. Bedrock to Isthmus are known, later forks are refused.
//!
//! | file | what lives there |
//! |---|---|
//! | `error` | why a block cannot be made |
//! | `rollup`, `config` | a chain's rules, and the header before execution; the same from a rollup configuration |
//! | `execute` | execution, and the header after it |
//! | `replay` | both on what a witness has |

mod config;
mod error;
mod execute;
mod replay;
mod rollup;

pub use self::{
    error::OpError,
    execute::Executed,
    replay::Replayed,
    rollup::{MESSAGE_PASSER, Rollup},
};
