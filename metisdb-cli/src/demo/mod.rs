//! `metisdb demo`: shows on a state of millions of slots, in a minute or two, what the database does, and checks that it is right.
//!
//! | module | what lives there |
//! |---|---|
//! | `checks`, `histogram` | what was checked, and times |
//! | `ground`, `balances` | the state before the first block, and what the tokens must hold after the last |
//! | `blocks`, `mainnet_blocks` | execution: of a made-up chain's blocks, and of real ones |
//! | `reads`, `proof` | reading, and proving |
//! | `committer`, `crash` | a process that commits, and how it is killed |
//! | `report` | the screen |

mod balances;
mod blocks;
mod checks;
mod committer;
mod crash;
mod ground;
mod histogram;
mod mainnet_blocks;
mod proof;
mod reads;
mod report;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use metisdb::{CheckLevel, Db, Options};
use metisdb_execution::tokens::{Size, TOKENS, balance_slot, holder};
use serde::Serialize;

pub(crate) use self::committer::{CommitterArguments, commit_until_killed};
use self::{
    blocks::{Length, Run},
    checks::{Checks, Outcome, same},
    ground::Load,
    histogram::in_ns,
    reads::Reads,
    report::{Disk, Figures},
};
use crate::{
    construction::Construction, failure::Failure, interrupt::Interrupt, output::Answer, output::count, progress::Clock,
    workplace,
};

/// How much is shown, and where.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Make the database here and keep it; else it lives in a temporary folder, and goes away.
    #[arg(long = "db", value_name = "PATH")]
    path: Option<PathBuf>,
    /// Slots of the state, about.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    slots: u64,
    /// Execute real blocks of Ethereum's mainnet, too: files, or folders of them.
    #[arg(long, value_name = "PATH")]
    blocks: Vec<PathBuf>,
    /// What all random choices follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Do little of everything, in seconds; the figures then say little, too.
    #[arg(long, conflicts_with = "slots")]
    quick: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much is done.
struct Extent {
    size: Size,
    length: Length,
    reads: usize,
    kills: u64,
}

impl DemoArguments {
    fn extent(&self) -> Extent {
        match self.quick {
            true => Extent {
                size: Size::of_slots(20_000),
                length: Length { blocks: 20, transactions_per_block: 100 },
                reads: 20_000,
                kills: 2,
            },
            false => Extent {
                size: Size::of_slots(self.slots),
                length: Length { blocks: 1_000, transactions_per_block: 400 },
                reads: 1_000_000,
                kills: 20,
            },
        }
    }

    /// A folder for everything that goes away in the end; on the device where the database is, for what is said of devices.
    fn workplace(&self) -> PathBuf {
        match &self.path {
            Some(path) => path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")).to_owned(),
            None => workplace::by_default(),
        }
    }
}

/// Shows everything, one after the other.
pub(crate) fn demo(arguments: &DemoArguments) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let interrupt = Interrupt::watch()?;
    let workplace = arguments.workplace();
    let folder = workplace::make_folder(&workplace, "metisdb-demo-")?;
    let target = arguments.path.clone().unwrap_or_else(|| folder.path().join("state"));
    let construction = Construction::begin(&target)?;
    let extent = arguments.extent();
    let mut checks = Checks::default();
    let mut parts = Parts::default();
    let path = construction.path();
    // First, for it is soon said if the files are not what they should be.
    let recorded = mainnet_blocks::execute_all(&arguments.blocks, folder.path(), &interrupt)?;
    parts.end("mainnet_blocks", begun);
    let (load, run) = make(&path, &extent, arguments.seed, (&mut checks, &interrupt))?;
    parts.end("load_and_blocks", begun);
    let (reads, disk) = look(&path, (&extent, arguments.seed), &run, (&mut checks, &interrupt))?;
    parts.end("reads_and_comparisons", begun);
    let (kills, outcome) =
        crash::kill_and_compare(&folder.path().join("killed"), (extent.kills, arguments.seed), &interrupt)?;
    parts.end("kills", begun);
    checks.note("kills", outcome);
    if !arguments.blocks.is_empty() {
        checks.note("mainnet_blocks", recorded);
    }
    interrupt.check()?;
    let kept = arguments.path.as_deref().map(|path| path.display().to_string());
    if kept.is_some() {
        construction.publish()?;
    } else {
        drop(construction);
    }
    folder.close().map_err(Failure::system("clear", &workplace))?;
    let seconds = begun.elapsed().as_secs_f64();
    let figures =
        Figures { seconds, seed: arguments.seed, parts, kept, checks, load, timing: run.timing, reads, disk, kills };
    Ok(figures.answer())
}

