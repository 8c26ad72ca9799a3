//! An import that is stopped leaves a database or none, and never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::{
    INTERRUPTED, UNUSABLE, fails,
    importing::{Place, large_state},
    json_of, names, program,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a signal to a child that was not waited for: so the number is still its own.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn start(place: &Place) -> Child {
    program().args(place.import()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Makes the file a pipe and writes the first half of `content` into an import that reads it: it is in the middle of its work, and stays there.
fn start_half(place: &Place, content: &str) -> (Child, File) {
    fs::remove_file(&place.file).unwrap();
    mknodat(CWD, &place.file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let child = start(place);
    let mut pipe = OpenOptions::new().write(true).open(&place.file).unwrap();
    // All but what fits into the pipe and the reader's buffers was read when this returns.
    pipe.write_all(&content.as_bytes()[..content.len() / 2]).unwrap();
    (child, pipe)
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn incomplete(place: &Place) -> std::path::PathBuf {
    place.folder.path().join("state.incomplete")
}

/// Imports once more, from a file.
fn import_again(place: &Place, content: &str) {
    fs::remove_file(&place.file).unwrap();
    fs::write(&place.file, content).unwrap();
    json_of(&place.import());
    assert_eq!(names(place.folder.path()), ["genesis.json", "state"]);
}

#[test]
fn a_signal_in_the_middle_leaves_nothing() {
    let (state, content) = large_state();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new("");
        let (mut child, mut pipe) = start_half(&place, &content);
        assert_eq!(names(&incomplete(&place)), ["metisdb-construction", "state"]);
        send(&child, signal);
        // It may be gone before all of this is read.
        let _ = pipe.write_all(&content.as_bytes()[content.len() / 2..]);
        drop(pipe);
        assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED));
        assert_eq!(names(place.folder.path()), ["genesis.json"]);
        if signal == Signal::INT {
            import_again(&place, &content);
            place.check(&state);
        }
    }
}

/// Whoever presses Ctrl-C twice does not want to wait.
#[test]
fn the_second_signal_ends_at_once() {
    let (state, content) = large_state();
    let place = Place::new("");
    let (mut child, pipe) = start_half(&place, &content);
    // The pipe stays open: it waits for more.
    let mut status: Option<ExitStatus> = None;
    wait_for("the end", || {
        send(&child, Signal::INT);
        status = child.try_wait().unwrap();
        status.is_some()
    });
    drop(pipe);
    assert_eq!(status.unwrap().code(), Some(INTERRUPTED));
    import_again(&place, &content);
    place.check(&state);
}

#[test]
fn one_import_at_a_time_and_a_killed_one_is_replaced() {
    let (state, content) = large_state();
    let place = Place::new("");
    let (mut child, pipe) = start_half(&place, &content);
    let message = fails(&["init", "--db", place.database()], UNUSABLE);
    assert!(
        message.contains("another process makes a database in") && message.contains("state.incomplete"),
        "{message}"
    );
    assert_eq!(names(&incomplete(&place)), ["metisdb-construction", "state"]);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    drop(pipe);
    assert_eq!(names(place.folder.path()), ["genesis.json", "state.incomplete"]);
    fails(&["info", "--db", place.database()], UNUSABLE);
    import_again(&place, &content);
    place.check(&state);
}

/// What a construction can leave besides: it was killed before it had made its marker, or after it had moved the database.
#[test]
fn every_leftover_is_recognised() {
    let content = r#"{"alloc":{}}"#;
    for leave in [
        (|_: &Path| {}) as fn(&Path),
        |folder| fs::write(folder.join("metisdb-construction"), "").unwrap(),
        |folder| {
            fs::write(folder.join("metisdb-construction"), "").unwrap();
            fs::create_dir(folder.join("state")).unwrap();
            fs::write(folder.join("state/segment.0000000001"), "half").unwrap();
        },
    ] {
        let place = Place::new(content);
        fs::create_dir(incomplete(&place)).unwrap();
        leave(&incomplete(&place));
        import_again(&place, content);
    }
}

/// Kills and interrupts at moments from the first to beyond the last.
#[test]
fn at_any_moment_there_is_a_database_or_none() {
    let (state, content) = large_state();
    let root = state.root().to_string();
    let place = Place::new(&content);
    let begun = Instant::now();
    json_of(&place.import());
    let whole = begun.elapsed();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    println!("seed {seed:#x}, a whole import takes {whole:?}");
    let (mut finished, mut stopped) = (0, 0);
    for round in 0..16 {
        let _ = fs::remove_dir_all(&place.database);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let moment = whole * (seed % 120) as u32 / 100;
        let signal = if round % 2 == 0 { Signal::KILL } else { Signal::INT };
        let mut child = start(&place);
        thread::sleep(moment);
        send(&child, signal);
        let status = child.wait().unwrap();
        let mut left = names(place.folder.path());
        if status.signal() == Some(Signal::KILL.as_raw()) {
            left.retain(|name| name != "state.incomplete");
        }
        if left.contains(&"state".to_owned()) {
            assert!(status.code() == Some(0) || signal == Signal::KILL, "{status:?} after {moment:?}");
            assert_eq!(json_of(&["root", "--db", place.database()])["root"], root);
            finished += 1;
        } else {
            assert_eq!(left, ["genesis.json"], "{status:?} after {moment:?}");
            assert!(!status.success());
            stopped += 1;
        }
    }
    assert!(stopped > 0, "{finished} imports were over before the signal");
    let _ = fs::remove_dir_all(&place.database);
    import_again(&place, &content);
    place.check(&state);
}

/// The file size limit of a process fails writes as a full disk does.
#[test]
fn a_full_disk_leaves_nothing() {
    let place = Place::new(r#"{"alloc":{}}"#);
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let output =
        Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_metisdb")]).args(place.import()).output().unwrap();
    assert_eq!(output.status.code(), Some(UNUSABLE), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("File too large"), "{output:?}");
    assert_eq!(names(place.folder.path()), ["genesis.json"]);
    import_again(&place, r#"{"alloc":{}}"#);
}

/// A file that unpacks to more than the process may allocate: nobody holds it whole.
#[test]
fn memory_is_bounded() {
    const TIMES: usize = 2_000;
    let address = "0x0100000000000000000000000000000000000000";
    let frame = |content: &str| compress_to_vec(content.as_bytes(), CompressionLevel::Fastest);
    let (numbers, zeros) = ("10000000,".repeat(10_000), format!("\"0x{:064}\":\"0x00\",", 0).repeat(1_000));
    assert!((numbers.len() + zeros.len()) * TIMES > 300_000_000);
    let packed = [
        frame("{\"ignored\":["),
        frame(&numbers).repeat(TIMES),
        frame(&format!("0],\"alloc\":{{\"{address}\":{{\"storage\":{{")),
        frame(&zeros).repeat(TIMES),
        frame("\"0x1\":\"0x2\"},\"balance\":\"1\"}}}"),
    ];
    let place = Place::new(packed.concat());
    let limited = "ulimit -d 120000; exec \"$0\" \"$@\"";
    let output =
        Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_metisdb")]).args(place.import()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json_of(&["get", "storage", address, "1", "--db", place.database()])["value"], "0x2");
}
