//! Forged proofs: whatever is made of an honest one, none is believed that says what is not so.
//!
//! | file | what lives there |
//! |---|---|
//! | `trie` | a trie with all its nodes, by `alloy-trie` and by a naive one; claims and their proofs |
//! | `forge` | changes to a proof, most of which get past the hashes |
//! | `reading` | what nodes say under a root that no trie may have |
//! | `bytes` | every cut and every byte of proofs as users meet them |

mod bytes;
mod forge;
mod reading;
mod trie;

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use alloy_primitives::B256;
use alloy_trie::{Nibbles, proof::verify_proof};
use metisdb::proof::ProofError;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::{
    reading::Reading,
    trie::{Claim, Proof, Refusal, Trie, near_some},
};
use crate::random::Random;

/// Proofs of each trie.
const PROOFS: u64 = 6;
/// Forgeries of each of them.
const FORGERIES: u64 = 24;

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seed of the first trie.
    pub first_seed: u64,
    /// Forgeries after which to stop.
    pub forgeries: u64,
    /// Of so many proofs every byte is cut and changed: one for each of the first seeds.
    pub exhausted: u64,
    /// When to stop.
    pub deadline: Option<Instant>,
    /// Threads, each with seeds of its own.
    pub threads: usize,
}

/// Figures of a run, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Proofs that were forged: of one path, of many, of ranges.
    pub proofs: u64,
    /// Forgeries judged.
    pub forgeries: u64,
    /// Those under the root of an honest trie.
    pub under_honest_roots: u64,
    /// Those that turned out to be the honest proof of something that is so.
    pub honest: u64,
    /// Those that were believed under a root that was forged with them; other readers read the same.
    pub believed: u64,
    /// Those that only others would believe, by the reason for which they are refused.
    pub stricter: BTreeMap<String, u64>,
    /// Those that were refused, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// Proofs of which every byte was tried.
    pub exhausted: u64,
    /// Cuts of these.
    pub cuts: u64,
    /// Changed bytes of these.
    pub changes: u64,
}

impl Tally {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.proofs, other.proofs),
            (&mut self.forgeries, other.forgeries),
            (&mut self.under_honest_roots, other.under_honest_roots),
            (&mut self.honest, other.honest),
            (&mut self.believed, other.believed),
            (&mut self.exhausted, other.exhausted),
            (&mut self.cuts, other.cuts),
            (&mut self.changes, other.changes),
        ] {
            *own += other;
        }
        for (own, other) in [(&mut self.stricter, &other.stricter), (&mut self.refused, &other.refused)] {
            for (reason, count) in other {
                *own.entry(reason.clone()).or_default() += count;
            }
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was judged.
    pub tally: Tally,
    /// The first seed that no trie was made of.
    pub next_seed: u64,
    /// The seed of what was wrongly believed or refused, and what it was.
    pub failure: Option<(u64, String)>,
}

