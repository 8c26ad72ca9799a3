//! Opening: after a close, and after a process was killed.

use std::{
    convert::Infallible,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use alloy_primitives::Address;
use metisdb::{Durability, Options};
use serde::Serialize;

use crate::{COMMIT_CHANGES, Error, KeySpace, Progress, Result, Spread, updates};

/// How often each way of opening is measured.
const REPEATS: u64 = 3;

/// Bytes of log that a process writes after its checkpoint before it is killed, at most,
const MOST_LOG_BYTES: u64 = 60_000_000;
/// and for each key of a small database.
const LOG_BYTES_A_KEY: u64 = 60;

/// More commits than it takes to write that much.
const COMMITS_BEFORE_KILL: u64 = MOST_LOG_BYTES;

/// What the process about to be killed says when it is ready for it.
const READY: &str = "ready";

/// Makes the command line of a process that calls [`write_until_killed`] with the same arguments.
pub type ToBeKilled<'a> = &'a dyn Fn(&Path, &KeySpace, u64) -> io::Result<Command>;

/// How long opening takes, in milliseconds, and until a proof can be made. The files are in the page cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Opens {
    /// After a close.
    pub clean: Opened,
    /// After a kill with much log behind the last checkpoint.
    pub killed: Opened,
    /// The same with the image of the index deleted.
    pub killed_without_image: Opened,
    /// Bytes of log replayed in the last open after a kill.
    pub replayed_bytes: u64,
    /// The same where no image was.
    pub rebuilt_from_bytes: u64,
}

/// One way of opening, several times.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Opened {
    /// Until the state can be read.
    pub readable: Spread,
    /// Until the newest version's trie is there, too.
    pub with_trie: Spread,
}

impl Opened {
    fn of(measured: &[(f64, f64)]) -> Self {
        let (readable, with_trie): (Vec<f64>, Vec<f64>) = measured.iter().copied().unzip();
        Self { readable: Spread::of(readable), with_trie: Spread::of(with_trie) }
    }
}

/// Measures all ways of opening. Overwrites values.
pub(crate) fn measure(
    path: &Path,
    space: &KeySpace,
    to_be_killed: ToBeKilled<'_>,
    progress: &mut dyn Progress,
) -> Result<Opens> {
    progress.begin("opens", 3 * REPEATS);
    let mut clean = Vec::new();
    for done in 1..=REPEATS {
        clean.push(timed_open(path)?.0);
        progress.advance(done)?;
    }
    let mut generation = 0;
    let mut killed = |without_image: bool| -> Result<(Opened, u64)> {
        let mut measured = Vec::new();
        let mut log_bytes = 0;
        for _ in 0..REPEATS {
            generation += 1;
            let said = write_and_kill(to_be_killed(path, space, generation));
            // What stops this process may have stopped the other one, too.
            progress.advance(REPEATS + generation)?;
            let behind_checkpoint = said.map_err(Error::system("run the process that is to be killed"))?;
            if without_image {
                delete_image(path).map_err(Error::system("delete the image of the index"))?;
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

fn delete_image(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("index.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs a process that writes behind a checkpoint, and kills it. Returns how many bytes it wrote.
fn write_and_kill(command: io::Result<Command>) -> io::Result<u64> {
    let mut child = command?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let listened = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    listened?;
    let bytes = line.trim().strip_prefix(READY).ok_or_else(|| io::Error::other("it ended by itself"))?;
    bytes.trim().parse().map_err(io::Error::other)
}

/// The process to be killed: commits new values behind a checkpoint, says that it is ready, and waits. Each generation has values of its own.
///
/// # Errors
/// As [`Error`] says; should the parent go first, that nobody killed it.
pub fn write_until_killed(path: &Path, space: &KeySpace, generation: u64) -> Result<Infallible> {
    let db = Options::new().checkpoint_log_bytes(u64::MAX).open(path)?;
    db.checkpoint()?;
    let start = db.stats().log_position;
    let enough = MOST_LOG_BYTES.min(LOG_BYTES_A_KEY * space.keys);
    let mut written = 0;
    // No two commits have a value in common: what a commit does not change, it does not write.
    let mut streams = generation * COMMITS_BEFORE_KILL..;
    while written < enough {
        let stream = streams.next().expect("it has no end");
        db.commit(&updates(space, stream, COMMIT_CHANGES.min(space.keys / 2)), Durability::Durable)?;
        written = db.stats().log_position - start;
    }
    let mut output = io::stdout();
    let said = writeln!(output, "{READY} {written}").and_then(|()| output.flush());
    // The standard input ends with the parent.
    let ended = said.and_then(|()| io::stdin().read_line(&mut String::new()));
    let nobody = ended.and_then(|_| Err(io::Error::other("nobody did")));
    nobody.map_err(Error::system("wait to be killed"))
}
