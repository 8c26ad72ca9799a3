//! Parts of tests that another process plays, because they may end it: the test program started again, for one test.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Set for a child: the folder that it works in.
const FOLDER: &str = "METISDB_TEST_FOLDER";
/// Set for a child: what else it has to know.
const PART: &str = "METISDB_TEST_PART";

/// In a child: its folder, and its part.
pub(super) fn part() -> Option<(PathBuf, String)> {
    Some((env::var_os(FOLDER)?.into(), env::var(PART).unwrap_or_default()))
}

/// The command that runs one test, `processes::a_test` say, as a child that plays a part in a folder.
pub(super) fn child(test: &str, folder: &Path, part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("tests::{test}"), "--nocapture"]).env(FOLDER, folder).env(PART, part);
    command
}

/// Runs a child that has to succeed, and returns what it wrote.
#[track_caller]
pub(super) fn play(test: &str, folder: &Path, part: &str) -> String {
    let output = child(test, folder, part).output().unwrap();
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{test} {part}: {written}{}", String::from_utf8_lossy(&output.stderr));
    assert!(written.contains("1 passed"), "{test} is the name of a test: {written}");
    written
}
