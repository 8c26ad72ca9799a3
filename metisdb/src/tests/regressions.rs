//! Bugs that were found, each told by the test that found it.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_primitives::{Address, Bytes, U256, keccak256};

use super::{disk, small, wide};
use crate::{
    Account, Changes, Db, Durability, Error, Result,
    log::frame::{self, FrameHeader},
    storage::{Lock, Map, SimulatedDisk, Storage, StorageFile},
};

fn code_changes(byte: u8, length: usize) -> Changes {
    let code = Bytes::from(vec![byte; length]);
    let mut changes = Changes::new();
    changes.set_code(keccak256(&code), code);
    changes
}

fn commit(db: &Db, changes: &Changes) -> u64 {
    db.commit(changes, Durability::Durable).unwrap().version()
}

/// The sync of the mark that `close` writes failed; the page cache showed the mark, the disk did not have it. The next open
/// took it for durable (only changes above the mark made it write again), appended behind it, acknowledged, and a power
/// loss left a hole in front of what was acknowledged.
#[test]
fn a_mark_whose_sync_failed_is_written_again() {
    let disk = disk(1);
    let db = small().create_on(disk.clone()).unwrap();
    commit(&db, &code_changes(1, 100));
    // close: write of the mark, then its sync (the reservation reaches that far already).
    disk.fail_operation(disk.operations() + 1, ErrorKind::Other);
    assert!(matches!(db.close(), Err(Error::Poisoned { .. })));
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(commit(&db, &code_changes(2, 100)), 2);
    drop(db);
    let db = small().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(db.stats().version, 2, "what was acknowledged survives");
}

fn churn(db: &Db, round: u64) {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for slot in 0..350 {
        changes.set_storage(Address::ZERO, U256::from(slot), wide(round));
    }
    commit(db, &changes);
}

/// The sync of a checkpoint's superblock N+1 failed: the page cache showed N+1, the disk still had N-1 in that place. The
/// next open believed N+1, removed what N and N+1 leave out though N-1 on the disk lists it, and its checkpoint then wrote over N,
/// the only superblock of the two on the disk that was whole. A power loss in that write left N-1 with missing files.
#[test]
fn a_superblock_whose_sync_failed_is_written_again_before_it_is_relied_on() {
    let open = |disk: &Arc<SimulatedDisk>| small().retain_versions(0).open_on(disk.clone());
    // A poisoned handle, dropped; then opened again, with one more commit. `None` where another operation failed.
    let prepare = |rounds: u64, failing: u64| {
        let disk = disk(2);
        let db = small().retain_versions(0).create_on(disk.clone()).unwrap();
        // A superblock of more than one sector can be torn.
        for byte in 0..20 {
            commit(&db, &code_changes(byte, 60_000));
        }
        for round in 1..=rounds {
            churn(&db, round);
            db.checkpoint().unwrap();
        }
        churn(&db, rounds + 1);
        disk.fail_operation(disk.operations() + failing, ErrorKind::Other);
        let error = db.checkpoint().err()?;
        drop(db);
        if !error.to_string().contains("sync at byte 0 of /simulated/superblock") {
            return None;
        }
        let db = open(&disk).unwrap();
        churn(&db, rounds + 2);
        Some((disk, db))
    };
    let mut states = 0;
    for rounds in 4..10 {
        for failing in 0..16 {
            for cut in 0..16 {
                let Some((disk, db)) = prepare(rounds, failing) else { break };
                disk.cut_after(disk.operations() + cut);
                let done = db.checkpoint().is_ok();
                drop(db);
                for loss in 0..30 {
                    let case = format!("rounds {rounds}, failing {failing}, cut {cut}, loss {loss}");
                    let db = open(&Arc::new(disk.after_power_loss(loss)));
                    let db = db.unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(db.stats().version, 20 + rounds + 2, "{case}");
                    states += 1;
                }
                if done {
                    break;
                }
            }
        }
    }
    println!("{states} states");
    assert!(states > 100);
}

