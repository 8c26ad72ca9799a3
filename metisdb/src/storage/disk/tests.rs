use std::{io, os::unix::fs::PermissionsExt, sync::Arc};

use tempfile::TempDir;

use super::*;

fn new_storage() -> (TempDir, DiskStorage) {
    let folder = tempfile::tempdir().expect("folder");
    let storage = DiskStorage::create(folder.path(), true).expect("storage");
    (folder, storage)
}

fn sorted_names(storage: &DiskStorage) -> Vec<String> {
    let mut names = storage.list().expect("list");
    names.sort();
    names
}

#[test]
fn files_keep_what_is_written() {
    let (folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(10_000).expect("length");
    file.write_all_at(b"metis", 7_000).expect("write");
    file.write_all_at(b"end", 9_999).expect("a write may extend the file");
    file.sync().expect("sync");
    storage.sync_directory().expect("sync folder");

    let again = DiskStorage::open(folder.path(), true).expect("open");
    let file = again.open("log").expect("open").expect("exists");
    assert_eq!(file.length().expect("length"), 10_002);
    let mut bytes = [1; 7];
    file.read_exact_at(&mut bytes, 6_999).expect("read");
    assert_eq!(&bytes, b"\0metis\0");
    assert_eq!(file.path(), again.path().join("log"));
    assert_eq!(sorted_names(&again), ["log"]);
    again.remove("log").expect("remove");
    again.remove("log").expect("removing nothing is fine");
    assert!(again.open("log").expect("open").is_none());
    assert!(sorted_names(&again).is_empty());
}

#[test]
fn errors_say_what_was_attempted_and_where() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(100).expect("length");
    let error = file.read_exact_at(&mut [0; 10], 95).expect_err("past the end");
    let Error::Io { operation, path, offset, source } = error else { panic!("{error:?}") };
    assert_eq!((operation, path, offset), ("read", file.path(), 95));
    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
    let error = file.map(101).expect_err("longer than the file");
    assert!(matches!(error, Error::Io { operation: "map", .. }));
}

#[test]
fn reserving_takes_space_and_changes_nothing_else() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(1 << 20).expect("length");
    assert_eq!(file.allocated_bytes().expect("allocated"), 0);
    file.write_all_at(b"kept", 4096).expect("write");
    file.reserve(0, 65_536).expect("reserve");
    file.reserve(0, 0).expect("reserve nothing");
    assert!(file.allocated_bytes().expect("allocated") >= 65_536);
    assert_eq!(file.length().expect("length"), 1 << 20);
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 4096).expect("read");
    assert_eq!(&bytes, b"kept");
}

#[test]
fn maps_show_later_writes_and_outlive_the_file() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(8192).expect("length");
    let map = file.map(8192).expect("map");
    file.write_all_at(b"late", 5000).expect("write");
    let clone = map.clone();
    drop(map);
    let replacement = storage.create("log").expect("replace");
    assert_eq!(replacement.length().expect("length"), 0);
    storage.remove("log").expect("remove");
    drop((file, replacement));
    // SAFETY: nobody writes to the file any more.
    let bytes = unsafe { clone.bytes(4999, 6) };
    assert_eq!(bytes, b"\0late\0");
    assert_eq!(clone.length(), 8192);
}

#[test]
fn maps_of_nothing_are_empty() {
    let (_folder, storage) = new_storage();
    let map = storage.create("log").expect("create").map(0).expect("map");
    // SAFETY: there is nothing to write.
    assert!(unsafe { map.bytes(0, 0) }.is_empty());
}

#[test]
#[should_panic(expected = "outside a map")]
fn bytes_outside_a_map_are_refused() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(10).expect("length");
    let map = file.map(10).expect("map");
    // SAFETY: nobody writes to the file.
    let _ = unsafe { map.bytes(8, usize::MAX) };
}

#[test]
fn one_writer_excludes_everyone() {
    let (folder, storage) = new_storage();
    let other = DiskStorage::open(folder.path(), true).expect("second handle");
    let lock = storage.lock_exclusive().expect("lock");
    let error = other.lock_exclusive().expect_err("held");
    let Error::Locked { path, holder } = error else { panic!("{error:?}") };
    assert_eq!((path, holder.as_str()), (storage.path(), "another handle of this process"));
    assert!(other.lock_shared().expect("shared").is_none());
    assert!(storage.list().expect("list").is_empty(), "the lock file is not listed");
    drop(lock);
    drop(other.lock_exclusive().expect("free again"));
    assert!(other.lock_shared().expect("shared").is_some());
}

#[test]
fn readers_share_the_lock_and_exclude_writers() {
    let (_folder, storage) = new_storage();
    drop(storage.lock_exclusive().expect("lock"));
    let first = storage.lock_shared().expect("shared").expect("free");
    let second = storage.lock_shared().expect("shared").expect("shared by two");
    let error = storage.lock_exclusive().expect_err("readers");
    assert!(matches!(error, Error::Locked { holder, .. } if holder.contains("reader")));
    drop((first, second));
    storage.lock_exclusive().expect("free again");
}

#[test]
fn a_refused_writer_learns_the_process_that_holds_the_lock() {
    let (folder, storage) = new_storage();
    let file = File::create(folder.path().join(LOCK_FILE)).expect("create");
    file.try_lock().expect("lock");
    for (text, expected) in [("pid 12\n", "process 12"), ("", "another process"), ("pid x", "another process")] {
        file.set_len(0).expect("length");
        file.write_all_at(text.as_bytes(), 0).expect("write");
        let error = storage.lock_exclusive().expect_err("held");
        assert!(matches!(error, Error::Locked { holder, .. } if holder == expected), "{text:?}");
    }
}

