//! Pages behind a map that cannot be read: errors of the reads that need them, and of nothing else. In child processes, since without the handler a
//! bus error ends the process.

use std::{
    collections::BTreeSet,
    ffi::{c_int, c_void},
    fs::{self, File, OpenOptions},
    ops::Range,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use rustix::process::{Signal, getpid, kill_process};

use super::{
    bad_input::History,
    children::{child, part, play},
    small, wide,
};
use crate::{
    Account, Block, Changes, CheckLevel, Db, Durability, Error, Key, Options, Result, Snapshot, Value,
    lookup::Found,
    storage::{DiskStorage, Storage},
};

const SLOTS: u64 = 3000;
const CODES: u8 = 60;
/// Accounts with slots, so that some have few.
const ACCOUNTS: u64 = 7;

fn account_of(slot: u64) -> Address {
    Address::repeat_byte((slot % ACCOUNTS) as u8 + 1)
}

fn account(number: u64) -> Account {
    Account { nonce: number, balance: wide(number), ..Account::default() }
}

fn code(number: u8) -> Bytes {
    vec![number; 700 * (1 + usize::from(number) % 8)].into()
}

fn block(number: u64) -> Block {
    Block { number, hash: wide(number).into(), parent_hash: B256::ZERO, timestamp: number }
}

/// The keys that the tests read, in the order of their commits.
fn keys() -> Vec<Key> {
    let slots = (0..SLOTS).map(|slot| Key::Storage(account_of(slot), U256::from(slot)));
    let codes = (0..CODES).map(|number| Key::Code(keccak256(code(number))));
    let accounts = (0..ACCOUNTS).map(|number| Key::Account(account_of(number)));
    slots.chain(codes).chain(accounts).collect()
}

/// The value that a key has.
fn value(key: &Key) -> Value {
    match key {
        Key::Storage(_, slot) => Value::Storage(wide(slot.to::<u64>())),
        Key::Code(hash) => Value::Code((0..CODES).map(code).find(|code| keccak256(code) == *hash)),
        Key::Account(address) => Value::Account(Some(account(u64::from(address[0]) - 1))),
    }
}

/// A database of several segments that holds those values; all of the first half of the slots were zero in version 1.
fn filled(options: Options, folder: &Path) -> Db {
    let db = options.create(folder).unwrap();
    let mut changes = Changes::new();
    for number in 0..ACCOUNTS {
        changes.set_account(account_of(number), account(number));
    }
    changes.set_block(block(1));
    db.commit(&changes, Durability::Durable).unwrap();
    for hundred in 0..SLOTS / 100 {
        let mut changes = Changes::new();
        for slot in hundred * 100..(hundred + 1) * 100 {
            changes.set_storage(account_of(slot), U256::from(slot), wide(slot));
        }
        for number in (0..CODES).filter(|number| u64::from(*number) % (SLOTS / 100) == hundred) {
            changes.set_code(keccak256(code(number)), code(number));
        }
        db.commit(&changes, Durability::Pipelined).unwrap();
    }
    db.commit(&Changes::new(), Durability::Durable).unwrap();
    db
}

/// One read of each kind that the key allows.
fn read(snapshot: &Snapshot, key: &Key, batch: bool) -> Result<Value> {
    if batch {
        return Ok(snapshot.get_many(std::slice::from_ref(key))?.remove(0));
    }
    match key {
        Key::Account(address) => snapshot.account(address).map(Value::Account),
        Key::Storage(address, slot) => snapshot.storage(address, *slot).map(Value::Storage),
        Key::Code(hash) => snapshot.code(hash).map(Value::Code),
    }
}

/// Where the newest record of a key stands: its file, and its bytes there.
fn place(db: &Db, key: &Key) -> (String, Range<u64>) {
    let lookup = &db.store.lookup;
    let found: Found<'_> = match key {
        Key::Account(address) => lookup.find_account(address, u64::MAX),
        Key::Storage(address, slot) => lookup.find_slot(lookup.account_id(address).unwrap().unwrap(), slot, u64::MAX),
        Key::Code(hash) => lookup.find_key(&crate::key::RecordKey::Code(*hash), u64::MAX),
    }
    .unwrap()
    .unwrap();
    let (path, offset) = lookup.table.place(&*lookup.storage, found.position);
    // Records are padded to whole words, and no page ends inside of one.
    (path.file_name().unwrap().to_string_lossy().into_owned(), offset..offset + found.record.body.padded_bytes() as u64)
}

