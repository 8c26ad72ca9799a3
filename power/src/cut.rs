//! One power cut, and what must be found after it.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use metisdb::{CheckLevel, Error};
use serde::Serialize;

use crate::{
    Result, child,
    history::{Random, State},
    told::{Ear, Told},
    volume::{Filesystem, Volume},
};

/// How long to wait for what a cut is aimed at. A machine that is busy, or a process that is stopped for a while, is no failure.
const PATIENCE: Duration = Duration::from_secs(300);
/// Cuts that one database lives through.
const CUTS_A_DATABASE: u64 = 8;

/// What a cut is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Any moment of the commits.
    Anywhere,
    /// The log continues in a new file.
    Growth,
    /// A checkpoint is taken.
    Checkpoint,
    /// The database is made, or recovered from the cut before.
    Opening,
}

/// What the cuts take turns in: half of them are aimed at growth and checkpoints.
const AIMS: [Aim; 8] = [
    Aim::Growth,
    Aim::Anywhere,
    Aim::Checkpoint,
    Aim::Opening,
    Aim::Growth,
    Aim::Anywhere,
    Aim::Checkpoint,
    Aim::Anywhere,
];

impl Aim {
    /// How often it has come to what is aimed at.
    fn count(self, told: &Told) -> u64 {
        match self {
            Self::Anywhere => told.durable.len() as u64,
            Self::Growth => told.growths,
            Self::Checkpoint => told.checkpoints,
            Self::Opening => told.openings,
        }
    }

    /// After how many of them, and how much later, the power goes.
    fn draw(self, random: &mut Random) -> (u64, Duration) {
        let (times, micros) = match self {
            Self::Anywhere => (1 + random.below(30), 20_000),
            Self::Growth => (1 + random.below(10), 4_000),
            Self::Checkpoint => (1 + random.below(4), 20_000),
            Self::Opening => (1, 30_000),
        };
        (times, Duration::from_micros(random.below(micros)))
    }
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Power cuts.
    pub cuts: u64,
    /// Those aimed at growth,
    pub at_growth: u64,
    /// at checkpoints,
    pub at_checkpoints: u64,
    /// and at opening.
    pub at_opening: u64,
    /// Versions that were acknowledged before their cut.
    pub acknowledged: u64,
    /// Versions that were submitted and not acknowledged, and found all the same.
    pub found_beyond: u64,
    /// And those that were not found.
    pub gone: u64,
    /// The longest that opening took afterwards.
    pub longest_open_milliseconds: u64,
    /// What must not be: each a case, and what was found.
    pub violations: Vec<String>,
}

/// A process that ends with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database that lives through several cuts.
struct Victim<'a> {
    program: &'a Path,
    seed: u64,
    volume: Volume,
    exists: bool,
    state: State,
}

/// Cuts the power so often. `program` begins [`child::commit_until_cut`] when it is called with `commit FOLDER SEED ROUND`.
///
/// # Errors
/// Where the machine refuses what is needed, not where the database fails.
pub fn cut_again_and_again(program: &Path, filesystem: Filesystem, seed: u64, cuts: u64) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut victim = None;
    for round in 0..cuts {
        let case = format!("{} seed {seed} cut {round}", filesystem.name());
        if round % CUTS_A_DATABASE == 0 {
            drop(victim.take());
        }
        let victim = match &mut victim {
            Some(victim) => victim,
            none => none.insert(Victim {
                program,
                seed,
                volume: Volume::create(filesystem, 2 * filesystem.least_bytes().max(64 << 20))?,
                exists: false,
                state: State::default(),
            }),
        };
        let before = figures.violations.len();
        victim.cut(round, &case, &mut figures)?;
        if figures.violations.len() > before {
            // What comes next would be compared with what is wrong already.
            return Ok(figures);
        }
    }
    Ok(figures)
}

