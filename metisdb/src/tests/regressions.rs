//! Bugs that were found in the log, in recovery and in opening, each told by the test that shows it. Those of the
//! writer's books are in `bookkeeping`, those between handles in `processes`, those of hostile files in `bad_input`.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use parking_lot::Mutex;

use super::{disk, small, wide};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Error, Result,
    checkpoint::{self, Thoroughness},
    checkpointer,
    log::{
        frame::{self, FrameBuilder, FrameHeader, FrameKind},
        record::{Body, Record, StoredAccount},
        segment,
    },
    storage::{Lock, Map, SimulatedDisk, Storage, StorageFile},
    trie::node::{Child, Link, NodeRef},
};

fn code_changes(byte: u8, length: usize) -> Changes {
    let code = Bytes::from(vec![byte; length]);
    let mut changes = Changes::new();
    changes.set_code(keccak256(&code), code);
    changes
}

fn account_changes(byte: u8, nonce: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(Address::repeat_byte(byte), Account { nonce, ..Account::default() });
    changes
}

fn commit(db: &Db, changes: &Changes) -> u64 {
    db.commit(changes, Durability::Durable).unwrap().version()
}

/// The sync of the mark that `close` writes failed; the page cache showed the mark, the disk did not have it. The next
/// open took it for durable (only changes above the mark made it write again), appended behind it, acknowledged, and a
/// power loss left a hole in front of what was acknowledged.
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

/// The same with the mark that a recovery writes: the next open appended behind one that the disk did not have.
#[test]
fn a_mark_of_a_recovery_whose_sync_failed_is_written_again() {
    let crashed = || {
        let disk = disk(22);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &account_changes(1, 1));
        db.close().unwrap();
        let db = small().open_on(disk.clone()).unwrap();
        commit(&db, &account_changes(1, 2));
        Arc::new(disk.after_power_loss(0))
    };
    let sound = crashed();
    drop(small().open_on(sound.clone()).unwrap());
    let disk = crashed();
    disk.fail_operation(sound.operations() - 1, ErrorKind::Other);
    assert!(matches!(small().open_on(disk.clone()), Err(Error::Poisoned { .. })));
    let db = small().open_on(disk.clone()).unwrap();
    let acknowledged = commit(&db, &account_changes(2, 2));
    drop(db);
    let db = small().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(db.stats().version, acknowledged, "what was acknowledged survives");
}

fn churn(db: &Db, round: u64) {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for slot in 0..350 {
        changes.set_storage(Address::ZERO, U256::from(slot), wide(round));
    }
    commit(db, &changes);
}

/// The sync of a checkpoint's superblock N+1 failed: the page cache showed N+1, the disk still had N-1 in that place.
/// The next open believed N+1, removed what N and N+1 leave out though N-1 on the disk lists it, and its checkpoint
/// then wrote over N, the only superblock of the two on the disk that was whole. A power loss in that write left N-1
/// with missing files.
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
    for rounds in [0, 4, 5, 6, 7, 8, 9] {
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

/// What a [`ControlledDisk`] does on top of what the disk under it does.
#[derive(Debug, Default)]
struct Control {
    /// Whether maps are refused.
    refuse_maps: AtomicBool,
    /// Whether the next write finds no space for its last bytes.
    shorten_write: AtomicBool,
    /// For the next sync of a file: says that it was reached, then waits until it may go on.
    hold_sync: Mutex<Option<(Sender<()>, Receiver<()>)>>,
    /// Bytes that were read from files.
    read_bytes: AtomicU64,
    /// Files whose names begin so are not read: the device cannot.
    unreadable: Mutex<Option<&'static str>>,
}

/// Longer than anything here waits for.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct ControlledDisk {
    disk: Arc<SimulatedDisk>,
    control: Arc<Control>,
}

#[derive(Debug)]
struct ControlledFile {
    file: Arc<dyn StorageFile>,
    control: Arc<Control>,
}

impl ControlledDisk {
    fn create(disk: &Arc<SimulatedDisk>) -> (Db, Arc<Control>) {
        let control = Arc::new(Control::default());
        let storage = Self { disk: disk.clone(), control: control.clone() };
        (small().create_on(Arc::new(storage)).unwrap(), control)
    }

    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(ControlledFile { file, control: self.control.clone() })
    }
}

