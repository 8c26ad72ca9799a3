//! A few power cuts on each filesystem. The long run is the program itself.

use std::{
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use metisdb_power::{
    cut::cut_again_and_again,
    volume::{Filesystem, Volume},
};

/// Enough for a second database.
const CUTS: u64 = 9;

/// One test at a time. Until it executes its program, a process that one of them starts has all that the other has open: then a database that was
/// closed was still locked, and a filesystem busy, once in a few runs.
static TURN: Mutex<()> = Mutex::new(());

fn nothing_acknowledged_is_lost(filesystem: Filesystem) {
    if let Some(reason) = Volume::missing(filesystem) {
        // Past the test runner, which hides what a passing test prints.
        let _ = writeln!(io::stderr(), "skipped: {reason}");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Path::new(env!("CARGO_BIN_EXE_metisdb-power"));
    let figures = cut_again_and_again(program, filesystem, 1, CUTS).unwrap();
    assert!(figures.violations.is_empty(), "{figures:?}");
    assert_eq!(figures.cuts, CUTS);
    assert!(figures.acknowledged > 0, "{figures:?}");
    println!("{figures:?}");
}

#[test]
fn ext4_loses_nothing_acknowledged() {
    nothing_acknowledged_is_lost(Filesystem::Ext4);
}

#[test]
fn xfs_loses_nothing_acknowledged() {
    nothing_acknowledged_is_lost(Filesystem::Xfs);
}
