//! Genesis files become databases with the right root.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, Bytes, KECCAK256_EMPTY, U256, keccak256};
use metisdb::Account;
use metisdb_conformance::{
    data,
    state::{State, Whole},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{json_of, names, run, text};

/// A folder with a genesis file, and a place for its database.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) file: PathBuf,
    pub(crate) database: PathBuf,
}

impl Place {
    pub(crate) fn new(content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, database) = (folder.path().join("genesis.json"), folder.path().join("state"));
        fs::write(&file, content).unwrap();
        Self { folder, file, database }
    }

    /// The arguments that import the file.
    pub(crate) fn import(&self) -> [&str; 4] {
        ["import", self.file.to_str().unwrap(), "--db", self.database()]
    }

    pub(crate) fn database(&self) -> &str {
        self.database.to_str().unwrap()
    }

    /// Compares the whole database with the state. The root is that of the naive trie, which shares no code with the database.
    pub(crate) fn check(&self, state: &State) {
        let db = metisdb::Options::new().open_read_only(&self.database).unwrap();
        let snapshot = db.snapshot().unwrap();
        metisdb_conformance::database::check(&snapshot, state, state.root()).unwrap();
        for whole in state.0.values().filter(|whole| !whole.code.is_empty()) {
            assert_eq!(snapshot.code(&whole.account.code_hash).unwrap().as_ref(), Some(&whole.code));
        }
        db.check(metisdb::CheckLevel::Full).unwrap();
    }
}

pub(crate) fn account(nonce: u64, balance: U256, code: &[u8], slots: &[(u64, u64)]) -> Whole {
    let code_hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(code) };
    let slots = slots.iter().map(|(slot, value)| (U256::from(*slot), U256::from(*value))).collect();
    Whole { account: Account { nonce, balance, code_hash }, code: Bytes::copy_from_slice(code), slots }
}

/// A state of more changes than one commit takes, with an account whose slots need more than one, too; and its file.
pub(crate) fn large_state() -> (State, String) {
    let mut accounts = BTreeMap::new();
    let slots: Vec<_> = (0..70_000).map(|slot| (slot * slot, slot + 1)).collect();
    accounts.insert(Address::repeat_byte(0x22), account(1, U256::from(5), &[0x60, 0], &slots));
    for number in 0..60_000_u64 {
        let address = Address::from_slice(&keccak256(number.to_be_bytes())[..20]);
        accounts.insert(address, account(number % 3, U256::from(number) << 40, &[], &[]));
    }
    let mut file = String::from("{\"alloc\":{");
    for (address, Whole { account, code, slots }) in &accounts {
        let comma = if file.ends_with('{') { "" } else { ",\n" };
        write!(file, "{comma}\"{address}\":{{\"storage\":{{").unwrap();
        for (slot, value) in slots {
            let comma = if file.ends_with('{') { "" } else { "," };
            write!(file, "{comma}\"{slot:#066x}\":\"{value:#066x}\"").unwrap();
        }
        write!(file, "}},\"nonce\":\"{:#x}\",\"code\":\"{code}\",\"balance\":\"{}\"}}", account.nonce, account.balance)
            .unwrap();
    }
    file.push_str("}}");
    (State(accounts), file)
}

#[test]
fn every_way_to_write_an_account() {
    let place = Place::new(
        r#"{
        "nonce": "0x42", "config": {"chainId": 5, "londonBlock": 9},
        "alloc": {
            "0x0100000000000000000000000000000000000000": {"balance": "0x10", "nonce": "0x7"},
            "0200000000000000000000000000000000000000": {"Balance": "1000000000000000000000", "nonce": 8},
            "0xABcdEF0000000000000000000000000000000000": {"balance": 123456789012345678901234567890},
            "0400000000000000000000000000000000000000": {"balance": "0x0", "code": "6001", "storage": {
                "0x01": "0x02", "3": "4", "0x0000000000000000000000000000000000000000000000000000000000000005": "00",
                "0x0600": "0x0000000000000000000000000000000000000000000000000000000000000007"}},
            "0500000000000000000000000000000000000000": {"storage": {"09": "0a"}, "code": "0x", "nonce": null,
                "balance": "", "secretKey": "0x00"},
            "0600000000000000000000000000000000000000": {"balance": "0", "storage": null, "code": null}
        },
        "difficulty": "0x1", "gasLimit": 5000
    }"#,
    );
    let address = |text: &str| text.parse::<Address>().unwrap();
    let state = State(BTreeMap::from([
        (address("0100000000000000000000000000000000000000"), account(7, U256::from(16), &[], &[])),
        (address("0200000000000000000000000000000000000000"), account(8, U256::from(10).pow(U256::from(21)), &[], &[])),
        (
            address("abcdef0000000000000000000000000000000000"),
            account(0, U256::from(123_456_789_012_345_678_901_234_567_890_u128), &[], &[]),
        ),
        (
            address("0400000000000000000000000000000000000000"),
            account(0, U256::ZERO, &[0x60, 0x01], &[(1, 2), (3, 4), (0x600, 7)]),
        ),
        (address("0500000000000000000000000000000000000000"), account(0, U256::ZERO, &[], &[(9, 10)])),
        (address("0600000000000000000000000000000000000000"), account(0, U256::ZERO, &[], &[])),
    ]));
    let answer = json_of(&place.import());
    assert_eq!((&answer["accounts"], &answer["slots"]), (&json!(6), &json!(4)));
    assert_eq!((&answer["accounts_with_code"], &answer["version"]), (&json!(1), &json!(1)));
    assert_eq!(answer["root"], state.root().to_string());
    assert_eq!(answer["ignored_fields"], json!([]));
    assert!(answer["seconds"].as_f64().unwrap() > 0.0);
    place.check(&state);
    assert_eq!(names(place.folder.path()), ["genesis.json", "state"]);
}