impl Storage for ControlledDisk {
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

impl StorageFile for ControlledFile {
    fn path(&self) -> std::path::PathBuf {
        self.file.path()
    }
    fn length(&self) -> Result<u64> {
        self.file.length()
    }
    fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_length(length)
    }
    fn give_back(&self, offset: u64, length: u64) -> Result<()> {
        self.file.give_back(offset, length)
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<()> {
        self.file.reserve(offset, length)
    }
    fn allocated_bytes(&self) -> Result<u64> {
        self.file.allocated_bytes()
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.control.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let (path, unreadable) = (self.path(), *self.control.unreadable.lock());
        if unreadable.is_some_and(|begin| path.file_name().unwrap().to_string_lossy().starts_with(begin)) {
            const EIO: i32 = 5;
            let source = Arc::new(std::io::Error::from_raw_os_error(EIO));
            return Err(Error::Io { operation: "read", path, offset, source });
        }
        self.file.read_exact_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if self.control.shorten_write.swap(false, Ordering::Relaxed) {
            self.file.write_all_at(&bytes[..bytes.len() - 8], offset)?;
            let source = Arc::new(ErrorKind::StorageFull.into());
            return Err(Error::Io { operation: "write", path: self.path(), offset, source });
        }
        self.file.write_all_at(bytes, offset)
    }
    fn sync(&self) -> Result<()> {
        if let Some((reached, go_on)) = self.control.hold_sync.lock().take() {
            reached.send(()).unwrap();
            go_on.recv_timeout(PATIENCE).unwrap();
        }
        self.file.sync()
    }
    fn map(&self, length: u64) -> Result<Map> {
        if self.control.refuse_maps.load(Ordering::Relaxed) {
            let source = Arc::new(ErrorKind::OutOfMemory.into());
            return Err(Error::Io { operation: "map", path: self.path(), offset: 0, source });
        }
        self.file.map(length)
    }
}

/// A new segment was durable when mapping it failed (too many maps, no address space). It was removed, but not durably,
/// and the log went on in the old segment; after a power loss the file was back, and its header said that the old
/// segment ends where it did then: what was acknowledged behind that place was cut off without a word.
#[test]
fn a_segment_that_could_not_be_mapped_does_not_come_back() {
    let disk = disk(3);
    let (db, control) = ControlledDisk::create(&disk);
    commit(&db, &code_changes(1, 30_000));
    control.refuse_maps.store(true, Ordering::Relaxed);
    db.commit(&code_changes(2, 60_000), Durability::Durable).unwrap_err();
    control.refuse_maps.store(false, Ordering::Relaxed);
    let second = db.commit(&code_changes(3, 100), Durability::Durable).unwrap();
    assert!(second.is_durable());
    drop((second, db));
    let db = small().open_on(Arc::new(disk.after_power_loss(0))).unwrap();
    assert_eq!(db.stats().version, 2, "what was acknowledged survives");
}

/// The newest segment was empty (its first frame found no space), the one before it was dropped (it held commits
/// without records only), and the image was lost: a rebuild then took the version of the last frame that it read for
/// the newest one, or none at all, though the superblock names a later one. Here everything seems to be gone, or
/// versions are given out twice.
#[test]
fn a_rebuild_does_not_fall_behind_the_version_of_the_checkpoint() {
    for holds_account in [true, false] {
        rebuild_from_an_empty_segment(holds_account);
    }
}

/// A frame without records, and one with a root.
const EMPTY_COMMIT_BYTES: u64 = 64 + 120;

/// `holds_account`: an older segment stays, so that there are frames to be read.
fn rebuild_from_an_empty_segment(holds_account: bool) {
    let disk = disk(4);
    let db = small().retain_versions(0).create_on(disk.clone()).unwrap();
    if holds_account {
        let mut changes = code_changes(1, 60_000);
        changes.set_account(Address::ZERO, Account { nonce: 7, ..Account::default() });
        commit(&db, &changes);
    }
    let mut version = 1;
    // Not even one more empty commit fits in the first segment, or in the second, when this ends.
    let full = (1 + u64::from(holds_account)) << 16;
    while db.stats().log_position <= full - EMPTY_COMMIT_BYTES {
        version = db.commit(&Changes::new(), Durability::Pipelined).unwrap().version();
    }
    // Roll: sync, create, length, reserve, write, sync, folder; then both attempts to reserve for the frame.
    let next = disk.operations();
    for operation in [7, 8] {
        disk.fail_operation(next + operation, ErrorKind::StorageFull);
    }
    let refused = db.commit(&code_changes(2, 20_000), Durability::Durable).unwrap_err();
    assert!(refused.is_out_of_space(), "{refused}");
    let segments = db.stats().segments;
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    assert!(db.stats().segments < segments, "the segment of empty commits was dropped");
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, version, "with the image");
    drop(db);
    let image = disk.list().unwrap().into_iter().find(|name| name.starts_with("index.")).unwrap();
    disk.remove_file(&image);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, version, "without the image");
    assert_eq!(db.snapshot().unwrap().account(&Address::ZERO).unwrap().is_some(), holds_account);
}

/// Code, which anybody can have stored, held the bytes of a frame that claims a later durable mark. When a power loss
/// tore the commit of that code, the search for marks behind the damage believed it, and the database could not be
/// opened.
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
        let version = opened.unwrap_or_else(|error| panic!("power loss {loss}: {error}")).stats().version;
        assert!((1..=2).contains(&version), "power loss {loss}: version {version}");
    }
}

/// Each magic of a frame behind the end of the log, and anybody can have them stored, made the search for marks read a whole window anew: opening after
/// a torn frame could take hours.
#[test]
fn magics_behind_the_end_are_looked_at_once() {
    const FILLED: usize = 64 << 10;
    let options = || small().segment_bytes(1 << 22);
    let disk = disk(8);
    let db = options().create_on(disk.clone()).unwrap();
    commit(&db, &code_changes(1, 100));
    let end = db.stats().log_position;
    let segment = db.store.lookup.table.segment_of(end - 1).unwrap();
    let (name, offset) = (segment::file_name(segment.number), (end - segment.start) as usize);
    drop(segment);
    db.close().unwrap();
    let mut bytes = disk.file_bytes(&name).unwrap();
    for unit in bytes[offset..offset + FILLED].chunks_exact_mut(8) {
        unit[..4].copy_from_slice(&frame::MAGIC.to_le_bytes());
    }
    disk.put_file(&name, bytes);
    let control = Arc::new(Control::default());
    let db = options().open_on(Arc::new(ControlledDisk { disk, control: control.clone() })).unwrap();
    assert_eq!(db.stats().version, 1);
    let read = control.read_bytes.load(Ordering::Relaxed);
    assert!(read < 64 << 20, "{read} bytes were read of a log of 4 MiB");
}