/// The seconds that each part of the demonstration took.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
struct Parts(BTreeMap<&'static str, f64>);

impl Parts {
    /// A part has ended that began where the one before ended.
    fn end(&mut self, name: &'static str, begun: Instant) {
        let before: f64 = self.0.values().sum();
        self.0.insert(name, begun.elapsed().as_secs_f64() - before);
    }
}

/// Makes the state and executes the blocks.
fn make(
    path: &Path,
    extent: &Extent,
    seed: u64,
    (checks, interrupt): (&mut Checks, &Interrupt),
) -> Result<(Load, Run), Failure> {
    let db = Options::new().expected_keys(extent.size.slots).create(path)?;
    checks.note("genesis", ground::load_genesis(&db, interrupt)?);
    let load = ground::load_tokens(&db, extent.size, interrupt)?;
    let run = blocks::run(&db, (extent.size, seed), extent.length, interrupt)?;
    checks.note("blocks", run.outcome.clone());
    let _clock = Clock::start("closes the database");
    db.close()?;
    Ok((load, run))
}

/// Opens the database again, and compares, reads and proves.
fn look(
    path: &Path,
    (extent, seed): (&Extent, u64),
    run: &Run,
    (checks, interrupt): (&mut Checks, &Interrupt),
) -> Result<(Reads, Disk), Failure> {
    let begun = Instant::now();
    let db = Options::new().open(path)?;
    let open_ns = in_ns(begun.elapsed());
    let snapshot = db.snapshot()?;
    checks.note("versions", compare_versions(&db, run)?);
    let reads = reads::measure(&snapshot, (extent.size, seed), extent.reads, interrupt)?;
    let clock = Clock::start("compares all balances");
    checks.note("balances", balances::compare_balances(&run.model, &snapshot)?);
    checks.note("pair", balances::compare_pair(&run.model, &snapshot)?);
    interrupt.check()?;
    drop(clock);
    let slot = balance_slot(&holder(0));
    // Of the token, whose leaf has code and storage, a slot that the blocks have changed; and of nobody.
    let told = (&TOKENS[0], slot, run.model.balance(0, 0));
    checks.note("proofs", proof::prove(&snapshot, run.newest.state_root, told, &holder(u64::MAX))?);
    drop(snapshot);
    let clock = Clock::start("checks the files");
    let report = db.check(CheckLevel::Full)?;
    drop(clock);
    checks.note("files", Ok(format!("every record on disk sound: {}", count(report.records))));
    let stats = db.stats();
    db.close()?;
    Ok((reads, Disk::new(&stats, open_ns)))
}

/// The newest version must be that of the last block, and older ones still have the roots that they had.
fn compare_versions(db: &Db, run: &Run) -> metisdb::Result<Outcome> {
    let snapshot = db.snapshot()?;
    let number = run.newest.number;
    let found = snapshot.block(number)?;
    let compared = same("the newest block is there", found.is_some(), true)
        .and_then(|()| same("its hash", found.unwrap_or_default().hash, run.hash))
        .and(same("the newest root", snapshot.root()?, run.newest.state_root));
    if compared.is_err() {
        return Ok(compared.map(|()| String::new()));
    }
    for (version, root) in &run.roots {
        let found = db.snapshot_at(*version)?.root()?;
        if let Err(wrong) = same(format_args!("the root of version {version}"), found, *root) {
            return Ok(Err(wrong));
        }
    }
    Ok(Ok(format!("after closing and opening: block {number}, and the roots of the {} last", run.roots.len())))
}
