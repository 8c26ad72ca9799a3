//! What blocks change.

use metisdb::Changes;

use crate::KeySpace;

/// New values for so many keys drawn at random, a part of the loaded ones. Each stream draws others.
///
/// # Panics
/// If there are not so many.
pub fn updates(space: &KeySpace, stream: u64, count: u64) -> Changes {
    assert!(count <= space.keys, "{count} of {} keys cannot be updated", space.keys);
    let mut changes = Changes::new();
    let mut turns = 0..;
    while (changes.len() as u64) < count {
        let number = space.draw(stream, turns.next().expect("it has no end"));
        let (address, slot) = space.key(number);
        changes.set_storage(address, slot, space.value(number, stream));
    }
    changes
}
