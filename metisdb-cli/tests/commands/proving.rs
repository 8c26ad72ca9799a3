//! Proving and verifying, and what another implementation reads of it.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use alloy_rpc_types_eth::EIP1186AccountProofResponse;
use metisdb::{Options, proof::AccountProof};
use serde_json::{Value, json};

use crate::{
    ABSENT, REFUSED, UNUSABLE, USAGE, fails, json_of, json_with_code, program,
    reading::{ADDRESS, Database, database},
    text,
};

fn root(database: &Database, version: &str) -> String {
    json_of(&["root", "--db", database.path(), "--version", version])["root"].as_str().unwrap().to_owned()
}

/// The program verifies what stands on its standard input.
fn verify_piped(root: &str, input: &[u8]) -> Output {
    let mut child = program()
        .args(["verify-proof", "--root", root, "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_proven_is_verified_without_a_database() {
    let database = database();
    let address = ADDRESS.to_string();
    for (version, value) in [("1", "0x2a"), ("2", "0x2b")] {
        let arguments = ["proof", "--db", database.path(), &address, "7", "0x8", "--version", version];
        let shown = text(&arguments);
        assert!(shown.contains("state root") && shown.contains(&format!("0x7 is {value}")), "{shown}");
        let proof = json_of(&arguments);
        assert!(proof.get("version").is_none(), "nothing but the answer of eth_getProof");
        let root = root(&database, version);
        let output = verify_piped(&root, proof.to_string().as_bytes());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&verified["exists"], &verified["nonce"], &verified["balance"]),
            (&json!(true), &json!(5), &json!("0x3e8"))
        );
        assert_eq!(verified["slots"], json!([{ "slot": "0x7", "value": value }, { "slot": "0x8", "value": "0x0" }]));
        let file = Path::new(database.path()).with_extension("json");
        fs::write(&file, proof.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let shown = text(&["verify-proof", "--root", &root, file]);
        assert!(shown.contains("proven under") && shown.contains("1000 wei"), "{shown}");
        let other = fails(&["verify-proof", "--root", &B256::ZERO.to_string(), file], REFUSED);
        assert!(other.contains("not proven under 0x00") && other.contains("node 0 has the hash"), "{other}");
    }
    let missing = fails(&["proof", "--db", database.path(), &address, "--version", "9"], ABSENT);
    assert!(missing.contains("version 9"), "{missing}");
    fails(&["proof", "--db", database.path(), "0x12"], USAGE);
}

/// A proof that something is not there was asked for, and is there.
#[test]
fn absence_is_proven_too() {
    let database = database();
    let absent = Address::repeat_byte(0xee).to_string();
    let arguments = ["proof", "--db", database.path(), &absent, "1"];
    assert!(text(&arguments).contains("does not exist"));
    let proof = json_with_code(&arguments, 0);
    assert_eq!((&proof["nonce"], &proof["balance"]), (&json!("0x0"), &json!("0x0")));
    assert_eq!(proof["codeHash"], json!(KECCAK256_EMPTY.to_string()));
    let output = verify_piped(&root(&database, "2"), proof.to_string().as_bytes());
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verified["exists"], verified.get("nonce")), (&json!(false), None), "{output:?}");
}

#[test]
fn every_refusal_of_a_proof_says_why() {
    let database = database();
    let proof = json_of(&["proof", "--db", database.path(), &ADDRESS.to_string(), "7"]);
    let root = root(&database, "2");
    let with = |place: &str, value: Value| {
        let mut proof = proof.clone();
        *proof.pointer_mut(place).unwrap() = value;
        proof.to_string()
    };
    let cut = proof.to_string();
    let faults = [
        (with("/balance", json!("0x3e9")), "the claimed balance"),
        (with("/balance", json!("0x03e8")), "without zeros in front"),
        (with("/storageProof/0/value", json!("0x2a")), "slot 7: the claimed value is 42"),
        (with("/storageProof/0/proof", json!([])), "slot 7: the proof has no nodes"),
        (with("/accountProof", json!([])), "the proof has no nodes"),
        (with("/accountProof/0", json!("0x00")), "node 0 cannot stand in a state trie: the node has 1 bytes"),
        (with("/storageHash", json!(B256::ZERO.to_string())), "the claimed storage root"),
        (cut[..cut.len() / 2].to_owned(), "EOF while parsing"),
        (json!({ "jsonrpc": "2.0", "id": 1, "result": proof }).to_string(), "its result alone"),
        (String::new(), "EOF while parsing"),
    ];
    for (text, expected) in faults {
        let output = verify_piped(&root, text.as_bytes());
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(REFUSED), "{message}");
        assert!(output.stdout.is_empty() && message.contains(expected), "{message} without {expected}");
    }
    let missing = fails(&["verify-proof", "--root", &root, "/nowhere/proof.json"], UNUSABLE);
    assert!(missing.contains("/nowhere/proof.json"), "{missing}");
    fails(&["verify-proof", "-"], USAGE);
    fails(&["verify-proof", "--root", "0x12", "-"], USAGE);
}

/// The type that Ethereum clients in Rust read answers with reads the same, and what it writes is read here.
#[test]
fn another_implementation_reads_and_writes_the_same() {
    let database = database();
    let db = Options::new().open_read_only(database.path()).unwrap();
    let snapshot = db.snapshot().unwrap();
    for address in [ADDRESS, Address::repeat_byte(0xee)] {
        let proof = snapshot.proof(&address, &[U256::from(7), U256::from(8), U256::MAX]).unwrap();
        let text = serde_json::to_value(&proof).unwrap();
        let theirs: EIP1186AccountProofResponse = serde_json::from_value(text.clone()).unwrap();
        let account = proof.account.unwrap_or_default();
        assert_eq!((theirs.address, theirs.balance, theirs.nonce), (address, account.balance, account.nonce));
        assert_eq!((theirs.code_hash, theirs.storage_hash), (account.code_hash, proof.storage_root));
        assert_eq!(theirs.account_proof, proof.nodes);
        for (own, theirs) in proof.slots.iter().zip(&theirs.storage_proof) {
            assert_eq!((theirs.key.as_b256(), theirs.value), (B256::from(own.slot), own.value));
            assert_eq!(theirs.proof, own.nodes);
        }
        let again = serde_json::to_value(&theirs).unwrap();
        assert_eq!(again, text, "the same text, from another writer");
        assert_eq!(serde_json::from_value::<AccountProof>(again).unwrap(), proof);
    }
}