/// A disk whose files cannot be mapped while `refuse` says so.
#[derive(Debug)]
struct Unmappable {
    disk: Arc<SimulatedDisk>,
    refuse: Arc<AtomicBool>,
}

#[derive(Debug)]
struct UnmappableFile {
    file: Arc<dyn StorageFile>,
    refuse: Arc<AtomicBool>,
}

impl Unmappable {
    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(UnmappableFile { file, refuse: self.refuse.clone() })
    }
}

impl Storage for Unmappable {
    fn path(&self) -> std::path::PathBuf {
        self.disk.path()
    }
    fn list(&self) -> Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> Result<Option<Arc<dyn StorageFile>>> {
        Ok(self.disk.open(name)?.map(|file| self.wrap(file)))
    }
    fn create(&self, name: &str) -> Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(self.disk.create(name)?))
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> Result<()> {
        self.disk.sync_directory()
    }
    fn lock_exclusive(&self) -> Result<Box<dyn Lock>> {
        self.disk.lock_exclusive()
    }
    fn lock_shared(&self) -> Result<Option<Box<dyn Lock>>> {
        self.disk.lock_shared()
    }
    fn entropy(&self, bytes: &mut [u8]) -> Result<()> {
        self.disk.entropy(bytes)
    }
}

impl StorageFile for UnmappableFile {
    fn path(&self) -> std::path::PathBuf {
        self.file.path()
    }
    fn length(&self) -> Result<u64> {
        self.file.length()
    }
    fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_length(length)
    }
    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        self.file.reserve(offset, length)
    }
    fn allocated_bytes(&self) -> Result<u64> {
        self.file.allocated_bytes()
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn sync(&self) -> Result<()> {
        self.file.sync()
    }
    fn map(&self, length: u64) -> Result<Map> {
        if self.refuse.load(Ordering::Relaxed) {
            let source = Arc::new(ErrorKind::OutOfMemory.into());
            return Err(Error::Io { operation: "map", path: self.path(), offset: 0, source });
        }
        self.file.map(length)
    }
}

/// A new segment was durable when mapping it failed (too many maps, no address space). It was removed, but not durably, and the
/// log went on in the old segment; after a power loss the file was back, and its header said that the old segment ends
/// where it did then: what was acknowledged behind that place was cut off without a word.
#[test]
fn a_segment_that_could_not_be_mapped_does_not_come_back() {
    let disk = disk(3);
    let refuse = Arc::new(AtomicBool::new(false));
    let storage = Arc::new(Unmappable { disk: disk.clone(), refuse: refuse.clone() });
    let db = small().create_on(storage).unwrap();
    commit(&db, &code_changes(1, 30_000));
    refuse.store(true, Ordering::Relaxed);
    db.commit(&code_changes(2, 60_000), Durability::Durable).unwrap_err();
    refuse.store(false, Ordering::Relaxed);
    let Ok(second) = db.commit(&code_changes(3, 100), Durability::Durable) else { return };
    assert!(second.is_durable());
    drop((second, db));
    let db = small().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(db.stats().version, 2, "what was acknowledged survives");
}

/// The newest segment was empty (its first frame found no space), the one before it was dropped (it held commits without records
/// only), and the image was lost: a rebuild then took the version of the last frame that it read for the newest one, or
/// none at all, though the superblock names a later one. Here everything seems to be gone, or versions are given out twice.
#[test]
fn a_rebuild_does_not_fall_behind_the_version_of_the_checkpoint() {
    let disk = disk(4);
    let db = small().retain_versions(0).create_on(disk.clone()).unwrap();
    let mut changes = code_changes(1, 60_000);
    changes.set_account(Address::ZERO, Account { nonce: 7, ..Account::default() });
    commit(&db, &changes);
    let mut version = 1;
    // Only one more empty commit fits in the second segment when this ends.
    while db.stats().log_position < 2 * 65_536 - 64 {
        version = db.commit(&Changes::new(), Durability::Pipelined).unwrap().version();
    }
    // Roll: sync, create, length, reserve, write, sync, folder; then both attempts to reserve for the frame.
    let next = disk.operations();
    for operation in [7, 8] {
        disk.fail_operation(next + operation, ErrorKind::StorageFull);
    }
    let refused = db.commit(&code_changes(2, 20_000), Durability::Durable).unwrap_err();
    assert!(refused.is_out_of_space(), "{refused}");
    println!("segments {}, files {:?}", db.stats().segments, disk.list());
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    println!("segments {}, files {:?}", db.stats().segments, disk.list());
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, version, "with the image");
    drop(db);
    let image = disk.list().unwrap().into_iter().find(|name| name.starts_with("index.")).unwrap();
    disk.remove_file(&image);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, version, "without the image");
    assert!(db.snapshot().unwrap().account(&Address::ZERO).unwrap().is_some());
}

