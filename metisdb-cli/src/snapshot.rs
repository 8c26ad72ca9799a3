//! `metisdb snapshot`: the state as a file, a database of such a file, and whether one is sound.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use metisdb::{Error, Options, SnapshotFile, SnapshotHeader, SnapshotTally};
use metisdb_benches::process_bytes;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    interrupt::Interrupt,
    output::{Answer, bytes, count, line, short_bytes, time},
    progress::Bar,
    target::{At, Target},
};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Writes the complete state of a version to a file, beside the database's writer or without one.
    Export(ExportArguments),
    /// Makes a database of a file: verifies every chunk, and the state root.
    Import(ImportArguments),
    /// Verifies every chunk of a file, and the state root, without a database. Whether the code of each account is there, an import tells.
    Verify(VerifyArguments),
}

/// What is exported.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    target: Target,
    /// The file that is made. Until it is whole it has `.partial` behind its name; the same command goes on with that.
    file: PathBuf,
    #[command(flatten)]
    at: At,
}

/// What is imported.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The snapshot file.
    file: PathBuf,
    /// Folder of the new database. Until it is whole it is in one with `.importing` behind its name; the same command goes on with that.
    #[arg(long = "db", value_name = "PATH")]
    db: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is verified.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The snapshot file.
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl What {
    /// Whether the answer is for programs.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Export(arguments) => arguments.target.json,
            Self::Import(arguments) => arguments.json,
            Self::Verify(arguments) => arguments.json,
        }
    }
}

/// Does what is asked for.
pub(crate) fn snapshot(what: &What) -> Result<Answer, Failure> {
    match what {
        What::Export(arguments) => export(arguments),
        What::Import(arguments) => import(arguments),
        What::Verify(arguments) => verify(arguments),
    }
}

fn export(arguments: &ExportArguments) -> Result<Answer, Failure> {
    let ExportArguments { target, file, at } = arguments;
    let mut watch = Watch::begin("exports")?;
    let db = target.open()?;
    let snapshot = at.snapshot(&db)?;
    let tally = snapshot.export(file, |tally| watch.see(tally)).map_err(refused)?;
    let header = SnapshotFile::open(file)?.header().clone();
    Ok(watch.answer((line("database", target.path.display()), "version"), file, &header, &tally))
}

fn import(arguments: &ImportArguments) -> Result<Answer, Failure> {
    let mut watch = Watch::begin("imports")?;
    let file = SnapshotFile::open(&arguments.file)?;
    let header = file.header().clone();
    let tally = file.import(&arguments.db, Options::new(), |tally| watch.see(tally)).map_err(refused)?;
    // The new database counts its versions by itself.
    let about = (line("database", arguments.db.display()), "source_version");
    let mut answer = watch.answer(about, &arguments.file, &header, &tally);
    answer.json["path"] = arguments.db.display().to_string().into();
    Ok(answer)
}

fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let mut watch = Watch::begin("verifies")?;
    let file = SnapshotFile::open(&arguments.file)?;
    let header = file.header().clone();
    let tally = file.verify(|tally| watch.see(tally)).map_err(refused)?;
    let result = line("result", "sound: every chunk, and the state root");
    Ok(watch.answer((result, "version"), &arguments.file, &header, &tally))
}

/// Why it fails, for who asked.
fn refused(error: Error) -> Failure {
    match error {
        Error::Stopped => Failure::Interrupted,
        Error::FileExists { .. } | Error::OtherSnapshot { .. } => Failure::Refused(error.to_string()),
        other => Failure::Database(other),
    }
}

/// What is seen of the work while it goes on.
struct Watch {
    begun: Instant,
    interrupt: Interrupt,
    bar: Bar,
    /// Accounts and slots that an earlier run has done.
    found_keys: u64,
    peak_anonymous_bytes: Option<u64>,
}

impl Watch {
    /// How fine the bar is.
    const PARTS: u64 = 1 << 16;

    fn begin(label: &'static str) -> Result<Self, Failure> {
        let (begun, interrupt) = (Instant::now(), Interrupt::watch()?);
        Ok(Self { begun, interrupt, bar: Bar::new(label, Self::PARTS), found_keys: 0, peak_anonymous_bytes: None })
    }

    fn see(&mut self, tally: &SnapshotTally) -> ControlFlow<()> {
        let keys = tally.accounts + tally.slots;
        if tally.chunks == tally.found_chunks {
            self.found_keys = keys;
        }
        let part = u64::from(u16::from_be_bytes([tally.reached[0], tally.reached[1]]));
        self.bar.advance(part, format_args!("{} keys, {}", count(keys), short_bytes(tally.bytes)));
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(process_bytes("RssAnon").ok());
        if self.interrupt.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What came out: first, what the work was about. `version` is what the file's version is to it.
    fn answer(
        self,
        (first, version): ((String, String), &str),
        file: &Path,
        header: &SnapshotHeader,
        tally: &SnapshotTally,
    ) -> Answer {
        let elapsed = self.begun.elapsed();
        // Where the system does not say it, nobody knows.
        let peak_bytes = process_bytes("VmHWM").ok();
        let block = header.blocks().last();
        let rate = ((tally.accounts + tally.slots - self.found_keys) as f64 / elapsed.as_secs_f64()) as u64;
        let found =
            if tally.found_chunks > 0 { format!(", {} of them found", tally.found_chunks) } else { String::new() };
        let mut lines = vec![
            first,
            line("file", file.display()),
            line(&version.replace('_', " "), header.version()),
            line("state root", header.root()),
            line(
                "block",
                block.map_or_else(|| "none was named".to_owned(), |own| format!("{} {}", own.number, own.hash)),
            ),
            line("accounts", count(tally.accounts)),
            line("slots", count(tally.slots)),
            line("codes", count(tally.codes)),
            line("size", format!("{} in {} chunks{found}", bytes(tally.bytes), count(tally.chunks))),
            line("time", format!("{}, {} keys a second", time(elapsed), count(rate))),
        ];
        if let (Some(peak), Some(anonymous)) = (peak_bytes, self.peak_anonymous_bytes) {
            let shown = format!("{} at most, {} without maps of files", short_bytes(peak), short_bytes(anonymous));
            lines.push(line("memory", shown));
        }
        let mut json = self.json(file, header, tally, (elapsed, rate, peak_bytes));
        json[version] = header.version().into();
        Answer::new(lines, json)
    }

    fn json(
        &self,
        file: &Path,
        header: &SnapshotHeader,
        tally: &SnapshotTally,
        (elapsed, rate, peak_bytes): (Duration, u64, Option<u64>),
    ) -> Value {
        json!({
            "file": file.display().to_string(),
            "root": header.root().to_string(),
            "block": header.blocks().last().map(|own| json!({ "number": own.number, "hash": own.hash.to_string() })),
            "blocks": header.blocks().len(),
            "accounts": tally.accounts,
            "slots": tally.slots,
            "codes": tally.codes,
            "bytes": tally.bytes,
            "chunks": tally.chunks,
            "found_chunks": tally.found_chunks,
            "seconds": elapsed.as_secs_f64(),
            "keys_per_second": rate,
            "peak_bytes": peak_bytes,
            "peak_anonymous_bytes": self.peak_anonymous_bytes,
        })
    }
}
