//! What is exported is the state, and what is imported, too.

use std::{ops::ControlFlow, sync::atomic::Ordering};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{
    super::{Random, beside, disk, small},
    block, block_changes, commit_random, exported, go_on, import,
    naive::{Content, RawFile, STATE},
    random_state, verify,
};
use crate::{Account, Changes, CheckLevel, Durability, Error, Options, SnapshotFile};

/// The file has the state, the blocks and nothing else; a database of it has the same, and is sound.
fn assert_round_trip(bytes: &[u8], content: &Content, case: &str) {
    let file = RawFile::read(bytes);
    assert_eq!(file.content(), *content, "{case}: the file");
    assert_eq!(file.root, content.root(), "{case}");
    assert_eq!(file.write(), bytes, "{case}: the naive writer");
    let tally = verify(bytes).unwrap();
    assert_eq!([tally.codes, tally.accounts, tally.slots], file.totals, "{case}");
    assert_eq!((tally.chunks, tally.bytes), (file.chunks.len() as u64 + 1, bytes.len() as u64), "{case}");

    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("state");
    assert_eq!(import(bytes, &target).unwrap(), tally, "{case}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{case}: nothing else is left");
    let db = Options::new().open(&target).unwrap();
    let snapshot = db.snapshot().unwrap();
    assert_eq!(Content::of(&snapshot), *content, "{case}: the database");
    assert_eq!(snapshot.root().unwrap(), content.root(), "{case}");
    assert_eq!(snapshot.committed_block().unwrap(), file.blocks.last().copied(), "{case}");
    for block in &file.blocks {
        assert_eq!(snapshot.block(block.number).unwrap(), Some(*block), "{case}");
    }
    db.check(CheckLevel::Full).unwrap();
    drop(snapshot);
    db.close().unwrap();
}

#[test]
fn random_states() {
    for seed in 0..12 {
        println!("seed {seed}");
        let db = small().create_on(disk(seed)).unwrap();
        let mut random = Random(seed);
        let content = random_state(&db, &mut random, [3, 30, 90][seed as usize % 3]).reachable();
        let snapshot = db.snapshot().unwrap();
        let bytes = exported(&snapshot);
        assert_round_trip(&bytes, &content, &format!("seed {seed}"));
        // An older version, after the newest was exported; and the same bytes once more.
        let mut newer = content.clone();
        commit_random(&db, &mut random, 30, &mut newer);
        assert!(exported(&db.snapshot_at(snapshot.version()).unwrap()) == bytes, "seed {seed}: not the same bytes");
        assert_ne!(exported(&db.snapshot().unwrap()), bytes, "seed {seed}");
    }
}

#[test]
fn an_empty_state() {
    let db = small().create_on(disk(1)).unwrap();
    let bytes = exported(&db.snapshot().unwrap());
    assert_eq!(RawFile::read(&bytes).chunks, []);
    assert_round_trip(&bytes, &Content::default(), "empty");
}

#[test]
fn an_account_spans_chunks() {
    let db = small().create_on(disk(1)).unwrap();
    let mut random = Random(7);
    let content = random_state(&db, &mut random, 90);
    let address = Address::from_slice(&keccak256(1_u64.to_le_bytes())[..20]);
    let file = RawFile::read(&exported(&db.snapshot().unwrap()));
    let begins_with = |body: &[u8]| body[0] == 66 && body[1..21] == address[..];
    let continued = file.chunks.iter().filter(|chunk| chunk.kind == STATE && begins_with(&chunk.body)).count();
    assert!(content.accounts.contains_key(&address) && continued > 1, "{continued} chunks");
}

/// Chunks of code end by their bytes, not by their records.
#[test]
fn long_codes() {
    let db = small().create_on(disk(1)).unwrap();
    let (mut content, mut changes) = (Content::default(), Changes::new());
    for number in 0..9_u8 {
        // The longest code, and the shortest.
        let code: Bytes = vec![number; if number == 8 { 1 } else { 1 << 20 }].into();
        let account = Account { code_hash: keccak256(&code), ..Account::default() };
        changes.set_account(Address::repeat_byte(number), account).set_code(account.code_hash, code.clone());
        content.accounts.insert(Address::repeat_byte(number), account);
        content.codes.insert(account.code_hash, code);
    }
    db.commit(&changes, Durability::Pipelined).unwrap();
    let bytes = exported(&db.snapshot().unwrap());
    assert_eq!(
        RawFile::read(&bytes).chunks.len(),
        3 + 1,
        "three codes of 1 MiB fit into 4 MiB with what tells their lengths"
    );
    assert_round_trip(&bytes, &content, "long codes");
}

