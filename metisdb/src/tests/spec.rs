//! The specification against the code: tables of fields, golden bytes, and an old database that stays readable.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Random, disk,
    model::{State, changes},
    small,
};
use crate::{
    CheckLevel, Db, Durability, MAX_CODE_BYTES, Options,
    history::VersionRow,
    image::ImageHeader,
    index::TableHeader,
    ledger::Retired,
    log::{
        frame::FrameHeader,
        record::{self, Body, Record},
        segment::SegmentHeader,
    },
    snapshot_file::{ChunkHeader, End, FixedHeader, MAX_BLOCKS, MAX_BODY_BYTES, MAX_RECORDS},
    storage::{SimulatedDisk, Storage},
    superblock::SuperblockHeader,
    trie::arena::{ExtentHeader, bytes},
};

const FORMAT: &str = include_str!("../../../spec/format.md");
const SNAPSHOT_FILE: &str = include_str!("../../../spec/snapshot-file.md");

/// Rows of the table under a heading `### Title (N bytes)`, and N.
fn table(document: &str, title: &str) -> (usize, Vec<(String, usize, usize)>) {
    let start = document.find(&format!("### {title} (")).unwrap_or_else(|| panic!("no table {title}"));
    let mut lines = document[start..].lines();
    let heading = lines.next().unwrap();
    let bytes = heading.split(['(', ' ']).rev().nth(1).unwrap().parse().unwrap();
    let rows = lines
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next().unwrap().to_string();
            let mut number = || cells.next().unwrap().parse().unwrap();
            (name, number(), number())
        })
        .collect();
    (bytes, rows)
}

fn assert_table(title: &str, bytes: usize, fields: &[(&str, usize, usize)]) {
    assert_table_of(FORMAT, title, bytes, fields);
}

fn assert_table_of(document: &str, title: &str, bytes: usize, fields: &[(&str, usize, usize)]) {
    let (stated_bytes, rows) = table(document, title);
    let own: Vec<_> = fields.iter().map(|(name, at, bytes)| (name.to_string(), *at, *bytes)).collect();
    assert_eq!((stated_bytes, rows), (bytes, own), "{title}");
}

#[test]
fn the_tables_of_the_format_are_those_of_the_code() {
    assert_table("Superblock fields", SuperblockHeader::BYTES, SuperblockHeader::FIELDS);
    assert_table("Segment header", SegmentHeader::BYTES, SegmentHeader::FIELDS);
    assert_table("Frame header", FrameHeader::BYTES, FrameHeader::FIELDS);
    assert_table("Image header", ImageHeader::BYTES, ImageHeader::FIELDS);
    assert_table("Record header", record::HEADER_BYTES, record::FIELDS);
    assert_table("Table header", TableHeader::BYTES, TableHeader::FIELDS);
    assert_table("Extent header", ExtentHeader::BYTES, ExtentHeader::FIELDS);
    assert_table("Node header", bytes::HEADER_BYTES, bytes::FIELDS);
}

#[test]
fn the_tables_and_bounds_of_snapshot_files_are_those_of_the_code() {
    assert_table_of(SNAPSHOT_FILE, "File header", FixedHeader::BYTES, FixedHeader::FIELDS);
    assert_table_of(SNAPSHOT_FILE, "Chunk header", ChunkHeader::BYTES, ChunkHeader::FIELDS);
    assert_table_of(SNAPSHOT_FILE, "End", End::BYTES, End::FIELDS);
    for bound in [
        format!("blocks that follow, {MAX_BLOCKS} at most"),
        format!("records in the body, from 1 to {MAX_RECORDS};"),
        format!("length of the body, {MAX_BODY_BYTES} at most"),
        format!("beyond {MAX_RECORDS} records or {MAX_BODY_BYTES} bytes"),
        format!("length 4 (from 1 to {MAX_CODE_BYTES})"),
    ] {
        assert!(SNAPSHOT_FILE.contains(&bound), "{bound}");
    }
}

#[test]
fn a_slot_takes_as_many_bytes_as_the_format_says() {
    let body = Body::Slot {
        account: crate::key::AccountId(1),
        slot: alloy_primitives::U256::MAX,
        value: alloy_primitives::U256::MAX,
    };
    let mut bytes = Vec::new();
    record::encode(&mut bytes, 8, &Record { version: 1, previous: None, body });
    assert!(FORMAT.contains(&format!("A record of 32-byte value takes {} bytes.", bytes.len())));
}