impl Victim<'_> {
    fn database(&self) -> PathBuf {
        self.volume.path().join("database")
    }

    /// One process, one cut, one look.
    fn cut(&mut self, round: u64, case: &str, figures: &mut Figures) -> Result<()> {
        let aim = AIMS[(round % AIMS.len() as u64) as usize];
        let moment = aim.draw(&mut Random::of(self.seed, &[round]));
        let (before, told) = self.commit_and_cut(round, aim, moment)?;
        self.volume.unmount()?;
        self.volume.mount()?;
        figures.cuts += 1;
        match aim {
            Aim::Anywhere => {}
            Aim::Growth => figures.at_growth += 1,
            Aim::Checkpoint => figures.at_checkpoints += 1,
            Aim::Opening => figures.at_opening += 1,
        }
        if let Some(version) = told.opened.filter(|version| *version != self.state.version) {
            let violation = format!("{case}: opened at {version} after {} was found", self.state.version);
            figures.violations.push(violation);
        } else if let Some(violation) = self.look(round, &before, &told, figures)? {
            figures.violations.push(format!("{case}: {violation}"));
        }
        Ok(())
    }

    /// Returns what was told before the power went, and what was told in all.
    fn commit_and_cut(&self, round: u64, aim: Aim, (times, delay): (u64, Duration)) -> Result<(Told, Told)> {
        let root = File::open(self.volume.path())?;
        let mut command = Command::new(self.program);
        command.arg("commit").arg(self.database()).args([self.seed.to_string(), round.to_string()]);
        let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        let lines = BufReader::new(child.0.stdout.take().ok_or("a process without a pipe")?);
        let mut complaints = child.0.stderr.take().ok_or("a process without a pipe")?;
        let ear = Ear::default();
        let before = thread::scope(|scope| -> io::Result<Told> {
            scope.spawn(|| ear.listen(lines));
            ear.wait(PATIENCE, |told| aim.count(told) >= times);
            thread::sleep(delay);
            let before = ear.told();
            let cut = Volume::shut_down(&root);
            drop(child);
            cut.map(|()| before)
        })?;
        let told = ear.told();
        if aim.count(&told) < times || told.unreadable.is_some() {
            // From a filesystem that is gone it gets an error, too: of no interest otherwise.
            let mut complaint = String::new();
            complaints.read_to_string(&mut complaint)?;
            return Err(format!("the process that commits ended by itself: {complaint}{told:?}").into());
        }
        Ok((before, told))
    }

    /// Opens what is there and compares; returns what must not be.
    fn look(&mut self, round: u64, before: &Told, told: &Told, figures: &mut Figures) -> Result<Option<String>> {
        let started = Instant::now();
        let db = match child::options().open(self.database()) {
            // A database is there once it was opened for the first time.
            Err(Error::NotADatabase { .. }) if !self.exists && before.opened.is_none() => return Ok(None),
            Err(error) => return Ok(Some(format!("does not open: {error}"))),
            Ok(db) => db,
        };
        let milliseconds = started.elapsed().as_millis() as u64;
        figures.longest_open_milliseconds = figures.longest_open_milliseconds.max(milliseconds);
        self.exists = true;
        let stats = db.stats();
        let acknowledged = before.durable.keys().next_back().copied().unwrap_or(self.state.version);
        let submitted = told.submitted.unwrap_or(self.state.version);
        figures.acknowledged += acknowledged - self.state.version;
        if !(acknowledged..=submitted).contains(&stats.version) {
            return Ok(Some(format!("version {} of {acknowledged} to {submitted}", stats.version)));
        }
        figures.found_beyond += stats.version - acknowledged;
        figures.gone += submitted - stats.version;
        for version in self.state.version.max(stats.oldest_version)..=stats.version {
            self.state.advance(self.seed, round, version);
            let snapshot = db.snapshot_at(version)?;
            if let Some(difference) = self.state.difference(&snapshot)? {
                return Ok(Some(format!("version {version}: {difference}")));
            }
            let (root, known) = (snapshot.root()?, told.durable.get(&version));
            if known.is_some_and(|known| *known != root) {
                return Ok(Some(format!("version {version} has the root {root} instead of {known:?}")));
            }
        }
        match db.check(CheckLevel::Full) {
            // Now and then it is closed, so that the next process has nothing to recover.
            Ok(_) if round.is_multiple_of(3) => Ok(db.close().err().map(|error| format!("does not close: {error}"))),
            Ok(_) => Ok(None),
            Err(error) => Ok(Some(format!("is not sound: {error}"))),
        }
    }
}
