//! The demonstration: what it says holds, what it keeps, and what it leaves.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Output},
};

use metisdb_conformance::data;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{DAMAGED, REFUSED, interrupted_leaves_nothing, json_of, names, program};

/// The demonstration with `folder` for what is temporary.
fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.env("TMPDIR", folder).args(["demo", "--quick", "--json"]).args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    demo(folder, arguments).output().unwrap()
}

/// Its answer, with this exit code.
fn answer(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The checks that were made, and whether each held.
fn checks(answer: &Value) -> Vec<(&str, bool)> {
    let checks = answer["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["name"].as_str().unwrap(), check["held"].as_bool().unwrap())).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file with a block of one transfer, which leaves these logs on what is said to be mainnet.
fn block_file(folder: &TempDir, logs: &Value) -> String {
    let (sender, receiver) = (format!("0x{}", "51".repeat(20)), format!("0x{}", "52".repeat(20)));
    let hash = format!("0x{}", "00".repeat(32));
    let block = json!({ "18000000": {
        "env": {
            "block_number": "18000000", "current_coinbase": receiver, "current_gas_limit": "0x1c9c380",
            "current_timestamp": "1692900000", "previous_hash": hash, "base_fee_per_gas": "7", "mix_hash": hash,
        },
        "transactions": { "0": {
            "data": "0x", "gas_limit": "0x5208", "gas_price": "0x64", "nonce": "0x0", "sender": sender, "to": receiver,
            "value": "0x1", "max_fee_per_gas": "0x0",
        } },
        "logs": { "0": logs },
        "pre": { sender: { "balance": "0xde0b6b3a7640000", "code": "0x", "nonce": 0, "storage": {} } },
    } });
    let path = folder.path().join("block.json");
    fs::write(&path, block.to_string()).unwrap();
    text(&path).to_owned()
}

#[test]
fn everything_holds_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let answer = answer(&run(folder.path(), &[]), 0);
    let names_of_checks = ["genesis", "blocks", "versions", "balances", "pair", "proofs", "files", "kills"];
    assert_eq!(checks(&answer), names_of_checks.map(|name| (name, true)));
    assert_eq!(answer["sound"], true);
    let load = &answer["load"]["size"];
    assert_eq!(load["slots"], json!(20_006));
    let number = |value: &Value| value.as_f64().unwrap();
    for figure in [
        &answer["reads"]["per_second"],
        &answer["reads"]["p999_ns"],
        &answer["timing"]["transactions_per_second"],
        &answer["disk"]["log_bytes"],
        &answer["disk"]["trie_bytes"],
        &answer["kills"]["acknowledged"],
    ] {
        assert!(number(figure) > 0.0, "{answer:#}");
    }
    let shares: f64 = answer["timing"]["steps"].as_array().unwrap().iter().map(|step| number(&step["share"])).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn the_screen_fits() {
    let folder = tempfile::tempdir().unwrap();
    let output = program().env("TMPDIR", folder.path()).args(["demo", "--quick"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.lines().count() <= 40, "{screen}");
    for line in screen.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_kept_database_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let arguments = ["--db", text(&path), "--seed", "7"];
    let answer = answer(&run(folder.path(), &arguments), 0);
    assert_eq!(answer["kept"], text(&path));
    assert_eq!(names(folder.path()), ["state"]);
    let info = json_of(&["info", "--db", text(&path)]);
    assert_eq!(info["keys"], answer["disk"]["keys"]);
    assert_eq!(json_of(&["check", "--full", "--db", text(&path)])["sound"], true);
    assert_eq!(json_of(&["get", "block", "20", "--db", text(&path)])["exists"], true);
    // It is not made twice.
    assert_eq!(run(folder.path(), &arguments).status.code(), Some(REFUSED));
    assert_eq!(json_of(&["info", "--db", text(&path)]), info);
}

#[test]
fn a_signal_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    interrupted_leaves_nothing(&mut demo(folder.path(), &[]), folder.path());
}

#[test]
fn recorded_blocks_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let right = block_file(&folder, &json!({}));
    let found = answer(&run(folder.path(), &["--blocks", &right]), 0);
    assert_eq!(checks(&found).last(), Some(&("mainnet_blocks", true)));
    // A transfer leaves no log.
    let log = json!({ "address": format!("0x{}", "52".repeat(20)), "data": "0x", "topics": [] });
    let wrong = block_file(&folder, &json!({ "0": log }));
    let found = answer(&run(folder.path(), &["--blocks", &wrong]), DAMAGED);
    assert_eq!(found["sound"], false);
    let failed: Vec<_> = checks(&found).into_iter().filter(|(_, held)| !held).collect();
    assert_eq!(failed, [("mainnet_blocks", false)]);
    // What holds no blocks is refused before anything is done.
    fs::write(folder.path().join("block.json"), "[]").unwrap();
    assert_eq!(run(folder.path(), &["--blocks", &wrong]).status.code(), Some(REFUSED));
}

#[test]
fn mainnet_blocks_leave_the_logs_of_mainnet() {
    let Some(blocks) = data::fixtures().map(|folder| folder.join("mainnet_blocks")).filter(|folder| folder.is_dir())
    else {
        // Past the test runner, which hides what a passing test prints.
        let _ = writeln!(io::stderr(), "no fixtures: no mainnet blocks are executed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let found = answer(&run(folder.path(), &["--blocks", text(&blocks)]), 0);
    assert_eq!(checks(&found).last(), Some(&("mainnet_blocks", true)));
}
