use std::{collections::BTreeSet, io, sync::Arc};

use super::{survival::SECTOR, *};

/// Seeds other than the two extremes.
const SEEDS: std::ops::Range<u64> = 2..202;

/// A disk with one durable file of `length` bytes, all of them `byte`.
fn disk_with_file(length: usize, byte: u8) -> (SimulatedDisk, Arc<dyn StorageFile>) {
    let disk = SimulatedDisk::new(7);
    disk.put_file("log", vec![byte; length]);
    let file = open(&disk);
    (disk, file)
}

fn open(disk: &SimulatedDisk) -> Arc<dyn StorageFile> {
    disk.open("log").expect("open").expect("exists")
}

fn bytes_after(disk: &SimulatedDisk, seed: u64) -> Vec<u8> {
    disk.after_power_loss(seed).file_bytes("log").expect("exists")
}

/// All states of the file that the seeds lead to.
fn states(disk: &SimulatedDisk) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| disk.after_power_loss(seed).file_bytes("log")).collect()
}

fn is_power_cut<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Io { source, .. }) if source.to_string() == "power cut")
}

fn kind<T>(result: Result<T>) -> Option<io::ErrorKind> {
    match result {
        Err(Error::Io { source, .. }) => Some(source.kind()),
        _ => None,
    }
}

#[test]
fn files_read_back_what_is_written() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create("log").expect("create");
    file.set_length(10_000).expect("length");
    file.write_all_at(b"metis", 4094).expect("write");
    file.write_all_at(b"end", 9_999).expect("a write may extend the file");
    assert_eq!(file.length().expect("length"), 10_002);
    let mut bytes = [1; 7];
    file.read_exact_at(&mut bytes, 4093).expect("read");
    assert_eq!(&bytes, b"\0metis\0");
    assert_eq!(kind(file.read_exact_at(&mut bytes, 9_996)), Some(io::ErrorKind::UnexpectedEof));
    assert_eq!(kind(file.read_exact_at(&mut bytes, u64::MAX)), Some(io::ErrorKind::UnexpectedEof));
    assert_eq!(kind(file.write_all_at(b"x", u64::MAX)), Some(io::ErrorKind::FileTooLarge));
    file.set_length(4096).expect("shorten");
    file.set_length(10_000).expect("lengthen");
    file.read_exact_at(&mut bytes, 4093).expect("read");
    assert_eq!(&bytes, b"\0me\0\0\0\0", "what was cut reads as zero");
    assert_eq!(disk.list().expect("list"), ["log"]);
    disk.remove("log").expect("remove");
    disk.remove("log").expect("removing nothing is fine");
    assert!(disk.open("log").expect("open").is_none());
    file.write_all_at(b"x", 0).expect("an open file outlives its name");
    assert_eq!(disk.operations(), 10);
}

#[test]
fn only_synced_content_is_sure_to_survive() {
    let (disk, file) = disk_with_file(2000, 1);
    file.write_all_at(&[2; 100], 0).expect("write");
    file.sync().expect("sync");
    file.write_all_at(&[3; 100], 1000).expect("write");
    let (least, most) = (bytes_after(&disk, 0), bytes_after(&disk, 1));
    assert_eq!((least[0], least[1000]), (2, 1));
    assert_eq!((most[0], most[1000]), (2, 3));
    assert_eq!(Some(&most), disk.file_bytes("log").as_ref());
    assert_eq!(bytes_after(&disk.after_power_loss(1), 0), most, "what survived is durable");
    assert!(states(&disk).len() >= 2);
}

#[test]
fn writes_are_torn_at_sectors() {
    let (disk, file) = disk_with_file(4096, 0);
    file.write_all_at(&[1; 1500], 300).expect("write");
    let states = states(&disk);
    let mut torn = 0;
    for state in states.into_iter().flatten() {
        let mut parts = BTreeSet::new();
        for (index, byte) in state.iter().enumerate() {
            if (300..1800).contains(&index) {
                parts.insert((index / SECTOR, *byte));
            } else {
                assert_eq!(*byte, 0);
            }
        }
        assert_eq!(parts.len(), 4, "each of the four sectors is whole or lost");
        torn += usize::from(parts.iter().any(|part| part.1 == 0) && parts.iter().any(|part| part.1 == 1));
    }
    assert!(torn > 3, "only {torn} torn states");
}

