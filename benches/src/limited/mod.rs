//! `limited`: a database larger than the memory that it may use, in a control group of its own.

mod cgroup;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use clap::Args;
use metisdb::{Durability, Options};
use metisdb_benches::{Hardware, KeySpace, LEAST_KEYS, Spread, UPDATES, key_space, load, updates};
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};

use self::cgroup::MemoryGroup;
use crate::{Result, progress};

/// Reads in a round.
const READS: u64 = 20_000;
/// Streams of draws that nothing else uses.
const FIRST_STREAM: u64 = 1 << 22;

/// How much is measured, and where.
#[derive(Debug, Args)]
pub(crate) struct LimitedArguments {
    /// Slots of the database.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(LEAST_KEYS..1 << 32))]
    keys: u64,
    /// Memory for the process that reads and writes, in MiB: the index, everything else, and the part of the files that is in memory.
    #[arg(long, value_name = "MIB", default_value_t = 500, value_parser = clap::value_parser!(u64).range(16..1 << 20))]
    memory: u64,
    /// Rounds of 20,000 reads, and blocks of 10,000 updates.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..1_000))]
    rounds: u64,
    /// Folder for the temporary database; the system's by default.
    #[arg(long)]
    path: Option<PathBuf>,
    /// What all keys and values follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the bounded process is told.
#[derive(Debug, Args)]
pub(crate) struct VisitArguments {
    #[arg(long = "db")]
    path: PathBuf,
    #[arg(long)]
    members: PathBuf,
    #[arg(long)]
    keys: u64,
    #[arg(long)]
    rounds: u64,
    #[arg(long)]
    seed: u64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    hardware: Hardware,
    keys: u64,
    /// All files.
    disk_bytes: u64,
    memory_bytes: u64,
    /// Most in use, the part of the files that is in memory included.
    peak_bytes: u64,
    visit: Visit,
}

/// What the bounded process saw.
#[derive(Debug, Serialize, Deserialize)]
struct Visit {
    /// Milliseconds until it was open.
    open: f64,
    reads: Costs,
    /// Blocks of 10,000 updates, durable, with their roots.
    blocks: Costs,
}

/// What the same thing cost several times, each time by itself.
#[derive(Debug, Serialize, Deserialize)]
struct Costs {
    microseconds: Spread,
    /// Pages for which it waited.
    faults: Spread,
    /// Bytes that the device delivered.
    device_bytes: Spread,
}

/// Loads a database, and visits it with bounded memory.
pub(crate) fn limited(arguments: &LimitedArguments) -> Result<()> {
    let LimitedArguments { keys, memory, rounds, seed, json, .. } = *arguments;
    let hardware = Hardware::read();
    let memory_bytes = memory << 20;
    let group = MemoryGroup::new(memory_bytes)?;
    let parent = arguments.path.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("metisdb-bench-").tempdir_in(parent)?;
    let path = folder.path().join("state");
    progress(&format!("loads {keys} slots"));
    let disk_bytes = load(&path, &key_space(keys, seed), &mut ())?.disk_bytes();
    forget(&path)?;
    progress(&format!("visits them with {memory} MiB"));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("limited-visit").arg("--db").arg(&path).arg("--members").arg(group.members());
    for (name, number) in [("--keys", keys), ("--rounds", rounds), ("--seed", seed)] {
        command.arg(name).arg(number.to_string());
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the process with bounded memory ended with {}", output.status).into());
    }
    let visit = serde_json::from_slice(&output.stdout)?;
    let report = Report { hardware, keys, disk_bytes, memory_bytes, peak_bytes: group.peak_bytes()?, visit };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    folder.close()?;
    Ok(())
}

/// Has the system keep nothing of the files in memory: what stayed would not count as the visitor's.
fn forget(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// The bounded process: reads, then writes, and says what that cost.
pub(crate) fn visit(arguments: &VisitArguments) -> Result<()> {
    let VisitArguments { ref path, ref members, keys, rounds, seed } = *arguments;
    fs::write(members, std::process::id().to_string())?;
    let space = key_space(keys, seed);
    let started = Instant::now();
    let db = Options::new().open(path)?;
    let open = started.elapsed().as_secs_f64() * 1e3;
    let reads = measure(rounds, READS, |round| {
        let snapshot = db.snapshot()?;
        for number in (0..READS).map(|turn| space.draw(FIRST_STREAM + round, turn)) {
            let (address, slot) = space.key(number);
            expect(&space, number, 0, snapshot.storage(&address, slot)?)?;
        }
        Ok(())
    })?;
    let streams = FIRST_STREAM + rounds..;
    let blocks = measure(rounds, 1, |round| {
        db.commit(&updates(&space, streams.start + round, UPDATES), Durability::Durable)?;
        Ok(())
    })?;
    let snapshot = db.snapshot()?;
    let last = streams.start + rounds - 1;
    for number in (0..UPDATES).map(|turn| space.draw(last, turn)) {
        let (address, slot) = space.key(number);
        expect(&space, number, last, snapshot.storage(&address, slot)?)?;
    }
    drop(snapshot);
    db.close()?;
    println!("{}", serde_json::to_string(&Visit { open, reads, blocks })?);
    Ok(())
}

fn expect(space: &KeySpace, number: u64, generation: u64, value: alloy_primitives::U256) -> Result<()> {
    if value == space.value(number, generation) { Ok(()) } else { Err(format!("key {number} is {value}").into()) }
}

/// What each of so many `units` of work costs, round by round.
fn measure(rounds: u64, units: u64, mut work: impl FnMut(u64) -> Result<()>) -> Result<Costs> {
    let (mut microseconds, mut faults, mut device_bytes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (before, started) = (counters()?, Instant::now());
        work(round)?;
        let (time, after) = (started.elapsed(), counters()?);
        let each = |total: u64| total as f64 / units as f64;
        microseconds.push(time.as_secs_f64() * 1e6 / units as f64);
        faults.push(each(after.0 - before.0));
        device_bytes.push(each(after.1 - before.1));
    }
    let [microseconds, faults, device_bytes] = [microseconds, faults, device_bytes].map(Spread::of);
    Ok(Costs { microseconds, faults, device_bytes })
}

/// Pages that this process has waited for, and bytes that the device delivered for it.
fn counters() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything; the tenth from there.
    let faults =
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(9)).ok_or("/proc/self/stat is short")?;
    let io = fs::read_to_string("/proc/self/io")?;
    let read =
        io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).ok_or("/proc/self/io has no read_bytes")?;
    Ok((faults.parse()?, read.parse()?))
}

