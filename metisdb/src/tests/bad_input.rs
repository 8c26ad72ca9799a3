//! Whatever a user or a disk can do wrong: each is refused with an error that says what to do, and nothing is lost.

use std::{fs, path::Path, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{
    Random, disk,
    model::{State, Step, changes},
    small, wide,
};
use crate::{
    Account, Block, Changes, CheckLevel, Db, Durability, Error, MAX_CODE_BYTES, Result, Snapshot,
    log::{crc32c, record::VERSION_LIMIT, segment::SegmentHeader},
    storage::{SimulatedDisk, Storage},
    superblock::{self, Superblock},
};

/// A database and what it must hold.
pub(super) struct History(pub(super) Vec<State>);

impl History {
    pub(super) fn begin(db: &Db, commits: u64) -> Self {
        let mut history = Self(vec![State::default()]);
        history.extend(db, commits);
        history
    }

    pub(super) fn extend(&mut self, db: &Db, commits: u64) {
        let mut random = Random(self.0.len() as u64);
        for _ in 0..commits {
            let (next, steps) = self.0.last().unwrap().next(&mut random, 2000);
            db.commit(&changes(&steps), Durability::Durable).unwrap();
            self.0.push(next);
        }
    }

    #[track_caller]
    pub(super) fn assert_reads(&self, db: &Db) {
        let stats = db.stats();
        assert_eq!(stats.version, self.0.len() as u64 - 1);
        for version in stats.oldest_version..=stats.version {
            self.0[version as usize].assert_equals(&db.snapshot_at(version).unwrap());
        }
    }

    /// Opens and compares, first beside nobody for reading, then for writing.
    #[track_caller]
    pub(super) fn assert_opens(&self, path: &Path) {
        self.assert_reads(&small().open_read_only(path).unwrap());
        let db = small().open(path).unwrap();
        self.assert_reads(&db);
        db.check(CheckLevel::Full).unwrap();
    }

    /// Made in a folder and closed.
    pub(super) fn closed_at(path: &Path) -> Self {
        let db = small().create(path).unwrap();
        let history = Self::begin(&db, 6);
        db.close().unwrap();
        history
    }
}

#[track_caller]
pub(super) fn assert_says(error: &Error, advice: &str) {
    let message = error.to_string();
    assert!(message.contains(advice), "{message:?} does not say {advice:?}");
}

/// Opening, for writing and for reading, is refused in the same way.
#[track_caller]
fn assert_refused(path: &Path, expected: impl Fn(&Error) -> bool, advice: &str) {
    for error in [small().open(path).unwrap_err(), small().open_read_only(path).unwrap_err()] {
        assert!(expected(&error), "{error}");
        assert_says(&error, advice);
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_not_a_database(error: &Error) -> bool {
    matches!(error, Error::NotADatabase { .. })
}

fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::ForeignFile { .. })
}
/// The number in the name of a file of the arena was multiplied as it was: one that no place leads to overflowed.
#[test]
fn an_extent_with_a_number_beyond_all_places_is_no_extent() {
    let disk = disk(40);
    let db = small().create_on(disk.clone()).unwrap();
    let mut changes = Changes::new();
    (1..60).for_each(|number| {
        changes.set_account(Address::repeat_byte(number), Account { nonce: 1, ..Account::default() });
    });
    db.commit(&changes, Durability::Durable).unwrap();
    db.close().unwrap();
    let mut bytes = disk.file_bytes("arena.0000000001").unwrap();
    for number in [u64::MAX, u64::MAX / 2, 1 << 40] {
        bytes[16..24].copy_from_slice(&number.to_le_bytes());
        let checksum = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        disk.put_file(&format!("arena.{number:010}"), bytes.clone());
    }
    for (options, damaged) in [(small(), false), (small(), true), (small().rebuild(true), false)] {
        let left = Arc::new(disk.after_power_loss(0));
        if damaged {
            left.damage("arena.0000000001", 4096 + 20, 1);
        }
        let db = options.open_on(left).unwrap();
        db.snapshot().unwrap().proof(&Address::repeat_byte(9), &[]).unwrap();
        db.checkpoint().unwrap();
        db.close().unwrap();
    }
}

#[test]
fn a_path_that_holds_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let empty = folder.path().join("empty");
    let file = folder.path().join("file");
    fs::create_dir(&empty).unwrap();
    fs::write(&file, "text").unwrap();
    for path in [&missing, &empty, &file] {
        assert_refused(path, is_not_a_database, "create one there, or check the path");
    }
    assert!(!missing.exists());
    assert_eq!(names(&empty), [""; 0]);
    small().create(&file).unwrap_err();
    assert_eq!(fs::read(&file).unwrap(), b"text");
    for path in [missing.join("below"), empty] {
        History::closed_at(&path).assert_opens(&path);
    }
}

