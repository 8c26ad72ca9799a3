//! Opening what a death has left: superblock, segments, frames up to the first that is not sound; then mending the end.

use super::{FRAMES, KEYS, Loss, Phase, SEGMENT_FRAMES, State, Variant, disk::Superblock};

/// Finds the end of the log and begins to mend it.
pub(super) fn open(state: &mut State, variant: Variant, damages_newest: bool) {
    if damages_newest {
        state.damaged = true;
        let (slot, _) = state.disk.sound_superblocks()[0];
        state.disk.superblocks[slot] = super::disk::Cell::durable(None);
    }
    state.phase = match find_end(state, variant, damages_newest) {
        Ok((superblock, version)) => {
            mend(state, variant, version, &superblock);
            Phase::Recovering
        }
        Err(loss) => Phase::Lost(loss),
    };
}

/// The superblock in force, and how many versions there are.
fn find_end(state: &State, variant: Variant, without_image: bool) -> Result<(Superblock, u8), Loss> {
    let sound = state.disk.sound_superblocks();
    let &(_, superblock) = sound.first().ok_or(Loss::Refused("no superblock"))?;
    let listed = usize::from(superblock.first_segment)..usize::from(superblock.segments_end);
    if listed.clone().any(|segment| !state.disk.segments[segment].cache) {
        return Err(Loss::Refused("a segment is gone"));
    }
    // The image of the superblock before is gone: then all of the log is read.
    let from = if without_image { listed.start * SEGMENT_FRAMES } else { usize::from(superblock.checkpoint) };
    let version = follow(state, variant, &superblock, from)?;
    if version < superblock.checkpoint || !without_image && version < superblock.image_upto {
        return Err(Loss::Refused("K2: the superblock names what is not there"));
    }
    if version < state.acknowledged {
        return Err(Loss::Acknowledged);
    }
    let found = listed.start * SEGMENT_FRAMES..usize::from(version);
    if found.clone().any(|at| state.disk.frames[at].cache.is_none_or(|frame| frame.session != state.history[at])) {
        return Err(Loss::Foreign);
    }
    let newest_of_keys = version.saturating_sub(KEYS)..version;
    if newest_of_keys.into_iter().any(|at| !state.disk.segments[usize::from(at) / SEGMENT_FRAMES].cache) {
        return Err(Loss::Refused("D1: a living record is gone"));
    }
    Ok((superblock, version))
}

/// Reads frames from `from` on; returns where the sound ones end.
fn follow(state: &State, variant: Variant, superblock: &Superblock, from: usize) -> Result<u8, Loss> {
    let exists = |segment: usize| state.disk.segments.get(segment).is_some_and(|cell| cell.cache);
    let mut chain = (from == usize::from(superblock.checkpoint)).then_some(superblock.chain);
    let has_no_chain = matches!(variant, Variant::NoChain | Variant::NoChainNoErasing);
    let mut at = from;
    while at < FRAMES && exists(at / SEGMENT_FRAMES) {
        let follows = |frame: &super::Frame| has_no_chain || chain.is_none_or(|chain| chain == frame.follows);
        let Some(frame) = state.disk.frames[at].cache.filter(follows) else { break };
        chain = Some(frame.session);
        at += 1;
    }
    if at < FRAMES && exists(at / SEGMENT_FRAMES) {
        // A segment that another one follows is whole (A1).
        if exists(at / SEGMENT_FRAMES + 1) {
            return Err(Loss::Refused("S1: damage below the next segment"));
        }
        // So is what a mark behind it covers.
        let behind = &state.disk.frames[at..(at / SEGMENT_FRAMES + 1) * SEGMENT_FRAMES];
        if behind.iter().filter_map(|cell| cell.cache).any(|frame| usize::from(frame.mark) > at) {
            return Err(Loss::Refused("S1: damage below a durable mark"));
        }
    }
    Ok(at as u8)
}

/// Frames before this one are durable: a mark, the superblock or a later segment says so (A1, K2).
fn known_durable(state: &State, end: usize, superblock: &Superblock) -> usize {
    let marks = state.disk.frames[..end].iter().filter_map(|cell| cell.cache).map(|frame| usize::from(frame.mark));
    let known = marks.max().unwrap_or(0).max(usize::from(superblock.checkpoint)).max(state.active() * SEGMENT_FRAMES);
    known.min(end)
}

/// Writes again what is not known to be durable (V1), and erases what stands behind the end (V2).
fn mend(state: &mut State, variant: Variant, version: u8, superblock: &Superblock) {
    let at = usize::from(version);
    if variant != Variant::NoRewrite {
        let from = known_durable(state, at, superblock);
        state.disk.frames[from..at].iter_mut().for_each(|cell| cell.dirty = true);
        state.disk.segments.iter_mut().filter(|cell| cell.cache).for_each(|cell| cell.dirty = true);
    }
    if !matches!(variant, Variant::NoErasing | Variant::NoChainNoErasing) {
        for cell in state.disk.frames[at..].iter_mut().filter(|cell| cell.cache.is_some()) {
            cell.write(None);
        }
    }
    state.appended = version;
    state.newest = *superblock;
    state.leaving_before = superblock.first_segment;
    state.history[at..].fill(0);
}

/// The end of the log is mended: the database is open, and what it shows is there to stay.
pub(super) fn finish(state: &mut State, variant: Variant) {
    if variant != Variant::NoRewrite {
        state.disk.frames.iter_mut().for_each(|cell| cell.sync());
        state.disk.segments.iter_mut().for_each(|cell| cell.sync());
    }
    if state.disk.sound_superblocks().len() < 2 {
        // Without a reserve the next damage would be the end.
        state.newest.generation += 1;
        let cell = &mut state.disk.superblocks[super::slot(&state.newest)];
        cell.write(Some(state.newest));
        cell.sync();
        state.proven = true;
    }
    state.phase = Phase::Open;
    state.session += 1;
    state.durable = state.appended;
    state.acknowledged = state.acknowledged.max(state.appended);
}