/// A bit that was flipped in the header of a frame, which no record's checksum covers, hid the frame: the storage of an account that a later version
/// wiped was empty in the version before, root and proofs included, though its slots were read.
#[test]
fn a_damaged_frame_header_hides_no_slots_of_an_older_version() {
    let account = Address::repeat_byte(7);
    let left = disk(9);
    let db = small().retain_versions(8).create_on(left.clone()).unwrap();
    let mut changes = Changes::new();
    changes.set_account(account, Account { nonce: 1, ..Account::default() });
    (1..20).for_each(|slot| {
        changes.set_storage(account, U256::from(slot), U256::from(slot));
    });
    commit(&db, &changes);
    let mut changes = Changes::new();
    changes.wipe_storage(account);
    commit(&db, &changes);
    let root = db.snapshot_at(1).unwrap().storage_root(&account).unwrap();
    let frame_at = db.store.history.row(1).unwrap().position;
    let segment = db.store.lookup.table.segment_of(frame_at).unwrap();
    let (name, offset) = (segment::file_name(segment.number), frame_at - segment.start);
    drop(segment);
    db.close().unwrap();
    for bit in 0..FrameHeader::BYTES as u64 * 8 {
        let damaged = Arc::new(left.after_power_loss(0));
        damaged.damage(&name, offset + bit / 8, 1 << (bit % 8));
        let db = small().retain_versions(8).open_on(damaged).unwrap();
        let snapshot = db.snapshot_at(1).unwrap();
        let expect = |outcome: Result<bool>| match outcome {
            Ok(right) => assert!(right, "bit {bit}"),
            Err(error) => assert!(error.is_corruption(), "bit {bit}: {error}"),
        };
        expect(snapshot.storage_root(&account).map(|own| own == root));
        let count = |mut slots: crate::Slots<'_>| slots.try_fold(0, |count, slot| slot.map(|_| count + 1));
        expect(snapshot.slots(&account, B256::ZERO).and_then(count).map(|count| count == 19));
        expect(snapshot.has_storage(&account));
    }
}

/// A name that only looks like a segment's or an image's was taken for one: `segment.00000000001` counted as segment 1,
/// and opening tried again and again to remove `index.0000000099` in place of `index.00000000099`.
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

/// After a crash on a full disk the database could be opened only once there was space: recovery's own mark needed
/// some.
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

/// A commit that waited for the lock had looked for the failure of the one before it too early: it went through with
/// the version of that one, whose frame, unsynced, stood in front of its own and could come back with the next open.
#[test]
fn a_commit_that_waited_for_one_that_failed_is_refused() {
    let disk = disk(8);
    let (db, control) = ControlledDisk::create(&disk);
    commit(&db, &account_changes(1, 1));
    let (reached, sync_reached) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    *control.hold_sync.lock() = Some((reached, may_go_on));
    let run = |byte: u8, durability| db.commit(&account_changes(byte, 1), durability).map(|commit| commit.version());
    let (failed, waited) = thread::scope(|scope| {
        let failed = scope.spawn(|| run(2, Durability::Durable));
        sync_reached.recv_timeout(PATIENCE).unwrap();
        let waited = scope.spawn(|| run(3, Durability::Pipelined));
        // By then it waits for the lock; one that comes later has to be refused as well.
        thread::sleep(Duration::from_millis(200));
        disk.fail_operation(disk.operations(), ErrorKind::Other);
        go_on.send(()).unwrap();
        (failed.join().unwrap(), waited.join().unwrap())
    });
    assert!(matches!(failed, Err(Error::Poisoned { .. })), "{failed:?}");
    assert!(matches!(waited, Err(Error::Poisoned { .. })), "{waited:?}");
    assert_eq!(db.stats().version, 1);
    drop(db);
    let db = small().open_on(disk).unwrap();
    assert!((1..=2).contains(&db.stats().version), "the failed one may come back, and nothing else");
    assert_eq!(db.snapshot().unwrap().account(&Address::repeat_byte(3)).unwrap(), None);
}

/// A process was killed while the log rolled, with the new segment's directory entry in the page cache only. The next
/// open appended to that segment and acknowledged; a power loss then took the whole file away.
#[test]
fn a_segment_of_an_interrupted_roll_is_made_durable_before_it_is_used() {
    let mut failures = Vec::new();
    // Roll: create, length, reserve, write, sync, folder; then reserving, writing and syncing the frame.
    for failing in 0..9 {
        let disk = disk(9);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &code_changes(1, 50_000));
        let operation = disk.operations() + failing;
        disk.fail_operation(operation, ErrorKind::Other);
        failures.extend(db.commit(&code_changes(2, 50_000), Durability::Durable).err());
        assert!(disk.operations() > operation, "operation {failing} was part of the commit");
        drop(db);
        let db = small().open_on(disk.clone()).unwrap();
        let acknowledged = commit(&db, &account_changes(9, 9));
        drop(db);
        let db = small().open_on(Arc::new(disk.after_power_loss(0)));
        let db = db.unwrap_or_else(|error| panic!("operation {failing}: {error}"));
        assert_eq!(db.stats().version, acknowledged, "operation {failing}: what was acknowledged survives");
        db.check(CheckLevel::Full).unwrap();
    }
    assert!(failures.iter().any(|error| error.to_string().contains("sync folder")), "{failures:?}");
}

/// A process was killed while it created the database, with files in the page cache only. The next open took them for
/// durable and acknowledged commits; a power loss then took the whole database away.
#[test]
fn an_interrupted_creation_is_made_durable_before_it_is_used() {
    let sound = disk(10);
    drop(small().create_on(sound.clone()).unwrap());
    let operations = sound.operations();
    for killed in 0..operations {
        let disk = disk(10);
        // A killed process does not clean up either. Later ones meet the rest of the failures.
        (killed..operations + 50).for_each(|operation| disk.fail_operation(operation, ErrorKind::Other));
        small().create_on(disk.clone()).unwrap_err();
        let db = (0..200).find_map(|_| {
            let db = small().open_on(disk.clone()).or_else(|_| small().create_on(disk.clone())).ok()?;
            db.commit(&account_changes(1, 1), Durability::Durable).is_ok().then_some(db)
        });
        drop(db.unwrap_or_else(|| panic!("killed at {killed}: it never opened again")));
        let db = small().open_on(Arc::new(disk.after_power_loss(0)));
        let db = db.unwrap_or_else(|error| panic!("killed at {killed} of {operations}: {error}"));
        assert!(db.stats().version >= 1, "killed at {killed}: what was acknowledged survives");
    }
}