#[test]
fn creating_where_a_database_is_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::closed_at(folder.path());
    let before = names(folder.path());
    let error = small().create(folder.path()).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_says(&error, "open it instead");
    assert_eq!(names(folder.path()), before);
    history.assert_opens(folder.path());
}

#[test]
fn creating_beside_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note.txt");
    fs::write(&note, "mine").unwrap();
    let error = small().create(folder.path()).unwrap_err();
    assert!(is_foreign(&error), "{error}");
    assert_says(&error, "note.txt is not part of this database; move it out of the folder");
    assert_eq!(fs::read(&note).unwrap(), b"mine");
    fs::remove_file(&note).unwrap();
    History::closed_at(folder.path()).assert_opens(folder.path());
}

#[test]
fn a_foreign_file_is_named_and_opening_works_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::closed_at(folder.path());
    for name in ["notes", "segment.1", "segment.x000000001", "index.000000001", "superblock.2", "arena.old"] {
        let path = folder.path().join(name);
        fs::write(&path, "text").unwrap();
        assert_refused(folder.path(), is_foreign, name);
        assert_refused(folder.path(), is_foreign, "move it out of the folder");
        fs::remove_file(&path).unwrap();
    }
    history.assert_opens(folder.path());
}

#[test]
fn a_segment_of_another_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    let history = History::closed_at(&own);
    History::closed_at(&other);
    let name = "segment.0000000001";
    let sound = fs::read(own.join(name)).unwrap();
    fs::copy(other.join(name), own.join(name)).unwrap();
    assert_refused(&own, is_foreign, "segment.0000000001 is not part of this database");
    fs::write(own.join(name), &sound).unwrap();
    history.assert_opens(&own);
    // As the next segment, which the superblock does not know yet.
    let mut header = fs::read(other.join(name)).unwrap();
    header[16] = 2;
    rewrite_checksum(&mut header, SegmentHeader::BYTES - 4);
    fs::write(own.join("segment.0000000002"), header).unwrap();
    assert_refused(&own, is_foreign, "segment.0000000002 is not part of this database");
    fs::remove_file(own.join("segment.0000000002")).unwrap();
    history.assert_opens(&own);
}

/// Puts the checksum of all bytes before `at` there.
fn rewrite_checksum(bytes: &mut [u8], at: usize) {
    let checksum = crc32c(&bytes[..at]).to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&checksum);
}

#[test]
fn another_format_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::closed_at(folder.path());
    let is_version_2 = |error: &Error| matches!(error, Error::FormatVersion { found: 2, supported: 1, .. });
    for name in ["superblock.0", "superblock.1", "segment.0000000001"] {
        let path = folder.path().join(name);
        let sound = fs::read(&path).unwrap();
        let mut newer = sound.clone();
        newer[8] = 2;
        let rows = u32::from_le_bytes(newer[12..16].try_into().unwrap()) as usize;
        let checksum_at = if name.starts_with("segment") { SegmentHeader::BYTES - 4 } else { 256 + 16 * rows };
        rewrite_checksum(&mut newer, checksum_at);
        fs::write(&path, newer).unwrap();
        assert_refused(folder.path(), is_version_2, "use the MetisDB release that wrote it, or a newer one");
        assert_refused(folder.path(), is_version_2, name);
        fs::write(&path, sound).unwrap();
    }
    history.assert_opens(folder.path());
}

