//! What the process that commits tells, a word and its numbers on each line.

use std::{
    collections::BTreeMap,
    fmt,
    io::BufRead,
    str::FromStr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::B256;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It opens or makes the database.
    Opening,
    /// The database is open at this version.
    Opened(u64),
    /// The commit that makes this version begins.
    Submitted(u64),
    /// The commit that begins makes the log continue in a new file.
    Growing,
    /// The version is durable, and has this root.
    Durable(u64, B256),
    /// A checkpoint begins.
    Checkpoint,
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => write!(formatter, "opening"),
            Self::Opened(version) => write!(formatter, "opened {version}"),
            Self::Submitted(version) => write!(formatter, "submitted {version}"),
            Self::Growing => write!(formatter, "growing"),
            Self::Durable(version, root) => write!(formatter, "durable {version} {root}"),
            Self::Checkpoint => write!(formatter, "checkpoint"),
        }
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("{line:?} is no word of the process that commits");
        let number = |text: &str| text.parse().map_err(|_| unknown());
        Ok(match *line.split(' ').collect::<Vec<_>>() {
            ["opening"] => Self::Opening,
            ["opened", version] => Self::Opened(number(version)?),
            ["submitted", version] => Self::Submitted(number(version)?),
            ["growing"] => Self::Growing,
            ["durable", version, root] => Self::Durable(number(version)?, root.parse().map_err(|_| unknown())?),
            ["checkpoint"] => Self::Checkpoint,
            _ => return Err(unknown()),
        })
    }
}

/// All of it so far.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The version at which it was opened.
    pub opened: Option<u64>,
    /// The newest version whose commit has begun.
    pub submitted: Option<u64>,
    /// Roots of the versions that were acknowledged as durable.
    pub durable: BTreeMap<u64, B256>,
    /// How often it began to open, to grow, to take a checkpoint.
    pub openings: u64,
    /// See `openings`.
    pub growths: u64,
    /// See `openings`.
    pub checkpoints: u64,
    /// Nothing more comes.
    pub ended: bool,
    /// A line that is none of its words.
    pub unreadable: Option<String>,
}

impl Told {
    fn take(&mut self, word: Word) {
        match word {
            Word::Opening => self.openings += 1,
            Word::Opened(version) => self.opened = Some(version),
            Word::Submitted(version) => self.submitted = Some(version),
            Word::Growing => self.growths += 1,
            Word::Durable(version, root) => drop(self.durable.insert(version, root)),
            Word::Checkpoint => self.checkpoints += 1,
        }
    }
}

/// What is told on one thread, and waited for on another.
#[derive(Debug, Default)]
pub struct Ear {
    told: Mutex<Told>,
    news: Condvar,
}

impl Ear {
    /// Listens to the end.
    pub fn listen(&self, lines: impl BufRead) {
        for line in lines.lines() {
            let word = line.map_err(|error| error.to_string()).and_then(|line| line.parse());
            let mut told = self.lock();
            match word {
                Ok(word) => told.take(word),
                Err(error) => told.unreadable = Some(error),
            }
            self.news.notify_all();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }

    /// What was told so far.
    pub fn told(&self) -> Told {
        self.lock().clone()
    }

    /// Waits until enough was told, or nothing more comes, or it takes too long.
    pub fn wait(&self, patience: Duration, is_enough: impl Fn(&Told) -> bool) {
        let waiting = self.news.wait_timeout_while(self.lock(), patience, |told| !is_enough(told) && !told.ended);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Each line is taken whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