/// The first sector of the last segment, its header, was lost after the fact. It passed for a segment whose making had
/// been interrupted, and was removed with all the acknowledged commits in it.
#[test]
fn a_last_segment_without_its_header_is_damage_if_it_holds_frames() {
    let disk = disk(11);
    let db = small().create_on(disk.clone()).unwrap();
    commit(&db, &code_changes(1, 50_000));
    (2..6).for_each(|byte| _ = commit(&db, &code_changes(byte, 10_000)));
    let version = db.stats().version;
    drop(db);
    let name = "segment.0000000002";
    let sound = disk.file_bytes(name).unwrap();
    let damaged = Arc::new(disk.after_power_loss(0));
    let mut bytes = sound.clone();
    bytes[..512].fill(0);
    damaged.put_file(name, bytes);
    let error = small().open_on(damaged.clone()).unwrap_err();
    assert!(error.is_corruption() && error.to_string().contains(name), "{error}");
    damaged.put_file(name, sound);
    assert_eq!(small().open_on(damaged).unwrap().stats().version, version, "nothing was removed");
}

/// A checkpoint that a commit had started outlived the handle on its thread and held the folder's lock: opening right
/// after `close`, or after dropping the handle, was refused now and then.
#[test]
fn the_folder_is_free_once_the_handle_is_gone() {
    let options = || small().checkpoint_log_bytes(1);
    let disk = disk(12);
    drop(options().create_on(disk.clone()).unwrap());
    for round in 0..300 {
        let opened = options().open_on(disk.clone());
        let db = opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
        db.commit(&account_changes(1, round), Durability::Pipelined).unwrap();
        // The next round opens after one or the other.
        if round % 2 == 0 { db.close().unwrap() } else { drop(db) }
    }
    options().open_on(disk).unwrap();
}

/// An address without an account has no id, but what would be its id can be the one of another account: its slots then
/// read as those of the other one.
#[test]
fn an_address_without_account_reads_no_slot_of_another() {
    let mut options = small();
    options.account_id_mask = 0;
    let db = options.create_on(disk(13)).unwrap();
    let (own, slot) = (Address::repeat_byte(1), U256::from(1));
    let mut changes = account_changes(1, 1);
    changes.set_storage(own, slot, U256::from(42));
    commit(&db, &changes);
    let snapshot = db.snapshot().unwrap();
    assert_eq!(snapshot.storage(&own, slot).unwrap(), U256::from(42));
    assert_eq!(snapshot.storage(&Address::repeat_byte(2), slot).unwrap(), U256::ZERO);
}

/// A session that took a checkpoint before its first commit relied on a mark that only the page cache had: the checkpoint's sync found
/// clean pages, and its superblock vouched for a hole. The database opened only as long as the image was there.
#[test]
fn a_checkpoint_does_not_rely_on_a_mark_whose_sync_failed() {
    for closes in [false, true] {
        let disk = disk(11);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &code_changes(1, 100));
        disk.fail_operation(disk.operations() + 1, ErrorKind::Other);
        assert!(matches!(db.close(), Err(Error::Poisoned { .. })));
        let mut db = small().open_on(disk.clone()).unwrap();
        if closes {
            db.close().unwrap();
            db = small().open_on(disk.clone()).unwrap();
        } else {
            db.checkpoint().unwrap();
        }
        commit(&db, &code_changes(2, 100));
        drop(db);
        let left = Arc::new(disk.after_power_loss(0));
        small().open_on(left.clone()).unwrap().check(CheckLevel::Full).unwrap();
        for image in left.list().unwrap().iter().filter(|name| name.starts_with("index.")) {
            left.remove_file(image);
        }
        assert_eq!(small().open_on(left).unwrap().stats().version, 2, "closes: {closes}");
    }
}

/// Segments that were made and died between the last two superblocks were removed by a clean reopen, since the older one does not list
/// them; but an open by the older one walks through all that were made since. After damage to the newer one nothing opened.
#[test]
fn a_reopen_keeps_what_an_open_by_the_older_superblock_needs() {
    let options = || small().retain_versions(0);
    for rounds in 2..12 {
        let disk = disk(12);
        let db = options().create_on(disk.clone()).unwrap();
        commit(&db, &code_changes(1, 100));
        db.checkpoint().unwrap();
        for round in 1..=rounds {
            churn(&db, round);
        }
        db.close().unwrap();
        drop(options().open_on(disk.clone()).unwrap());
        let newest = crate::superblock::read(&*disk).unwrap().unwrap().newest.generation;
        disk.damage(&crate::superblock::file_name(newest), 16, 1);
        let db = options().open_on(disk).unwrap_or_else(|error| panic!("rounds {rounds}: {error}"));
        assert_eq!(db.stats().version, rounds + 1);
    }
}

/// With one superblock and the image damaged, opening wrote the sound superblock anew with other bytes; a power cut tore it, and
/// none was left.
#[test]
fn the_only_sound_superblock_is_not_changed_in_place() {
    let damaged = || {
        let disk = disk(13);
        let db = small().create_on(disk.clone()).unwrap();
        for byte in 0..20 {
            commit(&db, &code_changes(byte, 60_000));
        }
        db.close().unwrap();
        let newest = crate::superblock::read(&*disk).unwrap().unwrap().newest.generation;
        disk.damage(&crate::superblock::file_name(newest + 1), 16, 1);
        let image = disk.list().unwrap().into_iter().find(|name| name.starts_with("index.")).unwrap();
        disk.damage(&image, 0, 1);
        disk
    };
    for cut in 0..10 {
        let disk = damaged();
        disk.cut_after(disk.operations() + cut);
        drop(small().open_on(disk.clone()));
        for loss in 0..30 {
            let opened = small().open_on(Arc::new(disk.after_power_loss(loss)));
            opened.unwrap_or_else(|error| panic!("cut {cut}, loss {loss}: {error}"));
        }
    }
}