/// A closed database on a simulated disk, with several segments.
fn closed_disk(seed: u64) -> (Arc<SimulatedDisk>, History) {
    let disk = disk(seed);
    let db = small().create_on(disk.clone()).unwrap();
    let mut history = History::begin(&db, 4);
    for byte in 0..3 {
        let code = Bytes::from(vec![byte; 50_000]);
        let mut changes = Changes::new();
        changes.set_code(keccak256(&code), code);
        db.commit(&changes, Durability::Durable).unwrap();
        history.0.push(history.0.last().unwrap().clone());
        history.extend(&db, 2);
    }
    db.close().unwrap();
    (disk, history)
}

fn copy(disk: &SimulatedDisk) -> Arc<SimulatedDisk> {
    Arc::new(disk.after_power_loss(1))
}

#[track_caller]
fn assert_corrupt(disk: &Arc<SimulatedDisk>, file: &str, case: &str) {
    let read_only = small().open_read_only_on(disk.clone());
    for opened in [small().open_on(disk.clone()), read_only] {
        let error = opened.expect_err(case);
        assert!(error.is_corruption(), "{case}: {error}");
        assert_says(&error, file);
        assert_says(&error, "restore the file from a copy");
    }
}

#[test]
fn a_truncated_or_missing_segment_is_refused_until_it_is_restored() {
    let (disk, history) = closed_disk(1);
    let segments: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.starts_with("segment")).collect();
    assert!(segments.len() > 2);
    for name in &segments {
        let sound = disk.file_bytes(name).unwrap();
        for length in [0, 1, 127, 128, 150, 191, 192, 300, 40_000, (1 << 16) - 1] {
            let damaged = copy(&disk);
            damaged.truncate_file(name, length);
            assert_corrupt(&damaged, name, &format!("{name} of {length} bytes"));
            damaged.put_file(name, sound.clone());
            history.assert_reads(&small().open_on(damaged).unwrap());
        }
        let damaged = copy(&disk);
        damaged.remove_file(name);
        assert_corrupt(&damaged, name, &format!("{name} missing"));
        damaged.put_file(name, sound);
        history.assert_reads(&small().open_on(damaged).unwrap());
    }
}

#[test]
fn a_segment_without_the_one_before_it_is_refused() {
    let disk = disk(2);
    let db = small().create_on(disk.clone()).unwrap();
    let mut history = History::begin(&db, 2);
    for byte in 0..3 {
        let code = Bytes::from(vec![byte; 50_000]);
        let mut changes = Changes::new();
        changes.set_code(keccak256(&code), code);
        db.commit(&changes, Durability::Durable).unwrap();
        history.0.push(history.0.last().unwrap().clone());
    }
    drop(db);
    let damaged = copy(&disk);
    damaged.remove_file("segment.0000000002");
    assert_corrupt(&damaged, "segment.0000000003", "a gap behind the last checkpoint");
    history.assert_reads(&small().open_on(disk).unwrap());
}

