//! Runs the program: what it answers, what it refuses, and what is left when it is stopped.

mod demonstrating;
mod importing;
mod measuring;
mod proving;
mod reading;
mod refusing;
mod snapshots;
mod stopping;
mod witnesses;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ABSENT: i32 = 1;
const USAGE: i32 = 2;
const DAMAGED: i32 = 3;
const UNUSABLE: i32 = 4;
const REFUSED: i32 = 5;
const INTERRUPTED: i32 = 130;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_metisdb"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// The answer for people, to a command that succeeds and has no complaints.
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The answer for programs, to a command that succeeds.
fn json_of(arguments: &[&str]) -> Value {
    json_with_code(arguments, 0)
}

/// The answer for programs, to a command with this exit code.
fn json_with_code(arguments: &[&str], code: i32) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The complaint of a command that fails with this exit code.
fn fails(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A command that makes something in a folder clears it away when a signal asks it to stop.
fn interrupted_leaves_nothing(command: &mut Command, folder: &Path) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while names(folder).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED));
    assert!(names(folder).is_empty());
}
