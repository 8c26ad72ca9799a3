//! What was replayed.

use std::fmt;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Blocks, each from a canonical witness and from a superset.
    pub(crate) blocks: usize,
    /// Nodes of the canonical witnesses.
    pub(crate) nodes: usize,
    /// Nodes that only the supersets have.
    pub(crate) spare: usize,
    /// Replays without one node of the canonical witness, all of which failed.
    pub(crate) removed: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, nodes, spare, removed } = self;
        write!(
            formatter,
            "{blocks} blocks replayed by ethrex to the same header, each from a canonical witness ({nodes} nodes in all) and from a superset ({spare} more); {removed} replays without one node, all refused"
        )
    }
}
