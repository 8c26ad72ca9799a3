//! A block's witnesses, exported from the whole state, replay it alone; a canonical one has nothing to spare.

use std::{cell::Cell, fmt};

use alloy_consensus::{Block, Header, TxEnvelope};
use metisdb::{
    Changes, Recorder,
    proof::{PartialState, Witness, WitnessMode, collect},
};
use metisdb_conformance::database::{Checked, same, told};
use metisdb_execution::{Chain, ReplayError};

/// Of so many blocks one has every part of its witness removed in turn; of the others a single node is.
const THOROUGH: u8 = 8;

/// What was replayed.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    replayed: Cell<usize>,
    nodes: Cell<usize>,
    spare: Cell<usize>,
    removed: Cell<usize>,
}

impl fmt::Display for Witnesses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replayed, nodes, spare, removed } = self;
        write!(
            formatter,
            "{} blocks replayed from a canonical witness and from a superset; {} nodes, {} more in supersets; {} replays without one part, all refused",
            replayed.get(),
            nodes.get(),
            spare.get(),
            removed.get()
        )
    }
}

fn add(count: &Cell<usize>, more: usize) {
    count.set(count.get() + more);
}

fn replay(chain: &Chain, witness: &Witness, block: &Block<TxEnvelope>) -> Checked {
    let replayed = chain.replay(witness, block).map_err(|error| format!("the replay of a witness: {error}"))?;
    same("the root of a replay", replayed.state_root, block.header.state_root)
}

impl Witnesses {
    /// `parents` are the headers before the block's, newest first.
    pub(crate) fn check(
        &self,
        chain: &Chain,
        block: &Block<TxEnvelope>,
        (recorder, changes): (&Recorder, &Changes),
        parents: &[&Header],
    ) -> Checked {
        let accessed = recorder.accessed();
        let oldest = accessed.blocks.first().copied().unwrap_or(u64::MAX);
        let needed = parents.iter().enumerate().take_while(|(index, header)| *index == 0 || header.number >= oldest);
        let mut headers: Vec<_> = needed.map(|(_, header)| alloy_rlp::encode(header).into()).collect();
        headers.reverse();
        let export =
            |mode| told(recorder.witness(changes, mode)).map(|witness| Witness { headers: headers.clone(), ..witness });
        let (canonical, superset) = (export(WitnessMode::Canonical)?, export(WitnessMode::Superset)?);
        replay(chain, &canonical, block)?;
        replay(chain, &superset, block)?;
        let state =
            PartialState::after_block(&superset, block.header.parent_hash).map_err(|error| error.to_string())?;
        let again = collect(&state, state.root(), &accessed, &changes.by_account(), WitnessMode::Canonical);
        if again.map(|again| Witness { headers, ..again }).as_ref() != Ok(&canonical) {
            return Err("the canonical witness made of the superset is another one".into());
        }
        add(&self.replayed, 1);
        add(&self.nodes, canonical.state.len());
        add(&self.spare, superset.state.len() - canonical.state.len());
        let mut other = block.clone();
        other.header.state_root = parents[0].state_root;
        if other != *block && !matches!(chain.replay(&canonical, &other), Err(ReplayError::Header { .. })) {
            return Err("a header with another root is confirmed".into());
        }
        self.check_minimal(chain, block, &canonical)
    }

    fn check_minimal(&self, chain: &Chain, block: &Block<TxEnvelope>, witness: &Witness) -> Checked {
        let chosen = usize::from_be_bytes(block.header.mix_hash[..8].try_into().expect("eight bytes"))
            ^ usize::from(block.header.state_root[31]);
        let is_thorough = block.header.state_root[0].is_multiple_of(THOROUGH);
        let parts = |count: usize| (0..count).filter(move |index| is_thorough || *index == chosen % count);
        let mut without = Vec::new();
        for index in parts(witness.state.len()) {
            let mut less = witness.clone();
            less.state.remove(index);
            without.push(less);
        }
        for index in parts(witness.codes.len()) {
            let mut less = witness.clone();
            less.codes.remove(index);
            without.push(less);
        }
        for index in parts(witness.headers.len()) {
            let mut less = witness.clone();
            less.headers.remove(index);
            without.push(less);
        }
        for less in &without {
            match chain.replay(less, block) {
                Err(ReplayError::Witness(_)) => add(&self.removed, 1),
                Err(error) => return Err(format!("a witness without one part is refused for another reason: {error}")),
                Ok(_) => return Err("a witness without one part suffices".into()),
            }
        }
        Ok(())
    }
}
