//! What the table gives out: bytes of segments that are there, and no others.
//!
//! What is given out is copied, so that bytes that are not there are met as a reader would meet them: without the step that a test names, a tool that
//! checks every access reports it (`.ci/miri`, `.ci/sanitizers`).

use std::thread;

use super::*;
use crate::storage::SimulatedDisk;

const IDENTITY: Identity = Identity { database_id: [1; 16], seed: [2; 32], segment_bytes: 1 << 16 };
/// The segment does not begin with the log, and has two slots.
const START: u64 = IDENTITY.segment_bytes;
const BORDER: u64 = 2 * IDENTITY.segment_bytes;
const END: u64 = 3 * IDENTITY.segment_bytes;
/// More than the simulated disk's memory has behind a file.
const FAR: usize = 2 << 12;

/// Adds a segment with a few bytes on either side of the border between its slots, and at its end.
fn insert(table: &SegmentTable, storage: &dyn Storage) {
    let file = storage.create(&file_name(1)).unwrap();
    file.set_length(END - START).unwrap();
    file.write_all_at(b"across", BORDER - 3 - START).unwrap();
    file.write_all_at(b"last", END - 4 - START).unwrap();
    let header = SegmentHeader::new(&IDENTITY, 1, 2, START, (0, 0));
    table.insert(Arc::new(Segment::map(file, &header).unwrap()));
}

/// A table of that segment.
fn table(storage: &dyn Storage) -> SegmentTable {
    let table = SegmentTable::new(IDENTITY.segment_bytes);
    insert(&table, storage);
    table
}

/// A copy of what the table gives out.
fn copy(table: &SegmentTable, position: u64, length: usize) -> Option<Vec<u8>> {
    // SAFETY: nobody writes, and the caller removes no segment meanwhile.
    unsafe { table.bytes(position, length) }.map(<[u8]>::to_vec)
}

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(1)
}

#[test]
fn bytes_on_both_sides_of_a_border_lie_side_by_side() {
    let table = table(&disk());
    assert_eq!(copy(&table, BORDER - 3, 6).unwrap(), b"across");
    assert_eq!(copy(&table, BORDER - 3, 3).unwrap(), b"acr");
    assert_eq!(copy(&table, END - 4, 4).unwrap(), b"last");
    assert_eq!(copy(&table, START, (END - START) as usize).unwrap().len(), 2 << 16);
    // SAFETY: as in `copy`.
    assert!(unsafe { table.start(BORDER - 3, 3) }.is_some());
    // SAFETY: as in `copy`.
    assert!(unsafe { table.start(BORDER - 3, 4) }.is_none(), "only within one slot");
}

#[test]
fn bytes_outside_of_a_segment_are_not_given_out() {
    let table = table(&disk());
    assert_eq!(copy(&table, END - 4, FAR), None, "mutant segment-end");
    assert_eq!(copy(&table, END, 1), None);
    assert_eq!(copy(&table, START - 1, 1), None);
}

#[test]
fn a_segment_that_joins_shows_what_was_written_before() {
    let (disk, table) = (disk(), SegmentTable::new(IDENTITY.segment_bytes));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                match copy(&table, END - 4, 4) {
                    Some(bytes) => break bytes,
                    None => thread::yield_now(),
                }
            }
        });
        insert(&table, &disk);
        assert_eq!(reader.join().unwrap(), b"last", "mutant segment-joins");
    });
}

/// A segment leaves together with its file.
fn leaves(storage: &dyn Storage) {
    let table = table(storage);
    assert_eq!(copy(&table, END - 4, 4).unwrap(), b"last");
    storage.remove(&file_name(1)).unwrap();
    storage.sync_directory().unwrap();
    drop(table.remove(1).unwrap());
    assert_eq!(copy(&table, END - 4, 4), None, "mutant segment-leaves");
}

#[test]
fn a_segment_that_left_is_not_given_out() {
    leaves(&disk());
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no maps of files")]
fn a_segment_of_a_real_disk_that_left_is_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    leaves(&crate::storage::DiskStorage::open(folder.path(), true).unwrap());
}
