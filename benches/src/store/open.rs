//! Opening: after a close, and after a process was killed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use alloy_primitives::Address;
use metisdb::{Changes, Durability, Options};
use serde::Serialize;

use super::{ChildArguments, keys::KeySpace, load::COMMIT_CHANGES};
use crate::{Result, progress, summary::Spread};

/// How often each way of opening is measured.
const REPEATS: u64 = 3;

/// Bytes of log that a process writes after its checkpoint before it is killed.
const KILLED_AFTER_BYTES: u64 = 60_000_000;

/// More commits than it takes to write that much.
const COMMITS_BEFORE_KILL: u64 = KILLED_AFTER_BYTES;

/// What the process about to be killed says when it is ready for it.
const READY: &str = "ready";

/// How long opening takes, in milliseconds, and until a proof can be made. The files are in the page cache.
#[derive(Debug, Serialize)]
pub(crate) struct Opens {
    pub(crate) clean: Opened,
    /// After a kill with 60 MB of log behind the last checkpoint.
    pub(crate) killed: Opened,
    /// The same with the image of the index deleted.
    pub(crate) killed_without_image: Opened,
    /// Bytes of log replayed in the last open after a kill, and where no image was.
    pub(crate) replayed_bytes: u64,
    pub(crate) rebuilt_from_bytes: u64,
}

/// One way of opening, several times.
#[derive(Debug, Serialize)]
pub(crate) struct Opened {
    /// Until the state can be read.
    pub(crate) readable: Spread,
    /// Until the newest version's trie is there, too.
    pub(crate) with_trie: Spread,
}

impl Opened {
    fn of(measured: &[(f64, f64)]) -> Self {
        let (readable, with_trie): (Vec<f64>, Vec<f64>) = measured.iter().copied().unzip();
        Self { readable: Spread::of(readable), with_trie: Spread::of(with_trie) }
    }
}

/// Measures all ways of opening. Overwrites values.
pub(crate) fn measure(path: &Path, space: &KeySpace) -> Result<Opens> {
    progress("open: after a close");
    let mut clean = Vec::new();
    for _ in 0..REPEATS {
        clean.push(timed_open(path)?.0);
    }
    let mut generation = 0;
    let mut killed = |without_image: bool| -> Result<(Opened, u64)> {
        let mut measured = Vec::new();
        let mut log_bytes = 0;
        for _ in 0..REPEATS {
            generation += 1;
            progress(&format!("open: after a kill, image: {}, run {generation}", !without_image));
            let behind_checkpoint = write_and_kill(path, space, generation)?;
            if without_image {
                delete_image(path)?;
            }
            let (times, position) = timed_open(path)?;
            measured.push(times);
            log_bytes = if without_image { position } else { behind_checkpoint };
        }
        Ok((Opened::of(&measured), log_bytes))
    };
    let (killed_with, replayed_bytes) = killed(false)?;
    let (killed_without, rebuilt_from_bytes) = killed(true)?;
    Ok(Opens {
        clean: Opened::of(&clean),
        killed: killed_with,
        killed_without_image: killed_without,
        replayed_bytes,
        rebuilt_from_bytes,
    })
}

/// Opens and closes; returns the milliseconds of the former, without and with the trie, and where the log ends.
fn timed_open(path: &Path) -> Result<((f64, f64), u64)> {
    let started = Instant::now();
    let db = Options::new().open(path)?;
    let readable = started.elapsed().as_secs_f64() * 1e3;
    db.snapshot()?.proof(&Address::ZERO, &[])?;
    let with_trie = started.elapsed().as_secs_f64() * 1e3;
    let position = db.stats().log_position;
    db.close()?;
    Ok(((readable, with_trie), position))
}

fn delete_image(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("index.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs a process that writes behind a checkpoint, and kills it. Returns how many bytes it wrote.
fn write_and_kill(path: &Path, space: &KeySpace, generation: u64) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("write-until-killed")
        .arg(path)
        .args([space.keys, space.accounts, space.seed, generation].map(|number| number.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    let bytes = line.trim().strip_prefix(READY).ok_or("the process to be killed failed")?;
    Ok(bytes.trim().parse()?)
}

/// The process to be killed: commits new values behind a checkpoint, says that it is ready, and waits.
pub(crate) fn write_until_killed(arguments: &ChildArguments) -> Result<()> {
    let space = KeySpace { keys: arguments.keys, accounts: arguments.accounts, seed: arguments.seed };
    let db = Options::new().checkpoint_log_bytes(u64::MAX).open(&arguments.path)?;
    db.checkpoint()?;
    let start = db.stats().log_position;
    let draws = COMMIT_CHANGES.min(space.keys);
    let mut written = 0;
    for commit in 0.. {
        if written >= KILLED_AFTER_BYTES {
            break;
        }
        // No two commits have a value in common: what a commit does not change, it does not write.
        let generation = arguments.generation * COMMITS_BEFORE_KILL + commit;
        let mut changes = Changes::new();
        for turn in 0..draws {
            let number = space.draw(1_000 + generation, turn);
            let (address, slot) = space.key(number);
            changes.set_storage(address, slot, space.value(number, generation));
        }
        db.commit(&changes, Durability::Durable)?;
        written = db.stats().log_position - start;
    }
    let mut output = std::io::stdout();
    writeln!(output, "{READY} {written}")?;
    output.flush()?;
    // Ends by itself should the parent go first.
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
