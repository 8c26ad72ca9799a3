//! The stores, each as its documentation says that it should be run.

#[cfg(feature = "firewood")]
mod firewood;
#[cfg(feature = "lmdb")]
mod lmdb;
mod map;
#[cfg(feature = "mdbx")]
mod mdbx;
mod metisdb;
#[cfg(feature = "nomt")]
mod nomt;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use crate::{
    Result,
    store::{Commits, Store},
    workload::visit::{self, Order, Outcome},
};

/// A store by its name.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) persistent: bool,
    pub(crate) commits: Commits,
    pub(crate) visit: fn(&Order) -> Result<Outcome>,
}

/// The one that all others are compared with.
pub(crate) const BASE: &str = metisdb::MetisDb::NAME;

fn peer<S: Store>() -> Peer {
    Peer { name: S::NAME, title: S::TITLE, persistent: S::PERSISTENT, commits: S::COMMITS, visit: visit::visit::<S> }
}

/// All that were built, in the order of the table.
pub(crate) fn all() -> Vec<Peer> {
    Vec::from([
        peer::<metisdb::MetisDb>(),
        peer::<map::Map>(),
        #[cfg(feature = "lmdb")]
        peer::<lmdb::Lmdb>(),
        #[cfg(feature = "mdbx")]
        peer::<mdbx::Mdbx>(),
        #[cfg(feature = "redb")]
        peer::<redb::Redb>(),
        #[cfg(feature = "rocksdb")]
        peer::<rocksdb::RocksDb>(),
        #[cfg(feature = "nomt")]
        peer::<nomt::Nomt>(),
        #[cfg(feature = "firewood")]
        peer::<firewood::Firewood>(),
    ])
}