#[test]
fn writes_survive_independently_but_apply_in_order() {
    let (disk, file) = disk_with_file(1024, 0);
    file.write_all_at(&[1; 512], 0).expect("write");
    file.write_all_at(&[2; 512], 512).expect("write");
    file.write_all_at(&[3; 512], 0).expect("write");
    let found: BTreeSet<_> = states(&disk).into_iter().flatten().map(|state| (state[0], state[512])).collect();
    let expected = [(0, 0), (0, 2), (1, 0), (1, 2), (3, 0), (3, 2)];
    assert_eq!(found, BTreeSet::from(expected));
    assert_eq!(bytes_after(&disk, 1)[0], 3);
}

#[test]
fn lengths_survive_apart_from_the_bytes_behind_them() {
    let (disk, file) = disk_with_file(512, 1);
    file.write_all_at(&[2; 512], 512).expect("extending write");
    let found: BTreeSet<_> =
        states(&disk).into_iter().flatten().map(|state| (state.len(), state.get(512).copied())).collect();
    assert_eq!(found, BTreeSet::from([(512, None), (1024, Some(0)), (1024, Some(2))]));

    file.sync().expect("sync");
    file.set_length(100).expect("shorten");
    file.set_length(1024).expect("lengthen");
    let found: BTreeSet<_> =
        states(&disk).into_iter().flatten().map(|state| (state.len(), state.get(512).copied())).collect();
    assert_eq!(found, BTreeSet::from([(100, None), (1024, Some(0)), (1024, Some(2))]));
    assert_eq!(bytes_after(&disk, 1)[100..], [0; 924]);
    file.sync().expect("sync");
    assert_eq!(bytes_after(&disk, 0)[100..], [0; 924]);
}

#[test]
fn bytes_behind_a_lost_length_show_under_a_later_one() {
    let (disk, file) = disk_with_file(0, 0);
    file.set_length(512).expect("length");
    file.write_all_at(&[5; 512], 0).expect("write");
    file.set_length(1024).expect("length");
    let found: BTreeSet<_> =
        states(&disk).into_iter().flatten().map(|state| (state.len(), state.first().copied())).collect();
    let expected = [(0, None), (512, Some(0)), (512, Some(5)), (1024, Some(0)), (1024, Some(5))];
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn new_names_need_a_sync_of_the_folder() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create("log").expect("create");
    file.write_all_at(b"synced", 0).expect("write");
    file.sync().expect("sync");
    let found = states(&disk);
    assert_eq!(found, BTreeSet::from([None, Some(b"synced".to_vec())]));
    assert_eq!(disk.after_power_loss(0).list().expect("list"), Vec::<String>::new());
    disk.sync_directory().expect("sync folder");
    assert_eq!(bytes_after(&disk, 0), b"synced");
}

#[test]
fn removed_files_may_come_back() {
    let (disk, _) = disk_with_file(3, 9);
    disk.remove("log").expect("remove");
    assert!(disk.file_bytes("log").is_none());
    assert_eq!(states(&disk), BTreeSet::from([None, Some(vec![9; 3])]));
    disk.sync_directory().expect("sync folder");
    assert_eq!(states(&disk), BTreeSet::from([None]));
}