#[test]
fn a_dropped_copy_of_the_lock_releases_nothing() {
    let (folder, storage) = new_storage();
    let file = File::create(folder.path().join(LOCK_FILE)).expect("create");
    file.try_lock().expect("lock");
    // What a forked child inherits is such a second descriptor of one open file.
    let inherited = DiskLock { file: Some(file.try_clone().expect("copy")), process: 0 };
    drop(inherited);
    assert!(matches!(storage.lock_exclusive(), Err(Error::Locked { .. })));
    drop(file);
    storage.lock_exclusive().expect("free again");
}

#[test]
fn readers_need_no_lock_file() {
    let (_folder, storage) = new_storage();
    let lock = storage.lock_shared().expect("shared");
    assert!(lock.is_some());
    assert!(storage.list().expect("list").is_empty());
    storage.lock_exclusive().expect("a lock on nothing excludes nobody");
}

#[test]
fn files_without_write_permission_open_for_reading() {
    let (folder, storage) = new_storage();
    storage.create("log").expect("create").write_all_at(b"x", 0).expect("write");
    let path = folder.path().join("log");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("permissions");
    let file = storage.open("log").expect("open").expect("exists");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).expect("read");
    assert_eq!(&byte, b"x");
    // The superuser may write all the same.
    if OpenOptions::new().write(true).open(&path).is_err() {
        assert!(file.write_all_at(b"y", 0).is_err());
    }
}

#[test]
fn folders_are_made_where_they_are_missing() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a/b/c");
    assert!(matches!(DiskStorage::open(&path, true), Err(Error::NotADatabase { .. })));
    DiskStorage::create(&path, true).expect("create");
    DiskStorage::create(&path, true).expect("exists already");
    assert!(path.is_dir());
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("write");
    assert!(matches!(DiskStorage::open(&file, true), Err(Error::NotADatabase { .. })));
    assert!(matches!(DiskStorage::create(&file, true), Err(Error::NotADatabase { .. })));
    assert!(DiskStorage::create(&file.join("below"), true).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn network_filesystems_are_told_by_their_numbers() {
    assert_eq!(network_filesystem_name(0x6969), Some("NFS"));
    assert_eq!(network_filesystem_name(0xFF53_4D42), Some("CIFS"));
    assert_eq!(network_filesystem_name(0x6573_5546), Some("FUSE"));
    let (ext4, tmpfs, xfs, btrfs) = (0xEF53, 0x0102_1994, 0x5846_5342, 0x9123_683E);
    for local in [ext4, tmpfs, xfs, btrfs] {
        assert_eq!(network_filesystem_name(local), None);
    }
}

#[test]
fn entropy_differs() {
    let (_folder, storage) = new_storage();
    let (mut first, mut second) = ([0; 32], [0; 32]);
    storage.entropy(&mut first).expect("entropy");
    storage.entropy(&mut second).expect("entropy");
    assert_ne!(first, second);
}

#[test]
fn threads_share_files_and_maps() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(4096 * 4).expect("length");
    let map = file.map(4096 * 4).expect("map");
    std::thread::scope(|scope| {
        for part in 0..4_u8 {
            let (file, map) = (Arc::clone(&file), map.clone());
            scope.spawn(move || {
                file.write_all_at(&[part + 1; 4096], u64::from(part) * 4096).expect("write");
                // SAFETY: only this thread writes to this part, and has done so.
                let bytes = unsafe { map.bytes(usize::from(part) * 4096, 4096) };
                assert!(bytes.iter().all(|byte| *byte == part + 1));
            });
        }
    });
}

/// The system read megabytes around each page that was not in memory: in too little of it a read cost milliseconds.
#[cfg(target_os = "linux")]
#[test]
fn maps_are_read_in_no_order() {
    let (_folder, storage) = new_storage();
    let file = storage.create("log").expect("create");
    file.set_length(8192).expect("length");
    let map = file.map(8192).expect("map");
    let regions = std::fs::read_to_string("/proc/self/smaps").expect("the regions of this process");
    let begin = format!("{:x}-", map.as_ptr().addr());
    let own = regions.lines().skip_while(|line| !line.starts_with(&begin));
    let flags = own.skip(1).find(|line| line.starts_with("VmFlags:")).expect("its flags");
    assert!(flags.split(' ').any(|flag| flag == "rr"), "{flags}");
}

/// A program that only looked at a database, and was still loading it, kept the writer's from being opened.
#[test]
fn a_writer_waits_for_readers_that_are_loading() {
    let (_folder, storage) = new_storage();
    drop(storage.lock_exclusive().expect("nobody has it"));
    let reading = storage.lock_shared().expect("the lock's file is there").expect("no writer has it");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(READERS_TIME / 5);
            drop(reading);
        });
        let lock = storage.lock_exclusive().expect("the reader lets go of it");
        let error = storage.lock_exclusive().expect_err("it is taken");
        assert!(error.to_string().contains("another handle of this process"), "{error}");
        drop(lock);
    });
    let _reading = [storage.lock_shared(), storage.lock_shared()];
    let begun = std::time::Instant::now();
    let error = storage.lock_exclusive().expect_err("readers never end");
    assert!(error.to_string().contains("a reader that is loading it"), "{error}");
    assert!(begun.elapsed() >= READERS_TIME);
    assert!(storage.lock_shared().expect("nothing is held").is_some());
}
