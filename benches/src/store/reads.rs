//! Random reads by one thread, beside a hash map with the same keys and values.
//!
//! Rounds alternate between the two. Keys are made before a round is timed, and both read the same ones.

use std::{path::Path, time::Instant};

use alloy_primitives::{Address, U256};
use hashbrown::HashMap;
use metisdb::{Key, Options, Snapshot, Value};
use serde::Serialize;

use super::keys::{KeySpace, packed};
use crate::{Result, progress, summary::Spread};

/// Keys in a call of `get_many`.
const BATCH: usize = 64;

/// The peer: everything in memory, no versions, no disk.
type Peer = HashMap<[u8; 52], [u8; 32], foldhash::fast::RandomState>;

/// How often and how much is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) reads: u64,
}

/// One way of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Present keys, a plain loop: the processor overlaps neighbouring reads.
    PresentIndependent,
    /// Present keys, each read fenced off: the next key depends on the value read.
    PresentFenced,
    /// Absent keys, a plain loop.
    AbsentIndependent,
    /// Absent keys, each read fenced off.
    AbsentFenced,
    /// Present keys in batches; the hash map reads them in a plain loop.
    GetMany,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::PresentIndependent, Self::PresentFenced, Self::AbsentIndependent, Self::AbsentFenced, Self::GetMany];

    fn is_absent(self) -> bool {
        matches!(self, Self::AbsentIndependent | Self::AbsentFenced)
    }
}

/// Nanoseconds a read in one mode.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) mode: Mode,
    pub(crate) metisdb: Spread,
    pub(crate) hash_map: Spread,
}

impl Comparison {
    /// How much longer MetisDB takes, by the medians.
    pub(crate) fn ratio(&self) -> f64 {
        self.metisdb.median / self.hash_map.median
    }
}

/// What one database read like.
#[derive(Debug, Serialize)]
pub(crate) struct Reads {
    pub(crate) keys: u64,
    pub(crate) verify_every_read: bool,
    /// Nanoseconds a read in the first round since the database was opened, independent: records are verified, and the log's
    /// pages mapped, at their first touch.
    pub(crate) first_round: f64,
    pub(crate) comparisons: Vec<Comparison>,
}

/// The keys of one round, in the form that each reader takes.
struct Round {
    plain: Vec<(Address, U256)>,
    packed: Vec<[u8; 52]>,
    many: Vec<Key>,
}

impl Round {
    fn draw(space: &KeySpace, stream: u64, reads: u64, mode: Mode) -> Self {
        let first = if mode.is_absent() { space.keys } else { 0 };
        let plain: Vec<_> = (0..reads).map(|turn| space.key(first + space.draw(stream, turn))).collect();
        let many = match mode {
            Mode::GetMany => plain.iter().map(|(address, slot)| Key::Storage(*address, *slot)).collect(),
            _ => Vec::new(),
        };
        Self { packed: plain.iter().map(packed).collect(), many, plain }
    }
}

/// What a pass over a round's keys gave: the same for both readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    words: [u64; 4],
    found: u64,
}

impl Sum {
    /// Adds a value and says whether there was one: all that are stored have their highest bit set.
    fn add(&mut self, words: [u64; 4]) -> usize {
        for (sum, word) in self.words.iter_mut().zip(words) {
            *sum ^= word;
        }
        self.found += words[3] >> 63;
        (words[3] >> 63) as usize
    }
}

/// The hash map with all keys of the space.
pub(crate) fn build_peer(space: &KeySpace) -> Peer {
    let mut peer = Peer::with_capacity_and_hasher(space.keys as usize, foldhash::fast::RandomState::default());
    for number in 0..space.keys {
        peer.insert(packed(&space.key(number)), space.value(number, 0).to_le_bytes());
    }
    peer
}

/// Opens the database and reads in all modes.
pub(crate) fn measure(path: &Path, space: &KeySpace, peer: &Peer, plan: Plan, verify: bool) -> Result<Reads> {
    let db = Options::new().verify_every_read(verify).open(path)?;
    let snapshot = db.snapshot()?;
    progress(&format!("reads: {} keys, verify every read: {verify}, first round", space.keys));
    let first = Round::draw(space, 0, plan.reads, Mode::PresentIndependent);
    let (first_round, sum) = read_database(&snapshot, &first, Mode::PresentIndependent)?;
    expect_equal(sum, read_peer(peer, &first, Mode::PresentIndependent)?.1)?;
    touch_all(&snapshot, space)?;
    let mut comparisons = Vec::new();
    for mode in Mode::ALL {
        progress(&format!("reads: {} keys, verify every read: {verify}, {mode:?}", space.keys));
        comparisons.push(compare(&snapshot, space, peer, plan, mode)?);
    }
    drop(snapshot);
    db.close()?;
    Ok(Reads { keys: space.keys, verify_every_read: verify, first_round, comparisons })
}

