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
    faults, proofs,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// Options of `proofs`.
#[derive(Debug, Args)]
pub(crate) struct ProofsArguments {
    /// Stop after this many forgeries.
    #[arg(long, default_value_t = 100_000_000)]
    forgeries: u64,
    /// Of so many proofs every byte is cut and changed.
    #[arg(long, default_value_t = 10_000)]
    exhausted: u64,
    /// Stop after this many minutes, even before.
    #[arg(long)]
    minutes: Option<u64>,
    /// Keep the figures of all runs here, and go on behind the seeds of the last one.
    #[arg(long)]
    progress: Option<PathBuf>,
    /// Seed of the first trie, where no progress is kept.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Judge the forgeries of one seed again, which a failure tells.
    #[arg(long)]
    replay: Option<u64>,
}

/// What the progress file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress<T> {
    next_seed: u64,
    seconds: u64,
    tally: T,
}

impl<T: Serialize + DeserializeOwned> Progress<T> {
    fn read(path: Option<&PathBuf>) -> Result<Option<Self>> {
        match path.filter(|path| path.exists()) {
            Some(path) => Ok(Some(serde_json::from_slice(&fs::read(path)?)?)),
            None => Ok(None),
        }
    }

    fn write(&self, path: Option<&PathBuf>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(partial, path)?)
    }
}

/// Power cuts.
pub(crate) fn crash(arguments: &CrashArguments, json: bool) -> Result<()> {
    if let Some(case) = &arguments.replay {
        crash::replay(case)?;
        println!("{case}: as it must be");
        return Ok(());
    }
    let started = Instant::now();
    let mut progress = Progress::read(arguments.progress.as_ref())?
        .unwrap_or_else(|| Progress { next_seed: arguments.seed, ..Progress::<Tally>::default() });
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
    progress.write(arguments.progress.as_ref())?;
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

/// Failing calls, damaged files, forged proofs, and power cuts for the rest of the time; seeds follow those of the runs before.
pub(crate) fn all(arguments: &AllArguments, json: bool) -> Result<()> {
    let AllArguments { minutes, progress } = arguments;
    let seed = Progress::<Tally>::read(progress.as_ref())?.map_or(0, |progress| progress.next_seed);
    faults(&FaultsArguments { seed, histories: 2 }, json)?;
    damage(&DamageArguments { samples: 100_000, seed, code_bytes: SMALL_CODE_BYTES, share: Share::ALL }, json)?;
    let forged =
        ProofsArguments { forgeries: 2_000_000, exhausted: 1_000, minutes: None, progress: None, seed, replay: None };
    proofs(&forged, json)?;
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

/// Forged proofs.
pub(crate) fn proofs(arguments: &ProofsArguments, json: bool) -> Result<()> {
    let ProofsArguments { forgeries, exhausted, minutes, progress: path, seed, replay } = arguments;
    if let Some(seed) = replay {
        proofs::replay(*seed, true, &mut proofs::Tally::default())?;
        println!("the proofs of seed {seed}: as they must be");
        return Ok(());
    }
    let started = Instant::now();
    let mut progress = Progress::read(path.as_ref())?
        .unwrap_or_else(|| Progress { next_seed: *seed, ..Progress::<proofs::Tally>::default() });
    let limits = proofs::Limits {
        first_seed: progress.next_seed,
        forgeries: forgeries.saturating_sub(progress.tally.forgeries),
        exhausted: exhausted.saturating_sub(progress.tally.exhausted),
        deadline: minutes.map(|minutes| started + Duration::from_secs(60 * minutes)),
        threads: thread::available_parallelism()?.get(),
    };
    let proofs::Report { tally, next_seed, failure } = proofs::forge(&limits);
    let seconds = started.elapsed().as_secs_f64();
    (progress.next_seed, progress.seconds) = (next_seed, progress.seconds + seconds as u64);
    progress.tally.add(&tally);
    progress.write(path.as_ref())?;
    if json {
        println!("{}", serde_json::to_string(&progress)?);
    } else {
        println!("{} forgeries in {seconds:.0} s, {:.0} a second", tally.forgeries, tally.forgeries as f64 / seconds);
        print_forgeries(&progress.tally);
    }
    match failure {
        None => Ok(()),
        Some((seed, wrong)) => Err(format!("FAILED: {wrong}\nreplay: metisdb-torture proofs --replay {seed}").into()),
    }
}

fn print_forgeries(tally: &proofs::Tally) {
    let proofs::Tally { proofs, forgeries, under_honest_roots, honest, believed, exhausted, cuts, changes, .. } = tally;
    println!("in all {forgeries} forgeries of {proofs} proofs, {under_honest_roots} of them under an honest root");
    println!("  {honest} turned out to be honest proofs of something else");
    println!("  {believed} were believed under a root that was forged with them, by all readers");
    println!("  {exhausted} proofs of which every byte was tried: {cuts} cuts, {changes} changes");
    println!("\n{:<28}{:>12}{:>30}", "refused because", "forgeries", "that others would believe");
    for (reason, count) in &tally.refused {
        println!("{reason:<28}{count:>12}{:>30}", tally.stricter.get(reason).copied().unwrap_or_default());
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
