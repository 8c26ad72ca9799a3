//! Reading a small database.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use metisdb::{Account, Block, Changes, Durability, Options};
use serde_json::json;

use crate::{ABSENT, DAMAGED, UNUSABLE, USAGE, fails, json_of, json_with_code, text};

pub(crate) const ADDRESS: Address = Address::repeat_byte(0xc0);
const CODE: &[u8] = &[0x60, 0x00];

pub(crate) struct Database {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// Two versions: the second changes slot 7 from 42 to 43.
pub(crate) fn database() -> Database {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let db = Options::new().segment_bytes(1 << 16).create(&path).unwrap();
    let mut changes = Changes::new();
    let code_hash = keccak256(CODE);
    changes.set_account(ADDRESS, Account { nonce: 5, balance: U256::from(1_000), code_hash });
    changes.set_storage(ADDRESS, U256::from(7), U256::from(42));
    changes.set_code(code_hash, Bytes::from_static(CODE));
    let hash = B256::repeat_byte(9);
    changes.set_block(Block { number: 3, hash, parent_hash: B256::repeat_byte(8), timestamp: 77 });
    db.commit(&changes, Durability::Durable).unwrap();
    let mut changes = Changes::new();
    changes.set_storage(ADDRESS, U256::from(7), U256::from(43));
    db.commit(&changes, Durability::Durable).unwrap();
    db.close().unwrap();
    Database { path, _folder: folder }
}

impl Database {
    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

#[test]
fn info_shows_versions_and_keys() {
    let database = database();
    let shown = text(&["info", "--db", database.path()]);
    assert!(shown.contains("newest version") && shown.contains("keys"), "{shown}");
    let json = json_of(&["info", "--db", database.path()]);
    assert_eq!((&json["version"], &json["keys"]), (&json!(2), &json!(4)));
    assert_eq!(json["segments"], 1);
    assert_eq!(json["block"], json!(null), "only the version before was given one");
}

#[test]
fn check_finds_a_sound_database_sound() {
    let database = database();
    assert!(text(&["check", "--db", database.path()]).contains("sound"));
    let json = json_of(&["check", "--db", database.path(), "--full"]);
    assert_eq!((&json["sound"], &json["full"], &json["image"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!((&json["commits"], &json["records"], &json["newest_records"]), (&json!(2), &json!(5), &json!(4)));
}

#[test]
fn check_reports_damage() {
    let database = database();
    let segment = database.path.join("segment.0000000001");
    let mut bytes = fs::read(&segment).unwrap();
    // Inside the first frame: its header stands behind the segment's, 128 bytes.
    bytes[128 + 64 + 40] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let message = fails(&["check", "--db", database.path(), "--full"], DAMAGED);
    assert!(message.contains("corrupt") && message.contains("segment.0000000001"), "{message}");
}

#[test]
fn get_storage_at_versions() {
    let database = database();
    let address = ADDRESS.to_string();
    let newest = ["get", "storage", "--db", database.path(), &address, "7"];
    assert!(text(&newest).contains("0x2b"));
    assert_eq!(json_of(&newest)["value"], "0x2b");
    assert_eq!(
        json_of(&["get", "storage", "--db", database.path(), &address, "0x7", "--version", "1"])["value"],
        "0x2a"
    );
    assert_eq!(json_of(&["get", "storage", "--db", database.path(), &address, "8"])["value"], "0x0");
    let message = fails(&["get", "storage", "--db", database.path(), &address, "7", "--version", "9"], ABSENT);
    assert!(message.contains("version 9 is not readable"), "{message}");
}

#[test]
fn get_account_code_and_block() {
    let database = database();
    let account = json_of(&["get", "account", "--db", database.path(), &ADDRESS.to_string()]);
    assert_eq!((&account["nonce"], &account["balance"]), (&json!(5), &json!("0x3e8")));
    assert_eq!((&account["has_storage"], &account["version"]), (&json!(true), &json!(2)));
    let nobody = ["get", "account", "--db", database.path(), &Address::ZERO.to_string()];
    assert_eq!(json_with_code(&nobody, ABSENT)["exists"], false);
    let code = json_of(&["get", "code", "--db", database.path(), &keccak256(CODE).to_string()]);
    assert_eq!(code["code"], "0x6000");
    let block = json_of(&["get", "block", "--db", database.path(), "3"]);
    assert_eq!((&block["timestamp"], &block["exists"]), (&json!(77), &json!(true)));
    assert_eq!(json_with_code(&["get", "block", "--db", database.path(), "4"], ABSENT)["exists"], false);
    let code = ["get", "code", "--db", database.path(), &B256::ZERO.to_string()];
    assert_eq!(json_with_code(&code, ABSENT)["exists"], false);
}

#[test]
fn root_of_state_and_storage() {
    let database = database();
    let db = Options::new().open_read_only(&database.path).unwrap();
    let roots = [1, 2].map(|version| db.snapshot_at(version).unwrap().root().unwrap().to_string());
    let storage_roots =
        [1, 2].map(|version| db.snapshot_at(version).unwrap().storage_root(&ADDRESS).unwrap().to_string());
    assert_ne!(storage_roots[0], storage_roots[1]);
    let root = |more: &[&str]| json_of(&[&["root", "--db", database.path()], more].concat());
    assert_eq!(root(&[]), json!({ "version": 2, "root": roots[1] }));
    assert_eq!(root(&["--version", "1"]), json!({ "version": 1, "root": roots[0] }));
    let address = ADDRESS.to_string();
    let expected = json!({ "version": 1, "address": address, "exists": true, "storage_root": storage_roots[0] });
    assert_eq!(root(&["--version", "1", "--storage", &address]), expected);
    assert_eq!(root(&["--storage", &address])["storage_root"], storage_roots[1]);
    assert!(text(&["root", "--db", database.path()]).contains(&roots[1]));
    let nobody = ["root", "--db", database.path(), "--storage", &Address::ZERO.to_string()];
    assert_eq!(json_with_code(&nobody, ABSENT)["exists"], false);
    fails(&["root", "--db", database.path(), "--version", "3"], ABSENT);
}

#[test]
fn versions_lists_the_newest_first() {
    let database = database();
    let json = json_of(&["versions", "--db", database.path()]);
    let versions: Vec<_> = json["versions"].as_array().unwrap().iter().map(|row| row["version"].as_u64()).collect();
    assert_eq!(versions, [Some(2), Some(1), Some(0)]);
    let blocks: Vec<_> = json["versions"].as_array().unwrap().iter().map(|row| row["block"].clone()).collect();
    let named = json!({ "number": 3, "hash": B256::repeat_byte(9).to_string() });
    assert_eq!(blocks, [json!(null), named, json!(null)]);
    assert_eq!((&json["oldest_version"], &json["newest_version"]), (&json!(0), &json!(2)));
    for row in json["versions"].as_array().unwrap() {
        let version = row["version"].to_string();
        assert_eq!(json_of(&["root", "--db", database.path(), "--version", &version])["root"], row["root"]);
    }
    let last = json_of(&["versions", "--db", database.path(), "--last", "1"]);
    assert_eq!(last["versions"], json!([json["versions"][0]]));
    let shown = text(&["versions", "--db", database.path(), "--last", "1"]);
    assert!(shown.contains("2 more, down to version 0"), "{shown}");
    assert_eq!(json_of(&["versions", "--db", database.path(), "--all"]), json);
}

#[test]
fn exit_codes_tell_errors_from_usage() {
    let folder = tempfile::tempdir().unwrap();
    let message = fails(&["info", "--db", folder.path().to_str().unwrap()], UNUSABLE);
    assert!(message.contains("holds no MetisDB database"), "{message}");
    fails(&["info"], USAGE);
    fails(&["get", "account", "--db", "somewhere", "no-address"], USAGE);
    fails(&["import", "--db", "somewhere"], USAGE);
    fails(&["import", "some-file", "--mainnet", "--db", "somewhere"], USAGE);
    fails(&["import", "some-file", "--expect-root", "0x12", "--db", "somewhere"], USAGE);
}

#[test]
fn looking_changes_no_file() {
    let database = database();
    let listing = |path: &Path| {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = listing(&database.path);
    text(&["info", "--db", database.path()]);
    text(&["check", "--db", database.path(), "--full"]);
    text(&["versions", "--db", database.path()]);
    text(&["root", "--db", database.path(), "--version", "1", "--storage", &ADDRESS.to_string()]);
    assert_eq!(listing(&database.path), before);
}
