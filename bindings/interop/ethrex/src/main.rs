//! Ethereum's block tests: MetisDB executes the blocks on a whole state and exports their witnesses; ethrex, which shares no code with it, replays
//! them to the same headers, and cannot where a node is missing.
//!
//! ```text
//! cargo run --release -- --fixtures FOLDER
//! ```

mod client;
mod counts;
mod forks;
mod test;

use std::{
    collections::BTreeMap,
    fmt::Display,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use metisdb_conformance::data;

use self::{
    counts::Counts,
    test::{Test, Verdict},
};

/// A result in words.
type Checked<T = ()> = Result<T, String>;

/// Replays what MetisDB exports of Ethereum's block tests by ethrex.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the block tests, in JSON; that of `METISDB_FIXTURES` by default.
    #[arg(long)]
    fixtures: Option<PathBuf>,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: BTreeMap<&'static str, usize>,
    counts: Counts,
}

impl Tally {
    fn run(&mut self, name: impl Display, test: &Test<'_>) {
        // A client may panic on what it does not know: one test fails then, and not all.
        let verdict = panic::catch_unwind(AssertUnwindSafe(|| test.run(&mut self.counts)));
        match verdict.unwrap_or_else(|_| Err("a panic".into())) {
            Ok(Verdict::Passed) => self.passed += 1,
            Ok(Verdict::Skipped(why)) => *self.skipped.entry(why).or_default() += 1,
            Err(error) => {
                self.failed += 1;
                eprintln!("{name}: {error}");
            }
        }
    }
}

fn main() -> ExitCode {
    let folder = Arguments::parse().fixtures.or_else(|| Some(data::fixtures()?.join("blockchain_tests")));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("no block tests: name their folder with --fixtures");
        return ExitCode::FAILURE;
    };
    let mut tally = Tally::default();
    for path in data::files(&folder, "json") {
        let text = data::read(&path);
        let file = path.strip_prefix(&folder).unwrap_or(&path).display();
        match serde_json::from_slice::<BTreeMap<String, Test<'_>>>(&text) {
            Ok(tests) => tests.iter().for_each(|(name, test)| tally.run(format_args!("{file} {name}"), test)),
            Err(error) => {
                tally.failed += 1;
                eprintln!("{file}: not a block test: {error}");
            }
        }
    }
    let Tally { passed, failed, skipped, counts } = tally;
    println!("{passed} tests passed, {failed} failed; {counts}");
    for (why, count) in skipped {
        println!("skipped {count}: {why}");
    }
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