#[test]
fn a_state_of_many_commits() {
    let (state, file) = large_state();
    let place = Place::new(compress_to_vec(file.as_bytes(), CompressionLevel::Fastest));
    let answer = json_of(&[&place.import()[..], &["--expect-root", &state.root().to_string()]].concat());
    assert_eq!((&answer["accounts"], &answer["slots"]), (&json!(60_001), &json!(70_000)));
    assert_eq!(answer["block_hash"], Value::Null);
    place.check(&state);
    // Of the versions on the way nothing is to be seen.
    let versions = json_of(&["versions", "--db", place.database()]);
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);
    assert!(versions["newest_version"].as_u64().unwrap() > 1);
}

#[test]
fn a_last_batch_of_nothing() {
    let mut accounts = BTreeMap::new();
    let mut file = String::from("{\"alloc\":{");
    for number in 0..50_000_u64 {
        let address = Address::left_padding_from(&number.to_be_bytes());
        accounts.insert(address, account(0, U256::from(1), &[], &[]));
        write!(file, "{}\"{address}\":{{\"balance\":\"1\"}}", if number == 0 { "" } else { "," }).unwrap();
    }
    let place = Place::new(file + "}}");
    json_of(&place.import());
    place.check(&State(accounts));
}

/// Files of several zstd frames, as parallel compressors write them.
#[test]
fn a_file_of_several_frames() {
    let content = r#"{"alloc":{"0100000000000000000000000000000000000000":{"balance":"1"}}}"#;
    let (first, second) = content.as_bytes().split_at(30);
    let packed = [first, b"", second].map(|part| compress_to_vec(part, CompressionLevel::Fastest)).concat();
    let place = Place::new(packed);
    assert_eq!(json_of(&place.import())["accounts"], 1);
}

/// The roots and hashes are those that the chains are known by.
#[test]
fn ethereum_and_its_test_networks() {
    let folder = data::package("alloy-genesis").join("dumpgenesis");
    for (name, accounts, root, hash) in [
        (
            "mainnet",
            8_893,
            "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
            "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        ),
        (
            "sepolia",
            15,
            "0x5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494",
            "0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9",
        ),
        (
            "holesky",
            317,
            "0x69d8c9d72f6fa4ad42d4702b433707212f90db395eb54dc20bc85de253788783",
            "0xb5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4",
        ),
    ] {
        let place = Place::new(data::read(&folder.join(format!("{name}.json"))));
        let answer = json_of(&[&place.import()[..], &["--expect-root", root, "--expect-hash", hash]].concat());
        assert_eq!((&answer["accounts"], &answer["root"]), (&json!(accounts), &json!(root)));
        assert_eq!((&answer["block_hash"], &answer["block_number"]), (&json!(hash), &json!(0)));
        assert_eq!(json_of(&["get", "block", "0", "--db", place.database()])["hash"], hash);
    }
}

#[test]
fn the_program_carries_ethereums_genesis() {
    let place = Place::new("");
    let hash = "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
    let answer = json_of(&["import", "--mainnet", "--db", place.database(), "--expect-hash", hash]);
    assert_eq!(answer["root"], "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
    let address = "0x000d836201318ec6899a67540690382780743280";
    let account = json_of(&["get", "account", address, "--db", place.database()]);
    assert_eq!(account["balance"], "0xad78ebc5ac6200000");
}

#[test]
fn unknown_fields_are_ignored_aloud() {
    let place = Place::new(
        r#"{"slotNumber": "0x0", "extra": {"deep": [1, {"alloc": 3}]}, "difficulty": "1", "gasLimit": "1", "config": {"newForkTime": 0},
        "alloc": {"0100000000000000000000000000000000000000": {"balance": "1", "colour": [], "storageRoot": "0x"}}}"#,
    );
    let output = run(&[&place.import()[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let account = "account 0x0100000000000000000000000000000000000000";
    let expected =
        ["slotNumber".into(), "extra".into(), format!("colour of {account}"), format!("storageRoot of {account}")];
    assert_eq!(answer["ignored_fields"], json!(expected));
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(expected.iter().all(|name| warned.contains(&format!("warning: the field {name} is ignored"))), "{warned}");
    // Who knows what that fork does to the header.
    assert_eq!(answer["block_hash"], Value::Null);
}

#[test]
fn init_makes_an_empty_database() {
    let place = Place::new("");
    let empty = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
    assert!(text(&["init", "--db", place.database()]).contains(empty));
    assert_eq!(json_of(&["root", "--db", place.database()]), json!({ "version": 0, "root": empty }));
    assert_eq!(names(place.folder.path()), ["genesis.json", "state"]);
}

#[test]
fn an_empty_folder_is_a_place() {
    let place = Place::new(r#"{"alloc":{}}"#);
    fs::create_dir(&place.database).unwrap();
    json_of(&place.import());
    place.check(&State::default());
    let link = place.folder.path().join("link");
    fs::create_dir(place.folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &link).unwrap();
    json_of(&["init", "--db", link.to_str().unwrap()]);
    assert!(Path::new(&link).is_symlink());
    assert_eq!(json_of(&["info", "--db", link.to_str().unwrap()])["version"], 0);
    assert_eq!(names(place.folder.path()), ["elsewhere", "genesis.json", "link", "state"]);
}
