//! The commands: options in, one screen or JSON out.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use metisdb_torture::{
    crash::{self, Case, Limits, Report, Tally},
    damage::{self, SMALL_CODE_BYTES, Share},
    faults,
};
use serde::{Deserialize, Serialize};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Options of `crash`.
#[derive(Debug, Args)]
pub(crate) struct CrashArguments {
    /// Stop after this many states.
    #[arg(long, default_value_t = 300_000)]
    states: u64,
    /// Stop after this many minutes instead.
    #[arg(long)]
    minutes: Option<u64>,
    /// Keep the figures of all runs here, and go on behind the seeds of the last one.
    #[arg(long)]
    progress: Option<PathBuf>,
    /// Seed of the first history, where no progress is kept.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Judge one state again, by the name that a failure was given.
    #[arg(long)]
    replay: Option<Case>,
}

/// Options of `damage`.
#[derive(Debug, Args)]
pub(crate) struct DamageArguments {
    /// Flips of the larger database.
    #[arg(long, default_value_t = 2_000)]
    samples: usize,
    /// What the larger database and its flips depend on.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Bytes of code in the small database, all of whose bits in use are flipped.
    #[arg(long, default_value_t = SMALL_CODE_BYTES)]
    code_bytes: usize,
    /// Inflict a share of all wounds only, such as 3/16.
    #[arg(long, default_value = "1/1")]
    share: Share,
}

/// Options of `faults`.
#[derive(Debug, Args)]
pub(crate) struct FaultsArguments {
    /// Seed of the first history.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Histories, each as often as it has calls.
    #[arg(long, default_value_t = 1)]
    histories: u64,
}

/// Options of `all`.
#[derive(Debug, Args)]
pub(crate) struct AllArguments {
    /// How long power cuts take; the rest takes a few minutes more.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Keep the figures of all runs here, and go on behind the seeds of the last one.
    #[arg(long)]
    progress: Option<PathBuf>,
}

/// What the progress file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    next_seed: u64,
    seconds: u64,
    tally: Tally,
}

/// Power cuts.
pub(crate) fn crash(arguments: &CrashArguments, json: bool) -> Result<()> {
    if let Some(case) = &arguments.replay {
        crash::replay(case)?;
        println!("{case}: as it must be");
        return Ok(());
    }
    let started = Instant::now();
    let mut progress = read_progress(arguments.progress.as_ref())?
        .unwrap_or_else(|| Progress { next_seed: arguments.seed, ..Progress::default() });
    let limits = Limits {
        first_seed: progress.next_seed,
        states: if arguments.minutes.is_some() { u64::MAX } else { arguments.states },
        deadline: arguments.minutes.map(|minutes| started + Duration::from_secs(60 * minutes)),
        threads: thread::available_parallelism()?.get(),
    };
    let Report { tally, next_seed, failure } = crash::enumerate(&limits, &|_| {});
    let seconds = started.elapsed().as_secs_f64();
    progress = Progress {
        next_seed,
        seconds: progress.seconds + seconds as u64,
        tally: {
            progress.tally.add(&tally);
            progress.tally
        },
    };
    if let Some(path) = &arguments.progress {
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(&progress)?)?;
        fs::rename(partial, path)?;
    }
    if json {
        println!("{}", serde_json::to_string(&progress)?);
    } else {
        print(&tally, seconds);
        if arguments.progress.is_some() {
            println!("with earlier runs: {} states in {} s", progress.tally.states, progress.seconds);
        }
    }
    match failure {
        None => Ok(()),
        Some(failure) => Err(format!(
            "FAILED after {} states: {}\nreplay: metisdb-torture crash --replay {}",
            tally.states, failure.wrong, failure.case
        )
        .into()),
    }
}

fn read_progress(path: Option<&PathBuf>) -> Result<Option<Progress>> {
    match path.filter(|path| path.exists()) {
        Some(path) => Ok(Some(serde_json::from_slice(&fs::read(path)?)?)),
        None => Ok(None),
    }
}

/// Failing calls, damaged files, and power cuts for the rest of the time; seeds follow those of the runs before.
pub(crate) fn all(arguments: &AllArguments, json: bool) -> Result<()> {
    let AllArguments { minutes, progress } = arguments;
    let seed = read_progress(progress.as_ref())?.map_or(0, |progress| progress.next_seed);
    faults(&FaultsArguments { seed, histories: 2 }, json)?;
    damage(&DamageArguments { samples: 100_000, seed, code_bytes: SMALL_CODE_BYTES, share: Share::ALL }, json)?;
    let states = u64::MAX;
    crash(&CrashArguments { states, minutes: Some(*minutes), progress: progress.clone(), seed: 0, replay: None }, json)
}

/// Failing calls.
pub(crate) fn faults(arguments: &FaultsArguments, json: bool) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::tempdir()?;
    let report = faults::inject(arguments.seed..arguments.seed + arguments.histories, folder.path())?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let seconds = started.elapsed().as_secs_f64();
        println!("{} histories with failing calls in {seconds:.0} s", report.histories);
        for (outcome, count) in &report.outcomes {
            println!("  {outcome:<52}{count:>8}");
        }
    }
    match report.failure {
        None => Ok(()),
        Some((plan, wrong)) => Err(format!("FAILED: {plan}: {wrong}").into()),
    }
}

/// Damaged files.
pub(crate) fn damage(arguments: &DamageArguments, json: bool) -> Result<()> {
    let started = Instant::now();
    let DamageArguments { samples, seed, code_bytes, share } = *arguments;
    let threads = thread::available_parallelism()?.get();
    let report = damage::damage(&damage::Plan { code_bytes, samples, seed, threads, share })?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{} wounds in {seconds:.0} s; of the bits of {} bytes in use, share {} of {} was flipped",
            report.wounds, report.live_bytes, share.number, share.of
        );
        for (verdict, count) in &report.verdicts {
            println!("  {verdict:<52}{count:>8}");
        }
    }
    match report.failure {
        None => Ok(()),
        Some((wound, wrong)) => Err(format!("FAILED: {wound}: {wrong}").into()),
    }
}

fn print(tally: &Tally, seconds: f64) {
    let Tally { histories, cuts, states, images, in_recovery, repeated, exhausted, .. } = tally;
    println!(
        "{states} crash states of {histories} whole histories in {seconds:.0} s, {:.0} a second",
        *states as f64 / seconds
    );
    println!(
        "  {images} distinct images; {in_recovery} left by an interrupted recovery; {repeated} met again and skipped"
    );
    println!("  {cuts} operations cut, every possible state of {exhausted}");
    println!("  {} segments dropped, {} growths of the index", tally.dropped_segments, tally.index_growths);
    for (title, classes) in [("operation cut", &tally.by_operation), ("while", &tally.by_activity)] {
        println!("\n{title:<28}states");
        for (class, count) in classes {
            println!("{class:<26}{count:>8}");
        }
    }
}