/// A segment whose making was interrupted was noted for removal by the next checkpoint instead of being removed; by then a
/// roll had made it anew under the same number, and the checkpoint removed it with what was acknowledged in it.
#[test]
fn the_rest_of_an_interrupted_roll_is_not_removed_once_its_number_is_used() {
    let disk = disk(14);
    let db = small().create_on(disk.clone()).unwrap();
    commit(&db, &code_changes(1, 50_000));
    drop(db);
    disk.put_file("segment.0000000002", vec![0; 1 << 16]);
    let db = small().open_on(disk.clone()).unwrap();
    commit(&db, &code_changes(2, 50_000));
    db.checkpoint().unwrap();
    db.check(CheckLevel::Full).unwrap();
    drop(db);
    let db = small().open_on(disk).unwrap();
    assert_eq!(db.stats().version, 2);
    assert_eq!(db.stats().segments, 2);
}

/// A leaf names its key by a tag of 48 bits only. Where one proposal had deleted an account, a proposal on it that needed the leaf of another
/// account with the same tag, on the same way so far, took the deleted one's record for its only candidate and failed with
/// corruption; or, where an older proposal of the chain had the deleted account still, believed that.
#[test]
fn what_a_proposal_deletes_does_not_stand_for_another_leaf_of_its_tag() {
    let mut options = small();
    (options.account_id_mask, options.plain_paths) = (0, true);
    let address = Address::with_last_byte;
    let set = |changes: &mut Changes, last: u8| _ = changes.set_account(address(last), account_of(u64::from(last)));
    for added_in_the_chain in [false, true] {
        let db = options.clone().create_on(disk(1)).unwrap();
        let mut changes = Changes::new();
        [0x10, 0x20].into_iter().for_each(|last| set(&mut changes, last));
        let mut doomed = Changes::new();
        set(&mut doomed, 0x11);
        commit(&db, &changes);
        if !added_in_the_chain {
            commit(&db, &doomed);
            doomed = Changes::new();
        }
        let with = db.propose(&db.snapshot().unwrap(), &doomed).unwrap();
        let mut changes = Changes::new();
        changes.delete_account(address(0x11));
        let without = with.propose(&changes).unwrap();
        let mut changes = Changes::new();
        set(&mut changes, 0x12);
        let last = without.propose(&changes).unwrap();
        let other = options.clone().create_on(disk(2)).unwrap();
        let mut changes = Changes::new();
        [0x10, 0x12, 0x20].into_iter().for_each(|last| set(&mut changes, last));
        commit(&other, &changes);
        assert_eq!(last.root(), other.snapshot().unwrap().root().unwrap(), "added in the chain: {added_in_the_chain}");
    }
}

fn account_of(nonce: u64) -> Account {
    Account { nonce, ..Account::default() }
}

/// The trie of an older version, with a wipe behind it, is made from slots found by reading the log. That went on to the log's very end, where
/// another thread may be writing: a header without its records yet was taken for damage of what is acknowledged.
#[test]
fn the_trie_of_an_older_version_is_made_beside_a_commit_that_is_half_written() {
    let disk = disk(1);
    let db = small().create_on(disk.clone()).unwrap();
    let mut changes = account_changes(1, 1);
    changes.set_storage(Address::repeat_byte(1), U256::from(1), U256::from(7));
    commit(&db, &changes);
    let root = db.snapshot().unwrap().storage_root(&Address::repeat_byte(1)).unwrap();
    let mut wipe = Changes::new();
    wipe.wipe_storage(Address::repeat_byte(1));
    commit(&db, &wipe);
    commit(&db, &account_changes(2, 2));
    commit(&db, &account_changes(2, 3));
    let tail = db.store.writer.lock().tail.clone();
    let mut frame = FrameBuilder::new(tail.position, 1000);
    let code = Body::Code { hash: keccak256([1; 100]), code: &[1; 100] };
    frame.push(&Record { version: 5, previous: None, body: code });
    let link = frame::Link {
        version: 5,
        sequence: tail.sequence + 1,
        durable_upto: 0,
        nonce: tail.nonce,
        previous_chain: tail.chain,
        secret: 0,
        opens_session: false,
    };
    let (bytes, _) = frame.finish(FrameKind::Changes, &link);
    let file = segment::file_name(tail.segment.number);
    for (offset, byte) in (tail.position - tail.segment.start..).zip(&bytes[..FrameHeader::BYTES]) {
        // There are zeros.
        disk.damage(&file, offset, *byte);
    }
    assert_eq!(db.snapshot_at(1).unwrap().storage_root(&Address::repeat_byte(1)).unwrap(), root);
}

fn slots(byte: u8, count: u64, seed: u64) -> Changes {
    let mut changes = account_changes(byte, seed);
    (0..count)
        .for_each(|slot| _ = changes.set_storage(Address::repeat_byte(byte), U256::from(slot), wide(seed + slot)));
    changes
}

/// The root of version 1 was written behind the changes of version 2, and its frame says version 1. Recovery took the version of the last
/// frame for the newest: version 2, acknowledged as durable, was hidden, and the next commit had its number.
#[test]
fn a_deferred_root_does_not_hide_a_later_version() {
    let disk = disk(15);
    let db = small().segment_bytes(1 << 24).create_on(disk.clone()).unwrap();
    let (_, first) = db.commit_deferred(&slots(1, 20_000, 1), Durability::Durable).unwrap();
    let (second, _) = db.commit_deferred(&slots(2, 4_000, 1), Durability::Durable).unwrap();
    assert!(second.is_durable());
    while !first.is_ready() {
        std::hint::spin_loop();
    }
    // Most likely before the second root.
    let left = Arc::new(disk.after_power_loss(1));
    drop(db);
    let db = small().open_on(left).unwrap();
    assert_eq!(db.stats().version, second.version());
    db.check(CheckLevel::Full).unwrap();
}