/// Reads every key, so that the rounds to come touch no record for the first time.
fn touch_all(snapshot: &Snapshot, space: &KeySpace) -> Result<()> {
    for number in 0..space.keys {
        let (address, slot) = space.key(number);
        if snapshot.storage(&address, slot)? != space.value(number, 0) {
            return Err(format!("key {number} has another value than was loaded").into());
        }
    }
    Ok(())
}

fn compare(snapshot: &Snapshot, space: &KeySpace, peer: &Peer, plan: Plan, mode: Mode) -> Result<Comparison> {
    let (mut metisdb, mut hash_map) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        let keys = Round::draw(space, round, plan.reads, mode);
        let (nanoseconds, sum) = read_database(snapshot, &keys, mode)?;
        let (peer_nanoseconds, peer_sum) = read_peer(peer, &keys, mode)?;
        expect_equal(sum, peer_sum)?;
        metisdb.push(nanoseconds);
        hash_map.push(peer_nanoseconds);
    }
    Ok(Comparison { mode, metisdb: Spread::of(metisdb), hash_map: Spread::of(hash_map) })
}

fn expect_equal(database: Sum, peer: Sum) -> Result<()> {
    if database == peer { Ok(()) } else { Err(format!("read {database:?}, the hash map {peer:?}").into()) }
}

fn read_database(snapshot: &Snapshot, round: &Round, mode: Mode) -> Result<(f64, Sum)> {
    let one = |key: &(Address, U256)| snapshot.storage(&key.0, key.1).map(U256::into_limbs);
    match mode {
        Mode::PresentIndependent | Mode::AbsentIndependent => independent(&round.plain, one),
        Mode::PresentFenced => fenced::<_, _, true>(&round.plain, one),
        Mode::AbsentFenced => fenced::<_, _, false>(&round.plain, one),
        Mode::GetMany => batched(snapshot, &round.many),
    }
}

fn read_peer(peer: &Peer, round: &Round, mode: Mode) -> Result<(f64, Sum)> {
    let one = |key: &[u8; 52]| {
        let value = peer.get(key).map_or(U256::ZERO, |bytes| U256::from_le_bytes(*bytes));
        Ok::<_, metisdb::Error>(value.into_limbs())
    };
    match mode {
        Mode::PresentIndependent | Mode::AbsentIndependent | Mode::GetMany => independent(&round.packed, one),
        Mode::PresentFenced => fenced::<_, _, true>(&round.packed, one),
        Mode::AbsentFenced => fenced::<_, _, false>(&round.packed, one),
    }
}

fn independent<K, R>(keys: &[K], read: R) -> Result<(f64, Sum)>
where
    R: Fn(&K) -> metisdb::Result<[u64; 4]>,
{
    let started = Instant::now();
    let mut sum = Sum::default();
    for key in keys {
        sum.add(read(key)?);
    }
    Ok((nanoseconds_each(started, keys.len()), sum))
}

/// Which key is next depends on what was read: one further, or two where the answer was wrong.
fn fenced<K, R, const PRESENT: bool>(keys: &[K], read: R) -> Result<(f64, Sum)>
where
    R: Fn(&K) -> metisdb::Result<[u64; 4]>,
{
    let started = Instant::now();
    let mut sum = Sum::default();
    let mut next = 0;
    while let Some(key) = keys.get(next) {
        let found = sum.add(read(key)?);
        fence();
        next += 1 + (found ^ usize::from(PRESENT));
    }
    Ok((nanoseconds_each(started, keys.len()), sum))
}

fn batched(snapshot: &Snapshot, keys: &[Key]) -> Result<(f64, Sum)> {
    let started = Instant::now();
    let mut sum = Sum::default();
    for batch in keys.chunks(BATCH) {
        for value in snapshot.get_many(batch)? {
            if let Value::Storage(value) = value {
                sum.add(value.into_limbs());
            }
        }
    }
    Ok((nanoseconds_each(started, keys.len()), sum))
}

fn nanoseconds_each(started: Instant, reads: usize) -> f64 {
    started.elapsed().as_nanos() as f64 / reads as f64
}

/// Lets nothing behind it begin before all in front of it has ended.
#[inline(always)]
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64 processor and touches no memory.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}