#[test]
fn replacing_a_file_is_a_removal_and_a_creation() {
    let (disk, old) = disk_with_file(3, 9);
    let new = disk.create("log").expect("replace");
    new.write_all_at(b"new", 0).expect("write");
    new.sync().expect("sync");
    let mut byte = [0];
    old.read_exact_at(&mut byte, 0).expect("the old file stays open");
    assert_eq!(byte, [9]);
    let expected = [None, Some(b"new".to_vec()), Some(vec![9; 3])];
    assert_eq!(states(&disk), BTreeSet::from(expected));
    assert_eq!(bytes_after(&disk, 0), [9; 3]);
    assert_eq!(bytes_after(&disk, 1), b"new");
}

#[test]
fn a_power_cut_stops_everything_from_its_operation_on() {
    let (disk, file) = disk_with_file(512, 0);
    let lock = disk.lock_exclusive().expect("lock");
    disk.cut_after(disk.operations() + 2);
    file.write_all_at(&[1; 512], 0).expect("before the cut");
    file.sync().expect("before the cut");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).expect("before the cut");
    assert!(is_power_cut(file.write_all_at(&[2; 512], 0)));
    assert!(is_power_cut(file.write_all_at(&[3; 512], 0)));
    assert!(is_power_cut(file.read_exact_at(&mut byte, 0)));
    assert!(is_power_cut(file.sync()));
    assert!(is_power_cut(file.length()));
    assert!(is_power_cut(file.map(1)));
    assert!(is_power_cut(disk.sync_directory()));
    assert!(is_power_cut(disk.create("other")));
    assert!(is_power_cut(disk.remove("log")));
    assert!(is_power_cut(disk.list()));
    assert!(is_power_cut(disk.open("log")));
    assert!(is_power_cut(disk.lock_shared()));
    assert!(is_power_cut(disk.entropy(&mut byte)));
    assert_eq!(disk.operations(), 2);
    let found = states(&disk);
    assert_eq!(found, BTreeSet::from([Some(vec![1; 512]), Some(vec![2; 512])]));
    let restarted = disk.after_power_loss(0);
    restarted.lock_exclusive().expect("locks are gone");
    open(&restarted).write_all_at(b"x", 0).expect("the power is back");
    drop(lock);
}

#[test]
fn the_operation_that_the_cut_hits_may_reach_the_disk() {
    let lengthened = disk_with_file(1, 1);
    lengthened.0.cut_after(0);
    assert!(is_power_cut(lengthened.1.set_length(2)));
    assert_eq!(states(&lengthened.0), BTreeSet::from([Some(vec![1]), Some(vec![1, 0])]));

    let removed = disk_with_file(1, 1);
    removed.0.cut_after(0);
    assert!(is_power_cut(removed.0.remove("log")));
    assert_eq!(states(&removed.0), BTreeSet::from([Some(vec![1]), None]));

    let replaced = disk_with_file(1, 1);
    replaced.0.cut_after(0);
    assert!(is_power_cut(replaced.0.create("log")));
    assert_eq!(states(&replaced.0), BTreeSet::from([Some(vec![1]), Some(vec![]), None]));

    let extended = disk_with_file(1, 1);
    extended.0.cut_after(0);
    assert!(is_power_cut(extended.1.write_all_at(&[2], 1)));
    assert_eq!(bytes_after(&extended.0, 1), [1, 2]);

    let synced = disk_with_file(1, 1);
    synced.0.cut_after(1);
    synced.1.write_all_at(&[2], 0).expect("write");
    assert!(is_power_cut(synced.1.sync()));
    assert_eq!(states(&synced.0), BTreeSet::from([Some(vec![1]), Some(vec![2])]));
}

#[test]
fn a_planned_failure_happens_once_and_changes_nothing() {
    let (disk, file) = disk_with_file(1, 1);
    disk.fail_operation(0, io::ErrorKind::StorageFull);
    disk.fail_operation(2, io::ErrorKind::PermissionDenied);
    let error = file.write_all_at(&[2], 0).expect_err("planned");
    assert!(error.is_out_of_space());
    assert_eq!(disk.file_bytes("log"), Some(vec![1]));
    file.write_all_at(&[2], 0).expect("only once");
    assert_eq!(kind(disk.create("log")), Some(io::ErrorKind::PermissionDenied));
    assert_eq!(disk.file_bytes("log"), Some(vec![2]));
    assert_eq!(disk.operations(), 3);
}

