//! What is wrong with a file or a place is said, and nothing is left of the attempt.

use std::{fs, os::unix::fs::symlink};

use metisdb_conformance::data;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::{DAMAGED, REFUSED, UNUSABLE, fails, importing::Place, json_of, names};

const ONE: &str = r#"{"alloc":{"0100000000000000000000000000000000000000":{"balance":"1"}}}"#;
const ROOT_OF_NOTHING: &str = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";

/// The file is refused with a message of these parts.
fn refuses(content: impl AsRef<[u8]>, parts: &[&str]) {
    let place = Place::new(content);
    let message = fails(&place.import(), REFUSED);
    assert!(parts.iter().all(|part| message.contains(part)), "{message} without one of {parts:?}");
    assert!(message.contains("genesis.json"), "{message}");
    assert_eq!(names(place.folder.path()), ["genesis.json"], "{message}");
}

#[test]
fn files_that_are_no_genesis() {
    refuses("", &["EOF", "line 1 column 0"]);
    refuses("[]", &["expected a genesis file", "line 1"]);
    refuses("{\n \"alloc\": {\n  \"01", &["EOF", "line 3 column 5"]);
    refuses(ONE.replace("}}}", "}}"), &["EOF", "line 1"]);
    refuses(format!("{ONE}\n{{}}"), &["trailing characters", "line 2 column 1"]);
    refuses("{\"config\":{}}", &["no alloc"]);
    refuses(r#"{"alloc":[]}"#, &["expected alloc", "line 1 column"]);
    refuses(r#"{"alloc":{},"alloc":{}}"#, &["alloc stands there twice"]);
    refuses(r#"{"gasLimit":"many","alloc":{}}"#, &["gasLimit", "\"many\" is no number"]);
    refuses(r#"{"alloc":{},"timestamp":"0x1ffffffffffffffff"}"#, &["timestamp", "more than 64 bits"]);
    refuses(r#"{"alloc":{},"coinbase":"0x12"}"#, &["coinbase", "40 hexadecimal digits"]);
    refuses([0xff, 0xfe], &["expected value", "line 1"]);
    refuses([b'{', b'"', 0xff, b'"'], &["line 1"]);
}

#[test]
fn packed_files_that_are_not_sound() {
    let packed = compress_to_vec(ONE.as_bytes(), CompressionLevel::Fastest);
    refuses(&packed[..packed.len() - 8], &[]);
    refuses(&packed[..5], &["no sound zstd file"]);
    refuses([&packed[..], b"more"].concat(), &["no sound zstd file"]);
    refuses([0x1f, 0x8b, 8, 0], &["gzip", "zstd"]);
}

#[test]
fn accounts_that_are_wrong() {
    let address = "0x0100000000000000000000000000000000000000";
    let account = |fields: &str| format!("{{\"alloc\":\n{{\"{address}\":{fields}}}}}");
    for (fields, parts) in [
        ("{}", ["balance", "is missing"]),
        ("[]", ["expected account", "line 2"]),
        (r#"{"balance":null}"#, ["balance", "is missing"]),
        (r#"{"balance":"0xgg"}"#, ["balance", "\"0xgg\" is no number"]),
        (r#"{"balance":"ff"}"#, ["balance", "\"ff\" is no number"]),
        (r#"{"balance":-1}"#, ["balance", "neither a string nor a number"]),
        (r#"{"balance":1.5}"#, ["balance", "\"1.5\" is no number"]),
        (r#"{"balance":{}}"#, ["balance", "neither a string nor a number"]),
        (r#"{"balance":"1","balance":"1"}"#, ["balance", "stands there twice"]),
        (r#"{"balance":"1","Balance":"1"}"#, ["Balance", "stands there twice"]),
        (r#"{"balance":"1","nonce":"0x10000000000000000"}"#, ["nonce", "more than 64 bits"]),
        (r#"{"balance":"1","code":"0x600"}"#, ["code", "odd number of digits"]),
        (r#"{"balance":"1","code":"0x60zz"}"#, ["code", "invalid character"]),
        (r#"{"balance":"1","code":6}"#, ["code", "odd number of digits"]),
        (r#"{"balance":"1","storage":[]}"#, ["storage", "an object of slots"]),
        (r#"{"balance":"1","storage":{"0xg":"0x1"}}"#, ["storage", "\"0xg\" is none"]),
        (r#"{"balance":"1","storage":{"0x1":"zero"}}"#, ["storage", "\"zero\" is none"]),
        (r#"{"balance":"1","storage":{"0x1":1}}"#, ["expected a string", "line 2 column"]),
        (r#"{"balance":"1","storage":{},"storage":{}}"#, ["storage", "stands there twice"]),
        (r#"{"balance":"1","storage":{"0x1":"0x1","0x01":"0x0"}}"#, ["slot 0x1", "stands there twice"]),
    ] {
        let place_of_error = if parts[0] == "expected a string" { "line 2" } else { address };
        refuses(account(fields), &[parts[0], parts[1], place_of_error, "at line 2 column"]);
    }
    let over = format!(r#"{{"balance":"1","storage":{{"0x{}":"0x1"}}}}"#, "0".repeat(65));
    refuses(account(&over), &["up to 64 hexadecimal digits"]);
    let long = format!(r#"{{"balance":"1","code":"0x{}"}}"#, "00".repeat((1 << 20) + 1));
    refuses(account(&long), &[address, "1048577 bytes, the limit is 1048576"]);
    for key in ["0x12", "x100000000000000000000000000000000000000", "010000000000000000000000000000000000000000"] {
        refuses(ONE.replace("0100000000000000000000000000000000000000", key), &[key, "is no address", "line 1 column"]);
    }
}

#[test]
fn an_account_that_stands_there_twice() {
    let again = r#","0x0100000000000000000000000000000000000000":{"balance":"2"}}}"#;
    let address = "0x0100000000000000000000000000000000000000";
    refuses(ONE.replace("}}}", "}") + again, &[address, "stands there twice", "line 1 column"]);
    // So far apart that the first one is committed by then.
    let (_, large) = crate::importing::large_state();
    let address = "0x2222222222222222222222222222222222222222";
    let again = format!(",\"{}\":{{\"balance\":\"2\"}}}}}}", &address[2..]);
    refuses(large.strip_suffix("}}").unwrap().to_owned() + &again, &[address, "stands there twice", "line 60001"]);
    // And a slot so far from the first that it is committed by then.
    let slot = "\"0x0000000000000000000000000000000000000000000000000000000000000004\":\"0x00\"},\"nonce\":\"0x1\",\"code\":\"0x6000\"";
    let twice = large.replacen("},\"nonce\":\"0x1\",\"code\":\"0x6000\"", &format!(",{slot}"), 1);
    assert_ne!(twice, large);
    refuses(twice, &[address, "slot 0x4 stands there twice"]);
}

#[test]
fn another_root_or_hash_than_expected() {
    let place = Place::new(ONE);
    let expect = |more: &[&str], parts: &[&str]| {
        let message = fails(&[&place.import()[..], more].concat(), REFUSED);
        assert!(parts.iter().all(|part| message.contains(part)), "{message} without one of {parts:?}");
        assert_eq!(names(place.folder.path()), ["genesis.json"]);
    };
    expect(&["--expect-root", ROOT_OF_NOTHING], &["the state root is", ROOT_OF_NOTHING, "nothing was kept"]);
    expect(&["--expect-hash", ROOT_OF_NOTHING], &["not known", "no difficulty"]);
    // What was refused is no obstacle.
    let root = json_of(&place.import())["root"].clone();
    assert_eq!(json_of(&["root", "--db", place.database()])["root"], root);
    let place = Place::new("");
    let message = fails(&["import", "--mainnet", "--db", place.database(), "--expect-hash", ROOT_OF_NOTHING], REFUSED);
    assert!(message.contains("the block hash is 0xd4e5"), "{message}");
    assert_eq!(names(place.folder.path()), ["genesis.json"]);
}

#[test]
fn places_that_are_taken() {
    let place = Place::new(ONE);
    json_of(&place.import());
    let before = json_of(&["info", "--db", place.database()]);
    for command in [&place.import()[..], &["init", "--db", place.database()]] {
        let message = fails(command, REFUSED);
        assert!(message.contains("is taken") && message.contains(place.database()), "{message}");
    }
    assert_eq!(json_of(&["info", "--db", place.database()]), before);
    // A file, a folder with one, and a link that leads nowhere.
    let link = place.folder.path().join("link");
    symlink("nowhere", &link).unwrap();
    for taken in [&*place.file, place.folder.path(), &*link] {
        fails(&["init", "--db", taken.to_str().unwrap()], REFUSED);
    }
    let message = fails(&["init", "--db", place.folder.path().join("no/state").to_str().unwrap()], REFUSED);
    assert!(message.contains("is no folder"), "{message}");
    fails(&["init", "--db", "/"], REFUSED);
    assert_eq!(names(place.folder.path()), ["genesis.json", "link", "state"]);
}

/// Only what an import left may be removed by the next one.
#[test]
fn what_is_in_the_way_is_left_alone() {
    let place = Place::new(ONE);
    let folder = place.folder.path().join("state.incomplete");
    let refused = || {
        let message = fails(&place.import(), REFUSED);
        assert!(message.contains("state.incomplete is in the way"), "{message}");
        assert!(!place.database.exists());
    };
    fs::create_dir_all(folder.join("state/mine")).unwrap();
    refused();
    fs::write(folder.join("metisdb-construction"), "").unwrap();
    fs::write(folder.join("mine"), "").unwrap();
    refused();
    assert_eq!(names(&folder), ["metisdb-construction", "mine", "state"]);
    assert_eq!(names(&folder.join("state")), ["mine"]);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(place.folder.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &folder).unwrap();
    refused();
    fs::remove_file(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    refused();
}

#[test]
fn files_that_are_not_there() {
    let place = Place::new("");
    let message = fails(&["import", "/nowhere/genesis.json", "--db", place.database()], UNUSABLE);
    assert!(message.contains("open /nowhere/genesis.json"), "{message}");
    let message = fails(&["import", place.folder.path().to_str().unwrap(), "--db", place.database()], UNUSABLE);
    assert!(message.contains("directory"), "{message}");
    assert_eq!(names(place.folder.path()), ["genesis.json"]);
}

#[test]
fn damage_has_a_code_of_its_own() {
    let place = Place::new(data::read(&data::package("alloy-genesis").join("dumpgenesis/sepolia.json")));
    json_of(&place.import());
    for slot in names(&place.database).iter().filter(|name| name.starts_with("superblock")) {
        let path = place.database.join(slot);
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(path, bytes).unwrap();
    }
    let message = fails(&["info", "--db", place.database()], DAMAGED);
    assert!(message.contains("superblock"), "{message}");
}
