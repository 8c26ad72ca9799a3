//! From changes to a durable, visible version.
//!
//! ```text
//! stage -> trie -> reserve -> append changes and root -> [sync] -> index -> install the trie -> publish
//! ```
//!
//! Invariants:
//! * C1 (rule 13): everything that can fail for want of space or memory happens before the append.
//! * C2: a version is published with one store, after all its index entries: a reader sees all of a commit or nothing.
//! * C3: in [`Durability::Durable`] the index changes only after the sync.

use std::{sync::atomic::Ordering, time::Instant};

use alloy_primitives::B256;
use parking_lot::MutexGuard;

use crate::{
    changes::Changes,
    checkpointer,
    error::{Error, Result},
    history::VersionRow,
    key::RecordKey,
    log::{
        frame::{FRAME_LIMIT, FrameBuilder, FrameHeader, FrameKind},
        record::{Body, ROOT_BYTES, Record, SCHEME_ETHEREUM, VERSION_LIMIT},
    },
    probe, roots,
    stage::{self, Staged},
    store::{Shared, Store, Writer},
    tries::NewTrie,
};

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Synced before it becomes visible: what a reader sees survives a power cut.
    #[default]
    Durable,
    /// Visible at once; [`Commit::wait_durable`] acknowledges it later, many commits with one sync. After a crash a
    /// prefix of such commits is found.
    Pipelined,
}

/// A commit that is visible.
#[derive(Clone, Debug)]
pub struct Commit {
    store: Shared,
    version: u64,
    end: u64,
}

impl Commit {
    /// The version that the commit made.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The database that it is of.
    pub(crate) fn store(&self) -> &Shared {
        &self.store
    }

    /// Whether the commit survives a power cut, as far as is known.
    pub fn is_durable(&self) -> bool {
        self.store.log.durable_upto() >= self.end
    }

    /// Returns once the commit, and with it every earlier one, is durable. Blocks on the device, or on another thread's
    /// sync, which then serves this commit too. Dropping the handle without waiting is allowed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the sync failed: the commit may or may not be found after reopening.
    pub fn wait_durable(&self) -> Result<()> {
        self.store.check_process()?;
        self.store.log.sync_upto(self.end)
    }
}

/// Commits changes on top of the newest version.
pub(crate) fn commit(store: &Shared, changes: &Changes, durability: Durability) -> Result<Commit> {
    store.check_writable()?;
    checkpointer::relieve(store)?;
    let started = Instant::now();
    let _gate = roots::close_gate(store)?;
    let mut writer = store.writer.lock();
    let _unbroken = store.log.unbroken();
    let (_, base) = store.tries.newest();
    let view = store.view(store.pins.head(), &[]);
    let has_storage = |path: &B256| Ok(store.tries.storage(&base.trie, path)?.is_some());
    let staged = stage::stage(&view, changes, &has_storage, store.options.most_threads())?;
    let new = store.tries.update(&base.trie, &staged.trie, &view)?;
    let appended = append(store, &mut writer, &staged, Some(new.trie.root), durability)?;
    publish(store, &mut writer, &staged, &appended, Some(new));
    Ok(finish(store, writer, &staged, &appended, durability, started))
}

/// What [`append`] has written.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) version: u64,
    /// Position of the frame of the changes.
    position: u64,
    /// End of the last frame.
    end: u64,
    /// Of the records, then of the codes.
    positions: Vec<u64>,
}

/// Writes the changes as the next version, with the root if it is known. On an error nothing has changed, unless it poisons.
pub(crate) fn append(
    store: &Store,
    writer: &mut Writer,
    staged: &Staged,
    root: Option<B256>,
    durability: Durability,
) -> Result<Appended> {
    // Under the lock: the commit before may have left a frame that is not part of any version.
    store.log.check_poison()?;
    let version = store.pins.head() + 1;
    if version >= VERSION_LIMIT {
        return Err(Error::LimitReached { what: "the number of versions", limit: VERSION_LIMIT });
    }
    let inserts = staged.codes.len() + staged.all_records().filter(|record| record.previous.is_none()).count();
    store.lookup.index.reserve(inserts)?;
    let codes = staged.codes.iter().map(|code| (Body::Code { hash: code.hash, code: &code.code }, None));
    let records = staged.all_records().map(|record| (record.body, record.previous)).chain(codes);
    let bytes = FrameHeader::BYTES + records.clone().map(|(body, _)| body.padded_bytes()).sum::<usize>();
    if bytes > FRAME_LIMIT {
        return Err(Error::LimitReached { what: "the size of a commit in bytes", limit: FRAME_LIMIT as u64 });
    }
    let total = bytes + root.map_or(0, |_| ROOT_FRAME_BYTES);
    let position = store.log.reserve(&store.lookup.table, &mut writer.tail, total as u64)?;
    let mut frame = FrameBuilder::new(position, total);
    let positions = records
        .map(|(body, previous)| frame.push(&Record { version, previous: previous.map(|old| old.position), body }))
        .collect();
    let root = root.map(|root| (root_frame(position + bytes as u64, version, root), FrameKind::Root));
    let frames = [(frame, FrameKind::Changes)].into_iter().chain(root);
    let end = store.log.append(&mut writer.tail, frames, version)?;
    let unsynced = end.saturating_sub(store.log.durable_upto());
    if durability == Durability::Durable || unsynced > store.options.max_unsynced_bytes {
        store.log.sync_upto(end)?;
    }
    Ok(Appended { version, position, end, positions })
}

