//! Exports and imports that are stopped, fail or lose their power go on where they were.

use std::{
    fs::{self, File},
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use super::{
    super::{Random, disk, small},
    block_changes, exported, go_on, import,
    naive::{Content, RawFile},
    random_state, stop_at,
};
use crate::{Db, Durability, Error, Options, Snapshot, SnapshotFile, storage::SimulatedDisk};

/// A database with three blocks; its newest snapshot is a file of some dozens of chunks.
fn source() -> (Db, Content) {
    let db = small().create_on(disk(1)).unwrap();
    let content = random_state(&db, &mut Random(21), 200).reachable();
    for number in 7..10 {
        db.commit(&block_changes(number), Durability::Pipelined).unwrap();
    }
    (db, content)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn export(snapshot: &Snapshot, folder: &Path) -> crate::Result<crate::SnapshotTally> {
    snapshot.export(folder.join("file"), go_on)
}

#[test]
fn an_export_that_is_stopped_goes_on() {
    let (db, _) = source();
    let snapshot = db.snapshot().unwrap();
    let whole = exported(&snapshot);
    let chunks = RawFile::read(&whole).chunks.len() as u64 + 1;
    assert!(chunks > 10, "{chunks}");
    // Behind each chunk; and all in one file, chunk after chunk.
    let in_steps = tempfile::tempdir().unwrap();
    for stop in 0..=chunks {
        let folder = tempfile::tempdir().unwrap();
        for folder in [folder.path(), in_steps.path()] {
            let stopped = snapshot.export(folder.join("file"), stop_at(stop)).unwrap_err();
            assert!(matches!(stopped, Error::Stopped));
            assert_eq!(names(folder), ["file.partial"]);
        }
        let tally = export(&snapshot, folder.path()).unwrap();
        // The end is written at once with the chunk before it.
        let found = if stop + 1 == chunks { chunks } else { stop };
        assert_eq!((tally.found_chunks, tally.chunks), (found, chunks));
        assert!(fs::read(folder.path().join("file")).unwrap() == whole, "stopped behind {stop}");
        assert_eq!(names(folder.path()), ["file"]);
    }
    assert_eq!(export(&snapshot, in_steps.path()).unwrap().found_chunks, chunks);
    assert!(fs::read(in_steps.path().join("file")).unwrap() == whole);
}

/// Once a slash behind the name of a file that is there was not seen: all was written, and could not be put in its place.
#[test]
fn a_slash_behind_the_name_changes_nothing() {
    let (db, _) = source();
    let (snapshot, folder) = (db.snapshot().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file/");
    snapshot.export(&path, go_on).unwrap();
    assert_eq!(names(folder.path()), ["file"]);
    let error = snapshot.export(&path, go_on).unwrap_err();
    assert!(matches!(error, Error::FileExists { .. }), "{error}");
    assert_eq!(names(folder.path()), ["file"]);
}

/// A kill leaves any beginning of the file, a power cut anything behind what was synced.
#[test]
fn an_export_goes_on_behind_the_last_whole_chunk() {
    let (db, _) = source();
    let snapshot = db.snapshot().unwrap();
    let whole = exported(&snapshot);
    let folder = tempfile::tempdir().unwrap();
    let (file, partial) = (folder.path().join("file"), folder.path().join("file.partial"));
    let mut random = Random(77);
    let lengths: Vec<_> = (0..150).map(|_| random.below(whole.len() as u64) as usize).collect();
    for length in (0..400).chain(lengths).chain([whole.len()]) {
        let mut left = whole[..length].to_vec();
        let header = 56 + 3 * 80 + 32;
        if length > header && random.one_in(2) {
            let at = header + random.below((length - header) as u64) as usize;
            left[at] ^= 1 + random.below(255) as u8;
        }
        if length > header && random.one_in(3) {
            left.resize(length + random.below(5_000) as usize, 0);
        }
        fs::write(&partial, &left).unwrap();
        let tally = export(&snapshot, folder.path()).unwrap();
        let found = tally.found_chunks;
        assert!(fs::read(&file).unwrap() == whole, "{length} bytes, {found} chunks found");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn what_is_in_the_way_of_an_export_stays() {
    let (db, _) = source();
    let (older, newest) = (db.snapshot_at(3).unwrap(), db.snapshot().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (file, partial) = (folder.path().join("file"), folder.path().join("file.partial"));
    older.export(&file, stop_at(4)).unwrap_err();
    let before = fs::read(&partial).unwrap();
    let error = export(&newest, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::OtherSnapshot { path, .. } if *path == partial), "{error}");
    assert!(
        error.to_string().contains("the state of version 3") && error.to_string().contains("of version 6"),
        "{error}"
    );
    for foreign in [&b"notes"[..], &[0; 4_000], b"METISNAP\x02\0\0\0", &[b'x'; 3_000]] {
        fs::write(&partial, foreign).unwrap();
        let error = export(&newest, folder.path()).unwrap_err();
        assert!(matches!(error, Error::OtherSnapshot { .. }), "{error}");
        assert_eq!(fs::read(&partial).unwrap(), foreign);
    }
    fs::write(&partial, before).unwrap();
    let busy = File::open(&partial).unwrap();
    busy.lock().unwrap();
    let error = export(&older, folder.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(busy);
    export(&older, folder.path()).unwrap();
    let whole = fs::read(&file).unwrap();
    let error = export(&newest, folder.path()).unwrap_err();
    assert!(matches!(error, Error::FileExists { .. }), "{error}");
    assert!(fs::read(&file).unwrap() == whole && names(folder.path()) == ["file"]);
}

/// A stream that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len().min(self.0) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            count => {
                self.0 -= count;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_stream_is_an_error() {
    let (db, _) = source();
    let snapshot = db.snapshot().unwrap();
    let whole = exported(&snapshot);
    for room in (0..whole.len()).step_by(whole.len() / 40) {
        assert!(snapshot.export_to(Full(room), go_on).unwrap_err().is_out_of_space(), "{room}");
    }
    snapshot.export_to(Full(whole.len()), go_on).unwrap();
}

/// The database at `target` is the state, by as many commits as there are chunks, and blocks but one.
fn assert_imported(target: &Path, whole: &[u8], content: &Content) {
    let file = RawFile::read(whole);
    let db = Options::new().open(target).unwrap();
    let snapshot = db.snapshot().unwrap();
    assert_eq!(snapshot.version(), file.chunks.len() as u64 + 1 + 2, "each chunk is one commit");
    assert_eq!((snapshot.root().unwrap(), &Content::of(&snapshot)), (content.root(), content));
    assert_eq!(snapshot.committed_block().unwrap().as_ref(), file.blocks.last());
    assert_eq!(names(target.parent().unwrap()), ["state"]);
}

#[test]
fn an_import_that_is_stopped_goes_on() {
    let (db, content) = source();
    let whole = exported(&db.snapshot().unwrap());
    let chunks = RawFile::read(&whole).chunks.len() as u64 + 1;
    let in_steps = tempfile::tempdir().unwrap();
    for stop in 1..=chunks {
        let folder = tempfile::tempdir().unwrap();
        for (folder, found) in [(folder.path(), 0), (in_steps.path(), stop - 1)] {
            let (file, target) = (SnapshotFile::from_stream(&whole[..]).unwrap(), folder.join("state"));
            let mut most_found = 0;
            let stopped = file.import(&target, small(), |tally| {
                most_found = tally.found_chunks;
                stop_at(stop)(tally)
            });
            assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
            assert_eq!((names(folder), most_found), (vec!["state.importing".to_owned()], found));
            assert!(matches!(Options::new().open(&target), Err(Error::NotADatabase { .. })));
        }
        let target = folder.path().join("state");
        let tally = import(&whole, &target).unwrap();
        assert_eq!((tally.found_chunks, tally.chunks), (stop, chunks));
        assert_imported(&target, &whole, &content);
    }
    let target = in_steps.path().join("state");
    assert_eq!(import(&whole, &target).unwrap().found_chunks, chunks);
    assert_imported(&target, &whole, &content);
}

/// What a process that was killed leaves before the database is begun, or behind its place.
#[test]
fn every_leftover_of_an_import_is_gone_on_with() {
    let (db, content) = source();
    let whole = exported(&db.snapshot().unwrap());
    let header = 56 + 3 * 80 + 32;
    for leave in [
        (|_: &Path, _: &[u8]| {}) as fn(&Path, &[u8]),
        |folder, _| fs::write(folder.join("snapshot-header"), "").unwrap(),
        |folder, header| fs::write(folder.join("snapshot-header"), &header[..100]).unwrap(),
        |folder, header| {
            fs::write(folder.join("snapshot-header"), header).unwrap();
            fs::create_dir(folder.join("state")).unwrap();
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state.importing")).unwrap();
        leave(&folder.path().join("state.importing"), &whole[..header]);
        import(&whole, &folder.path().join("state")).unwrap();
        assert_imported(&folder.path().join("state"), &whole, &content);
    }
}

#[test]
fn what_is_in_the_way_of_an_import_stays() {
    let (db, content) = source();
    let (older, whole) = (exported(&db.snapshot_at(3).unwrap()), exported(&db.snapshot().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("state");
    let stopped = SnapshotFile::from_stream(&whole[..]).unwrap().import(&target, small(), stop_at(5));
    assert!(matches!(stopped, Err(Error::Stopped)));
    let error = import(&older, &target).unwrap_err();
    assert!(matches!(error, Error::OtherSnapshot { .. }), "{error}");
    let marker = folder.path().join("state.importing/snapshot-header");
    let busy = File::open(&marker).unwrap();
    busy.lock().unwrap();
    let error = import(&whole, &target).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(busy);
    fs::create_dir(&target).unwrap();
    fs::write(target.join("notes"), "mine").unwrap();
    let error = import(&whole, &target).unwrap_err();
    assert!(matches!(error, Error::FileExists { .. }), "{error}");
    fs::remove_file(target.join("notes")).unwrap();
    assert_eq!(import(&whole, &target).unwrap().found_chunks, 5);
    assert_imported(&target, &whole, &content);
    let error = import(&whole, &target).unwrap_err();
    assert!(matches!(error, Error::FileExists { .. }), "{error}");
    assert_imported(&target, &whole, &content);
}

/// Imports what the disk does not have yet.
fn load(disk: &Arc<SimulatedDisk>, whole: &[u8]) -> crate::Result<crate::SnapshotTally> {
    let options = small().retain_versions(0).checkpoint_log_bytes(1 << 16).max_unsynced_bytes(1 << 14);
    let db = match options.clone().open_on(disk.clone()) {
        Err(Error::NotADatabase { .. }) => options.create_on(disk.clone())?,
        other => other?,
    };
    let tally = SnapshotFile::from_stream(whole)?.load(&db, &mut go_on)?;
    db.close()?;
    Ok(tally)
}

/// The power goes after any operation on the disk, with any of what was not synced.
#[test]
fn an_import_goes_on_after_a_power_cut() {
    let (db, content) = source();
    let whole = exported(&db.snapshot().unwrap());
    let full = disk(1);
    load(&full, &whole).unwrap();
    let operations = full.operations();
    let mut random = Random(operations);
    let mut found = Vec::new();
    for cut in 0..operations {
        let case = format!("cut after {cut} of {operations}");
        let first = disk(cut);
        first.cut_after(cut);
        let _ = load(&first, &whole);
        let second = Arc::new(first.after_power_loss(random.next()));
        let tally = load(&second, &whole).unwrap_or_else(|error| panic!("{case}: {error}"));
        found.push(tally.found_chunks);
        let db = small().open_on(second).unwrap();
        let snapshot = db.snapshot().unwrap();
        assert_eq!((snapshot.root().unwrap(), &Content::of(&snapshot)), (content.root(), &content), "{case}");
        assert_eq!(snapshot.version(), RawFile::read(&whole).chunks.len() as u64 + 3, "{case}");
    }
    assert!(found.contains(&0) && found.iter().any(|found| *found > 10), "{found:?}");
}

/// The disk is full now and again: the import fails, and goes on when there is space.
#[test]
fn an_import_goes_on_when_there_is_space() {
    let (db, content) = source();
    let whole = exported(&db.snapshot().unwrap());
    let small_disk = disk(9);
    let mut failed = 0;
    let tally = (1..200)
        .find_map(|step| {
            small_disk.set_capacity(Some(step << 13));
            match load(&small_disk, &whole) {
                Ok(tally) => Some(tally),
                Err(error) => {
                    assert!(error.is_out_of_space(), "{step}: {error}");
                    failed += 1;
                    None
                }
            }
        })
        .expect("at last there is space");
    assert!(failed > 5 && tally.found_chunks > 0, "{failed} failures, {tally:?}");
    let db = small().open_on(small_disk).unwrap();
    assert_eq!(Content::of(&db.snapshot().unwrap()), content);
}

/// A verification and the search for codes stop, too.
#[test]
fn everything_can_be_stopped() {
    let (db, _) = source();
    let whole = exported(&db.snapshot().unwrap());
    let stop = |_: &crate::SnapshotTally| ControlFlow::Break(());
    assert!(matches!(SnapshotFile::from_stream(&whole[..]).unwrap().verify(stop), Err(Error::Stopped)));
    assert!(matches!(db.snapshot().unwrap().export_to(io::sink(), stop), Err(Error::Stopped)));
}
