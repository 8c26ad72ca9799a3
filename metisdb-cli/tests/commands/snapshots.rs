//! Snapshot files: exported, verified, imported; stopped at any moment, and gone on with.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, U256, keccak256};
use metisdb::{Changes, CheckLevel, Durability, Options, SnapshotFile};
use metisdb_conformance::state::State;
use rustix::process::Signal;

use crate::{
    ABSENT, DAMAGED, INTERRUPTED, REFUSED, UNUSABLE, USAGE, fails, importing::account, json_of, names, run,
    stopping::send, text,
};

/// A folder with a database of several chunks, and its state.
struct Source {
    folder: tempfile::TempDir,
    state: State,
}

impl Source {
    fn new(slots: u64) -> Self {
        let mut state = State::default();
        for number in 0..slots / 100 {
            let address = Address::from_slice(&keccak256(number.to_be_bytes())[..20]);
            let code = [0x60, (number % 7) as u8];
            let code = if number % 3 == 0 { &code[..] } else { &[] };
            state.0.insert(address, account(number % 5, U256::from(number) << 40, code, &[]));
        }
        let slots: Vec<_> = (0..slots).map(|slot| (slot * slot, slot + 1)).collect();
        state.0.insert(Address::repeat_byte(0x22), account(1, U256::from(5), &[0x60, 0], &slots));
        let folder = tempfile::tempdir().unwrap();
        let db = Options::new().create(folder.path().join("state")).unwrap();
        db.commit(&state.changes_since(&State::default()), Durability::Durable).unwrap();
        db.close().unwrap();
        Self { folder, state }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn export(&self) -> [String; 5] {
        ["snapshot", "export", "--db", &self.path("state"), &self.path("file")].map(str::to_owned)
    }

    fn import(&self) -> [String; 5] {
        ["snapshot", "import", "--db", &self.path("copy"), &self.path("file")].map(str::to_owned)
    }

    /// The copy is the state, by the naive trie, and sound.
    fn check_copy(&self) {
        let db = Options::new().open_read_only(self.path("copy")).unwrap();
        let snapshot = db.snapshot().unwrap();
        metisdb_conformance::database::check(&snapshot, &self.state, self.state.root()).unwrap();
        for whole in self.state.0.values().filter(|whole| !whole.code.is_empty()) {
            assert_eq!(snapshot.code(&whole.account.code_hash).unwrap().as_ref(), Some(&whole.code));
        }
        db.check(CheckLevel::Full).unwrap();
    }
}

fn arguments(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn a_state_goes_through_a_file() {
    let source = Source::new(20_000);
    let exported = json_of(&arguments(&source.export()));
    let file = source.path("file");
    let size = fs::metadata(&file).unwrap().len();
    for (name, value) in [
        ("root", source.state.root().to_string().into()),
        ("version", 1.into()),
        ("accounts", 201.into()),
        ("slots", 20_000.into()),
        ("codes", 7.into()),
        ("bytes", size.into()),
        ("chunks", 3.into()),
        ("found_chunks", 0.into()),
        ("block", serde_json::Value::Null),
    ] {
        assert_eq!(exported[name], value, "{name}");
    }
    assert!(exported["peak_bytes"].as_u64().unwrap() > exported["peak_anonymous_bytes"].as_u64().unwrap() / 2);
    let verified = json_of(&["snapshot", "verify", &file]);
    let imported = json_of(&arguments(&source.import()));
    assert_eq!((&verified["version"], &imported["source_version"]), (&exported["version"], &exported["version"]));
    assert!(imported.get("version").is_none(), "the new database counts its versions by itself");
    for name in ["root", "accounts", "slots", "codes", "bytes", "chunks", "found_chunks"] {
        assert_eq!((&verified[name], &imported[name]), (&exported[name], &exported[name]), "{name}");
    }
    source.check_copy();
    assert_eq!(names(source.folder.path()), ["copy", "file", "state"]);
    let shown = text(&["snapshot", "verify", &file]);
    for part in ["sound: every chunk", "state root", "20,000", "in 3 chunks", "keys a second", "without maps"] {
        assert!(shown.contains(part), "{shown}");
    }
}

/// Once these two took the database by its place among the arguments, and all others by `--db`.
#[test]
fn what_cannot_be_is_told() {
    let source = Source::new(200);
    let (state, file, copy) = (source.path("state"), source.path("file"), source.path("copy"));
    fails(&["snapshot", "export", "--db", &state], USAGE);
    fails(&["snapshot", "export", &state, &file], USAGE);
    fails(&["snapshot", "export", "--db", &copy, &file], UNUSABLE);
    fails(&["snapshot", "export", "--db", &state, &file, "--version", "7"], ABSENT);
    assert_eq!(names(source.folder.path()), ["state"]);
    text(&["snapshot", "export", "--db", &state, &file, "--version", "1"]);
    let message = fails(&["snapshot", "export", "--db", &state, &file], REFUSED);
    assert!(message.contains("is there already"), "{message}");
    let message = fails(&["snapshot", "import", "--db", &state, &file], REFUSED);
    assert!(message.contains("is there already"), "{message}");
    fails(&["snapshot", "verify", &copy], UNUSABLE);

    let sound = fs::read(&file).unwrap();
    let mut random = 7_u64;
    for at in (0..sound.len()).step_by(sound.len() / 60) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << (random >> 61);
        fs::write(&file, &damaged).unwrap();
        if (8..12).contains(&at) {
            continue;
        }
        let message = fails(&["snapshot", "verify", &file], DAMAGED);
        let part = if at < 56 + 32 { "expected header:" } else { "expected chunk " };
        assert!(message.contains(part) && message.contains(&file), "{message}");
    }
    fs::write(&file, &sound[..sound.len() - 1]).unwrap();
    let message = fails(&["snapshot", "import", "--db", &copy, &file], DAMAGED);
    assert!(message.contains("expected chunk 2: 56 bytes, got 55, then the end"), "{message}");
    assert_eq!(names(source.folder.path()), ["copy.importing", "file", "state"]);
    fails(&["info", "--db", &copy], UNUSABLE);

    let other = Source::new(100);
    text(&arguments(&other.export()));
    let message = fails(&["snapshot", "import", "--db", &copy, &other.path("file")], REFUSED);
    assert!(message.contains("copy.importing belongs to the state of version 1"), "{message}");
    fs::write(&file, &sound).unwrap();
    text(&["snapshot", "import", "--db", &copy, &file]);
    source.check_copy();
}

/// While another process has the database open and commits, and takes checkpoints.
#[test]
fn an_export_beside_a_writer() {
    let source = Source::new(100_000);
    let db = Options::new().open(source.path("state")).unwrap();
    // The reader beside knows a commit as durable by the next one.
    db.commit(&Changes::new(), Durability::Durable).unwrap();
    let arguments = source.export();
    let mut child = Command::new(env!("CARGO_BIN_EXE_metisdb"))
        .args([&arguments[..], &["--version".to_owned(), "1".to_owned()]].concat())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut commits = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let mut changes = Changes::new();
        for slot in 0..200 {
            changes.set_storage(Address::repeat_byte(0x22), U256::from(slot * slot), U256::from(commits + 7));
        }
        db.commit(&changes, Durability::Durable).unwrap();
        commits += 1;
        // No more than are retained.
        thread::sleep(Duration::from_millis(if commits < 100 { 5 } else { 1_000 }));
    };
    assert!(status.success() && commits > 1, "{status:?} beside {commits} commits");
    db.close().unwrap();
    text(&self::arguments(&source.import()));
    source.check_copy();
}