#[test]
fn what_a_failed_sync_gave_up_is_not_synced_later() {
    let (disk, file) = disk_with_file(1024, 0);
    file.write_all_at(&[1; 512], 0).expect("write");
    disk.fail_operation(disk.operations(), io::ErrorKind::Other);
    assert_eq!(kind(file.sync()), Some(io::ErrorKind::Other));
    file.write_all_at(&[2; 512], 512).expect("write");
    file.sync().expect("a later sync");
    assert_eq!(disk.file_bytes("log").expect("exists")[0], 1, "still visible");
    let found: BTreeSet<_> = states(&disk).into_iter().flatten().map(|state| (state[0], state[512])).collect();
    assert_eq!(found, BTreeSet::from([(0, 2), (1, 2)]));
    assert_eq!(bytes_after(&disk, 0)[0], 0);

    file.write_all_at(&[3; 512], 0).expect("rewrite");
    let found: BTreeSet<_> = states(&disk).into_iter().flatten().map(|state| state[0]).collect();
    assert_eq!(found, BTreeSet::from([0, 1, 3]));
    file.sync().expect("sync");
    let found: BTreeSet<_> = states(&disk).into_iter().flatten().map(|state| state[0]).collect();
    assert_eq!(found, BTreeSet::from([3]), "rewritten bytes are durable");
}

#[test]
fn failed_syncs_give_up_neither_lengths_nor_names() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create("log").expect("create");
    file.set_length(10).expect("length");
    disk.fail_operation(disk.operations(), io::ErrorKind::Other);
    file.sync().expect_err("planned");
    disk.fail_operation(disk.operations(), io::ErrorKind::Other);
    disk.sync_directory().expect_err("planned");
    assert!(disk.after_power_loss(0).file_bytes("log").is_none());
    file.sync().expect("sync");
    disk.sync_directory().expect("sync folder");
    assert_eq!(bytes_after(&disk, 0), [0; 10]);
}

#[test]
fn space_is_limited() {
    let (disk, file) = disk_with_file(4096, 1);
    let other = disk.create("other").expect("create");
    other.set_length(1 << 30).expect("holes take no space");
    disk.set_capacity(Some(4 * 4096));
    other.reserve(8192, 4096).expect("reserve");
    other.write_all_at(&[1; 100], 9000).expect("reserved");
    assert_eq!(other.allocated_bytes().expect("allocated"), 4096);
    other.write_all_at(&[1; 100], 4000).expect("two more blocks");
    assert!(other.write_all_at(&[1], 16_384).expect_err("full").is_out_of_space());
    assert!(other.reserve(0, 16_384).expect_err("full").is_out_of_space());
    assert!(file.write_all_at(&[1; 2], 4095).expect_err("full").is_out_of_space());
    assert_eq!(file.length().expect("length"), 4096);
    file.write_all_at(&[1; 4096], 0).expect("overwriting needs no space");
    other.set_length(5000).expect("shorten");
    file.write_all_at(&[1; 2], 4095).expect("space was freed");
    disk.remove("other").expect("remove");
    file.set_length(16_384).expect("length");
    file.reserve(0, 16_384).expect("space was freed");
    assert_eq!(kind(file.reserve(16_384, 1)), Some(io::ErrorKind::InvalidInput));
}

#[test]
fn reservations_survive_once_they_are_synced() {
    let (disk, file) = disk_with_file(0, 0);
    file.set_length(8192).expect("length");
    file.sync().expect("sync");
    file.reserve(0, 8192).expect("reserve");
    let allocated = |disk: &SimulatedDisk| open(&disk.after_power_loss(0)).allocated_bytes().expect("allocated");
    assert_eq!(allocated(&disk), 0);
    file.sync().expect("sync");
    assert_eq!(allocated(&disk), 8192);
}

