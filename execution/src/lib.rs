//! Blocks of transactions executed on MetisDB, by alloy's block executor and revm: what the project's tests, benchmarks and
//! demonstration share.
//!
//! ```text
//! Chain::next_header -> Block -> Chain::execute -> Executed -> Base::propose -> Chain::seal -> Proposal::seal -> Proposal::commit
//!                                Witness -> Chain::replay -> Replayed
//! ```
//!
//! What a fork demands of execution is alloy's and revm's word. Of the rules of consensus one part alone is written here: the form
//! of a block ([`Forks::check_form`]), without which a stranger's block could leave out what is to be compared.

mod chain;
mod collision;
mod forks;
mod form;
mod parallel;
mod recorded;
mod replay;
mod speculation;
pub mod tokens;
pub mod unpack;

pub use self::{
    chain::{Chain, Executed, ExecutionError, metadata},
    forks::{Forks, UnknownForks},
    form::FormError,
    parallel::Parallel,
    recorded::Recorded,
    replay::{ReplayError, Replayed},
};
