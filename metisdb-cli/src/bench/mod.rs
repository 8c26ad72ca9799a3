//! `metisdb bench`: how long reads, proofs, roots, commits and opening take on this machine.

mod table;

use std::{
    convert::Infallible,
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use metisdb_benches::{Database, Error, Hardware, KeySpace, LEAST_KEYS, Plan, Progress, key_space, measure};
use serde::Serialize;

use crate::{failure::Failure, interrupt::Interrupt, output::Answer, output::count, progress::Bar, workplace};

/// How much is measured, and where.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Slots of the databases that are measured, one after the other.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000000", value_parser = clap::value_parser!(u64).range(LEAST_KEYS..=1_000_000_000))]
    keys: Vec<u64>,
    /// Without a hash map of all keys beside the database, which takes 100 to 200 bytes of memory a key.
    #[arg(long)]
    alone: bool,
    /// Folder in which the temporary databases are made, on the device that is to be measured.
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Rounds of each kind of read; of each kind of block six times as many are committed.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..1_000))]
    rounds: u64,
    /// What all keys and values follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the process that is to be killed writes.
#[derive(Debug, Args)]
pub(crate) struct WriterArguments {
    /// Folder of the database.
    #[arg(long = "db", value_name = "PATH")]
    path: PathBuf,
    /// Slots that it was loaded with.
    #[arg(long, value_parser = clap::value_parser!(u64).range(LEAST_KEYS..))]
    keys: u64,
    /// What they follow from.
    #[arg(long)]
    seed: u64,
    /// Processes with different ones write different values.
    #[arg(long)]
    generation: u64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Figures {
    hardware: Hardware,
    seed: u64,
    rounds: u64,
    databases: Vec<Database>,
}

/// Measures databases, one after the other.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<Answer, Failure> {
    let BenchArguments { ref keys, alone, rounds, seed, .. } = *arguments;
    let interrupt = Interrupt::watch()?;
    let hardware = Hardware::read();
    let workplace = arguments.path.clone().unwrap_or_else(workplace::by_default);
    let plan = Plan { rounds, hash_map: !alone };
    let mut databases = Vec::new();
    for &keys in keys {
        let folder = workplace::make_folder(&workplace, "metisdb-bench-")?;
        let mut screen = Screen { interrupt: &interrupt, detail: format!("{} slots", count(keys)), bar: None };
        let space = key_space(keys, seed);
        databases.push(measure(&folder.path().join("state"), &space, plan, &writer, &mut screen)?);
        drop(screen);
        folder.close().map_err(Failure::system("clear", &workplace))?;
    }
    let figures = Figures { hardware, seed, rounds, databases };
    let json = serde_json::to_value(&figures).expect("numbers, texts, and names as keys");
    Ok(Answer::screen(table::draw(&figures), json))
}

/// Writes to a database until this process is killed.
pub(crate) fn write_until_killed(arguments: &WriterArguments) -> Result<Infallible, Failure> {
    let WriterArguments { ref path, keys, seed, generation } = *arguments;
    Ok(metisdb_benches::write_until_killed(path, &key_space(keys, seed), generation)?)
}

/// The command line of [`write_until_killed`].
fn writer(path: &Path, space: &KeySpace, generation: u64) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("bench-writer").arg("--db").arg(path);
    for (name, number) in [("--keys", space.keys), ("--seed", space.seed), ("--generation", generation)] {
        command.arg(name).arg(number.to_string());
    }
    Ok(command)
}

/// Shows how far it is, until a signal asks to stop.
struct Screen<'a> {
    interrupt: &'a Interrupt,
    detail: String,
    bar: Option<Bar>,
}

impl Progress for Screen<'_> {
    fn begin(&mut self, step: &'static str, units: u64) {
        self.bar = Some(Bar::new(step, units));
    }

    fn advance(&mut self, done: u64) -> Result<(), Error> {
        if let Some(bar) = &mut self.bar {
            bar.advance(done, &self.detail);
        }
        self.interrupt.check().map_err(|_| Error::Stopped)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => Self::Database(error),
            Error::System(attempted, error) => Self::System(attempted.to_owned(), error),
            Error::Wrong(what) => Self::Unsound(what),
            Error::Stopped => Self::Interrupted,
        }
    }
}