#[test]
fn maps_show_later_writes_and_outlive_the_file() {
    let (disk, file) = disk_with_file(0, 0);
    file.set_length(100_000).expect("length");
    let map = file.map(90_000).expect("map");
    file.write_all_at(b"late", 80_000).expect("write");
    file.set_length(110_000).expect("inside the memory");
    assert!(map.as_ptr().addr().is_multiple_of(4096));
    assert_eq!(kind(file.map(110_001)), Some(io::ErrorKind::UnexpectedEof));
    assert_eq!(kind(file.set_length(1 << 20)), Some(io::ErrorKind::Unsupported));
    let clone = map.clone();
    drop(map);
    disk.remove("log").expect("remove");
    drop((file, disk));
    // SAFETY: nobody writes to the file any more.
    let bytes = unsafe { clone.bytes(79_999, 6) };
    assert_eq!(bytes, b"\0late\0");
}

#[test]
fn unmapped_files_grow_and_stay_sparse() {
    let (disk, file) = disk_with_file(10, 1);
    drop(file.map(10).expect("map"));
    file.set_length(1 << 31).expect("sparse");
    file.write_all_at(&[2], (1 << 31) - 1).expect("write");
    file.sync().expect("sync");
    assert_eq!(file.allocated_bytes().expect("allocated"), 8192);
    let survivor = open(&disk.after_power_loss(0));
    let mut bytes = [0; 2];
    survivor.read_exact_at(&mut bytes, (1 << 31) - 2).expect("read");
    assert_eq!(bytes, [0, 2]);
    survivor.read_exact_at(&mut bytes, 9).expect("read");
    assert_eq!(bytes, [1, 0]);
    assert_eq!(disk.image_hash(), disk.after_power_loss(0).image_hash());
}

#[test]
fn threads_write_while_others_read_elsewhere() {
    let (_disk, file) = disk_with_file(4096 * 4, 0);
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

#[test]
fn files_at_rest_are_changed_durably() {
    let (disk, file) = disk_with_file(4, 0b1010);
    file.write_all_at(&[7], 3).expect("write");
    disk.damage("log", 1, 0b0110);
    let damaged = vec![0b1010, 0b1100, 0b1010, 7];
    assert_eq!(disk.file_bytes("log"), Some(damaged.clone()));
    assert_eq!(bytes_after(&disk, 0), damaged);
    disk.truncate_file("log", 2);
    assert_eq!(bytes_after(&disk, 0), damaged[..2]);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1).expect("open handles see it");
    assert_eq!(byte, [0b1100]);
    disk.remove_file("log");
    disk.remove_file("log");
    assert!(disk.after_power_loss(1).file_bytes("log").is_none());
    disk.create("log").expect("create");
    disk.put_file("log", b"put".to_vec());
    assert_eq!(bytes_after(&disk, 0), b"put");
    assert_eq!(bytes_after(&disk, 1), b"put");
}

#[test]
fn one_writer_excludes_everyone() {
    let disk = SimulatedDisk::new(1);
    let lock = disk.lock_exclusive().expect("lock");
    assert!(matches!(disk.lock_exclusive(), Err(Error::Locked { .. })));
    assert!(disk.lock_shared().expect("shared").is_none());
    drop(lock);
    let first = disk.lock_shared().expect("shared").expect("free");
    let second = disk.lock_shared().expect("shared").expect("shared by two");
    drop(first);
    let error = disk.lock_exclusive().expect_err("a reader");
    assert!(matches!(error, Error::Locked { holder, .. } if holder.contains("reader")));
    drop(second);
    disk.lock_exclusive().expect("free again");
}

