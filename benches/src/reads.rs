//! Random reads by one thread, beside a hash map with the same keys and values if there is memory for one.
//!
//! Rounds alternate between the two. Keys are made before a round is timed, and both read the same ones.

use std::{path::Path, time::Instant};

use alloy_primitives::{Address, U256};
use hashbrown::HashMap;
use metisdb::{Key, Options, Snapshot, Value};
use serde::Serialize;

use crate::{Error, KeySpace, Plan, Progress, Result, Spread, keys::packed};

/// Keys in a call of `get_many`.
pub const BATCH: usize = 64;
/// Most reads in a round; there are no more than keys.
const MOST_READS: u64 = 1_000_000;
/// Every so many keys, the progress is told.
const STRIDE: u64 = 1 << 16;

/// The peer: everything in memory, no versions, no disk.
type Peer = HashMap<[u8; 52], [u8; 32], foldhash::fast::RandomState>;

/// One way of reading; [`Reads`] says what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    PresentIndependent,
    PresentFenced,
    AbsentIndependent,
    AbsentFenced,
    GetMany,
}

impl Mode {
    const COUNT: u64 = 5;

    fn is_absent(self) -> bool {
        matches!(self, Self::AbsentIndependent | Self::AbsentFenced)
    }
}

/// Nanoseconds a read in one mode.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Comparison {
    /// Of the database.
    pub metisdb: Spread,
    /// Of the hash map, where it was read.
    pub hash_map: Option<Spread>,
}

impl Comparison {
    /// How much longer MetisDB takes, by the medians.
    pub fn ratio(&self) -> Option<f64> {
        self.hash_map.map(|hash_map| self.metisdb.median / hash_map.median)
    }
}

/// What one database read like.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reads {
    /// Nanoseconds a read in the first round since the database was opened, independent: records are verified, and the log's
    /// pages mapped, at their first touch.
    pub first_round: f64,
    /// Present keys, a plain loop: the processor overlaps neighbouring reads.
    pub present_independent: Comparison,
    /// Present keys, each read fenced off: the next key depends on the value read.
    pub present_fenced: Comparison,
    /// Absent keys, a plain loop.
    pub absent_independent: Comparison,
    /// Absent keys, each read fenced off.
    pub absent_fenced: Comparison,
    /// Present keys in batches of 64; the hash map reads them in a plain loop.
    pub get_many: Comparison,
}

/// The keys of one round, in the form that each reader takes.
struct Round {
    plain: Vec<(Address, U256)>,
    packed: Vec<[u8; 52]>,
    many: Vec<Key>,
    /// What reading them gives.
    sum: Sum,
}

impl Round {
    fn draw(space: &KeySpace, stream: u64, mode: Mode) -> Self {
        let reads = space.keys.min(MOST_READS);
        let first = if mode.is_absent() { space.keys } else { 0 };
        let numbers = (0..reads).map(|turn| first + space.draw(stream, turn));
        let mut sum = Sum::default();
        for number in numbers.clone().filter(|number| *number < space.keys) {
            sum.add(space.value(number, 0).into_limbs());
        }
        let plain: Vec<_> = numbers.map(|number| space.key(number)).collect();
        let many = match mode {
            Mode::GetMany => plain.iter().map(|(address, slot)| Key::Storage(*address, *slot)).collect(),
            _ => Vec::new(),
        };
        Self { packed: plain.iter().map(packed).collect(), many, plain, sum }
    }

    /// The nanoseconds of a pass that gave what it must.
    fn expect(&self, reader: &str, (nanoseconds, sum): (f64, Sum)) -> Result<f64> {
        if sum == self.sum {
            Ok(nanoseconds)
        } else {
            Err(Error::Wrong(format!("{reader} read {sum:?}, not {:?}", self.sum)))
        }
    }
}

/// What a pass over a round's keys gives.
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

/// Without and with every read verified.
pub(crate) fn measure(
    path: &Path,
    space: &KeySpace,
    plan: Plan,
    progress: &mut dyn Progress,
) -> Result<(Reads, Reads)> {
    let peer = plan.hash_map.then(|| build_peer(space, progress)).transpose()?;
    let mut measure = |verify: bool| -> Result<Reads> {
        let db = Options::new().verify_every_read(verify).open(path)?;
        let reads = read_in_all_modes(&db.snapshot()?, space, peer.as_ref(), plan.rounds, progress)?;
        db.close()?;
        Ok(reads)
    };
    Ok((measure(false)?, measure(true)?))
}

/// The hash map with all keys of the space.
fn build_peer(space: &KeySpace, progress: &mut dyn Progress) -> Result<Peer> {
    progress.begin("fills the hash map", space.keys);
    let mut peer = Peer::with_capacity_and_hasher(space.keys as usize, foldhash::fast::RandomState::default());
    for number in 0..space.keys {
        peer.insert(packed(&space.key(number)), space.value(number, 0).to_le_bytes());
        if number % STRIDE == 0 {
            progress.advance(number)?;
        }
    }
    Ok(peer)
}

fn read_in_all_modes(
    snapshot: &Snapshot,
    space: &KeySpace,
    peer: Option<&Peer>,
    rounds: u64,
    progress: &mut dyn Progress,
) -> Result<Reads> {
    let first = Round::draw(space, 0, Mode::PresentIndependent);
    let first_round = first.expect("the database", read_database(snapshot, &first, Mode::PresentIndependent)?)?;
    touch_all(snapshot, space, progress)?;
    progress.begin("reads", Mode::COUNT * rounds);
    let mut done = 0;
    let mut compare = |mode| -> Result<Comparison> {
        let (mut metisdb, mut hash_map) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let keys = Round::draw(space, round, mode);
            metisdb.push(keys.expect("the database", read_database(snapshot, &keys, mode)?)?);
            if let Some(peer) = peer {
                hash_map.push(keys.expect("the hash map", read_peer(peer, &keys, mode)?)?);
            }
            done += 1;
            progress.advance(done)?;
        }
        Ok(Comparison { metisdb: Spread::of(metisdb), hash_map: peer.map(|_| Spread::of(hash_map)) })
    };
    Ok(Reads {
        first_round,
        present_independent: compare(Mode::PresentIndependent)?,
        present_fenced: compare(Mode::PresentFenced)?,
        absent_independent: compare(Mode::AbsentIndependent)?,
        absent_fenced: compare(Mode::AbsentFenced)?,
        get_many: compare(Mode::GetMany)?,
    })
}

/// Reads every key, so that the rounds to come touch no record for the first time.
fn touch_all(snapshot: &Snapshot, space: &KeySpace, progress: &mut dyn Progress) -> Result<()> {
    progress.begin("reads every key", space.keys);
    for number in 0..space.keys {
        let (address, slot) = space.key(number);
        if snapshot.storage(&address, slot)? != space.value(number, 0) {
            return Err(Error::Wrong(format!("key {number} has another value than was loaded")));
        }
        if number % STRIDE == 0 {
            progress.advance(number)?;
        }
    }
    Ok(())
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