/// Cuts files, at a multiple of the page size. The bytes behind are lost, for whoever has mapped them.
fn cut(folder: &Path, cuts: &[(&str, u64)]) {
    for (name, length) in cuts {
        OpenOptions::new().write(true).open(folder.join(name)).unwrap().set_len(*length).unwrap();
    }
}

#[track_caller]
fn assert_unreadable(error: &Error, path: &Path) {
    let Error::Io { operation: "read", path: own, .. } = error else { panic!("{error:?}") };
    assert_eq!(own, path, "{error}");
}

/// Segment 2 keeps its first half, the others their first page: 68 pages of the usual size are gone.
const CUTS: [(&str, u64); 5] = [
    ("segment.0000000002", 1 << 15),
    ("segment.0000000003", 1 << 12),
    ("segment.0000000004", 1 << 12),
    ("segment.0000000005", 1 << 12),
    ("segment.0000000006", 1 << 12),
];

fn is_cut((name, bytes): &(String, Range<u64>)) -> bool {
    CUTS.iter().any(|(cut, length)| cut == name && bytes.end > *length)
}

/// Reads everything twice: what stood behind the cuts is an error that names the place, everything else is what it was.
fn assert_exactly_the_cut_is_lost(folder: &Path, options: Options, verified: bool) {
    let keys = keys();
    let db = filled(options.clone(), folder);
    let places: Vec<_> = keys.iter().map(|key| place(&db, key)).collect();
    db.close().unwrap();
    // Nothing is verified yet.
    let db = options.open(folder).unwrap();
    let snapshot = db.snapshot().unwrap();
    if verified {
        keys.iter().for_each(|key| assert_eq!(read(&snapshot, key, false).unwrap(), value(key), "{key:?}"));
    }
    cut(folder, &CUTS);
    let (mut lost, mut strangers) = (BTreeSet::new(), BTreeSet::new());
    for batch in [false, true, false] {
        for (number, (key, place)) in keys.iter().zip(&places).enumerate() {
            match read(&snapshot, key, batch) {
                Ok(found) => assert!(!is_cut(place) && found == value(key), "{key:?} at {place:?}: {found:?}"),
                Err(Error::Io { operation: "read", path, offset, .. })
                    if is_cut(place) && path == folder.join(&place.0) && offset == place.1.start =>
                {
                    lost.insert((place.0.clone(), offset >> 12));
                }
                // A lost record may have been any key's that has its tag, that of another lost one, too.
                Err(Error::Io { operation: "read", .. }) => _ = strangers.insert(number),
                Err(error) => panic!("{key:?} at {place:?}: {error}"),
            }
        }
    }
    // A record may begin on a good page.
    assert!(lost.len() >= 50, "{} pages", lost.len());
    assert!(strangers.len() <= 5, "{strangers:?}: reads of keys that met another lost record of the same tag");
    // The handle goes on. What supersedes a lost record fails, and changes nothing.
    let version = db.stats().version;
    let (lost, sound): (Vec<_>, Vec<_>) = keys.iter().zip(&places).partition(|(_, place)| is_cut(place));
    let slot_among = |keys: &[(&Key, &(String, Range<u64>))]| {
        keys.iter().find_map(|(key, _)| match key {
            Key::Storage(address, slot) => Some((*address, *slot)),
            _ => None,
        })
    };
    let ((address, slot), (other, sound)) = (slot_among(&lost).unwrap(), slot_among(&sound).unwrap());
    let mut changes = Changes::new();
    changes.set_storage(address, slot, U256::from(1));
    let error = db.commit(&changes, Durability::Durable).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "read", .. }), "{error}");
    assert_eq!(db.stats().version, version);
    let mut changes = Changes::new();
    changes.set_storage(other, sound, U256::from(1));
    db.commit(&changes, Durability::Durable).unwrap();
    assert_eq!(db.snapshot().unwrap().storage(&other, sound).unwrap(), U256::from(1));
    assert_eq!(snapshot.storage(&other, sound).unwrap(), wide(sound.to::<u64>()), "the older version");
    // To examine the files is to read them, not the maps.
    db.check(CheckLevel::Quick).map(drop).unwrap_err();
}

