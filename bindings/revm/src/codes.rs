//! Analysed code, kept by hash.
//!
//! A generation is a table whose slots are set once and never change, so reading one takes no lock. Whoever begins to read
//! takes the newest two generations along; if the younger one is full by then, it becomes the elder, and an empty one takes
//! its place. Code that is asked for again moves to the younger, what nobody asks for is forgotten with the elder.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::B256;

/// Bytes of code that a cache keeps unless told otherwise.
const DEFAULT_BYTES: usize = 64 << 20;
/// Room of a generation, in codes; a power of two.
const SLOTS: usize = 1 << 12;
/// In how many slots a code may stand.
const CHOICES: usize = 8;

/// Analysed code by its hash: bounded, and shared by its clones.
///
/// revm analyses code before it runs; who gives one cache to all executors on a database has that done once. Reading takes no lock.
pub struct CodeCache<C> {
    newest: Arc<Mutex<CodeView<C>>>,
}

/// What a reader sees of a cache.
pub(crate) struct CodeView<C> {
    young: Arc<Generation<C>>,
    old: Arc<Generation<C>>,
}

struct Kept<C> {
    hash: B256,
    code: C,
    bytes: usize,
}

struct Generation<C> {
    slots: Box<[OnceLock<Kept<C>>]>,
    max_bytes: usize,
    bytes: AtomicUsize,
    count: AtomicUsize,
}

impl<C> Clone for CodeCache<C> {
    fn clone(&self) -> Self {
        Self { newest: self.newest.clone() }
    }
}

impl<C> Clone for CodeView<C> {
    fn clone(&self) -> Self {
        Self { young: self.young.clone(), old: self.old.clone() }
    }
}

impl<C> fmt::Debug for CodeCache<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache").finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for CodeView<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeView").field("young", &self.young.count).field("old", &self.old.count).finish()
    }
}

impl<C> Default for CodeCache<C> {
    /// A cache of 64 MiB.
    fn default() -> Self {
        Self::with_max_bytes(DEFAULT_BYTES)
    }
}

impl<C> CodeCache<C> {
    /// A cache that keeps at most so many bytes of code, and at most 8,192 codes. Code longer than half of it is not kept.
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        let generation = || Arc::new(Generation::new(max_bytes / 2));
        Self { newest: Arc::new(Mutex::new(CodeView { young: generation(), old: generation() })) }
    }

    /// What to read from now on. The only place that locks.
    pub(crate) fn view(&self) -> CodeView<C> {
        // Generations are exchanged by moves, which do not panic: a poisoned view is whole.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.young.is_full() {
            let empty = Arc::new(Generation::new(newest.young.max_bytes));
            newest.old = std::mem::replace(&mut newest.young, empty);
        }
        newest.clone()
    }
}

impl<C: Clone> CodeView<C> {
    pub(crate) fn get(&self, hash: &B256) -> Option<C> {
        if let Some(kept) = self.young.get(hash) {
            return Some(kept.code.clone());
        }
        let kept = self.old.get(hash)?;
        self.insert(*hash, kept.code.clone(), kept.bytes);
        Some(kept.code.clone())
    }

    /// Keeps the code if there is room.
    pub(crate) fn insert(&self, hash: B256, code: C, bytes: usize) {
        self.young.insert(Kept { hash, code, bytes });
    }
}

impl<C> Generation<C> {
    fn new(max_bytes: usize) -> Self {
        let slots = std::iter::repeat_with(OnceLock::new).take(SLOTS).collect();
        Self { slots, max_bytes, bytes: AtomicUsize::new(0), count: AtomicUsize::new(0) }
    }

    /// The slots where the code of a hash may stand. A hash is as good as random, so its first bytes choose.
    fn choices(&self, hash: &B256) -> impl Iterator<Item = &OnceLock<Kept<C>>> {
        let first = usize::from(u16::from_le_bytes([hash[0], hash[1]]));
        (first..first + CHOICES).map(|choice| &self.slots[choice % SLOTS])
    }

    fn get(&self, hash: &B256) -> Option<&Kept<C>> {
        // A slot is filled only after those before it: an empty one ends the search.
        self.choices(hash).map_while(OnceLock::get).find(|kept| kept.hash == *hash)
    }

    fn insert(&self, mut kept: Kept<C>) {
        let (hash, bytes) = (kept.hash, kept.bytes);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max_bytes {
            for slot in self.choices(&hash) {
                match slot.set(kept) {
                    Ok(()) => {
                        self.count.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    Err(back) => kept = back,
                }
                if slot.get().is_some_and(|kept| kept.hash == hash) {
                    break;
                }
            }
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a younger generation should begin: with half of the slots taken few codes lack one.
    fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= SLOTS / 2 || self.bytes.load(Ordering::Relaxed) >= self.max_bytes / 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;

    use super::*;

    fn hash(number: usize) -> B256 {
        keccak256(number.to_le_bytes())
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let cache = CodeCache::with_max_bytes(2_000);
        cache.view().insert(hash(0), 0, 10);
        for number in 1..1_000 {
            let view = cache.view();
            view.insert(hash(number), number, 10);
            assert_eq!(view.get(&hash(number)), Some(number));
            assert_eq!(view.get(&hash(0)), Some(0), "asked for all the time");
        }
        let view = cache.view();
        let kept = (0..1_000).filter(|number| view.get(&hash(*number)).is_some()).count();
        assert!((75..=200).contains(&kept), "{kept} codes of 10 bytes are kept in 2,000");
        assert_eq!(view.get(&hash(1)), None);
        view.insert(hash(1_000), 1_000, 1_001);
        assert_eq!(view.get(&hash(1_000)), None, "too long for a generation");
    }

    #[test]
    fn hashes_with_one_beginning_share_the_slots() {
        let cache = CodeCache::default();
        let view = cache.view();
        let alike: Vec<_> = (0..20_u8)
            .map(|last| {
                let mut hash = B256::repeat_byte(0xff);
                hash[31] = last;
                hash
            })
            .collect();
        for hash in &alike {
            view.insert(*hash, hash[31], 1);
            view.insert(*hash, 99, 1);
        }
        for (number, hash) in alike.iter().enumerate() {
            assert_eq!(view.get(hash), (number < CHOICES).then_some(hash[31]));
        }
        assert_eq!(view.young.bytes.load(Ordering::Relaxed), CHOICES);
    }

    /// Threads that ask for so many codes and keep what they do not find.
    fn ask(cache: &CodeCache<usize>, count: usize) {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..count {
                        let view = cache.view();
                        match view.get(&hash(number)) {
                            Some(code) => assert_eq!(code, number),
                            None => view.insert(hash(number), number, 1),
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn threads_agree() {
        let cache = CodeCache::default();
        ask(&cache, SLOTS / 2 - 1);
        let view = cache.view();
        let kept = (0..SLOTS / 2 - 1).filter(|number| view.get(&hash(*number)) == Some(*number)).count();
        assert!(kept > SLOTS / 2 - SLOTS / 40, "of what fits in half a generation hardly any lacks a slot: {kept}");
        assert_eq!(view.young.count.load(Ordering::Relaxed), kept, "none is kept twice");
    }

    /// A slower thread may ask for what the faster ones made the cache forget: nobody is ever given another code.
    #[test]
    fn threads_agree_while_generations_go() {
        let cache = CodeCache::default();
        ask(&cache, 4 * SLOTS);
        let view = cache.view();
        assert!(view.young.count.load(Ordering::Relaxed) <= SLOTS && view.old.count.load(Ordering::Relaxed) <= SLOTS);
    }
}
