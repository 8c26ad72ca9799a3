//! Pins: which versions someone reads.
//!
//! A snapshot registers the version that it reads in a slot of its own; the writer reclaims nothing that a registered
//! version, or one at or above the horizon, can still reach. Choosing a version and registering it are one protocol:
//!
//! * the reader stores its version in a slot, then loads the horizon, and gives up (and chooses anew) if its
//!   version lies below;
//! * the reclaimer stores the new horizon, then loads all slots.
//!
//! Invariant P1: a sequentially consistent fence stands between the two steps of each, so either the reader sees the new horizon or the reclaimer
//! sees the pin; never neither. Hence a record is reclaimed only if no snapshot, present or future, can reach it.
//!
//! Where open snapshots may hold back only so much, the oldest of them expire: the reclaimer stores the version below which all have, and a read
//! begins by counting itself in its pin's slot and looking at that version again. The same fence stands between these two
//! steps of each, so either the read sees that its snapshot has expired or the reclaimer sees the read, and waits for it (P2).
//!
//! A slot takes a cache line of its own: readers on different cores do not disturb each other.

#[cfg(all(test, loom))]
mod interleavings;

use crate::{
    probe,
    sync::{self, AtomicU64, AtomicUsize, OnceLock, Ordering, fence},
};

/// Slots in the first block; each further block is twice as long as the one before.
const FIRST_BLOCK: usize = sync::size(64, 1);
const BLOCKS: usize = sync::size(24, 2);
const FREE: u64 = 0;

/// One registered version.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Plus one, so that zero means free.
    version: AtomicU64,
    /// Reads under way, where they are counted.
    reading: AtomicU64,
}

impl Slot {
    /// The version, unless the slot is free.
    fn version(&self) -> Option<u64> {
        self.version.load(Ordering::SeqCst).checked_sub(1)
    }
}

/// The pin table with the range of readable versions.
#[derive(Debug)]
pub(crate) struct Pins {
    blocks: [OnceLock<Box<[Slot]>>; BLOCKS],
    /// Newest version that readers may see.
    head: AtomicU64,
    /// Oldest version that may still be pinned.
    horizon: AtomicU64,
    /// Everything superseded at or before this version may be gone.
    floor: AtomicU64,
    /// Pins below this version have expired.
    expired: AtomicU64,
    /// Where the next search for a free slot begins.
    hint: AtomicUsize,
}

/// A registered version; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) version: u64,
    block: usize,
    slot: usize,
}

/// A read that is counted; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Reading<'p>(&'p Slot);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::Release);
    }
}

/// The pin's version has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// A version outside the readable range, which goes from `oldest` to `newest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotRetained {
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
}

impl Pins {
    pub(crate) fn new(head: u64, horizon: u64) -> Self {
        Self {
            blocks: Default::default(),
            head: AtomicU64::new(head),
            horizon: AtomicU64::new(horizon),
            floor: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            hint: AtomicUsize::new(0),
        }
    }

    /// The newest published version.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The oldest version that may still be pinned.
    pub(crate) fn horizon(&self) -> u64 {
        self.horizon.load(Ordering::SeqCst)
    }

    /// Makes a version, and all that was written for it, visible to new snapshots.
    pub(crate) fn publish(&self, version: u64) {
        self.head.store(version, probe::order("publish-order", Ordering::Release));
    }

    /// Pins the newest version.
    pub(crate) fn pin_newest(&self) -> Pin {
        loop {
            let version = self.head();
            probe::pause("pin-chosen");
            if let Ok(pin) = self.register(version) {
                return pin;
            }
        }
    }

    /// Pins the newest version for as long as it takes: it never expires.
    pub(crate) fn pin_newest_for_good(&self) -> Pin {
        let pin = self.pin_newest();
        self.slot(&pin).reading.fetch_add(1, Ordering::SeqCst);
        pin
    }

    /// Pins a given version.
    pub(crate) fn pin(&self, version: u64) -> Result<Pin, NotRetained> {
        let newest = self.head();
        if version > newest {
            return Err(NotRetained { oldest: self.horizon(), newest });
        }
        probe::pause("pin-chosen");
        self.register(version).map_err(|oldest| NotRetained { oldest, newest })
    }

    /// Stores the version in a slot and re-checks the horizon (P1).
    fn register(&self, version: u64) -> Result<Pin, u64> {
        let (block, slot) = self.claim(version);
        let pin = Pin { version, block, slot };
        probe::pause("pin-registered");
        if !probe::skip("pin-fence") {
            fence(Ordering::SeqCst);
        }
        let horizon = self.horizon();
        if version < horizon && !probe::skip("pin-recheck") {
            self.release(&pin);
            return Err(horizon);
        }
        Ok(pin)
    }