/// Bytes of a frame with a root.
pub(crate) const ROOT_FRAME_BYTES: usize = FrameHeader::BYTES + ROOT_BYTES;

/// The frame with the root of a version.
pub(crate) fn root_frame(position: u64, version: u64, root: B256) -> FrameBuilder {
    let mut frame = FrameBuilder::new(position, ROOT_FRAME_BYTES);
    frame.push(&Record { version, previous: None, body: Body::Root { scheme: SCHEME_ETHEREUM, root } });
    frame
}

/// Makes what was written the newest version, visible to readers. Cannot fail (C1).
pub(crate) fn publish(store: &Store, writer: &mut Writer, staged: &Staged, appended: &Appended, new: Option<NewTrie>) {
    let version = appended.version;
    let root = new.as_ref().map(|new| new.trie.root);
    apply(store, writer, staged, appended);
    store.history.push(VersionRow { version, position: appended.position, root });
    if probe::skip("install-before-publish") {
        store.pins.publish(version);
        probe::pause("published");
    }
    if let Some(new) = new {
        store.tries.install(version, new, &store.pins);
    }
    store.pins.publish(version);
    reclaim(store, writer);
}

/// Enters the records in the index and the books.
fn apply(store: &Store, writer: &mut Writer, staged: &Staged, appended: &Appended) {
    let version = appended.version;
    let ledger = &mut writer.ledger;
    let segment = writer.tail.segment.number;
    for (account, address) in &staged.salted {
        ledger.salted.insert(*account, *address);
        store.lookup.salted.store(true, Ordering::Release);
    }
    for account in &staged.wiped {
        ledger.wipe(*account, version);
        store.lookup.wipes.insert(*account);
    }
    if probe::skip("publish-after-index") {
        store.pins.publish(version);
    }
    let codes = staged.codes.iter().map(|code| {
        let hash = store.lookup.hasher.record(&RecordKey::Code(code.hash));
        (hash, Body::Code { hash: code.hash, code: &code.code }.padded_bytes(), None)
    });
    let records = staged.all_records().map(|record| (record.hash, record.body.padded_bytes(), record.previous));
    for (index, (hash, bytes, previous)) in records.chain(codes).enumerate() {
        if let Some(ahead) = staged.records.get(index + 16) {
            store.lookup.index.prefetch(ahead.hash);
        }
        ledger.add(segment, bytes);
        match previous {
            Some(previous) => {
                let replaced = store.lookup.index.replace(hash, previous.position, appended.positions[index]);
                debug_assert!(replaced, "the superseded record was found through the index");
                if let Some(old) = store.lookup.table.segment_of(previous.position) {
                    ledger.retire(version, old.number, previous.bytes);
                }
            }
            None => store.lookup.index.insert(hash, appended.positions[index]),
        }
        probe::pause("commit-index");
    }
}

/// Moves the horizon and buries what is out of everyone's reach.
fn reclaim(store: &Store, writer: &mut Writer) {
    let horizon = store.pins.head().saturating_sub(store.options.retain_versions);
    let floor = store.pins.raise_horizon(horizon.max(store.pins.horizon()));
    writer.ledger.bury(floor);
    let floor = expire(store, writer).unwrap_or(floor);
    store.history.forget_before(floor);
}

/// Ends the oldest snapshots while all of them hold back more than they may. Returns the floor, if it has risen.
fn expire(store: &Store, writer: &mut Writer) -> Option<u64> {
    let limit = store.options.max_held_back_bytes?;
    let horizon = store.pins.horizon();
    let mut risen = None;
    while let Some(oldest) = store.pins.oldest_unexpired().filter(|oldest| *oldest < horizon)
        && writer.ledger.held_back(horizon) > limit
    {
        let floor = store.pins.expire_before(oldest + 1);
        tracing::warn!(version = oldest, limit, "a snapshot has expired: it held back more than it may");
        writer.ledger.bury(floor);
        risen = Some(floor);
    }
    risen
}

/// Lets go of the commit lock, counts, and starts a checkpoint if one is due.
pub(crate) fn finish(
    store: &Shared,
    writer: MutexGuard<'_, Writer>,
    staged: &Staged,
    appended: &Appended,
    durability: Durability,
    started: Instant,
) -> Commit {
    drop(writer);
    let (version, bytes) = (appended.version, appended.end - appended.position);
    metrics::counter!("metisdb.commits").increment(1);
    metrics::counter!("metisdb.committed_bytes").increment(bytes);
    metrics::histogram!("metisdb.commit_seconds").record(started.elapsed());
    tracing::trace!(version, records = staged.records.len(), bytes, ?durability, "committed");
    store.counters.commits.fetch_add(1, Ordering::Relaxed);
    checkpointer::start_if_due(store);
    Commit { store: store.clone(), version, end: appended.end }
}