#[test]
fn one_damaged_superblock_is_replaced_by_the_other_and_two_are_refused() {
    let (disk, history) = closed_disk(3);
    for damaged_slot in 0..2 {
        let name = superblock::file_name(damaged_slot);
        for offset in 0..disk.file_bytes(&name).unwrap().len() as u64 {
            let damaged = copy(&disk);
            damaged.damage(&name, offset, 1 << (offset % 8));
            let case = format!("{name}, byte {offset}");
            let reader = small().open_read_only_on(damaged.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(reader.check(CheckLevel::Quick).unwrap().superblocks, 1, "{case}");
            let db = small().open_on(damaged.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(db.check(CheckLevel::Quick).unwrap().superblocks, 2, "{case}: there is a reserve again");
            if offset % 16 == 0 {
                history.assert_reads(&db);
                db.close().unwrap();
                history.assert_reads(&small().open_on(damaged.clone()).unwrap());
            }
        }
    }
    let damaged = copy(&disk);
    (0..2).for_each(|slot| damaged.damage(&superblock::file_name(slot), 100, 1));
    assert_corrupt(&damaged, "superblock.0", "both superblocks");
    let refused = small().create_on(damaged.clone()).unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
    damaged.damage("superblock.1", 100, 1);
    history.assert_reads(&small().open_on(damaged).unwrap());
}

/// A small database of one segment; the position behind its durable part.
struct Sample {
    disk: Arc<SimulatedDisk>,
    durable: u64,
}

const SAMPLE_VERSIONS: u64 = 4;
const SEGMENT: &str = "segment.0000000001";

impl Sample {
    /// `closed`: with an image and a mark; else the last commit is not known to be durable.
    fn new(closed: bool) -> Self {
        let disk = disk(4);
        let db = small().create_on(disk.clone()).unwrap();
        let mut durable = 0;
        for version in 1..=SAMPLE_VERSIONS {
            durable = db.stats().log_position;
            db.commit(&Self::changes(version), Durability::Durable).unwrap();
        }
        if closed {
            db.close().unwrap();
            let superblocks = superblock::read(&*disk).unwrap().unwrap();
            durable = superblocks.newest.durable_upto;
        }
        Self { disk, durable }
    }

    fn changes(version: u64) -> Changes {
        let mut changes = Changes::new();
        changes.set_account(Address::ZERO, Account { nonce: version, balance: wide(version), ..Account::default() });
        changes.set_storage(Address::ZERO, U256::from(1), wide(version));
        changes.set_block(Block { number: 1, timestamp: version, ..Block::default() });
        if version == 2 {
            changes.wipe_storage(Address::ZERO).set_storage(Address::ZERO, U256::from(1), wide(2));
            changes.set_code(keccak256("code"), "code".into());
        }
        changes
    }

    /// Reads everything at a version: right, or an error.
    fn read(snapshot: &Snapshot) -> Result<()> {
        let version = snapshot.version();
        if version == 0 {
            return Ok(());
        }
        let account = snapshot.account(&Address::ZERO)?;
        assert_eq!(account, Some(Account { nonce: version, balance: wide(version), ..Account::default() }));
        assert_eq!(snapshot.storage(&Address::ZERO, U256::from(1))?, wide(version));
        assert_eq!(snapshot.block(1)?, Some(Block { number: 1, timestamp: version, ..Block::default() }));
        let code = snapshot.code(&keccak256("code"))?;
        assert_eq!(code, (version >= 2).then(|| "code".into()));
        Ok(())
    }

    /// Opens, reads every version and checks; the newest version unless something failed.
    fn examine(disk: &Arc<SimulatedDisk>, case: &str) -> Result<u64> {
        let db = small().open_on(disk.clone())?;
        let version = db.stats().version;
        let mut outcome = Ok(version);
        for version in db.stats().oldest_version..=version {
            let read = Self::read(&db.snapshot_at(version)?);
            outcome = outcome.and_then(|newest| read.map(|()| newest));
        }
        let check = db.check(CheckLevel::Full);
        assert!(outcome.is_ok() || check.is_err(), "{case}: a check finds what a read finds");
        outcome.and_then(|version| check.map(|_| version))
    }
}

#[test]
fn a_flipped_bit_below_the_durable_mark_never_passes() {
    for closed in [true, false] {
        let sample = Sample::new(closed);
        println!("closed {closed}: {} durable bytes", sample.durable);
        assert!(sample.durable > 1000);
        for offset in 0..sample.durable {
            for bit in [offset % 8, (offset + 3) % 8] {
                let case = format!("closed {closed}, byte {offset}, bit {bit}");
                let damaged = copy(&sample.disk);
                damaged.damage(SEGMENT, offset, 1 << bit);
                match Sample::examine(&damaged, &case) {
                    Err(error) if error.is_corruption() => assert_says(&error, SEGMENT),
                    other => panic!("{case}: {other:?}"),
                }
                damaged.damage(SEGMENT, offset, 1 << bit);
                let version = Sample::examine(&damaged, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(version, SAMPLE_VERSIONS, "{case}: nothing is lost once the byte is restored");
            }
        }
    }
}

#[test]
fn a_flipped_bit_above_the_durable_mark_cuts_the_tail() {
    let sample = Sample::new(false);
    let bytes = sample.disk.file_bytes(SEGMENT).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    assert!(end > sample.durable);
    // The last frame is the root of the last version, which is computed anew where it is missing.
    let root = (end + 1).next_multiple_of(8) - crate::commit::ROOT_FRAME_BYTES as u64;
    for offset in sample.durable..=end {
        let case = format!("byte {offset}");
        let damaged = copy(&sample.disk);
        damaged.damage(SEGMENT, offset, 1 << (offset % 8));
        let version = Sample::examine(&damaged, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(version, SAMPLE_VERSIONS - u64::from(offset < root), "{case}");
        let db = small().open_on(damaged.clone()).unwrap();
        if version < SAMPLE_VERSIONS {
            db.commit(&Sample::changes(SAMPLE_VERSIONS), Durability::Durable).unwrap();
        }
        drop(db);
        assert_eq!(Sample::examine(&damaged, &case).unwrap(), SAMPLE_VERSIONS, "{case}");
    }
}

#[test]
fn a_damaged_image_costs_a_rebuild_and_nothing_else() {
    let sample = Sample::new(true);
    let image = sample.disk.list().unwrap().into_iter().find(|name| name.starts_with("index.")).unwrap();
    let length = sample.disk.file_bytes(&image).unwrap().len() as u64;
    for offset in 0..length {
        for bit in 0..8 {
            let case = format!("byte {offset} of {length}, bit {bit}");
            let damaged = copy(&sample.disk);
            damaged.damage(&image, offset, 1 << bit);
            let version = Sample::examine(&damaged, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(version, SAMPLE_VERSIONS, "{case}");
        }
    }
    for length in 0..length {
        let damaged = copy(&sample.disk);
        damaged.truncate_file(&image, length);
        let case = format!("image of {length} bytes");
        assert_eq!(Sample::examine(&damaged, &case).unwrap_or_else(|error| panic!("{case}: {error}")), SAMPLE_VERSIONS);
    }
}

#[test]
fn values_at_their_limits_come_back() {
    let disk = disk(5);
    let (address, top) = (Address::repeat_byte(0xff), U256::MAX);
    let account = Account { nonce: u64::MAX, balance: top, code_hash: B256::repeat_byte(0xff) };
    let block = Block { number: u64::MAX, hash: B256::repeat_byte(1), parent_hash: B256::ZERO, timestamp: u64::MAX };
    let code = Bytes::from(vec![0x5b; MAX_CODE_BYTES]);
    let mut changes = Changes::new();
    changes.set_account(address, account).set_storage(address, top, top).set_block(block);
    changes.set_code(keccak256(&code), code.clone());
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&changes, Durability::Durable).unwrap();
    let assert_reads = |db: &Db| {
        let snapshot = db.snapshot_at(1).unwrap();
        assert_eq!(snapshot.account(&address).unwrap(), Some(account));
        assert_eq!(snapshot.storage(&address, top).unwrap(), top);
        assert_eq!(snapshot.storage(&address, top - U256::from(1)).unwrap(), U256::ZERO);
        assert_eq!(snapshot.block(u64::MAX).unwrap(), Some(block));
        assert_eq!(snapshot.code(&keccak256(&code)).unwrap(), Some(code.clone()));
        db.check(CheckLevel::Full).unwrap();
    };
    assert_reads(&db);
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    assert_reads(&db);
    db.close().unwrap();
    assert_reads(&small().open_on(disk).unwrap());
}

#[test]
fn changes_that_contradict_themselves_are_refused_whole() {
    let disk = disk(6);
    let db = small().create_on(disk.clone()).unwrap();
    let history = History::begin(&db, 5);
    let operations = disk.operations();
    let fresh = Address::repeat_byte(0x77);
    let mut sound = Changes::new();
    sound.set_account(Address::repeat_byte(0x78), Account::default());
    let refused = |changes: &Changes| db.commit(changes, Durability::Durable).unwrap_err();
    let long = Bytes::from(vec![0; MAX_CODE_BYTES + 1]);
    let error = refused(sound.clone().set_code(keccak256(&long), long));
    assert!(matches!(error, Error::CodeTooLong { bytes, .. } if bytes == MAX_CODE_BYTES + 1), "{error}");
    assert_says(&error, "the limit is 1048576");
    let error = refused(sound.clone().set_code(B256::ZERO, "code".into()));
    assert!(matches!(error, Error::CodeHashMismatch { actual, .. } if actual == keccak256("code")), "{error}");
    assert_says(&error, "has the hash");
    let mut deleted = sound.clone();
    deleted.set_account(fresh, Account::default()).delete_account(fresh);
    for mut changes in [sound, deleted] {
        let error = refused(changes.set_storage(fresh, U256::ZERO, U256::MAX));
        assert!(matches!(error, Error::SlotWithoutAccount { address } if address == fresh), "{error}");
        assert_says(&error, "set the account in the same commit");
    }
    assert_eq!(disk.operations(), operations, "nothing was written");
    history.assert_reads(&db);
    assert_eq!(db.snapshot().unwrap().account(&Address::repeat_byte(0x78)).unwrap(), None);
    drop(db);
    history.assert_reads(&small().open_on(disk).unwrap());
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [0, 1, 1 << 15, (1 << 16) + 1, 3 << 16, 1 << 31, u64::MAX] {
        let error = small().segment_bytes(bytes).create(folder.path()).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "segment_bytes", .. }), "{error}");
        assert_says(&error, "a power of two from 64 KiB to 1 GiB");
    }
    assert_eq!(names(folder.path()), [""; 0]);
    History::closed_at(folder.path()).assert_opens(folder.path());
}

/// A commit longer than a segment, with records that lie across the seams of its slots.
fn long_changes(round: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set_account(Address::ZERO, Account { nonce: round, ..Account::default() });
    for number in 0..3000 {
        changes.set_storage(Address::ZERO, U256::from(number), wide(number + round));
    }
    for byte in 0..3 {
        let code = Bytes::from(vec![byte + 10 * round as u8; 30_001]);
        changes.set_code(keccak256(&code), code);
    }
    changes
}

#[track_caller]
fn assert_long(db: &Db) {
    for round in 1..=2 {
        let snapshot = db.snapshot_at(round).unwrap();
        for number in 0..3000 {
            assert_eq!(snapshot.storage(&Address::ZERO, U256::from(number)).unwrap(), wide(number + round));
        }
        for byte in 0..3 {
            let code = Bytes::from(vec![byte + 10 * round as u8; 30_001]);
            assert_eq!(snapshot.code(&keccak256(&code)).unwrap(), Some(code));
        }
    }
    db.check(CheckLevel::Full).unwrap();
}

#[test]
fn a_commit_longer_than_a_segment_is_one_commit() {
    let disk = disk(7);
    let db = small().create_on(disk.clone()).unwrap();
    for round in 1..=2 {
        db.commit(&long_changes(round), Durability::Durable).unwrap();
    }
    assert!(disk.file_bytes("segment.0000000002").unwrap().len() > 300 << 10);
    assert_long(&db);
    drop(db);
    assert_long(&small().open_on(copy(&disk)).unwrap());
    let db = small().open_on(disk.clone()).unwrap();
    assert_long(&db);
    db.close().unwrap();
    let db = small().open_on(disk.clone()).unwrap();
    assert!(db.check(CheckLevel::Quick).unwrap().image);
    assert_long(&db);
    db.commit(&Changes::new(), Durability::Durable).unwrap();
    drop(db);
    let lost = disk.list().unwrap().into_iter().find(|name| name.starts_with("index.")).unwrap();
    disk.remove_file(&lost);
    let db = small().open_on(disk).unwrap();
    assert_eq!(db.stats().version, 3);
    assert_long(&db);
}

#[test]
fn commits_that_change_nothing_make_versions() {
    let disk = disk(8);
    let db = small().create_on(disk.clone()).unwrap();
    let mut history = History::begin(&db, 6);
    let mut same = Changes::new();
    same.set_account(Address::ZERO, Account::default()).set_storage(Address::ZERO, U256::MAX, U256::MAX);
    let mut nothing = Changes::new();
    nothing.set_storage(Address::repeat_byte(9), U256::MAX, U256::ZERO);
    nothing.delete_account(Address::repeat_byte(8)).wipe_storage(Address::repeat_byte(7));
    let mut state = history.0.last().unwrap().clone();
    state.apply(&Step::Set(Address::ZERO, Account::default()));
    state.apply(&Step::Slot(Address::ZERO, U256::MAX, U256::MAX));
    for changes in [&same, &same, &nothing, &Changes::new()] {
        let commit = db.commit(changes, Durability::Durable).unwrap();
        assert_eq!(commit.version(), history.0.len() as u64);
        history.0.push(state.clone());
    }
    history.assert_reads(&db);
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    history.assert_reads(&db);
    db.check(CheckLevel::Full).unwrap();
    db.close().unwrap();
    history.assert_reads(&small().open_on(disk).unwrap());
}

/// Changes the newest superblock as the next generation of it.
fn edit_superblock(disk: &SimulatedDisk, edit: impl Fn(&mut Superblock)) {
    let mut newest = superblock::read(disk).unwrap().unwrap().newest;
    edit(&mut newest);
    newest.generation += 1;
    newest.write(disk).unwrap();
}

fn assert_limit(error: &Error) {
    assert!(matches!(error, Error::LimitReached { .. }), "{error}");
    assert_says(error, "export the state into a new database");
}

#[test]
fn the_last_version_is_followed_by_none() {
    let disk = disk(9);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&Sample::changes(1), Durability::Durable).unwrap();
    db.close().unwrap();
    edit_superblock(&disk, |superblock| superblock.checkpoint_version = VERSION_LIMIT - 2);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!(db.stats().version, VERSION_LIMIT - 2);
    db.commit(&Sample::changes(2), Durability::Durable).unwrap();
    let value = |db: &Db| db.snapshot().unwrap().storage(&Address::ZERO, U256::from(1)).unwrap();
    for durability in [Durability::Durable, Durability::Pipelined] {
        assert_limit(&db.commit(&Sample::changes(3), durability).unwrap_err());
    }
    assert_eq!(value(&db), wide(2));
    db.check(CheckLevel::Full).unwrap();
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    assert_eq!((db.stats().version, value(&db)), (VERSION_LIMIT - 1, wide(2)));
    db.close().unwrap();
    let db = small().open_on(disk).unwrap();
    assert_eq!((db.stats().version, value(&db)), (VERSION_LIMIT - 1, wide(2)));
    assert_limit(&db.commit(&Changes::new(), Durability::Durable).unwrap_err());
}