/// Code, which anybody can have stored, held the bytes of a frame that claims a later durable mark. When a power loss tore the
/// commit of that code, the search for marks behind the damage believed it, and the database could not be opened.
#[test]
fn a_frame_forged_inside_of_code_does_not_keep_the_database_closed() {
    // The history is public and positions follow from it; else the code holds a frame for each likely position.
    let begin = |disk: &Arc<SimulatedDisk>| {
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &code_changes(1, 1000));
        db
    };
    let disk = disk(5);
    let db = begin(&disk);
    let position = db.stats().log_position;
    // Frame header, record header, code hash and length, then padding to a multiple of 8.
    let code_at = 64 + 16 + 36;
    let pad = 4;
    let at = position + code_at + pad + 1024;
    let mut header = FrameHeader {
        magic: frame::MAGIC,
        kind: 1,
        flags: 0,
        reserved: 0,
        length: 8,
        record_count: 0,
        version: 1000,
        sequence: 1000,
        position: at,
        durable_upto: at,
        nonce: 0,
        previous_chain: 0,
        checksum: 0,
    };
    header.checksum = crate::log::crc32c(&header.encode()[..60]);
    let mut code = vec![0xfe; pad as usize + 1024];
    code.extend_from_slice(&header.encode());
    code.resize(3000, 0xfe);
    let mut changes = Changes::new();
    changes.set_code(keccak256(&code), code.into());
    disk.cut_after(disk.operations() + 1);
    db.commit(&changes, Durability::Durable).unwrap_err();
    drop(db);
    for loss in 0..60 {
        let opened = small().open_on(Arc::new(disk.after_power_loss(loss)));
        opened.unwrap_or_else(|error| panic!("power loss {loss}: {error}"));
    }
}

/// A name that only looks like a segment's or an image's was taken for one: `segment.00000000001` counted as segment 1, and
/// opening tried again and again to remove `index.0000000099` in place of `index.00000000099`.
#[test]
fn names_with_more_zeros_than_ours_are_foreign() {
    for name in ["segment.00000000001", "index.00000000099"] {
        let disk = disk(6);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &code_changes(1, 100));
        db.close().unwrap();
        disk.put_file(name, b"text".to_vec());
        let opened = small().open_on(disk.clone());
        assert!(matches!(opened, Err(Error::ForeignFile { .. })), "{name}: {opened:?}");
    }
}

/// After a crash on a full disk the database could be opened only once there was space: recovery's own mark needed some.
#[test]
fn a_full_disk_does_not_keep_the_database_closed_after_a_crash() {
    let mut refused = Vec::new();
    for length in (0..70_000).step_by(64) {
        let disk = disk(7);
        let db = small().create_on(disk.clone()).unwrap();
        db.commit(&code_changes(1, length), Durability::Pipelined).unwrap();
        drop(db);
        disk.set_capacity(Some(0));
        if let Err(error) = small().open_on(disk.clone()) {
            refused.push((length, error.to_string()));
        }
    }
    assert!(refused.is_empty(), "{} refused, first {:?}", refused.len(), refused[0]);
}

/// Creating beside another file left a `LOCK` there.
#[test]
fn creating_beside_another_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.txt"), "mine").unwrap();
    small().create(folder.path()).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
