//! Making a database of a snapshot file: each chunk is a commit, so that the versions of the database tell how far it is.

use std::{io::Read, ops::ControlFlow, path::Path};

use alloy_primitives::{Address, KECCAK256_EMPTY};

use super::{
    chunk::{Entry, Kind},
    cursor::SnapshotTally,
    read::{Chunk, SnapshotFile, other_root, report},
    site::Site,
};
use crate::{
    changes::Changes,
    commit::Durability,
    db::Db,
    error::{Error, Result},
    log::Damage,
    options::Options,
    snapshot::Snapshot,
    types::Block,
};

/// Why an import ends early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The next call goes on with what was committed.
    Unfinished(Error),
    /// What was committed is no part of the state of this root, though its hashes held: nothing can be made of it.
    Unsound(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Unfinished(error)
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Self {
        let (Halt::Unfinished(error) | Halt::Unsound(error)) = halt;
        error
    }
}

impl<R: Read> SnapshotFile<R> {
    /// Makes a database of the file, which verifies every chunk, and its root against that of the file. `progress` is told after each chunk
    /// how far it is, and ends the call with [`ControlFlow::Break`].
    ///
    /// The database is at `target` when it is whole, has the root and is durable; before, it is made in the folder with `.importing` behind
    /// its name. A call that was stopped, failed or was killed is gone on with by the same call with the same file, read from its
    /// beginning: chunks that are in the database are verified again, not imported again. Where their content turns out to be another state
    /// than that of the root, what was made of them is removed, and a sound file begins anew.
    ///
    /// The plain keys are committed anew: the versions of the new database count its own commits. Of `options`,
    /// [`Options::retain_versions`] is not heeded: the versions on the way are nobody's business. Memory: that of a database while it is
    /// written, and one chunk.
    ///
    /// # Errors
    /// [`Error::FileExists`] where something is at `target`; [`Error::OtherSnapshot`] where another file's import was begun there;
    /// [`Error::Locked`] where another call works there; [`Error::Corruption`] where a chunk is damaged or missing, an account's code is
    /// not in the file, or the root is another; [`Error::Io`], also where the disk is full: repeat the call once there is space;
    /// [`Error::Stopped`]; those of [`Options::create`], [`Options::open`] and [`Db::commit`].
    pub fn import(
        mut self,
        target: impl AsRef<Path>,
        options: Options,
        mut progress: impl FnMut(&SnapshotTally) -> ControlFlow<()>,
    ) -> Result<SnapshotTally> {
        let site = Site::begin(target.as_ref(), &self.header)?;
        let options = options.retain_versions(0);
        let db = match options.clone().open(site.database()) {
            Err(Error::NotADatabase { .. }) => options.create(site.database())?,
            other => other?,
        };
        let tally = match self.load(&db, &mut progress) {
            Ok(tally) => tally,
            Err(Halt::Unfinished(error)) => return Err(error),
            Err(Halt::Unsound(error)) => {
                // Whether it could be closed well is of no matter to what is removed.
                let _ = db.close();
                site.clear()?;
                return Err(error);
            }
        };
        db.close()?;
        site.publish()?;
        Ok(tally)
    }

    /// Commits what the database does not have yet. It must be empty, or hold the beginning of this file.
    pub(crate) fn load(
        &mut self,
        db: &Db,
        progress: &mut impl FnMut(&SnapshotTally) -> ControlFlow<()>,
    ) -> Result<SnapshotTally, Halt> {
        let (found, mut found_chunks) = (db.snapshot()?.version(), 0);
        let (name, root, blocks) = (self.name.clone(), self.header.root, self.header.blocks.clone());
        let (own_block, earlier) = blocks.split_last().map_or((None, &blocks[..]), |(own, rest)| (Some(*own), rest));
        for block in earlier.iter().skip(found as usize) {
            db.commit_deferred(&of_block(Some(*block)), Durability::Pipelined)?;
        }
        while let Some(chunk) = self.next_chunk()? {
            let version = earlier.len() as u64 + chunk.index + 1;
            if chunk.kind == Kind::End {
                let actual = db.snapshot()?.root()?;
                if actual != root {
                    return Err(Halt::Unsound(other_root(root, actual, &name)));
                }
                if found > version || found == version && db.snapshot()?.committed_block()? != own_block {
                    // The same state, in more chunks than these: versions say nothing of how far it is.
                    let damage =
                        Damage::new("what was begun to be of these chunks", "those of a file with shorter ones");
                    return Err(Halt::Unsound(damage.at("state of the snapshot file", name, 0)));
                }
            }
            if version <= found {
                found_chunks = chunk.index + 1;
            } else if chunk.kind == Kind::End {
                db.commit(&of_block(own_block), Durability::Durable)?;
            } else {
                let changes = chunk.changes(&db.snapshot()?)?;
                db.commit_deferred(&changes, Durability::Pipelined).map_err(|error| match error {
                    // An earlier chunk, of another file, did not have it.
                    Error::SlotWithoutAccount { .. } => Halt::Unsound(error),
                    other => other.into(),
                })?;
            }
            report(progress, &SnapshotTally { found_chunks, ..self.cursor.tally })?;
        }
        Ok(SnapshotTally { found_chunks, ..self.cursor.tally })
    }
}

/// What a commit of a block alone changes.
fn of_block(block: Option<Block>) -> Changes {
    let mut changes = Changes::new();
    if let Some(block) = block {
        changes.set_block(block);
    }
    changes
}

impl Chunk<'_> {
    /// What it adds to the state, of which `before` has all chunks before it.
    ///
    /// # Errors
    /// [`Halt::Unsound`] where the code of an account is not in front of it; those of reading `before`.
    fn changes(&self, before: &Snapshot) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        let mut account = Address::ZERO;
        for entry in &self.entries {
            match *entry {
                Entry::Code(code) => {
                    changes.set_code(alloy_primitives::keccak256(code), code.to_vec().into());
                }
                Entry::Account(address, fields) => {
                    if fields.code_hash != KECCAK256_EMPTY && !before.has_code(&fields.code_hash)? {
                        let expected = format!("the code {} of {address} in front of its account", fields.code_hash);
                        return Err(Halt::Unsound(self.damage(Damage::new(expected, "none"))));
                    }
                    account = address;
                    changes.set_account(address, fields);
                }
                Entry::Continued(address) => account = address,
                Entry::Slot(slot, value) => {
                    changes.set_storage(account, slot, value);
                }
            }
        }
        Ok(changes)
    }
}
