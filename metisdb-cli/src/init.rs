//! `metisdb init`: an empty database.

use clap::Args;
use metisdb::Options;
use serde_json::json;

use crate::{
    construction::Construction,
    failure::Failure,
    interrupt::Interrupt,
    output::{Answer, line},
    target::Target,
};

/// Where the database is made.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Makes a database without accounts.
pub(crate) fn init(arguments: &InitArguments) -> Result<Answer, Failure> {
    let interrupt = Interrupt::watch()?;
    let construction = Construction::begin(&arguments.target.path)?;
    let db = Options::new().create(construction.path())?;
    let snapshot = db.snapshot()?;
    let (version, root) = (snapshot.version(), snapshot.root()?);
    drop(snapshot);
    db.close()?;
    interrupt.check()?;
    construction.publish()?;
    let path = &arguments.target.path;
    let lines = vec![line("database", path.display()), line("version", version), line("state root", root)];
    Ok(Answer::new(lines, json!({ "path": path.display().to_string(), "version": version, "root": root.to_string() })))
}