#[test]
fn equal_seeds_give_equal_disks() {
    let (disk, file) = disk_with_file(8192, 0);
    for number in 0..16 {
        file.write_all_at(&[number + 1; 700], u64::from(number) * 500).expect("write");
    }
    let hashes: BTreeSet<_> = SEEDS.map(|seed| disk.after_power_loss(seed).image_hash()).collect();
    let again: BTreeSet<_> = SEEDS.map(|seed| disk.after_power_loss(seed).image_hash()).collect();
    assert_eq!(hashes, again);
    assert!(hashes.len() > 150, "{} states", hashes.len());
    let (mut first, mut second, mut third) = ([0; 13], [0; 13], [0; 13]);
    disk.after_power_loss(5).entropy(&mut first).expect("entropy");
    disk.after_power_loss(5).entropy(&mut second).expect("entropy");
    disk.after_power_loss(6).entropy(&mut third).expect("entropy");
    assert_eq!(first, second);
    assert_ne!(first, third);
}

#[test]
fn hashes_tell_durable_images_apart() {
    let (disk, file) = disk_with_file(8192, 0);
    let empty = disk.image_hash();
    file.write_all_at(&[0; 10], 5000).expect("write");
    file.write_all_at(&[1], 1).expect("write");
    assert_eq!(disk.image_hash(), empty, "not durable yet");
    file.sync().expect("sync");
    assert_ne!(disk.image_hash(), empty);
    disk.damage("log", 1, 1);
    assert_eq!(disk.image_hash(), empty, "zeros are zeros, written or not");
    disk.truncate_file("log", 8191);
    assert_ne!(disk.image_hash(), empty);
}

/// Every state that the numbers of [`SimulatedDisk::after_keeping`] lead to.
fn all_states(disk: &SimulatedDisk) -> BTreeSet<Option<Vec<u8>>> {
    (0..1 << disk.unsynced_parts()).map(|kept| disk.after_keeping(kept).file_bytes("log")).collect()
}

#[test]
fn every_subset_of_the_parts_can_be_chosen() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create("log").expect("create");
    file.write_all_at(&[1; 1000], 100).expect("write");
    assert_eq!(disk.unsynced_parts(), 5, "the name, the length, and a part of each of three sectors");
    let states = all_states(&disk);
    assert_eq!(states.len(), 1 + 1 + 8, "no file, an empty one, and each subset of the sectors");
    for state in states.into_iter().flatten().filter(|state| !state.is_empty()) {
        for range in [100..512, 512..1024, 1024..1100] {
            assert!(state[range.clone()].iter().all(|byte| *byte == state[range.start]), "sectors are whole");
        }
    }
    assert_eq!(disk.after_keeping(31).image_hash(), disk.after_power_loss(1).image_hash());
    assert_eq!(disk.after_keeping(0).image_hash(), disk.after_power_loss(0).image_hash());
    file.sync().expect("sync");
    disk.sync_directory().expect("sync folder");
    assert_eq!(disk.unsynced_parts(), 0);
}

#[test]
fn what_seeds_lead_to_can_be_chosen() {
    let (disk, file) = disk_with_file(700, 9);
    file.write_all_at(&[1; 100], 480).expect("write");
    file.set_length(300).expect("length");
    file.write_all_at(&[2; 10], 600).expect("extending write");
    let drawn = states(&disk);
    let all = all_states(&disk);
    assert!(drawn.is_subset(&all) && drawn.len() > 8, "{} of {}", drawn.len(), all.len());
    disk.fail_operation(disk.operations(), io::ErrorKind::Other);
    file.sync().expect_err("planned");
    file.sync().expect("sync");
    assert_eq!(disk.unsynced_parts(), 3, "lengths are synced, the sectors of writes that were given up are not");
    assert!(states(&disk).is_subset(&all_states(&disk)));
}

#[test]
fn the_operation_that_was_cut_is_told() {
    let (disk, file) = disk_with_file(1, 1);
    disk.cut_after(1);
    file.write_all_at(&[2], 0).expect("before the cut");
    assert_eq!(disk.interrupted(), None);
    file.give_back(0, 1).expect_err("cut");
    file.sync().expect_err("the power is off");
    assert_eq!(disk.interrupted(), Some(("give back", "/simulated/log".into())));
}
