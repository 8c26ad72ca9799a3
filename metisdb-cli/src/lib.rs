//! The program `metisdb`: makes a database of a genesis state, and looks into databases.
//!
//! `init`, `import`, `snapshot`, `witness export`, `demo` and `bench` write, and only where nothing is; everything else reads. `failure::EXIT_CODES` lists the exit codes.

mod bench;
mod check;
mod construction;
mod demo;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod genesis;
mod get;
mod import;
mod info;
mod init;
mod interrupt;
mod output;
mod progress;
mod proof;
mod root;
mod snapshot;
mod target;
mod versions;
mod witness;
mod workplace;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{failure::Failure, output::Answer};

/// Makes a MetisDB database of a genesis state, or looks into one, beside its writer or without one.
///
/// `init`, `import`, `snapshot`, `witness export`, `demo` and `bench` write, and only where nothing is; everything else reads.
#[derive(Debug, Parser)]
#[command(name = "metisdb", version, after_help = failure::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes an empty database.
    Init(init::InitArguments),
    /// Makes a database of a genesis file.
    Import(import::ImportArguments),
    /// Shows what the database holds: versions, keys, sizes.
    Info(info::InfoArguments),
    /// Shows the state root, or the storage root of an account.
    Root(root::RootArguments),
    /// Lists the versions that can be read, with their roots.
    Versions(versions::VersionsArguments),
    /// Shows one value.
    Get {
        /// What is to be shown.
        #[command(subcommand)]
        what: get::What,
    },
    /// Proves an account and slots, present or absent; with --json as eth_getProof answers.
    Proof(proof::ProofArguments),
    /// Verifies the answer of eth_getProof, without a database.
    VerifyProof(proof::VerifyArguments),
    /// Examines the files for damage.
    Check(check::CheckArguments),
    /// Exports the complete state to a file, imports one, verifies one.
    Snapshot {
        /// What is to be done.
        #[command(subcommand)]
        what: snapshot::What,
    },
    /// What the replay of a block needs of the state before it: exports it, looks at it, replays the block.
    Witness {
        /// What is to be done.
        #[command(subcommand)]
        what: witness::What,
    },
    /// Shows in a minute or two, on a new database, what it does, and checks that it is right.
    Demo(demo::DemoArguments),
    /// Measures in a minute or two, on new databases, how long reads, roots, commits and opening take.
    Bench(bench::BenchArguments),
    /// Commits until it is killed: what `demo` kills.
    #[command(hide = true)]
    DemoCommitter(demo::CommitterArguments),
    /// Writes behind a checkpoint and waits: what `bench` kills.
    #[command(hide = true)]
    BenchWriter(bench::WriterArguments),
}

impl Command {
    fn run(&self) -> Result<Answer, Failure> {
        match self {
            Self::Init(arguments) => init::init(arguments),
            Self::Import(arguments) => import::import(arguments),
            Self::Info(arguments) => info::info(arguments),
            Self::Root(arguments) => root::root(arguments),
            Self::Versions(arguments) => versions::versions(arguments),
            Self::Get { what } => get::get(what),
            Self::Proof(arguments) => proof::prove(arguments),
            Self::VerifyProof(arguments) => proof::verify(arguments),
            Self::Check(arguments) => check::check(arguments),
            Self::Snapshot { what } => snapshot::snapshot(what),
            Self::Witness { what } => witness::witness(what),
            Self::Demo(arguments) => demo::demo(arguments),
            Self::Bench(arguments) => bench::bench(arguments),
            Self::DemoCommitter(arguments) => demo::commit_until_killed(arguments).map(|never| match never {}),
            Self::BenchWriter(arguments) => bench::write_until_killed(arguments).map(|never| match never {}),
        }
    }

    fn json(&self) -> bool {
        match self {
            Self::Init(arguments) => arguments.target.json,
            Self::Import(arguments) => arguments.target.json,
            Self::Info(arguments) => arguments.target.json,
            Self::Root(arguments) => arguments.target.json,
            Self::Versions(arguments) => arguments.target.json,
            Self::Get { what } => what.target().json,
            Self::Proof(arguments) => arguments.target.json,
            Self::VerifyProof(arguments) => arguments.json,
            Self::Check(arguments) => arguments.target.json,
            Self::Snapshot { what } => what.json(),
            Self::Witness { what } => what.json(),
            Self::Demo(arguments) => arguments.json,
            Self::Bench(arguments) => arguments.json,
            Self::DemoCommitter(_) | Self::BenchWriter(_) => false,
        }
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let answer = match command.run() {
        Ok(answer) => answer,
        Err(failure) => {
            eprintln!("error: {failure}");
            return failure.code().into();
        }
    };
    match answer.print(command.json()) {
        // Whoever read the output may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let failure = Failure::System("write the answer".to_owned(), error);
            eprintln!("error: {failure}");
            failure.code().into()
        }
        _ => answer.code.into(),
    }
}