/// A reader beside a writer shows the newest version that is known to be durable. A wipe behind it, in the log already, was taken for a
/// part of it when the trie was made: the slots that nothing had changed since the checkpoint were missing, and without a root in the log to
/// compare with (here it found no space) root and proofs were wrong.
#[test]
fn a_wipe_behind_the_version_shown_is_not_part_of_it() {
    let disk = disk(16);
    let db = small().create_on(disk.clone()).unwrap();
    commit(&db, &slots(1, 50, 1));
    db.checkpoint().unwrap();
    // Changes, then the root.
    disk.fail_operation(disk.operations() + 1, ErrorKind::StorageFull);
    let (shown, root) = db.commit_deferred(&slots(2, 1, 1), Durability::Pipelined).unwrap();
    let expected = root.wait().unwrap();
    shown.wait_durable().unwrap();
    let mut wipe = Changes::new();
    wipe.wipe_storage(Address::repeat_byte(1));
    db.commit(&wipe, Durability::Pipelined).unwrap();
    let reader = small().open_read_only_on(disk).unwrap();
    assert_eq!(reader.stats().version, shown.version());
    assert_eq!(reader.snapshot().unwrap().root().unwrap(), expected);
}

/// A segment of commits that changed nothing was dropped, which loses nothing. But going back to an older version looked for their frames: its
/// trie, and a full check, ended with an error of corruption.
#[test]
fn versions_before_empty_commits_whose_segment_is_gone_have_a_trie() {
    let db = small().retain_versions(2000).create_on(disk(17)).unwrap();
    let first = commit(&db, &slots(1, 20, 1));
    while db.stats().segments < 3 {
        db.commit(&Changes::new(), Durability::Pipelined).unwrap();
    }
    commit(&db, &slots(1, 20, 2));
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    assert!(db.stats().segments < 3, "one was dropped");
    db.snapshot_at(first).unwrap().storage_root(&Address::repeat_byte(1)).unwrap();
    db.check(CheckLevel::Full).unwrap();
}

/// Block after block was proposed on the one before and that one committed then: always one ahead. No proposal was made on a version, so
/// each kept all changes since the first one, its snapshot, its pages and, through its parent, every proposal before it.
#[test]
fn a_chain_of_proposals_that_is_always_one_ahead_holds_nothing_old() {
    let db = small().retain_versions(0).create_on(disk(18)).unwrap();
    commit(&db, &slots(1, 50, 1));
    let mut tip = db.propose(&db.snapshot().unwrap(), &slots(1, 5, 2)).unwrap();
    for round in 3..40 {
        let next = tip.propose(&slots(1, 50, round)).unwrap();
        let root = tip.root();
        tip.commit(Durability::Pipelined).unwrap();
        assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
        if round % 5 == 0 {
            // Sweeps, so that the tries below the tip are in other places.
            db.checkpoint().unwrap();
        }
        tip = next;
    }
    let stats = db.stats();
    assert!(stats.oldest_snapshot.unwrap() + 2 >= stats.version, "{stats:?}");
    let floor = db.store.tries.floor(&db.store.pins);
    assert!(floor + 10 > stats.version, "floor {floor} at {}", stats.version);
    db.check(CheckLevel::Full).unwrap();
}

/// A checkpoint wrote the trie, then found no space for its superblock. The next one had nothing to write, so its superblock named the
/// generation of the one before both: to the next open all nodes seemed to be too young, and it made the trie anew from the whole log.
#[test]
fn a_trie_that_a_failed_checkpoint_wrote_is_not_taken_for_damage() {
    let mut failures = 0;
    for failing in 0..60 {
        let disk = disk(19);
        let db = small().create_on(disk.clone()).unwrap();
        commit(&db, &slots(1, 3000, 1));
        commit(&db, &slots(2, 1, 1));
        disk.fail_operation(disk.operations() + failing, ErrorKind::StorageFull);
        let take = || checkpoint::checkpoint(&db.store, Thoroughness::Automatic);
        if take().is_ok() || take().is_err() {
            continue;
        }
        failures += 1;
        let sequence = db.store.checkpoint.lock().newest.trie.sequence;
        drop(db);
        let db = small().open_on(disk).unwrap();
        assert_eq!(db.store.tries.floor(&db.store.pins), sequence, "operation {failing}: made anew");
    }
    assert!(failures > 0);
}

/// Opening with `rebuild` while one superblock was damaged wrote the sound one anew in its place, with other bytes (without image and trie): a
/// power cut tore it, and none was left.
#[test]
fn a_rebuild_does_not_change_the_only_sound_superblock_in_place() {
    let damaged = || {
        let disk = disk(20);
        let db = small().create_on(disk.clone()).unwrap();
        (0..20).for_each(|byte| _ = commit(&db, &code_changes(byte, 60_000)));
        db.close().unwrap();
        let newest = crate::superblock::read(&*disk).unwrap().unwrap().newest.generation;
        disk.damage(&crate::superblock::file_name(newest + 1), 16, 1);
        disk
    };
    for cut in 0..10 {
        let disk = damaged();
        disk.cut_after(disk.operations() + cut);
        drop(small().rebuild(true).open_on(disk.clone()));
        for loss in 0..30 {
            let opened = small().open_on(Arc::new(disk.after_power_loss(loss)));
            opened.unwrap_or_else(|error| panic!("cut {cut}, loss {loss}: {error}"));
        }
    }
}