/// Forges proofs of one trie after the other, until there are enough or one is judged wrongly.
pub fn forge(limits: &Limits) -> Report {
    let (tally, failure) = (Mutex::new(Tally::default()), Mutex::new(None));
    let (next_seed, done) = (AtomicU64::new(limits.first_seed), AtomicBool::new(false));
    let work = || {
        while !done.load(Ordering::Relaxed) {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            let mut own = Tally::default();
            let exhausts = seed - limits.first_seed < limits.exhausted;
            let judged = panic::catch_unwind(AssertUnwindSafe(|| replay(seed, exhausts, &mut own)));
            if let Err(wrong) = judged.unwrap_or_else(|_| Err("a panic, told above".to_owned())) {
                failure.lock().get_or_insert((seed, wrong));
                done.store(true, Ordering::Relaxed);
            }
            let mut all = tally.lock();
            all.add(&own);
            let is_over = limits.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || (all.forgeries >= limits.forgeries && all.exhausted >= limits.exhausted) {
                done.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| (0..limits.threads).for_each(|_| drop(scope.spawn(work))));
    Report { tally: tally.into_inner(), next_seed: next_seed.into_inner(), failure: failure.into_inner() }
}

/// Forges the proofs of one seed, and tries every byte of another proof if `exhausts`.
///
/// # Errors
/// What was wrongly believed or refused.
pub fn replay(seed: u64, exhausts: bool, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random::new(seed);
    let trie = Trie::random(&mut random);
    let proofs: Vec<Proof> = (0..PROOFS).map(|_| some_proof(&trie, &mut random)).collect();
    let other = Trie::random(&mut random);
    let stranger = some_proof(&other, &mut random);
    for proof in &proofs {
        // No forgery: judged, and not counted as one.
        judge(proof, &trie, &mut Tally::default())?;
        tally.proofs += 1;
        for _ in 0..FORGERIES {
            let mut forged = proof.clone();
            let index = random.below(PROOFS + 1) as usize;
            forge::forge(&mut forged, proofs.get(index).unwrap_or(&stranger), &trie.entries, &mut random);
            judge(&forged, &trie, tally)?;
            tally.forgeries += 1;
        }
    }
    if exhausts {
        let bytes::Done { cuts, changes } = bytes::exhaust(seed)?;
        (tally.exhausted, tally.cuts, tally.changes) =
            (tally.exhausted + 1, tally.cuts + cuts, tally.changes + changes);
    }
    Ok(())
}

/// The honest proof of a path, of some, or of a range.
fn some_proof(trie: &Trie, random: &mut Random) -> Proof {
    let mut some = || if random.one_in(8) { B256::from(random.wide()) } else { near_some(&trie.entries, random) };
    let (one, other) = (some(), some());
    match random.below(3) {
        0 => trie.prove_paths(vec![one]),
        1 => {
            let count = 1 + random.below(6);
            let paths = (0..count).map(|_| near_some(&trie.entries, random)).chain([one, other]).collect();
            trie.prove_paths(paths)
        }
        _ => trie.prove_range(one.min(other), one.max(other)),
    }
}

/// Compares the verdict with those of others.
fn judge(proof: &Proof, trie: &Trie, tally: &mut Tally) -> Result<(), String> {
    let verdict = proof.verify();
    let wrong = |what: &str| Err(format!("{what}; the verdict is {verdict:?}: {proof:?}"));
    let is_honest = trie.is_honest(proof);
    let has_honest_root = proof.root == trie.root;
    tally.under_honest_roots += u64::from(has_honest_root);
    if has_honest_root && verdict.is_ok() != is_honest {
        return wrong(if is_honest { "an honest proof is refused" } else { "a forgery is believed" });
    }
    let reading = Reading::of(proof);
    let is_read = reading.as_ref().is_some_and(|reading| reading.says(&proof.claim));
    let refusal = match &verdict {
        Err(refusal) => refusal,
        Ok(()) if !is_read => return wrong("a naive reader does not read that"),
        Ok(()) => {
            *(if is_honest { &mut tally.honest } else { &mut tally.believed }) += 1;
            return match reading.is_some_and(|reading| agrees(proof, &reading)) {
                true => Ok(()),
                false => wrong("alloy-trie refuses it"),
            };
        }
    };
    let reason = reason(refusal);
    if is_read {
        // Only of how it is told: what is so is not said otherwise under the root of an honest trie.
        if has_honest_root && !is_so(&proof.claim, trie) {
            return wrong("a naive reader reads what is not so");
        }
        *tally.stricter.entry(reason.clone()).or_default() += 1;
    }
    *tally.refused.entry(reason).or_default() += 1;
    Ok(())
}

/// Whether a trie holds what is claimed.
fn is_so(claim: &Claim, trie: &Trie) -> bool {
    match claim {
        Claim::Paths(claimed) => claimed.iter().all(|(path, value)| trie.entries.get(path) == value.as_ref()),
        Claim::Range { from, to, entries } => {
            from <= to && trie.entries.range(*from..=*to).eq(entries.iter().map(|(path, value)| (path, value)))
        }
    }
}

/// Whether `alloy-trie`, which knows proofs of one path only, believes what is claimed of each.
fn agrees(proof: &Proof, reading: &Reading<'_>) -> bool {
    match &proof.claim {
        Claim::Paths(claimed) => claimed.iter().all(|(path, value)| {
            let nodes = reading.on_path(path);
            verify_proof(proof.root, Nibbles::unpack(path), value.clone(), &nodes).is_ok()
        }),
        Claim::Range { .. } => true,
    }
}

/// The name of what is wrong, without where.
fn reason(refusal: &Refusal) -> String {
    let text = match refusal {
        Refusal::Proof(ProofError::Node { source, .. }) => format!("{source:?}"),
        Refusal::Proof(error) => format!("{error:?}"),
        Refusal::Value => format!("{refusal:?}"),
    };
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
