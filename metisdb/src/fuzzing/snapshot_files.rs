//! Snapshot files that a stranger made: refused, or the state of the root that they name.

use std::{fs, ops::ControlFlow, sync::OnceLock};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{TrieAccount, root};
use arbitrary::{Result, Unstructured};

use super::mend;
use crate::{Account, Block, Changes, Db, Durability, Options, SnapshotFile, SnapshotTally, storage::SimulatedDisk};

/// One in how many files is imported, which takes a thousand times as long as to verify it. A hash draws them: a fuzzer would choose them all.
const IMPORTED: u8 = 128;

/// Any bytes, or a sound file with changes, whose hashes are put right after them.
pub fn snapshot_file(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    match input.int_in_range(0..=7) {
        Ok(0) => judge(input.take_rest()),
        _ => drop(changed(&mut input).map(|file| judge(&file))),
    }
}

fn changed(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut file = sound().to_vec();
    let is_mended = input.ratio(7_u8, 8)?;
    for _ in 0..input.int_in_range(1..=4)? {
        let at = input.choose_index(file.len())?;
        let end = file.len().min(at + input.int_in_range(0..=100)?);
        match input.int_in_range(0..=4)? {
            0 => file.truncate(at.max(1)),
            1 => drop(file.drain(at.max(1)..end.max(1))),
            2 => file.extend_from_within(at..end),
            3 => file.splice(at..at, input.arbitrary::<[u8; 4]>()?).for_each(drop),
            _ => file[at] = input.arbitrary()?,
        }
    }
    if is_mended {
        mend::snapshot_file(&mut file);
    }
    Ok(file)
}

fn go_on(_: &SnapshotTally) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn options() -> Options {
    Options::new().expected_keys(0).segment_bytes(1 << 16)
}

/// What can be imported was verified, and has the root by the oracle; nothing is left of what only an import refuses, as it misses a code.
fn judge(bytes: &[u8]) {
    let Ok(file) = SnapshotFile::from_stream(bytes) else { return };
    let root = file.header().root();
    let verified = file.verify(go_on);
    if !keccak256(bytes)[0].is_multiple_of(IMPORTED) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("state");
    let file = SnapshotFile::from_stream(bytes).expect("as before");
    match file.import(&target, options(), go_on) {
        Ok(tally) => {
            assert_eq!(verified.expect("what is imported is verified").bytes, tally.bytes);
            let db = options().open(&target).expect("it is whole");
            assert_eq!(oracle_root(&db), root);
        }
        Err(error) => {
            assert!(error.is_corruption(), "{error}");
            let left = fs::read_dir(folder.path()).expect("a folder").count();
            assert!(!target.exists() && (left == 0 || verified.is_err()), "{error}: {left} files are left");
        }
    }
}

fn oracle_root(db: &Db) -> B256 {
    let snapshot = db.snapshot().expect("the newest");
    let accounts = snapshot.accounts(B256::ZERO).expect("the first").map(|account| {
        let (_, address, Account { nonce, balance, code_hash }) = account.expect("an account");
        let slots = snapshot.slots(&address, B256::ZERO).expect("the first").map(|slot| {
            let (_, slot, value) = slot.expect("a slot");
            (B256::from(slot), value)
        });
        (address, TrieAccount { nonce, balance, storage_root: root::storage_root_unhashed(slots), code_hash })
    });
    root::state_root_unhashed(accounts)
}

/// The file of a small state with everything in it.
fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let db = options().create_on(std::sync::Arc::new(SimulatedDisk::new(1))).expect("a database");
        let mut changes = Changes::new();
        for number in 0..4_u8 {
            let address = Address::repeat_byte(number);
            let mut account =
                Account { nonce: u64::from(number), balance: U256::from(number) << 200, ..Account::default() };
            if number % 2 == 1 {
                let code = Bytes::from(vec![number; 9]);
                account.code_hash = keccak256(&code);
                changes.set_code(account.code_hash, code);
            }
            changes.set_account(address, account);
            for slot in 0..u64::from(number) * 6 {
                changes.set_storage(address, U256::from(slot), U256::from(slot + 1) << (13 * slot as usize));
            }
        }
        changes.set_block(Block {
            number: 7,
            hash: B256::repeat_byte(7),
            parent_hash: B256::repeat_byte(6),
            timestamp: 70,
        });
        db.commit(&changes, Durability::Pipelined).expect("a commit");
        let mut bytes = Vec::new();
        db.snapshot().expect("the newest").export_to(&mut bytes, go_on).expect("an export");
        bytes
    })
}
