//! A few power cuts on each filesystem. The long run is the program itself.

use std::path::Path;

use metisdb_power::{
    cut::cut_again_and_again,
    volume::{Filesystem, Volume},
};

/// Enough for a second database.
const CUTS: u64 = 9;

fn nothing_acknowledged_is_lost(filesystem: Filesystem) {
    if let Some(reason) = Volume::missing(filesystem) {
        eprintln!("skipped: {reason}");
        return;
    }
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