#[test]
fn blocks_that_the_next_one_can_ask_for() {
    let db = small().retain_versions(400).create_on(disk(1)).unwrap();
    for number in [5, 1_000].into_iter().chain(2_000..2_300) {
        db.commit(&block_changes(number), Durability::Pipelined).unwrap();
    }
    let bytes = exported(&db.snapshot().unwrap());
    let numbers: Vec<_> = RawFile::read(&bytes).blocks.iter().map(|block| block.number).collect();
    assert_eq!(numbers, (2_044..2_300).collect::<Vec<_>>());
    assert_round_trip(&bytes, &Content::default(), "blocks");
    // Those before a gap are of no use, and a state without a block has none.
    let version = db.snapshot().unwrap().version();
    let short = exported(&db.snapshot_at(version - 298).unwrap());
    assert_eq!(RawFile::read(&short).blocks, [block(2_000), block(2_001)]);
    assert_round_trip(&short, &Content::default(), "two blocks");
    db.commit(&Changes::new(), Durability::Pipelined).unwrap();
    assert_eq!(RawFile::read(&exported(&db.snapshot().unwrap())).blocks, []);
}

/// A database without the code of an account has no complete state.
#[test]
fn a_missing_code_is_told() {
    let db = small().create_on(disk(1)).unwrap();
    let mut changes = Changes::new();
    let (address, code_hash) = (Address::repeat_byte(3), B256::repeat_byte(9));
    changes.set_account(address, Account { code_hash, ..Account::default() });
    db.commit(&changes, Durability::Pipelined).unwrap();
    let error = db.snapshot().unwrap().export_to(Vec::new(), go_on).unwrap_err();
    assert!(
        matches!(error, Error::CodeMissing { address: own, code_hash: hash } if (own, hash) == (address, code_hash)),
        "{error}"
    );
}

/// The writer commits and takes checkpoints as fast as it can, and the file is that of the pinned version.
#[test]
fn beside_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let options = small().retain_versions(0).max_unwritten_trie_bytes(1 << 18);
    let db = options.create(folder.path().join("state")).unwrap();
    let mut random = Random(11);
    let content = random_state(&db, &mut random, 90).reachable();
    let snapshot = db.snapshot().unwrap();
    let before = exported(&snapshot);
    assert_eq!(RawFile::read(&before).content(), content);
    let (mut newest, mut commits) = (content.clone(), 0);
    let rounds = std::sync::atomic::AtomicU64::new(0);
    let write = || {
        commit_random(&db, &mut random, 90, &mut newest);
        commits += 1;
        if commits % 4 == 0 {
            db.checkpoint().unwrap();
        }
        rounds.store(commits, Ordering::Relaxed);
    };
    beside(write, || {
        while rounds.load(Ordering::Relaxed) < 40 {
            let mut bytes = Vec::new();
            let progress = |_: &_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                ControlFlow::Continue(())
            };
            snapshot.export_to(&mut bytes, progress).unwrap();
            assert!(bytes == before);
        }
    });
    drop(snapshot);
    let now = RawFile::read(&exported(&db.snapshot().unwrap())).content();
    assert_eq!(now, newest.reachable());
}

/// What the header says before anything else is read.
#[test]
fn the_header_is_told() {
    let db = small().create_on(disk(1)).unwrap();
    let content = random_state(&db, &mut Random(1), 9);
    db.commit(&block_changes(77), Durability::Pipelined).unwrap();
    let bytes = exported(&db.snapshot().unwrap());
    let file = SnapshotFile::from_stream(&bytes[..56 + 80 + 32]).unwrap();
    assert_eq!((file.header().version(), file.header().root()), (4, content.root()));
    assert_eq!(file.header().blocks(), [block(77)]);
}

/// Slots and balances of every length.
#[test]
fn numbers_of_every_length() {
    let db = small().create_on(disk(1)).unwrap();
    let (mut content, mut changes) = (Content::default(), Changes::new());
    for bits in 0..=256_usize {
        let number = U256::MAX.checked_shr(256 - bits).unwrap_or(U256::ZERO);
        let address = Address::left_padding_from(&(bits as u16).to_be_bytes());
        let account = Account { nonce: u64::MAX - bits as u64, balance: number, ..Account::default() };
        let value = U256::MAX >> (bits % 256);
        changes.set_account(address, account).set_storage(address, number, value);
        content.accounts.insert(address, account);
        content.slots.insert((address, number), value);
    }
    db.commit(&changes, Durability::Pipelined).unwrap();
    assert_round_trip(&exported(&db.snapshot().unwrap()), &content, "numbers");
}