impl Report {
    fn table(&self) -> String {
        let Self { hardware: Hardware { processor, cores, load }, keys, disk_bytes, memory_bytes, peak_bytes, visit } =
            self;
        let mib = |bytes: &u64| bytes >> 20;
        let row = |what: &str, unit: &str, scale: f64, Costs { microseconds, faults, device_bytes }: &Costs| {
            let time = Spread {
                min: microseconds.min * scale,
                median: microseconds.median * scale,
                max: microseconds.max * scale,
            };
            format!("| {what} | {time:.1} {unit} | {faults:.2} | {:.1} |\n", device_bytes.median / 1024.0)
        };
        let mut table = format!(
            "On {cores} cores of {processor}, load average {load} at the start: {keys} slots, {} MiB of files, {} MiB of memory, of which {} were used.\nMinimum, median and maximum of rounds; opened in {:.0} ms. Every value was checked.\n\n",
            mib(disk_bytes),
            mib(memory_bytes),
            mib(peak_bytes),
            visit.open
        );
        table += "| | time | pages waited for | KiB from the device |\n|---|---|---|---|\n";
        table += &row("a read of a random key", "us", 1.0, &visit.reads);
        table += &row("a block of 10,000 random updates, durable, with its root", "ms", 1e-3, &visit.blocks);
        table
    }
}
