//! Models of MetisDB's protocols, each small enough to visit every state that it can reach.
//!
//! | module | protocol | invariants |
//! |---|---|---|
//! | `log` | log, checkpoints, two superblocks, power loss | A1, S1, S2, K1, K2, V1, V2 |
//! | `pins` | pin, publish, raise the horizon, reclaim | P1, C2 |
//! | `pages` | pages of the arena, held tries, two superblocks | T1 |
//!
//! The rules are those of `spec/durability.md` and `spec/concurrency.md`. Every model has variants that leave out one rule, and every one of
//! them has to be found out: a model in which nothing can go wrong shows nothing.

#[cfg(test)]
mod log;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod pins;

#[cfg(test)]
use {
    stateright::{Checker, Model},
    std::{fmt::Debug, hash::Hash},
};

/// Visits all states: what must always hold does, and what must be possible is.
#[cfg(test)]
fn assert_sound<M>(name: &str, model: M)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send + Sync>,
    M: Send + Sync + 'static,
{
    let checker = model.checker().spawn_bfs().join();
    checker.assert_properties();
    println!("{name}: {} states, all sound", checker.unique_state_count());
}

/// The shortest way to where `property` does not hold exists.
#[cfg(test)]
fn assert_found<M>(variant: &str, model: M, property: &'static str)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send + Sync>,
    M: Send + Sync + 'static,
{
    let only = stateright::HasDiscoveries::AllOf([property].into());
    let checker = model.checker().finish_when(only).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{variant}: {property:?} always holds"));
    let steps = path.into_actions();
    println!("{variant}: found after {} states: {steps:?}", checker.unique_state_count());
}
