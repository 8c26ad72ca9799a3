//! Writing nodes: places in free pages, in the order of their paths; then long runs of whole pages.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Arena, Place, bytes, pages::PAGE_BYTES};
use crate::{
    error::Result,
    probe,
    trie::node::{Branch, Child, Link, NodeRef},
};

/// Bytes written at a time at most.
const RUN_BYTES: usize = 1 << 20;

/// Keeps a rate of writing, so that commits beside it keep the device.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: u64,
    started: Instant,
    written: u64,
}

impl Throttle {
    /// At most so many bytes a second.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), started: Instant::now(), written: 0 }
    }

    /// Waits as long as writing `bytes` may take.
    pub(crate) fn pass(&mut self, bytes: usize) {
        self.written += bytes as u64;
        let due = Duration::from_secs_f64(self.written as f64 / self.bytes_per_second as f64);
        if let Some(early) = due.checked_sub(self.started.elapsed()) {
            std::thread::sleep(early);
        }
    }
}

/// Nodes that a checkpoint writes, with their places.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) nodes: Vec<Branch>,
    bytes: Vec<u16>,
    extents: BTreeSet<u64>,
}

impl Written {
    /// Places and lengths of the nodes.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Place, usize)> {
        let planned = self.nodes.iter().filter_map(|node| node.written().planned());
        planned.zip(self.bytes.iter().map(|bytes| usize::from(*bytes)))
    }

    /// Length of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.iter().map(|bytes| u64::from(*bytes)).sum()
    }

    /// The places are durable.
    pub(crate) fn settle(&self) {
        for node in &self.nodes {
            node.written().settle();
        }
    }

    /// The nodes have no places after all.
    pub(crate) fn abandon(&self, arena: &Arena) {
        for node in &self.nodes {
            node.written().abandon();
        }
        if !probe::skip("release-failed-pages") {
            arena.pages.lock().release_taken();
        }
    }
}

/// Chooses places for all branches under `top` that have none, and writes them. Nothing of it is durable, and no place is
/// settled, until the caller has synced and said so; on an error nothing has changed.
pub(crate) fn write(
    arena: &Arena,
    top: &Child,
    generation: u32,
    floor: u64,
    throttle: &mut Throttle,
) -> Result<Written> {
    let mut written = Written { nodes: unwritten(top), ..Written::default() };
    let outcome = plan(arena, &mut written, floor).and_then(|()| write_runs(arena, &written, generation, throttle));
    match outcome {
        Ok(()) => Ok(written),
        Err(error) => {
            written.abandon(arena);
            Err(error)
        }
    }
}

/// Makes what was written durable.
pub(crate) fn sync(arena: &Arena, written: &Written) -> Result<()> {
    for number in &written.extents {
        let extent = arena.extents.load().get(number).cloned();
        if let Some(extent) = extent {
            extent.file.sync()?;
        }
    }
    arena.storage.sync_directory()
}

/// The branches in memory under `top` that are not in the arena, parents before children, in the order of their paths. What a
/// written branch leads to is written, too.
fn unwritten(top: &Child) -> Vec<Branch> {
    let topmost = match &top.link {
        Link::Leaf(leaf) => leaf.storage.as_deref().unwrap_or(top),
        Link::Branch(_) => top,
    };
    let mut waiting = match &topmost.link {
        Link::Branch(NodeRef::Memory(branch)) => vec![branch],
        _ => Vec::new(),
    };
    let mut nodes = Vec::new();
    while let Some(branch) = waiting.pop() {
        if branch.written().place().is_none() {
            nodes.push(branch.clone());
            waiting.extend(branch.children().in_memory().rev());
        }
    }
    nodes
}

fn plan(arena: &Arena, written: &mut Written, floor: u64) -> Result<()> {
    let (mut page, mut used) = (0, PAGE_BYTES);
    for node in &written.nodes {
        let bytes = bytes::node_bytes(node.view()) as u64;
        if used + bytes > PAGE_BYTES {
            page = arena.take_page(page, floor)?;
            used = 0;
            written.extents.insert(page / arena.identity.segment_bytes);
        }
        let place = Place::new(page + used)
            .ok_or(crate::Error::LimitReached { what: "the arena of the trie", limit: Place::LIMIT })?;
        node.written().plan(place);
        written.bytes.push(bytes as u16);
        used += bytes;
    }
    Ok(())
}

fn write_runs(arena: &Arena, written: &Written, generation: u32, throttle: &mut Throttle) -> Result<()> {
    let mut run = Vec::with_capacity(RUN_BYTES + PAGE_BYTES as usize);
    let mut start = 0;
    for (node, (place, _)) in written.nodes.iter().zip(written.places()) {
        let page = place.get() / PAGE_BYTES * PAGE_BYTES;
        let end = start + (run.len() as u64).next_multiple_of(PAGE_BYTES);
        let same_page = page + PAGE_BYTES == end && !run.is_empty();
        let next_page = page == end && run.len() < RUN_BYTES;
        if !same_page && !next_page {
            write_run(arena, start, &mut run, throttle)?;
            start = page;
        }
        run.resize((place.get() - start) as usize, 0);
        bytes::encode(&mut run, place, generation, node.view(), place_of);
    }
    write_run(arena, start, &mut run, throttle)
}

/// Where a branch that a written node names is or will be.
fn place_of(branch: &Branch) -> Place {
    branch.written().planned().expect("children of planned branches are planned")
}

/// Writes whole pages. They lie in one extent: its first page, which is never free, stands between two.
fn write_run(arena: &Arena, start: u64, run: &mut Vec<u8>, throttle: &mut Throttle) -> Result<()> {
    if run.is_empty() {
        return Ok(());
    }
    run.resize(run.len().next_multiple_of(PAGE_BYTES as usize), 0);
    let extent_bytes = arena.identity.segment_bytes;
    let extent = arena.extents.load().get(&(start / extent_bytes)).cloned().expect("planned places lie in extents");
    extent.file.write_all_at(run, start % extent_bytes)?;
    throttle.pass(run.len());
    run.clear();
    Ok(())
}