/// A file of the arena was lost, and the topmost node stood in another one. The database opened as if nothing were missing; then commits failed
/// with an error of corruption, though all that was lost can be made anew.
#[test]
fn a_lost_file_of_the_arena_costs_time_only() {
    let disk = disk(21);
    let db = small().create_on(disk.clone()).unwrap();
    (0..10).for_each(|byte| _ = commit(&db, &slots(byte, 400, 1)));
    db.close().unwrap();
    let extents: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.starts_with("arena.")).collect();
    assert!(extents.len() > 2, "{extents:?}");
    for lost in extents {
        let disk = Arc::new(disk.after_power_loss(1));
        disk.remove_file(&lost);
        let db = small().open_on(disk).unwrap();
        (0..10).for_each(|byte| _ = commit(&db, &slots(byte, 400, 2)));
        db.check(CheckLevel::Full).unwrap();
    }
}

/// The trie had to be made anew, and the disk was full (which is how a checkpoint comes to leave the trie out): the database could not be opened,
/// not even to free anything.
#[test]
fn a_full_disk_does_not_keep_a_database_without_trie_closed() {
    let options = || small().max_unwritten_trie_bytes(1);
    let disk = disk(23);
    let db = options().create_on(disk.clone()).unwrap();
    (0..10).for_each(|byte| _ = commit(&db, &slots(byte, 400, 1)));
    db.close().unwrap();
    disk.set_capacity(Some(0));
    let db = options().rebuild(true).open_on(disk).unwrap();
    db.check(CheckLevel::Full).unwrap();
}

/// Memory of the nodes under a child that are not in the arena.
fn unwritten(child: &Child) -> u64 {
    match &child.link {
        Link::Branch(NodeRef::Memory(branch)) if branch.written().place().is_none() => {
            branch.memory_bytes() as u64 + branch.children().iter().map(|(_, child)| unwritten(&child)).sum::<u64>()
        }
        Link::Branch(_) => 0,
        Link::Leaf(leaf) => leaf.storage.as_deref().map_or(0, unwritten),
    }
}

/// Nodes that a commit replaced while a checkpoint was writing them were taken off the memory in use twice: it then seemed to be free, and grew
/// beyond its limit.
#[test]
fn memory_of_nodes_is_counted_once_beside_a_checkpoint() {
    let db = small().segment_bytes(1 << 22).checkpoint_bytes_per_second(1 << 18).create_on(disk(24)).unwrap();
    commit(&db, &slots(1, 10_000, 1));
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint().unwrap());
        thread::sleep(Duration::from_millis(200));
        commit(&db, &slots(1, 2_000, 2));
        assert!(!checkpoint.is_finished(), "it writes for four seconds, and the commit takes a hundredth of that");
    });
    let (_, newest) = db.store.tries.newest();
    let in_memory = newest.trie.top.as_ref().map_or(0, unwritten);
    assert!(in_memory > 0);
    assert!(db.stats().unwritten_trie_bytes >= in_memory, "{} of {in_memory}", db.stats().unwritten_trie_bytes);
}

/// A checkpoint that was asked for took all nodes that it moved into memory at once: the whole trie, for most.
#[test]
fn a_sweep_minds_the_memory_that_nodes_may_take() {
    const LIMIT: u64 = 1 << 16;
    let disk = disk(25);
    let db = small().segment_bytes(1 << 22).create_on(disk.clone()).unwrap();
    (0..40).for_each(|byte| _ = commit(&db, &slots(byte, 400, 1)));
    db.close().unwrap();
    let options = || small().max_unwritten_trie_bytes(LIMIT).checkpoint_bytes_per_second(1 << 20);
    let db = options().open_on(disk.clone()).unwrap();
    (0..40).for_each(|byte| _ = commit(&db, &slots(byte, 100, 2)));
    let root = db.snapshot().unwrap().root().unwrap();
    checkpointer::wait_for_started(&db.store);
    let mut most = 0;
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint().unwrap());
        while !checkpoint.is_finished() {
            most = most.max(db.stats().unwritten_trie_bytes);
            thread::sleep(Duration::from_micros(100));
        }
    });
    let (live, used) = db.store.tries.arena.pages.lock().usage();
    assert!(live > 4 * LIMIT, "{live}: a trie of many times the limit");
    // Two of these accounts may share a part; all of them take more than twenty times the limit.
    assert!((1..3 * LIMIT).contains(&most), "{most}: a part more than the limit at most");
    // Each time the limit is reached, nodes on the way to the part are written once more.
    assert!(3 * live > 2 * used, "{live} of {used}: all of it is packed all the same");
    assert_eq!(db.stats().unwritten_trie_bytes, 0);
    drop(db);
    let db = options().open_on(disk).unwrap();
    assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
    db.check(CheckLevel::Full).unwrap();
}

/// Changes and root are written at once. A full disk had room for the changes, and for all but a little of the root: the commit failed, and
/// was there after the next open all the same.
#[test]
fn a_commit_that_found_no_space_for_its_root_does_not_come_back() {
    let disk = disk(26);
    let (db, control) = ControlledDisk::create(&disk);
    commit(&db, &account_changes(1, 1));
    control.shorten_write.store(true, Ordering::Relaxed);
    let refused = db.commit(&account_changes(2, 1), Durability::Durable).unwrap_err();
    assert!(refused.is_out_of_space(), "{refused}");
    drop(db);
    for loss in 0..20 {
        assert_eq!(small().open_on(Arc::new(disk.after_power_loss(loss))).unwrap().stats().version, 1);
    }
    assert_eq!(small().open_on(disk).unwrap().stats().version, 1);
}

