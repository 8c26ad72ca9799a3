//! What replay makes of a log does not depend on how many threads do it.

use std::sync::Arc;

use alloy_primitives::Address;

use super::{
    Random, disk,
    model::{State, changes},
    small,
};
use crate::{
    CheckLevel, Durability, Options,
    fuzzing::mend,
    history::VersionRow,
    ledger::Ledger,
    stats::Stats,
    storage::{SimulatedDisk, Storage},
};

/// All that an open brings about.
#[derive(Debug, PartialEq)]
struct Outcome {
    stats: Stats,
    ledger: Ledger,
    versions: Vec<VersionRow>,
    /// What a full check says, of each record that index and books should lead to.
    check: String,
    operations: u64,
    image_hash: u64,
}

/// Opens a copy of the disk by so many threads, or says why that fails, and behind which operations.
fn outcome(disk: &SimulatedDisk, options: &Options, threads: usize) -> Result<Outcome, String> {
    let copy = disk.after_power_loss(1);
    let opened = options.clone().threads(threads).open_on(Arc::new(copy.clone()));
    let db = opened.map_err(|error| format!("{error:?} behind {}", copy.operations()))?;
    let ledger = db.store.writer.lock().ledger.clone();
    // Waits for the trie; what it fails with is what the check says.
    let _ = db.snapshot().and_then(|snapshot| snapshot.proof(&Address::ZERO, &[]));
    let check = format!("{:?}", db.check(CheckLevel::Full));
    Ok(Outcome {
        stats: db.stats(),
        ledger,
        versions: db.store.history.rows(),
        check,
        operations: copy.operations(),
        image_hash: copy.image_hash(),
    })
}

/// A database of several sessions that was never closed, with a checkpoint somewhere in it.
fn killed(seed: u64, options: &Options) -> SimulatedDisk {
    let mut random = Random(seed);
    let disk = disk(seed);
    let mut db = options.clone().create_on(disk.clone()).unwrap();
    let mut state = State::default();
    for commit in 0..30 {
        let (next, steps) = if random.one_in(4) { state.churn(&mut random) } else { state.next(&mut random, 3000) };
        let durability = if random.one_in(2) { Durability::Durable } else { Durability::Pipelined };
        db.commit(&changes(&steps), durability).unwrap();
        state = next;
        if commit == 12 {
            db.checkpoint().unwrap();
        }
        if random.one_in(8) {
            drop(db);
            db = options.clone().open_on(disk.clone()).unwrap();
        }
    }
    drop(db);
    disk.after_power_loss(1)
}

/// Changes a byte of a segment; then the checksums are right again, or not.
fn damage(disk: &SimulatedDisk, random: &mut Random) -> String {
    let mut segments = disk.list().unwrap();
    segments.retain(|name| name.starts_with("segment."));
    segments.sort();
    let name = &segments[random.below(segments.len() as u64) as usize];
    let mut bytes = disk.file_bytes(name).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let (at, mask, mends) = (random.below(used), 1 << random.below(8), random.one_in(2));
    bytes[at as usize] ^= mask;
    if mends {
        mend::segment(&mut bytes);
    }
    disk.put_file(name, bytes);
    format!("byte {at} of {name} by {mask:02x}, mended: {mends}")
}

#[test]
fn the_outcome_does_not_depend_on_the_number_of_threads() {
    let (mut sound, mut refused) = (0, 0);
    for seed in 0..6 {
        println!("seed {seed}");
        let mut options = small().retain_versions(5);
        options.account_id_mask = if seed % 2 == 0 { u64::MAX } else { 0xf };
        let killed = killed(seed, &options);
        let mut random = Random(seed);
        for case in 0..40 {
            let disk = killed.after_power_loss(1);
            let rebuild = random.one_in(2);
            let damage = if case < 4 { "none".to_owned() } else { damage(&disk, &mut random) };
            let options = options.clone().rebuild(rebuild);
            let [alone, beside] = [1, 2].map(|threads| outcome(&disk, &options, threads));
            assert_eq!(alone, beside, "seed {seed}, rebuild: {rebuild}, damage: {damage}");
            *if alone.is_ok() { &mut sound } else { &mut refused } += 1;
        }
    }
    println!("{sound} opened, {refused} refused");
    assert!(sound > 40 && refused > 40, "both were at work");
}