/// The log's first segment, moved to where the last one can be.
fn move_to_the_end_of_the_log(disk: &SimulatedDisk) {
    let start = (crate::log::segment::SLOT_LIMIT - 1) << 16;
    let identity = superblock::read(disk).unwrap().unwrap().newest.identity;
    let header = SegmentHeader::new(&identity, 1, 1, start, (0, 0));
    let mut bytes = disk.file_bytes(SEGMENT).unwrap();
    bytes[..SegmentHeader::BYTES].copy_from_slice(&header.encode());
    disk.put_file(SEGMENT, bytes);
    edit_superblock(disk, |superblock| {
        superblock.checkpoint_position = start + SegmentHeader::BYTES as u64;
        superblock.durable_upto = superblock.checkpoint_position;
    });
}

#[test]
fn a_log_at_its_limit_is_read_and_written_no_more() {
    let disk = disk(10);
    drop(small().create_on(disk.clone()).unwrap());
    move_to_the_end_of_the_log(&disk);
    let db = small().open_on(disk.clone()).unwrap();
    let mut history = History(vec![State::default()]);
    let mut random = Random(10);
    let error = loop {
        let (next, steps) = history.0.last().unwrap().next(&mut random, 9000);
        match db.commit(&changes(&steps), Durability::Durable) {
            Ok(_) => history.0.push(next),
            Err(error) => break error,
        }
    };
    assert_limit(&error);
    assert!(history.0.len() > 5);
    history.assert_reads(&db);
    db.check(CheckLevel::Full).unwrap();
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    history.assert_reads(&db);
    db.checkpoint().unwrap();
    drop(db);
    history.assert_reads(&small().open_on(disk).unwrap());
}