/// Records are read without their checksums once they were verified; zeros in their place were taken for other keys, or for zero.
#[test]
fn pages_behind_the_end_of_a_cut_file_are_errors_of_the_reads_that_need_them() {
    let name = "bus_errors::pages_behind_the_end_of_a_cut_file_are_errors_of_the_reads_that_need_them";
    if let Some((folder, part)) = part() {
        // Large enough for tags that tell keys apart.
        let options = small().expected_keys(4000).verify_every_read(part == "verify every read");
        return assert_exactly_the_cut_is_lost(&folder, options, part != "unverified");
    }
    for part in ["verified", "unverified", "verify every read"] {
        let folder = tempfile::tempdir().unwrap();
        play(name, folder.path(), part);
    }
}

/// Threads read while one page after the other goes: each answer is the value or the error.
fn assert_right_or_an_error_meanwhile(folder: &Path) {
    let db = filled(small(), folder);
    let snapshot = db.snapshot().unwrap();
    let keys = keys();
    keys.iter().for_each(|key| assert_eq!(read(&snapshot, key, false).unwrap(), value(key), "{key:?}"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (done, snapshot, keys) = (&done, &snapshot, &keys);
                scope.spawn(move || {
                    let mut errors = 0;
                    loop {
                        let last = done.load(Ordering::Acquire);
                        for key in keys.iter().skip(reader * 700).chain(&keys[..reader * 700]) {
                            match read(snapshot, key, false) {
                                Ok(found) => assert_eq!(found, value(key), "{key:?}"),
                                Err(error) => {
                                    assert!(matches!(error, Error::Io { operation: "read", .. }), "{error}");
                                    errors += 1;
                                }
                            }
                        }
                        if last {
                            return errors;
                        }
                    }
                })
            })
            .collect();
        for page in (1..16).rev() {
            for (name, _) in CUTS {
                cut(folder, &[(name, page << 12)]);
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
}

#[test]
fn a_page_that_goes_during_a_read_is_no_value() {
    if let Some((folder, _)) = part() {
        return assert_right_or_an_error_meanwhile(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    play("bus_errors::a_page_that_goes_during_a_read_is_no_value", folder.path(), "");
}

/// Nodes of the trie are on lost pages: values are read all the same, the trie is an error, and a handle that opens anew makes it anew.
fn assert_the_trie_is_lost(folder: &Path) {
    let db = small().create(folder).unwrap();
    let history = History::begin(&db, 12);
    db.checkpoint().unwrap();
    let newest = history.0.last().unwrap();
    let snapshot = db.snapshot().unwrap();
    newest.assert_equals(&snapshot);
    cut(folder, &[("arena.0000000001", 1 << 13)]);
    let root = snapshot.root().unwrap();
    for address in newest.accounts.keys() {
        let error = snapshot.proof(address, &[U256::from(1)]).unwrap_err();
        assert_unreadable(&error, &folder.join("arena.0000000001"));
        assert_eq!(snapshot.account(address).unwrap(), newest.accounts.get(address).copied());
    }
    drop((snapshot, db));
    history.assert_opens(folder);
    assert_eq!(small().open(folder).unwrap().snapshot().unwrap().root().unwrap(), root);
}

#[test]
fn a_node_on_a_lost_page_is_an_error_of_the_trie_only() {
    if let Some((folder, _)) = part() {
        return assert_the_trie_is_lost(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    play("bus_errors::a_node_on_a_lost_page_is_an_error_of_the_trie_only", folder.path(), "");
}

/// Addresses are used again: what was lost in a map that is gone is not lost in the next one there.
#[test]
fn a_map_in_the_place_of_a_damaged_one_is_whole() {
    let Some((folder, _)) = part() else {
        let folder = tempfile::tempdir().unwrap();
        play("bus_errors::a_map_in_the_place_of_a_damaged_one_is_whole", folder.path(), "");
        return;
    };
    let storage = DiskStorage::create(&folder, true).unwrap();
    let mut places = BTreeSet::new();
    let mut again = 0;
    for round in 0..200_u8 {
        let file = storage.create("log").unwrap();
        file.set_length(1 << 16).unwrap();
        file.write_all_at(&[round + 1; 1 << 16], 0).unwrap();
        let map = file.map(1 << 16).unwrap();
        again += u32::from(!places.insert(map.as_ptr().addr()));
        let is_read = |page: usize| {
            // SAFETY: nobody writes to the file; if it is cut, the bytes are lost.
            let bytes = unsafe { map.bytes(page << 12, 1 << 12) };
            let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            !crate::storage::is_lost(bytes) && sum == u64::from(round + 1) << 12
        };
        assert!((0..16).all(is_read), "round {round}");
        cut(&folder, &[("log", 1 << 13)]);
        assert!((0..2).all(is_read) && !(2..16).any(is_read), "round {round}");
    }
    assert!(again > 0, "no address was used again");
}

/// Maps a file of one page and cuts it: the address of a byte whose reading raises SIGBUS, in memory that is none of the crate's.
fn foreign_page(folder: &Path) -> (memmap2::Mmap, *const u8) {
    let path = folder.with_extension("foreign");
    fs::write(&path, [1; 4096]).unwrap();
    // SAFETY: nobody makes a reference to the bytes.
    let map = unsafe { memmap2::Mmap::map(&File::open(&path).unwrap()).unwrap() };
    File::create(&path).unwrap();
    fs::remove_file(path).unwrap();
    let address = map.as_ptr();
    (map, address)
}

/// Ends the process with a number that only it knows, if the fault is at the address that it waits for.
extern "C" fn embedders_handler(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's description of a failed access has an address.
    let address = unsafe { (*info).si_addr() };
    let own = address.addr() == EMBEDDERS_ADDRESS.load(Ordering::SeqCst);
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(if own { 77 } else { 78 }) }
}

static EMBEDDERS_ADDRESS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn install(handler: usize) {
    // SAFETY: zeros are a value of this type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler is the default one, or ends the process, which is allowed anywhere.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) }, 0);
}

/// Uses a database, with a page lost if it may, and then meets a bus error of its own.
fn meet_a_foreign_bus_error(folder: &Path, part: &str) {
    if part.contains("embedder") {
        install(embedders_handler as *const () as usize);
    }
    let db = filled(small().handle_bus_errors(part != "option off"), folder);
    let snapshot = db.snapshot().unwrap();
    if part == "option off" {
        cut(folder, &CUTS);
        let failed = keys().iter().filter(|key| read(&snapshot, key, false).is_err()).count();
        panic!("{failed} reads failed, and the process lives");
    }
    cut(folder, &CUTS);
    assert!(keys().iter().any(|key| read(&snapshot, key, false).is_err()));
    let (_map, address) = foreign_page(folder);
    EMBEDDERS_ADDRESS.store(address.addr(), Ordering::SeqCst);
    // SAFETY: the byte is mapped; that it cannot be read is what is tested.
    let byte = unsafe { address.read_volatile() };
    panic!("{byte} was read");
}

#[test]
fn bus_errors_of_others_go_to_the_handler_that_was_there() {
    let name = "bus_errors::bus_errors_of_others_go_to_the_handler_that_was_there";
    if let Some((folder, part)) = part() {
        return meet_a_foreign_bus_error(&folder, &part);
    }
    let status = |part| {
        let folder = tempfile::tempdir().unwrap();
        let output = child(name, folder.path(), part).output().unwrap();
        let written = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), output.status.signal(), written)
    };
    let (code, _, written) = status("the embedder's");
    assert_eq!(code, Some(77), "the embedder's handler is called: {written}");
    for part in ["none", "option off"] {
        let (_, signal, written) = status(part);
        assert_eq!(signal, Some(libc::SIGBUS), "{part}: {written}");
    }
}

/// A signal that somebody sent has no address, only numbers in its place.
#[test]
fn a_bus_error_that_is_sent_goes_to_the_handler_that_was_there() {
    let name = "bus_errors::a_bus_error_that_is_sent_goes_to_the_handler_that_was_there";
    if let Some((folder, part)) = part() {
        // The standard library installs a handler of its own.
        if part == "default" {
            install(libc::SIG_DFL)
        } else {
            install(embedders_handler as *const () as usize)
        }
        let _db = filled(small(), &folder);
        kill_process(getpid(), Signal::BUS).unwrap();
        panic!("the process lives on");
    }
    for (part, code, signal) in [("default", None, Some(libc::SIGBUS)), ("embedder", Some(78), None)] {
        let folder = tempfile::tempdir().unwrap();
        let output = child(name, folder.path(), part).output().unwrap();
        let written = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), output.status.signal()), (code, signal), "{part}: {written}");
    }
}
