//! A process that is killed while it commits: what it acknowledged must be there, and nothing may be half.
//!
//! Killing a process loses nothing that it has given to the kernel; that power cuts lose nothing acknowledged either is tested on
//! a simulated disk (`cargo test -p metisdb`).

use std::{
    collections::{BTreeMap, HashMap},
    env,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, U256};
use metisdb::{CheckLevel, Db};
use metisdb_execution::tokens::Random;
use serde::Serialize;

use super::{
    checks::{Outcome, same},
    committer::{self, Word},
    histogram::in_ns,
};
use crate::{failure::Failure, interrupt::Interrupt, output::count, progress::Bar};

/// Commits before a kill, at least and at most.
const COMMITS: (u64, u64) = (8, 40);

/// What was seen.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Kills {
    pub(super) kills: u64,
    /// Those that hit between the beginning of a commit and its acknowledgement.
    pub(super) within_a_commit: u64,
    /// Commits that were acknowledged.
    pub(super) acknowledged: u64,
    /// Commits that were found whole though the process had not come to acknowledge them.
    pub(super) found_beyond: u64,
    /// The longest that opening took afterwards.
    pub(super) longest_open_ns: u64,
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

/// What a process said until it was killed.
#[derive(Debug, Default)]
struct Said {
    begun: u64,
    acknowledged: BTreeMap<u64, B256>,
}

/// What must be in the database, by what was said up to now.
#[derive(Debug, Default)]
struct Expected {
    /// Roots that were acknowledged, or found after a crash, by version.
    roots: BTreeMap<u64, B256>,
    /// All slots, and the version that they are of.
    slots: HashMap<(Address, U256), U256>,
    version: u64,
}

/// Kills a process again and again. The outcome tells of the first time that something was lost.
pub(super) fn kill_and_compare(
    path: &Path,
    (kills, seed): (u64, u64),
    interrupt: &Interrupt,
) -> Result<(Kills, Outcome), Failure> {
    let mut random = Random::new(seed ^ 0x6b69_6c6c);
    let (mut seen, mut expected, mut outcome) = (Kills::default(), Expected::default(), Ok(()));
    let mut bar = Bar::new("kills", kills);
    while seen.kills < kills && outcome.is_ok() {
        let said = run_and_kill(path, &mut random, interrupt)?;
        seen.kills += 1;
        seen.acknowledged += said.acknowledged.len() as u64;
        seen.within_a_commit += u64::from(!said.acknowledged.contains_key(&said.begun));
        let begun = Instant::now();
        let db = committer::open(path)?;
        seen.longest_open_ns = seen.longest_open_ns.max(in_ns(begun.elapsed()));
        let last = said.acknowledged.keys().next_back().copied();
        expected.roots.extend(said.acknowledged);
        outcome = expected.compare(&db, said.begun)?;
        seen.found_beyond += u64::from(last.is_some_and(|last| last < expected.version));
        if seen.kills == kills {
            // Reads the whole log; damage is an error.
            db.check(CheckLevel::Full)?;
        }
        bar.advance(seen.kills, "processes that commit");
    }
    let told = format!(
        "{} kills, {} within a commit: {} acknowledged blocks found, {} more, none half",
        seen.kills,
        seen.within_a_commit,
        count(seen.acknowledged),
        seen.found_beyond
    );
    Ok((seen, outcome.map(|()| told)))
}

/// Starts a process and kills it at a random moment after a commit has begun.
fn run_and_kill(path: &Path, random: &mut Random, interrupt: &Interrupt) -> Result<Said, Failure> {
    let failed = |error| Failure::System("run the process that is to be killed".to_owned(), error);
    let program = env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("demo-committer").arg("--db").arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().map_err(failed)?);
    let mut output = BufReader::new(child.0.stdout.take().expect("it is piped"));
    let mut said = Said::default();
    let commits = COMMITS.0 + random.below(COMMITS.1 - COMMITS.0);
    let mut begun = Instant::now();
    let mut duration = Duration::ZERO;
    while (said.acknowledged.len() as u64) < commits || said.acknowledged.contains_key(&said.begun) {
        interrupt.check()?;
        let Some(word) = said.listen(&mut output).map_err(failed)? else {
            let status = child.0.wait().map_err(failed)?;
            // What stops this process may have stopped the other one, too.
            interrupt.check()?;
            return Err(failed(io::Error::other(format!("it ended by itself: {status}"))));
        };
        match word {
            Word::Begins(_) => begun = Instant::now(),
            Word::Durable(..) => duration = begun.elapsed(),
        }
    }
    // As long as the commit before took, at most: so the kill mostly comes within this one.
    thread::sleep(duration.mul_f64(random.below(1_000) as f64 / 1_000.0));
    child.0.kill().map_err(failed)?;
    child.0.wait().map_err(failed)?;
    // What it said and was not listened to yet counts, too.
    while said.listen(&mut output).map_err(failed)?.is_some() {}
    Ok(said)
}

impl Said {
    /// Notes the next word; `None` once there are no more, or the last one was cut off.
    fn listen(&mut self, output: &mut impl BufRead) -> io::Result<Option<Word>> {
        let mut line = String::new();
        output.read_line(&mut line)?;
        let word = Word::read(&line);
        match word {
            Some(Word::Begins(version)) => self.begun = version,
            Some(Word::Durable(version, root)) => {
                self.acknowledged.insert(version, root);
            }
            None => {}
        }
        Ok(word)
    }
}

impl Expected {
    /// Compares everything that is found with what was said: the commit of version `begun` had begun, none after it.
    fn compare(&mut self, db: &Db, begun: u64) -> metisdb::Result<Outcome<()>> {
        let snapshot = db.snapshot()?;
        let found = snapshot.version();
        let acknowledged = self.roots.keys().next_back().copied().unwrap_or(0);
        if found < acknowledged || found > begun {
            let reason = format!("found is version {found}, acknowledged was {acknowledged}, begun was {begun}");
            return Ok(Err(reason));
        }
        self.roots.insert(found, snapshot.root()?);
        for (version, root) in &self.roots {
            let compared =
                same(format_args!("the root of version {version}"), db.snapshot_at(*version)?.root()?, *root);
            if compared.is_err() {
                return Ok(compared);
            }
        }
        while self.version < found {
            self.version += 1;
            self.slots.extend(committer::slots(self.version));
        }
        for ((contract, slot), value) in &self.slots {
            let what = format_args!("slot {slot} of {contract} in version {found}");
            let compared = same(what, snapshot.storage(contract, *slot)?, *value);
            if compared.is_err() {
                return Ok(compared);
            }
        }
        let (address, account) = committer::account(found);
        Ok(match snapshot.account(&address)? {
            Some(found) if found == account => Ok(()),
            other => Err(format!("the account of version {found} is {other:?}")),
        })
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod tests;
