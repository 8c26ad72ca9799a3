//! The benchmark: that it measures everything, and what it leaves.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{UNUSABLE, USAGE, fails, interrupted_leaves_nothing, names, program};

/// As little as can be measured of databases of these sizes, with `folder` for what is temporary.
fn bench(folder: &Path, keys: &str) -> Command {
    let mut command = program();
    command.args(["bench", "--keys", keys, "--rounds", "1", "--path"]).arg(folder);
    command
}

/// All measurements of several rounds, by where they stand.
fn spreads(value: &Value, place: &str, found: &mut Vec<(String, [f64; 3])>) {
    let Value::Object(fields) = value else { return };
    let number = |name| fields.get(name).and_then(Value::as_f64);
    if let (Some(min), Some(median), Some(max)) = (number("min"), number("median"), number("max")) {
        found.push((place.to_owned(), [min, median, max]));
    }
    for (name, inner) in fields {
        spreads(inner, &format!("{place}.{name}"), found);
    }
}

#[test]
fn everything_is_measured_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), "20000").args(["--json", "--seed", "7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(names(folder.path()).is_empty());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["seed"], &answer["rounds"]), (&json!(7), &json!(1)));
    let [database] = &answer["databases"].as_array().unwrap()[..] else { panic!("{answer:#}") };
    assert_eq!((&database["keys"], &database["accounts"]), (&json!(20_000), &json!(2_000)));
    let load = &database["load"];
    assert_eq!(load["index_keys"], 22_000);
    let number = |value: &Value| value.as_f64().unwrap();
    for figure in ["seconds", "commits", "index_bytes", "log_bytes", "arena_disk_bytes", "image_bytes"] {
        assert!(number(&load[figure]) > 0.0, "{figure}: {load:#}");
    }
    let mut found = Vec::new();
    spreads(database, "", &mut found);
    for (place, [min, median, max]) in &found {
        assert!(0.0 < *min && min <= median && median <= max, "{place}: {min}, {median}, {max}");
    }
    // Of five reads in both ways by two stores, two proofs, seven of roots, six of blocks, three of opening in two ways.
    assert_eq!(found.len(), 20 + 2 + 7 + 6 + 6, "{found:#?}");
    // What 500 slots take in the log: of the smallest record its value, key and more.
    let bytes = number(&database["blocks"]["small_log_bytes"]["median"]);
    assert!((500.0 * 64.0..500.0 * 256.0).contains(&bytes), "{bytes}");
    let replayed = number(&database["opens"]["replayed_bytes"]);
    assert!(replayed >= 20_000.0 * 60.0, "{replayed}");
    assert!(number(&database["opens"]["rebuilt_from_bytes"]) > replayed);
}

/// The first cells of the rows of a markdown table, but for numbers: some follow from the size of the database.
fn labels(table: &str) -> Vec<String> {
    let rows =
        table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let label = |row: &str| row.split('|').nth(1).unwrap().trim().replace(|c: char| c.is_ascii_digit(), "");
    rows.map(label).collect()
}

#[test]
fn the_table_has_the_rows_of_the_readme() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), "20000").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("\n| | 20,000 keys |\n|---|---|\n"), "{table}");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, measured) = readme.split_once("## Measured").unwrap();
    let (expected, found) = (labels(measured), labels(&table));
    assert!(expected.len() > 10, "{expected:#?}");
    for label in expected {
        assert!(found.contains(&label), "{label}\n{table}");
    }
}

#[test]
fn several_sizes_stand_beside_each_other_and_the_map_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), "20000,21000").arg("--alone").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("\n| | 20,000 keys | 21,000 keys |\n|---|---|---|\n"), "{table}");
    assert!(table.contains("| read a present key") && !table.contains("times the map"), "{table}");
}

#[test]
fn a_signal_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    interrupted_leaves_nothing(&mut bench(folder.path(), "20000"), folder.path());
}

#[test]
fn what_cannot_be_measured_is_said() {
    let message = fails(&["bench", "--path", "/nowhere"], UNUSABLE);
    assert!(message.contains("make a folder in /nowhere"), "{message}");
    let message = fails(&["bench", "--keys", "19999"], USAGE);
    assert!(message.contains("20000"), "{message}");
}
