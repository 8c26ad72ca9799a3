//! A device that does not deliver blocks of a database that is open.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use alloy_primitives::{Address, U256};
use metisdb::{Account, Changes, Db, Durability, Error, Options};
use metisdb_power::volume::{Filesystem, Volume};
use rustix::fs::{Advice, fadvise};

const SLOTS: u64 = 20_000;
/// The file that has to be read from the device. Of the others the kernel has a copy.
const FORGOTTEN: &str = "segment.0000000002";

fn options() -> Options {
    Options::new().segment_bytes(1 << 20).expected_keys(2 * SLOTS)
}

fn fill(path: &Path) {
    let db = options().create(path).unwrap();
    for thousand in 0..SLOTS / 1000 {
        let mut changes = Changes::new();
        changes.set_account(Address::ZERO, Account { nonce: 1 + thousand, ..Account::default() });
        for slot in thousand * 1000..(thousand + 1) * 1000 {
            changes.set_storage(Address::ZERO, U256::from(slot), value(slot));
        }
        db.commit(&changes, Durability::Durable).unwrap();
    }
    db.close().unwrap();
}

fn value(slot: u64) -> U256 {
    U256::from(slot + 1) << 200
}

/// Makes the kernel forget what it has read of a file. What a process has touched through a map stays.
fn forget(file: &Path) {
    let file = OpenOptions::new().read(true).open(file).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Reads every slot; returns how many could not be read.
fn read_all(db: &Db, path: &Path) -> u64 {
    let snapshot = db.snapshot().unwrap();
    let mut unreadable = 0;
    for slot in 0..SLOTS {
        match snapshot.storage(&Address::ZERO, U256::from(slot)) {
            Ok(found) => assert_eq!(found, value(slot), "slot {slot}"),
            Err(Error::Io { operation: "read", path: file, .. }) => {
                assert_eq!(file, path.join(FORGOTTEN));
                unreadable += 1;
            }
            Err(error) => panic!("slot {slot}: {error}"),
        }
    }
    unreadable
}

/// Before the handler for bus errors, the first such read was the end of the process.
#[test]
fn blocks_that_the_device_does_not_deliver_are_errors_of_reads() {
    if let Some(reason) = Volume::missing(Filesystem::Ext4) {
        // Past the test runner, which hides what a passing test prints.
        let _ = writeln!(io::stderr(), "skipped: {reason}");
        return;
    }
    let volume = Volume::create(Filesystem::Ext4, 64 << 20).unwrap();
    let path = volume.path().join("database");
    fill(&path);
    let db = options().open(&path).unwrap();
    rustix::fs::sync();
    forget(&path.join(FORGOTTEN));
    // What the device has is gone, but for the filesystem's first tables.
    let image = OpenOptions::new().write(true).open(volume.image()).unwrap();
    let length = image.metadata().unwrap().len();
    image.set_len(1 << 20).unwrap();
    let unreadable = read_all(&db, &path);
    println!("{unreadable} of {SLOTS} slots could not be read");
    assert!((SLOTS / 10..SLOTS * 9 / 10).contains(&unreadable), "{unreadable}");
    assert_eq!(read_all(&db, &path), unreadable, "what was lost stays lost, and nothing else is");
    drop(db);
    // For unmounting: what was there is gone for good.
    image.set_len(length).unwrap();
}
