//! From the trie of one version to that of another: the records that changed in between tell which leaves differ, and the log still
//! has both values.
//!
//! Recovery goes forwards, from the checkpoint's trie to the newest version, in one update. A snapshot of an older version, whose trie
//! nobody kept, goes backwards.

use std::sync::Arc;

use alloy_primitives::B256;

use crate::{
    difference::{ChangedKeys, changes_between},
    error::Result,
    log::{
        Damage,
        frame::{self, FrameHeader, FrameKind},
        record::{Body, Record},
        segment::{Segment, SegmentHeader},
    },
    lookup::Lookup,
    roots,
    store::Store,
    tries::HeldTrie,
    types::Block,
};

/// The trie of a version that the caller has pinned: kept, or made from the newest one.
pub(crate) fn trie_at(store: &Store, version: u64) -> Result<Arc<HeldTrie>> {
    roots::settle(store, version)?;
    if let Some(kept) = store.tries.kept(version) {
        return Ok(kept);
    }
    let (newest, base) = store.tries.newest_for(version);
    trie_from(store, newest, &base, version)
}

/// The trie of `version` made from that of a later one. The caller has pinned the version, and holds the other's trie for it.
pub(crate) fn trie_from(store: &Store, newest: u64, base: &HeldTrie, version: u64) -> Result<Arc<HeldTrie>> {
    let seed = &store.log.identity.seed;
    let mut keys = changed_keys(&store.lookup, seed, &store.history.positions(version, newest))?;
    if !keys.wiped.is_empty() {
        // Behind it stands a frame that is being written, or one that found no space.
        add_wiped_slots(store, &mut keys, store.log.appended_upto())?;
    }
    let salted = store.writer.lock().ledger.salted.clone();
    let from = store.view(newest, &[]);
    let changes = changes_between(&from, &store.view(version, &[]), &mut keys, &salted)?;
    let new = store.tries.update(&base.trie, &changes, &from)?;
    expect_root(store, version, new.trie.root)?;
    Ok(base.derive_for(version, new.trie))
}

/// The root of a version is the one that was committed, if that is known.
pub(crate) fn expect_root(store: &Store, version: u64, root: B256) -> Result<()> {
    match store.history.row(version).and_then(|row| row.root) {
        Some(stated) if stated != root => {
            let damage = Damage::new(format!("the root {stated} of version {version}"), format!("{root}"));
            Err(damage.at("trie", store.lookup.storage.path(), 0))
        }
        _ => Ok(()),
    }
}

/// The keys of the changes in these frames of the log of this seed.
pub(crate) fn changed_keys(lookup: &Lookup, seed: &[u8; 32], frames: &[u64]) -> Result<ChangedKeys> {
    let mut keys = ChangedKeys::default();
    for position in frames {
        // A segment is dropped while a version of it can be read only if that version changed nothing.
        let Some(segment) = lookup.table.segment_of(*position) else { continue };
        let (header, bytes) = read_frame(lookup, seed, &segment, *position)?;
        add_records(lookup, &header, &bytes, &mut keys, |_| true)?;
    }
    Ok(keys)
}

/// The block that was committed with a version that the caller has pinned.
pub(crate) fn block_of(store: &Store, version: u64) -> Result<Option<Block>> {
    let row = store.history.row(version).filter(|row| row.version > 0);
    // A segment is dropped while a version of it can be read only if that version changed nothing.
    let with_segment = row.and_then(|row| Some((store.lookup.table.segment_of(row.position)?, row.position)));
    let Some((segment, position)) = with_segment else { return Ok(None) };
    let (header, bytes) = read_frame(&store.lookup, &store.log.identity.seed, &segment, position)?;
    let mut block = None;
    let visit = |_, record: Record<'_>, _| -> Result<(), Damage> {
        if let Body::Block(own) = record.body {
            block = Some(own);
        }
        Ok(())
    };
    frame::records(&header, &bytes, visit).map_err(|damage| store.lookup.damage(damage, position))?;
    Ok(block)
}

fn add_records(
    lookup: &Lookup,
    header: &FrameHeader,
    frame: &[u8],
    keys: &mut ChangedKeys,
    wanted: impl Fn(&Body<'_>) -> bool,
) -> Result<()> {
    let visit = |_, record: Record<'_>, _| -> Result<(), Damage> {
        if wanted(&record.body) {
            keys.add(&record);
        }
        Ok(())
    };
    frame::records(header, frame, visit).map_err(|damage| lookup.damage(damage, header.position))
}

/// The frame at a position of a segment, read from its file, which a checkpoint may have removed meanwhile. All of it is verified: what kind it is
/// and how many records it has, no record tells.
fn read_frame(lookup: &Lookup, seed: &[u8; 32], segment: &Segment, position: u64) -> Result<(FrameHeader, Vec<u8>)> {
    let damaged = |damage| lookup.damage(damage, position);
    let header = read_header(segment, position)?.map_err(damaged)?;
    let mut bytes = vec![0; header.frame_bytes()];
    segment.file.read_exact_at(&mut bytes, position - segment.start)?;
    frame::verify(&header, &bytes, frame::secret(seed)).map_err(damaged)?;
    Ok((header, bytes))
}

fn read_header(segment: &Segment, position: u64) -> Result<Result<FrameHeader, Damage>> {
    let mut bytes = [0; FrameHeader::BYTES];
    let room = segment.end - position;
    if room < FrameHeader::BYTES as u64 {
        return Ok(Err(Damage::new("a frame", "the end of the segment")));
    }
    segment.file.read_exact_at(&mut bytes, position - segment.start)?;
    Ok(frame::header(&bytes, position, room))
}

/// All slots of the wiped accounts that any record in the log names: reads the whole log up to a position.
fn add_wiped_slots(store: &Store, keys: &mut ChangedKeys, end: u64) -> Result<()> {
    let (lookup, seed) = (&store.lookup, &store.log.identity.seed);
    let wiped = keys.wiped.clone();
    let all = lookup.table.all();
    for (index, segment) in all.iter().enumerate() {
        let last = last_frame_end(&all, index, end);
        let mut position = segment.start + SegmentHeader::BYTES as u64;
        while position < last.unwrap_or(segment.end) {
            if last.is_none() && read_header(segment, position)?.is_err() {
                break;
            }
            let (header, bytes) = read_frame(lookup, seed, segment, position)?;
            if header.known_kind() == Ok(FrameKind::Changes) {
                let wanted =
                    |body: &Body<'_>| matches!(body, Body::Slot { account, .. } if wiped.contains_key(account));
                add_records(lookup, &header, &bytes, keys, wanted)?;
            }
            position += header.frame_bytes() as u64;
        }
    }
    Ok(())
}

/// Where the last frame of a segment ends, in a log that ends at `end`. Only the superblock knows it where the segment behind was dropped: there
/// the frames end before the first that is none.
fn last_frame_end(all: &[Arc<Segment>], index: usize, end: u64) -> Option<u64> {
    match all.get(index + 1) {
        Some(next) => (next.number == all[index].number + 1).then_some(next.previous_end),
        None => Some(end),
    }
}
