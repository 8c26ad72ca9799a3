//! Buffers of children that are on their way, used again on the same thread: an update fills and empties tens of thousands of them, more at a time
//! than an allocator keeps at hand.

use std::cell::RefCell;

use super::{Branch, Entry};

type Buffers = (Vec<Entry>, Vec<Branch>);

/// Pairs that a thread keeps: as many as branches of storage tries are hashed at once.
const KEPT: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

/// Two empty buffers.
pub(super) fn take() -> Buffers {
    SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Takes buffers back, and drops what is in them.
pub(super) fn give_back(mut entries: Vec<Entry>, mut branches: Vec<Branch>) {
    if entries.capacity() == 0 {
        return;
    }
    entries.clear();
    branches.clear();
    // A thread that is past its end keeps nothing.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push((entries, branches));
        }
    });
}