/// The same change made to both superblocks, or to the newer one only, with checksums that match.
fn with_hostile_superblocks(edit: impl Fn(&mut Superblock), both: bool) -> Arc<SimulatedDisk> {
    let disk = disk(11);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&Sample::changes(1), Durability::Durable).unwrap();
    db.close().unwrap();
    let mut hostile = superblock::read(&*disk).unwrap().unwrap().newest;
    hostile.generation += 2;
    edit(&mut hostile);
    disk.put_file(&superblock::file_name(hostile.generation), hostile.encode());
    if both {
        hostile.generation ^= 1;
        disk.put_file(&superblock::file_name(hostile.generation), hostile.encode());
    }
    disk
}

/// Superblocks with sound checksums and numbers that no database can have were computed with: opening overflowed,
/// or took the sound superblock beside them for the older one and opened by the impossible one.
#[test]
fn a_superblock_with_impossible_numbers_is_damage() {
    type Edit = fn(&mut Superblock);
    let edits: [(&str, Edit); 7] = [
        ("segments of no bytes", |superblock| superblock.identity.segment_bytes = 0),
        ("the last sequence", |superblock| superblock.checkpoint_sequence = u64::MAX),
        ("the last version", |superblock| superblock.checkpoint_version = u64::MAX),
        ("a position between units", |superblock| superblock.checkpoint_position += 3),
        ("the last generation", |superblock| superblock.generation = u64::MAX),
        ("a segment twice", |superblock| superblock.segments.push(superblock.segments[0])),
        ("the last segment number", |superblock| superblock.segments[0].number = u64::MAX),
    ];
    for (case, edit) in edits {
        assert_corrupt(&with_hostile_superblocks(edit, true), "superblock.0", case);
        let disk = with_hostile_superblocks(edit, false);
        let db = small().open_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(db.stats().version, 1, "{case}: the other superblock serves");
        assert_eq!(db.commit(&Sample::changes(2), Durability::Durable).unwrap().version(), 2, "{case}");
        db.close().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(Sample::examine(&disk, case).unwrap(), 2, "{case}");
    }
    // Possible by itself, and a contradiction of the log: the segment would end before the frames in it.
    let shorten: Edit = |superblock| superblock.segments[0].end = SegmentHeader::BYTES as u64 + 8;
    for both in [false, true] {
        assert_corrupt(&with_hostile_superblocks(shorten, both), SEGMENT, "a segment that ends too early");
    }
}

/// A segment header with a sound checksum and a place outside of the log was believed: the sum of its start and its
/// length overflowed, or the table of segments was written beyond its end.
#[test]
fn a_segment_header_with_an_impossible_place_is_damage() {
    for start in [8, 1 << 60, u64::MAX - 7, u64::MAX - ((1 << 16) - 1)] {
        let disk = disk(12);
        let db = small().create_on(disk.clone()).unwrap();
        db.commit(&Sample::changes(1), Durability::Durable).unwrap();
        drop(db);
        let mut bytes = disk.file_bytes(SEGMENT).unwrap();
        let mut header = SegmentHeader::decode(bytes.first_chunk().unwrap());
        header.start = start;
        bytes[..SegmentHeader::BYTES].copy_from_slice(&header.encode());
        rewrite_checksum(&mut bytes, SegmentHeader::BYTES - 4);
        disk.put_file(SEGMENT, bytes);
        assert_corrupt(&disk, SEGMENT, &format!("a segment from {start} on"));
    }
}
