//! Runs the program on a small database.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use metisdb::{Account, Block, Changes, Durability, Options};
use serde_json::{Value, json};

const ADDRESS: Address = Address::repeat_byte(0xc0);
const CODE: &[u8] = &[0x60, 0x00];

struct Database {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// Two versions: the second changes slot 7 from 42 to 43.
fn database() -> Database {
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

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metisdb")).args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&[arguments, &["--json"]].concat())).unwrap()
}

impl Database {
    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

#[test]
fn info_shows_versions_and_keys() {
    let database = database();
    let shown = text(&["info", database.path()]);
    assert!(shown.contains("newest version") && shown.contains("keys"), "{shown}");
    let json = json_of(&["info", database.path()]);
    assert_eq!((&json["version"], &json["keys"]), (&json!(2), &json!(4)));
    assert_eq!(json["segments"], 1);
}

#[test]
fn check_finds_a_sound_database_sound() {
    let database = database();
    assert!(text(&["check", database.path()]).contains("sound"));
    let json = json_of(&["check", database.path(), "--full"]);
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
    let output = run(&["check", database.path(), "--full"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("corrupt") && message.contains("segment.0000000001"), "{message}");
}

#[test]
fn get_storage_at_versions() {
    let database = database();
    let address = ADDRESS.to_string();
    let newest = ["get", "storage", database.path(), &address, "7"];
    assert!(text(&newest).contains("0x2b"));
    assert_eq!(json_of(&newest)["value"], "0x2b");
    assert_eq!(json_of(&["get", "storage", database.path(), &address, "0x7", "--version", "1"])["value"], "0x2a");
    assert_eq!(json_of(&["get", "storage", database.path(), &address, "8"])["value"], "0x0");
    let output = run(&["get", "storage", database.path(), &address, "7", "--version", "9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("version 9 is not readable"));
}

#[test]
fn get_account_code_and_block() {
    let database = database();
    let account = json_of(&["get", "account", database.path(), &ADDRESS.to_string()]);
    assert_eq!((&account["nonce"], &account["balance"]), (&json!(5), &json!("0x3e8")));
    assert_eq!((&account["has_storage"], &account["version"]), (&json!(true), &json!(2)));
    let absent = json_of(&["get", "account", database.path(), &Address::ZERO.to_string()]);
    assert_eq!(absent["exists"], false);
    let code = json_of(&["get", "code", database.path(), &keccak256(CODE).to_string()]);
    assert_eq!(code["code"], "0x6000");
    let block = json_of(&["get", "block", database.path(), "3"]);
    assert_eq!((&block["timestamp"], &block["exists"]), (&json!(77), &json!(true)));
    assert_eq!(json_of(&["get", "block", database.path(), "4"])["exists"], false);
}

#[test]
fn exit_codes_tell_errors_from_usage() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["info", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("holds no MetisDB database"));
    assert_eq!(run(&["info"]).status.code(), Some(2));
    assert_eq!(run(&["get", "account", "somewhere", "no-address"]).status.code(), Some(2));
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
    text(&["info", database.path()]);
    text(&["check", database.path(), "--full"]);
    assert_eq!(listing(&database.path), before);
}
