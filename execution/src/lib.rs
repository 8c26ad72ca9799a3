//! Blocks of transactions executed on MetisDB, by alloy's block executor and revm: what the project's tests, benchmarks and
//! demonstration share.
//!
//! ```text
//! Chain::next_header -> Block -> Chain::execute -> Executed -> Base::propose -> Chain::seal -> Proposal::seal -> Proposal::commit
//!                                Witness -> Chain::replay -> Replayed
//! ```
//!
//! No rule of consensus is written here; what a fork demands of execution is alloy's and revm's word.

mod chain;
mod collision;
mod forks;
mod parallel;
mod recorded;
mod replay;
mod speculation;
pub mod tokens;
pub mod unpack;

pub use self::{
    chain::{Chain, Executed, ExecutionError, metadata},
    forks::{Forks, UnknownForks},
    parallel::Parallel,
    recorded::Recorded,
    replay::{ReplayError, Replayed},
};
