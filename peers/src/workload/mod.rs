//! What is done to every store, and what is made of it.

mod beside;
mod commits;
mod figure;
mod histogram;
mod kill;
mod ledger;
mod load;
mod reads;
mod report;
pub(crate) mod run;
pub(crate) mod visit;