/// Changes of an earlier version than those before, with sound checksums, which only a forger writes: the books, which are kept in the
/// order of the versions, met an assertion. They end the log, unless something says that they are durable.
#[test]
fn changes_of_an_earlier_version_do_not_count() {
    let disk = disk(27);
    let db = small().create_on(disk.clone()).unwrap();
    (1..=3).for_each(|nonce| _ = commit(&db, &account_changes(1, nonce)));
    let forge = || {
        let mut writer = db.store.writer.lock();
        let at = db.store.log.reserve(&db.store.lookup.table, &mut writer.tail, 1000).unwrap();
        let mut frame = FrameBuilder::new(at, 1000);
        let stored = StoredAccount { account: Account { nonce: 9, ..Account::default() }, salt: 0 };
        let body = Body::Account { address: Address::repeat_byte(1), stored };
        frame.push(&Record { version: 2, previous: None, body });
        db.store.log.append(&mut writer.tail, [(frame, FrameKind::Changes)], 2).unwrap();
    };
    forge();
    let left = Arc::new(disk.after_power_loss(1));
    let found = small().open_on(left).unwrap();
    assert_eq!(found.stats().version, 3);
    found.check(CheckLevel::Full).unwrap();
    assert_eq!(found.snapshot().unwrap().account(&Address::repeat_byte(1)).unwrap().unwrap().nonce, 3);
    db.store.log.sync_upto(db.store.log.appended_upto()).unwrap();
    commit(&db, &account_changes(1, 4));
    drop(db);
    let refused = small().open_on(disk).unwrap_err();
    assert!(refused.to_string().contains("changes of a version after 3"), "{refused}");
}

/// What is there twice, or can be made anew of the log, was so where it was damaged; where the device could not read it, the database stayed closed.
#[test]
fn a_database_opens_without_what_the_device_cannot_read_of_it() {
    let disk = disk(28);
    let db = small().create_on(disk.clone()).unwrap();
    for byte in 1..6 {
        commit(&db, &slots(byte, 200, 1));
        db.checkpoint().unwrap();
    }
    let version = commit(&db, &slots(6, 200, 1));
    let root = db.snapshot().unwrap().root().unwrap();
    drop(db);
    let left = |number: u64| -> (Arc<SimulatedDisk>, Arc<Control>, Arc<ControlledDisk>) {
        let disk = Arc::new(disk.after_power_loss(number));
        let control = Arc::new(Control::default());
        (disk.clone(), control.clone(), Arc::new(ControlledDisk { disk, control }))
    };
    for (number, name) in ["superblock.0", "superblock.1", "index.", "arena."].into_iter().enumerate() {
        for rebuild in [false, true] {
            let (disk, control, storage) = left(number as u64);
            *control.unreadable.lock() = Some(name);
            let db = small().rebuild(rebuild).open_on(storage).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((db.stats().version, db.snapshot().unwrap().root().unwrap()), (version, root), "{name}");
            db.check(CheckLevel::Full).unwrap();
            commit(&db, &slots(7, 10, 1));
            let root = db.snapshot().unwrap().root().unwrap();
            db.close().unwrap();
            *control.unreadable.lock() = None;
            let db = small().open_on(disk).unwrap();
            assert_eq!((db.stats().version, db.snapshot().unwrap().root().unwrap()), (version + 1, root), "{name}");
            db.check(CheckLevel::Full).unwrap();
        }
    }
    for name in ["superblock.", "segment."] {
        let (_, control, storage) = left(9);
        *control.unreadable.lock() = Some(name);
        let error = small().open_on(storage).unwrap_err();
        assert!(matches!(error, Error::Io { operation: "read", .. }), "{name}: {error}");
    }
}

/// A snapshot of another handle was taken, and the proposal was committed to that one's database.
#[test]
fn a_snapshot_of_another_database_is_refused() {
    let (own, other) = (small().create_on(disk(29)).unwrap(), small().create_on(disk(29)).unwrap());
    let changes = account_changes(1, 1);
    let refused = own.propose(&other.snapshot().unwrap(), &changes).unwrap_err();
    assert!(matches!(refused, Error::OtherDatabase { .. }), "{refused}");
    let committed = own.propose(&own.snapshot().unwrap(), &changes).unwrap().commit(Durability::Durable).unwrap();
    commit(&own, &account_changes(1, 2));
    assert_eq!((committed.snapshot().unwrap().version(), own.stats().version), (1, 2));
}

/// A commit that found the memory for nodes taken waited for the checkpoint under way, however long that went on when there was room again: all of a
/// thorough one.
#[test]
fn commits_go_on_beside_a_thorough_checkpoint() {
    const LIMIT: u64 = 1 << 17;
    let disk = disk(30);
    let db = small().segment_bytes(1 << 22).create_on(disk.clone()).unwrap();
    (0..60).for_each(|byte| _ = commit(&db, &slots(byte, 400, 1)));
    db.close().unwrap();
    let db = small().max_unwritten_trie_bytes(LIMIT).checkpoint_bytes_per_second(1 << 18).open_on(disk).unwrap();
    // Gaps, for the checkpoint to have something to do.
    (0..60).for_each(|byte| _ = commit(&db, &slots(byte, 40, 2)));
    checkpointer::wait_for_started(&db.store);
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint().unwrap());
        while db.stats().unwritten_trie_bytes < LIMIT / 4 && !checkpoint.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        for value in 3..8 {
            commit(&db, &slots(1, 100, value));
        }
        assert!(!checkpoint.is_finished(), "it writes for ten seconds");
    });
    db.check(CheckLevel::Full).unwrap();
}

/// A thorough check held up checkpoints, and so, once there was no room for nodes, commits: for as long as it takes to read everything.
#[test]
fn checkpoints_go_on_beside_a_check_and_remove_nothing() {
    let db = small().retain_versions(0).create_on(disk(31)).unwrap();
    let churn = |value| (0..8).for_each(|byte| _ = commit(&db, &slots(byte, 200, value)));
    churn(1);
    // What a check holds.
    let files = db.store.files.read();
    for value in 2..6 {
        churn(value);
        db.checkpoint().unwrap();
    }
    let stats = db.stats();
    assert!(stats.checkpoints >= 4 && stats.dropped_segments == 0, "{stats:?}");
    drop(files);
    db.checkpoint().unwrap();
    churn(6);
    db.checkpoint().unwrap();
    assert!(db.stats().dropped_segments > 3, "{:?}", db.stats());
    db.check(CheckLevel::Full).unwrap();
}
