//! `metisdb demo-committer`: commits until it is killed, and says of each commit when it begins and when it is durable.
//!
//! What a commit changes follows from its version alone, so whoever knows the version knows the whole state.

use std::{
    convert::Infallible,
    io::{self, Write},
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, U256};
use clap::Args;
use metisdb::{Account, Changes, Db, Durability, Options};
use metisdb_execution::tokens::Random;

use crate::failure::Failure;

/// Slots that a commit sets or clears.
const SLOTS_A_COMMIT: u64 = 1_000;
const CONTRACTS: u64 = 16;
/// Slots that a contract uses.
const SLOTS: u64 = 4_096;

/// On which database.
#[derive(Debug, Args)]
pub(crate) struct CommitterArguments {
    /// Folder of the database; it is made if it is not there.
    #[arg(long = "db", value_name = "PATH")]
    pub(super) path: PathBuf,
}

/// What it says on the standard output, one a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The commit that makes this version begins.
    Begins(u64),
    /// The version is durable and has this root.
    Durable(u64, B256),
}

impl Word {
    /// A line of text.
    pub(super) fn line(self) -> String {
        match self {
            Self::Begins(version) => format!("begins {version}\n"),
            Self::Durable(version, root) => format!("durable {version} {root}\n"),
        }
    }

    /// From a line; `None` where it is none, or not a whole one.
    pub(super) fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
        match words[..] {
            ["begins", version] => Some(Self::Begins(version.parse().ok()?)),
            ["durable", version, root] => Some(Self::Durable(version.parse().ok()?, root.parse().ok()?)),
            _ => None,
        }
    }
}

/// The database as it is opened each time: every version stays readable, and checkpoints are frequent, so that some are cut off, too.
pub(super) fn open(path: &Path) -> metisdb::Result<Db> {
    let options =
        Options::new().retain_versions(1 << 32).checkpoint_log_bytes(1 << 20).expected_keys(CONTRACTS * SLOTS);
    if path.exists() { options.open(path) } else { options.create(path) }
}

/// The contracts' slots that the commit of a version writes; a later one of the same slot wins.
pub(super) fn slots(version: u64) -> impl Iterator<Item = ((Address, U256), U256)> {
    let mut random = Random::new(version);
    (0..SLOTS_A_COMMIT).map(move |_| {
        let contract = Address::with_last_byte(random.below(CONTRACTS) as u8 + 1);
        let slot = U256::from(random.below(SLOTS));
        // One in eight is cleared.
        let value = if random.once_in(8) { 0 } else { random.bits() };
        ((contract, slot), U256::from(value))
    })
}

/// The account that each commit changes, and what the commit of a version makes of it.
pub(super) fn account(version: u64) -> (Address, Account) {
    (Address::repeat_byte(0xac), Account { nonce: version, balance: U256::from(version), ..Account::default() })
}

fn changes(version: u64) -> Changes {
    let mut changes = Changes::new();
    for contract in 1..=CONTRACTS as u8 {
        changes.set_account(Address::with_last_byte(contract), Account { nonce: 1, ..Account::default() });
    }
    for ((contract, slot), value) in slots(version) {
        changes.set_storage(contract, slot, value);
    }
    let (address, account) = account(version);
    changes.set_account(address, account);
    changes
}

/// Makes the next version, durably. `before` is called when all that is left to do is the commit itself.
pub(super) fn commit<E: From<metisdb::Error>>(
    db: &Db,
    version: u64,
    before: impl FnOnce() -> Result<(), E>,
) -> Result<Word, E> {
    let proposal = db.propose(&db.snapshot()?, &changes(version))?;
    before()?;
    let version = proposal.commit(Durability::Durable)?.version();
    Ok(Word::Durable(version, proposal.root()))
}

/// Commits until nobody listens any more.
pub(crate) fn commit_until_killed(arguments: &CommitterArguments) -> Result<Infallible, Failure> {
    let db = open(&arguments.path)?;
    let failed = |error| Failure::System("say what is durable".to_owned(), error);
    let mut output = io::stdout().lock();
    let mut say = |word: Word| {
        let said = output.write_all(word.line().as_bytes()).and_then(|()| output.flush());
        said.map_err(failed)
    };
    let mut version = db.snapshot()?.version();
    loop {
        version += 1;
        let durable = commit(&db, version, || say(Word::Begins(version)))?;
        say(durable)?;
    }
}