/// Runs the command and kills or interrupts it at some moment, again and again, until it is done. Returns how often it was stopped.
fn stop_until_done(owned: &[String], whole: Duration, seed: &mut u64, done: &Path) -> u32 {
    for stopped in 0.. {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        let signal = if seed.is_multiple_of(3) { Signal::INT } else { Signal::KILL };
        let moment = whole * (*seed % 70) as u32 / 100 * if stopped > 12 { 3 } else { 1 };
        let mut child = Command::new(env!("CARGO_BIN_EXE_metisdb"))
            .args(owned)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(moment);
        send(&child, signal);
        let status = child.wait().unwrap();
        if done.exists() {
            return stopped;
        }
        // Before it watches for it, an interrupt ends a process as a kill does.
        let is_stopped = status.signal().is_some() || status.code() == Some(INTERRUPTED);
        assert!(is_stopped, "{status:?} after {moment:?}");
    }
    unreachable!("it is done some time")
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let source = Source::new(200_000);
    let begun = Instant::now();
    text(&arguments(&source.export()));
    let exporting = begun.elapsed();
    let (file, copy) = (source.path("file"), source.path("copy"));
    let whole = fs::read(&file).unwrap();
    let begun = Instant::now();
    text(&arguments(&source.import()));
    let importing = begun.elapsed();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed:#x}, an export takes {exporting:?}, an import {importing:?}");
    let mut stopped = (0, 0);
    for _ in 0..4 {
        fs::remove_file(&file).unwrap();
        fs::remove_dir_all(&copy).unwrap();
        stopped.0 += stop_until_done(&source.export(), exporting, &mut seed, Path::new(&file));
        assert!(fs::read(&file).unwrap() == whole);
        stopped.1 += stop_until_done(&source.import(), importing, &mut seed, Path::new(&copy));
        source.check_copy();
        let _ = fs::remove_dir_all(source.path("copy.importing"));
        assert_eq!(names(source.folder.path()), ["copy", "file", "state"]);
    }
    assert!(stopped.0 > 0 && stopped.1 > 0, "stopped {stopped:?} times");
}

/// What was durable when it was stopped is not imported again.
#[test]
fn an_interrupt_keeps_what_is_done() {
    let source = Source::new(200_000);
    text(&arguments(&source.export()));
    let mut chunks = 0;
    let file = SnapshotFile::open(source.path("file")).unwrap();
    let stopped = file.import(source.path("copy"), Options::new(), |tally| {
        chunks = tally.chunks;
        if chunks == 3 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(metisdb::Error::Stopped)));
    let shown = text(&arguments(&source.import()));
    assert!(shown.contains("chunks, 3 of them found"), "{shown}");
    source.check_copy();
}

/// The file size limit of a process fails writes as a full disk does.
#[test]
fn a_full_disk_ends_it_until_there_is_space() {
    let source = Source::new(200_000);
    let limited = |kib: u32, owned: &[String]| {
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        let output =
            Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_metisdb")]).args(owned).output().unwrap();
        assert_eq!(output.status.code(), Some(UNUSABLE), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("File too large"), "{output:?}");
    };
    for kib in [0, 1, 100, 3_000] {
        limited(kib, &source.export());
        assert_eq!(names(source.folder.path()), ["file.partial", "state"]);
    }
    text(&arguments(&source.export()));
    // A file of the log has 64 MiB.
    for kib in [0, 64, 1_000] {
        limited(kib, &source.import());
        assert_eq!(names(source.folder.path()), ["copy.importing", "file", "state"]);
    }
    text(&arguments(&source.import()));
    source.check_copy();
    assert_eq!(run(&["snapshot", "verify", &source.path("file")]).status.code(), Some(0));
}
