//! Whole databases of arbitrary bytes: opening one gives a database or an error, and then so do its readers.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, U256};
use arbitrary::{Result, Unstructured};

use super::mend;
use crate::{Changes, CheckLevel, Db, Durability, Options, storage::SimulatedDisk};

/// The files of a small database, as `spec/vectors/v1` has them.
pub(super) const FILES: [(&str, &[u8]); 5] = [
    ("segment.0000000001", include_bytes!("../../../spec/vectors/v1/segment.0000000001")),
    ("index.0000000003", include_bytes!("../../../spec/vectors/v1/index.0000000003")),
    ("superblock.0", include_bytes!("../../../spec/vectors/v1/superblock.0")),
    ("superblock.1", include_bytes!("../../../spec/vectors/v1/superblock.1")),
    ("arena.0000000001", include_bytes!("../../../spec/vectors/v1/arena.0000000001")),
];
const SEGMENT_BYTES: usize = 1 << 16;
/// Bytes of input that make one patch: file, offset, value.
const PATCH_BYTES: usize = 4;

/// Set in the first byte of the input: the checksums of headers are put right, and those of all that stands behind them.
const MEND_HEADERS: u8 = 1;
const MEND_ALL: u8 = 2;

/// Patches in the files of a database; the first byte says which checksums are put right after them.
pub fn recovery(bytes: &[u8]) {
    let Some((mode, patches)) = bytes.split_first() else { return };
    let mut files: Vec<(&str, Vec<u8>)> = FILES.iter().map(|(name, bytes)| (*name, whole(bytes))).collect();
    for patch in patches.chunks_exact(PATCH_BYTES) {
        let file = &mut files[usize::from(patch[0]) % FILES.len()].1;
        let at = usize::from(u16::from_le_bytes([patch[1], patch[2]])) % file.len();
        file[at] ^= patch[3];
    }
    for (name, bytes) in &mut files {
        mend(name, bytes, *mode);
    }
    open(files);
}

/// The file as it was: log and arena are filled up with zeros.
pub(super) fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() > 2048 {
        bytes.resize(SEGMENT_BYTES, 0);
    }
    bytes
}

/// Any files under the names that a database has, of any bytes, some of them copied from sound ones.
pub fn folder(bytes: &[u8]) {
    let mut files = BTreeMap::new();
    // The input ends where it ends; what was taken by then is the folder.
    let _ = take_files(&mut Unstructured::new(bytes), &mut files);
    open(files);
}

fn take_files(input: &mut Unstructured<'_>, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    while !input.is_empty() {
        let number = input.int_in_range(0..=4_u8)?;
        let name = match input.int_in_range(0..=4)? {
            0 => format!("segment.{number:010}"),
            1 => format!("index.{number:010}"),
            2 => format!("superblock.{}", number % 2),
            3 => format!("arena.{number:010}"),
            _ => FILES[usize::from(number)].0.to_owned(),
        };
        let file = files.entry(name.clone()).or_default();
        for _ in 0..input.int_in_range(1..=4)? {
            let length = usize::from(input.int_in_range(0..=300_u16)?);
            match input.int_in_range(0..=4)? {
                0 | 1 => file.extend_from_slice(input.bytes(length.min(input.len()))?),
                2 => file.extend_from_slice(FILES[input.choose_index(FILES.len())?].1),
                3 => file.resize(input.int_in_range(0..=2)? * SEGMENT_BYTES, 0),
                _ => file.truncate(length),
            }
        }
        mend(&name, file, input.arbitrary()?);
    }
    Ok(())
}

fn mend(name: &str, bytes: &mut [u8], mode: u8) {
    let (kind, number) = name.split_once('.').unwrap_or((name, ""));
    match kind {
        "superblock" if mode & (MEND_HEADERS | MEND_ALL) != 0 => mend::superblock(bytes),
        "segment" if mode & MEND_ALL != 0 => mend::segment(bytes),
        "segment" if mode & MEND_HEADERS != 0 => mend::segment_header(bytes),
        "index" if mode & MEND_ALL != 0 => mend::image(bytes),
        "index" if mode & MEND_HEADERS != 0 => mend::image_header(bytes),
        "arena" if mode & MEND_ALL != 0 => mend::arena(bytes, number.parse().unwrap_or_default()),
        _ => {}
    }
}

/// Opens, reads and writes what can be opened.
fn open(files: impl IntoIterator<Item = (impl AsRef<str>, Vec<u8>)>) {
    let disk = Arc::new(SimulatedDisk::new(1));
    for (name, bytes) in files {
        disk.put_file(name.as_ref(), bytes);
    }
    let options = || Options::new().expected_keys(0).checkpoint_log_bytes(u64::MAX);
    if let Ok(db) = options().open_read_only_on(disk.clone()) {
        read(&db);
    }
    if let Ok(db) = options().rebuild(true).open_read_only_on(disk.clone()) {
        read(&db);
    }
    if let Ok(db) = options().open_on(disk) {
        read(&db);
        let mut changes = Changes::new();
        changes.set_account(Address::ZERO, Default::default()).set_storage(Address::ZERO, U256::ZERO, U256::MAX);
        let _ = db.commit(&changes, Durability::Pipelined).and_then(|_| db.checkpoint());
        let _ = db.close();
    }
}

/// Every answer is one or an error.
fn read(db: &Db) {
    let _ = db.check(CheckLevel::Full);
    let Ok(snapshot) = db.snapshot() else { return };
    let Ok(accounts) = snapshot.accounts(Default::default()) else { return };
    for (_, address, _) in accounts.map_while(Result::ok) {
        let _ = snapshot.account(&address);
        let _ = snapshot.proof(&address, &[U256::ZERO, U256::MAX]);
        if let Ok(slots) = snapshot.slots(&address, Default::default()) {
            slots.take_while(Result::is_ok).for_each(drop);
        }
    }
}