/// The history in the golden files.
fn history(disk: &Arc<SimulatedDisk>) -> Vec<State> {
    let db = options().create_on(disk.clone()).unwrap();
    let mut states = vec![State::default()];
    let mut random = Random(2026);
    for version in 1..=12 {
        let (next, steps) = states.last().unwrap().next(&mut random, 200);
        db.commit(&changes(&steps), Durability::Durable).unwrap();
        states.push(next);
        if version == 8 {
            db.checkpoint().unwrap();
        }
    }
    drop(db);
    states
}

fn options() -> Options {
    small().retain_versions(5)
}

fn assert_reads_as(db: &Db, states: &[State]) {
    for (state, version) in states[7..=12].iter().zip(7..) {
        state.assert_equals(&db.snapshot_at(version).unwrap());
    }
    db.check(CheckLevel::Full).unwrap();
}

fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/v1"))
}

const SEGMENT_BYTES: usize = 1 << 16;

/// The golden form of a file: of a segment and of the arena, the zeros at the end are left out.
fn golden_form<'b>(name: &str, bytes: &'b [u8]) -> &'b [u8] {
    if !name.starts_with("segment.") && !name.starts_with("arena.") {
        return bytes;
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Every byte of a database with a fixed history is as approved. A change of the format is approved by running this test
/// with `METISDB_APPROVE=1`, together with a new format version and a folder of its own.
#[test]
fn golden_bytes() {
    let disk = disk(2026);
    history(&disk);
    let mut names = disk.list().unwrap();
    names.sort();
    let approve = std::env::var_os("METISDB_APPROVE").is_some();
    for name in &names {
        let bytes = disk.file_bytes(name).unwrap();
        let path = vectors().join(name);
        if approve {
            std::fs::create_dir_all(vectors()).unwrap();
            std::fs::write(&path, golden_form(name, &bytes)).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let own = golden_form(name, &bytes);
        let first = own.iter().zip(&golden).position(|(own, golden)| own != golden);
        assert!(own == golden, "{name} differs from the approved bytes, first at {first:?}");
    }
    let approved: Vec<_> = std::fs::read_dir(vectors()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(approved.len(), names.len(), "as many golden files as files");
}

/// Files written by the first release that had this format version still open and read the same.
#[test]
fn an_old_database_stays_readable() {
    let states = history(&disk(2026));
    let old = disk(1);
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if name.starts_with("segment.") || name.starts_with("arena.") {
            bytes.resize(SEGMENT_BYTES, 0);
        }
        old.put_file(&name, bytes);
    }
    assert_reads_as(&options().open_read_only_on(old.clone()).unwrap(), &states);
    assert_reads_as(&options().open_on(old).unwrap(), &states);
}

/// Names behind each `start` in a text, up to `end`.
fn named<'t>(text: &'t str, start: &str, end: char) -> impl Iterator<Item = &'t str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// All Rust sources in a folder and those in it.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests/spec.rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

/// A step was left out by no script, and the documents named some beside tests that never ran without them.
#[test]
fn each_step_that_can_be_left_out_is_left_out_by_a_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = sources(&root.join("metisdb/src"));
    let steps: BTreeSet<&str> =
        named(&text, "probe::skip(\"", '"').chain(named(&text, "probe::order(\"", '"')).collect();
    assert!(steps.len() > 40, "{steps:?}");
    let scripts = [".ci/mutants", ".ci/loom", ".ci/miri", ".ci/sanitizers"];
    let scripts = scripts.map(|name| fs::read_to_string(root.join(name)).unwrap()).concat();
    let run: BTreeSet<&str> = scripts.split_whitespace().collect();
    let not_run: Vec<_> = steps.difference(&run).collect();
    assert!(not_run.is_empty(), "no script leaves out {not_run:?}");
    for document in ["spec/durability.md", "spec/concurrency.md"] {
        let document = fs::read_to_string(root.join(document)).unwrap();
        for list in named(&document, "mutants `", ')').chain(named(&document, "mutant `", ')')) {
            for name in format!("`{list}").split('`').skip(1).step_by(2) {
                assert!(
                    steps.contains(name) || list.contains(".ci/"),
                    "{name} of {list} is no step that can be left out"
                );
            }
        }
    }
}

/// What `durability.md` and the README say a snapshot that is held costs in memory for each version behind it.
#[test]
fn a_version_that_is_held_back_costs_what_is_said() {
    assert_eq!((size_of::<VersionRow>(), size_of::<Retired>()), (56, 24));
}
