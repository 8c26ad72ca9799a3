//! The pool against a model: a cell is nobody else's for as long as it is in use, and keeps what is written to it.

use std::{collections::BTreeMap, thread};
#[cfg(all(unix, not(miri)))]
use std::{
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::tests::Random;

/// A cell in use: its length, and what its bytes are.
struct Used {
    cell: NonNull<u8>,
    bytes: usize,
    mark: u8,
}

// SAFETY: a cell is its holder's alone, whichever thread that is.
unsafe impl Send for Used {}

impl Used {
    fn take(random: &mut Random, most: u64) -> Self {
        let bytes = 1 + random.below(most) as usize;
        let (cell, mark) = (take(bytes), random.next() as u8);
        assert_eq!(cell.addr().get() % UNIT_BYTES, 0);
        // SAFETY: the cell has so many bytes.
        unsafe { cell.write_bytes(mark, bytes) };
        Self { cell, bytes, mark }
    }

    fn give_back(self) {
        // SAFETY: they were written in `take`.
        let bytes = unsafe { std::slice::from_raw_parts(self.cell.as_ptr(), self.bytes) };
        assert!(bytes.iter().all(|byte| *byte == self.mark), "someone else wrote here");
        // SAFETY: it was taken, and `self` was its only holder.
        unsafe { give_back(self.cell) };
    }
}

#[test]
fn cells_in_use_do_not_overlap() {
    for seed in 0..if cfg!(miri) { 1 } else { 20 } {
        let mut random = Random(seed);
        let mut used: BTreeMap<usize, Used> = BTreeMap::new();
        for step in 0..if cfg!(miri) { 400 } else { 20_000 } {
            // Filled, then emptied, again and again: blocks and regions come and go.
            if random.one_in(if step / 4_000 % 2 == 0 { 3 } else { 1 }) || used.len() > 6_000 {
                let number = random.below(used.len().max(1) as u64) as usize;
                let address = used.keys().nth(number).copied();
                used.remove(&address.unwrap_or_default()).into_iter().for_each(Used::give_back);
            } else {
                let new = Used::take(&mut random, MOST_BYTES as u64);
                let (start, end) = (new.cell.addr().get(), new.cell.addr().get() + new.bytes);
                let before = used.range(..end).next_back().map(|(start, used)| start + used.bytes);
                assert!(before.is_none_or(|before| before <= start), "seed {seed}, step {step}");
                used.insert(start, new);
            }
        }
        used.into_values().for_each(Used::give_back);
    }
}

/// Cells that one thread takes are given back by others, as branches are. The length of a block's cells, which is read without a lock, was part of
/// what the holder of the lock borrowed: Stacked Borrows forbids it, under which `.ci/miri` runs this, too.
#[test]
fn threads_give_back_what_others_took() {
    let shared: Mutex<Vec<Used>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for seed in 0..3 {
            let shared = &shared;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..if cfg!(miri) { 40 } else { 30_000 } {
                    // Few sizes, so that the threads meet in the same blocks.
                    let own = Used::take(&mut random, 3 * UNIT_BYTES as u64);
                    let mut shared = shared.lock().unwrap();
                    shared.push(own);
                    let number = random.below(shared.len() as u64) as usize;
                    let other = random.one_in(2).then(|| shared.swap_remove(number));
                    drop(shared);
                    other.into_iter().for_each(Used::give_back);
                }
            });
        }
    });
    shared.into_inner().unwrap().into_iter().for_each(Used::give_back);
}

/// A region went back only when another one became free, one for each: of the most that were ever in use, half stayed for ever.
#[test]
fn regions_that_nobody_uses_go_back() {
    let cells = (if cfg!(miri) { 8 } else { 16 }) * REGION_BYTES / MOST_BYTES;
    let taken: Vec<NonNull<u8>> = (0..cells).map(|_| take(MOST_BYTES)).collect();
    // SAFETY: they were taken, and nobody has written to them.
    taken.into_iter().for_each(|cell| unsafe { give_back(cell) });
    // Other tests have regions, too; this holds for all of them together.
    let regions = lock(&REGIONS);
    let free = regions.iter().filter(|region| region.free == ALL_FREE).count();
    assert!(free <= regions.len() - free + 1, "{free} of {} are free", regions.len());
}

/// The pool's locks are the process's: a child of `fork` had those that other threads held at that moment, and waited for ever when it dropped a handle.
#[cfg(all(unix, not(miri)))]
#[test]
fn a_forked_child_frees_beside_threads_that_were_at_it() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let (mut random, stop) = (Random(seed), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    Used::take(&mut random, UNIT_BYTES as u64).give_back();
                }
            });
        }
        let statuses: Vec<_> =
            (0..100).map(|seed| in_child(Used::take(&mut Random(seed), UNIT_BYTES as u64))).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(statuses.iter().all(|success| *success), "{statuses:?}");
    });
}

/// Gives a cell back in a child, which has some seconds for that. The one of this process stays.
#[cfg(all(unix, not(miri)))]
fn in_child(used: Used) -> bool {
    let mut inherited = Mutex::new(Some(used));
    let give_back = move || {
        // SAFETY: it only sets a time.
        unsafe { libc::alarm(5) };
        let used = inherited.get_mut().ok().and_then(Option::take);
        used.ok_or(io::ErrorKind::NotFound)?.give_back();
        Ok(())
    };
    let mut child = Command::new("true");
    // SAFETY: the closure runs between `fork` and `exec`. It waits for no lock but the pool's, and does not allocate.
    unsafe { child.pre_exec(give_back) };
    child.status().unwrap().success()
}