    fn claim(&self, version: u64) -> (usize, usize) {
        let start = self.hint.fetch_add(1, Ordering::Relaxed);
        for block in 0..BLOCKS {
            let slots = self.blocks[block].get_or_init(|| (0..FIRST_BLOCK << block).map(|_| Slot::default()).collect());
            for step in 0..slots.len() {
                let slot = (start + step) % slots.len();
                let cell = &slots[slot].version;
                if cell.load(Ordering::Relaxed) == FREE
                    && cell.compare_exchange(FREE, version + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
                {
                    return (block, slot);
                }
            }
        }
        unreachable!("a billion snapshots are open at once")
    }

    /// Lets go of a pin.
    pub(crate) fn release(&self, pin: &Pin) {
        self.slot(pin).version.store(FREE, probe::order("release-order", Ordering::Release));
    }

    /// Lets go of a pin that was to stay for good.
    pub(crate) fn release_for_good(&self, pin: &Pin) {
        self.slot(pin).reading.fetch_sub(1, Ordering::Release);
        self.release(pin);
    }

    fn slot(&self, pin: &Pin) -> &Slot {
        &self.blocks[pin.block].get().expect("the slots of a pin are there")[pin.slot]
    }

    /// Counts a read of a pinned version, so that what it reads stays until it ends (P2).
    pub(crate) fn begin_read(&self, pin: &Pin) -> Result<Reading<'_>, Expired> {
        let slot = self.slot(pin);
        slot.reading.fetch_add(1, Ordering::SeqCst);
        let reading = Reading(slot);
        probe::pause("read-counted");
        fence(Ordering::SeqCst);
        if pin.version < self.expired.load(Ordering::SeqCst) && !probe::skip("read-recheck") {
            return Err(Expired);
        }
        Ok(reading)
    }

    /// All pins below a version expire, which is at or below the horizon. Returns the floor then, as [`Pins::raise_horizon`]
    /// does; reads that are under way still hold it.
    pub(crate) fn expire_before(&self, version: u64) -> u64 {
        debug_assert!(version <= self.horizon(), "P2: no pin comes to be below");
        self.expired.fetch_max(version, Ordering::SeqCst);
        probe::pause("expired");
        self.raise_horizon(version)
    }

    /// The version below which all pins have expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::SeqCst)
    }

    /// Raises the horizon and returns the version from which on everything must stay readable: what was
    /// superseded at or before it is out of everyone's reach (P1).
    pub(crate) fn raise_horizon(&self, horizon: u64) -> u64 {
        debug_assert!(horizon <= self.head(), "P1: the newest version stays readable");
        self.horizon.fetch_max(horizon, Ordering::SeqCst);
        probe::pause("horizon-raised");
        if !probe::skip("reclaim-fence") {
            fence(Ordering::SeqCst);
        }
        let floor = self.oldest_pinned().map_or(self.horizon(), |oldest| oldest.min(self.horizon()));
        let floor = if probe::skip("reclaim-off-by-one") { floor + 1 } else { floor };
        self.floor.fetch_max(floor, Ordering::SeqCst);
        floor
    }

    /// Everything superseded at or before this version may be gone; no pin lies below (P1).
    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    /// The oldest version that a snapshot reads.
    pub(crate) fn oldest_pinned(&self) -> Option<u64> {
        self.pinned().min()
    }

    /// All pinned versions, in no particular order; without those that have expired, unless they are just being read.
    pub(crate) fn pinned(&self) -> impl Iterator<Item = u64> {
        let expired = self.expired();
        let is_held = move |slot: &Slot, version| version >= expired || slot.reading.load(Ordering::SeqCst) > 0;
        self.slots().filter_map(move |slot| slot.version().filter(|version| is_held(slot, *version)))
    }

    /// The oldest version of a pin that has not expired.
    pub(crate) fn oldest_unexpired(&self) -> Option<u64> {
        let expired = self.expired();
        self.slots().filter_map(Slot::version).filter(|version| *version >= expired).min()
    }

    /// How many pins have expired and were not released yet.
    pub(crate) fn expired_count(&self) -> usize {
        let expired = self.expired();
        self.slots().filter_map(Slot::version).filter(|version| *version < expired).count()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.blocks.iter().filter_map(OnceLock::get).flat_map(|slots| slots.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_the_floor_until_it_is_released() {
        let pins = Pins::new(10, 5);
        let old = pins.pin(5).unwrap();
        let new = pins.pin_newest();
        assert_eq!((old.version, new.version), (5, 10));
        assert_eq!(pins.pin(4).unwrap_err(), NotRetained { oldest: 5, newest: 10 });
        assert_eq!(pins.pin(11).unwrap_err(), NotRetained { oldest: 5, newest: 10 });
        assert_eq!(pins.raise_horizon(8), 5);
        assert!(pins.pin(5).is_err(), "an old version can not be pinned anew");
        pins.release(&old);
        assert_eq!(pins.raise_horizon(8), 8);
        pins.release(&new);
        assert_eq!(pins.oldest_pinned(), None);
    }

    #[test]
    fn many_pins_take_further_blocks() {
        let pins = Pins::new(1, 0);
        let count = if cfg!(miri) { 70 } else { 1000 };
        let held: Vec<_> = (0..count).map(|_| pins.pin_newest()).collect();
        assert_eq!(pins.pinned().count(), count);
        for pin in &held {
            pins.release(pin);
        }
        assert_eq!(pins.pinned().count(), 0);
    }
}
