//! Blocks as a chain has them, by `Db::commit` and the options that a user has by default.

use std::{path::Path, time::Instant};

use alloy_primitives::U256;
use metisdb::{Changes, Db, Durability, Options};
use serde::Serialize;

use crate::{Error, KeySpace, Progress, Result, Spread, UPDATES, append::BareLog, updates};

/// Slots that a large block makes, besides its [`UPDATES`].
pub const BLOCK_INSERTS: u64 = 500;
/// Slots that it deletes: of those that the large block before made.
pub const BLOCK_DELETES: u64 = 100;
/// Slots that a small block updates; it does nothing else.
pub const SMALL_BLOCK_UPDATES: u64 = 500;

/// Blocks of each kind, for each round.
const BLOCKS: u64 = 6;
/// Streams of draws that nothing else uses.
const FIRST_STREAM: u64 = 1 << 21;

/// What committing a block takes, in milliseconds, its root included.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Blocks {
    /// [`UPDATES`], [`BLOCK_INSERTS`] and [`BLOCK_DELETES`], durable.
    pub large_durable: Spread,
    /// The same, [`Durability::Pipelined`].
    pub large_pipelined: Spread,
    /// [`SMALL_BLOCK_UPDATES`], durable.
    pub small_durable: Spread,
    /// The same, [`Durability::Pipelined`].
    pub small_pipelined: Spread,
    /// Bytes that a durable small block appended to the log.
    pub small_log_bytes: Spread,
    /// One append and one sync of as many bytes, after each of these blocks.
    pub append: Spread,
}

/// Measures on a database that is loaded. Overwrites values.
pub(crate) fn measure(path: &Path, space: &KeySpace, rounds: u64, progress: &mut dyn Progress) -> Result<Blocks> {
    let mut chain = Chain { space, path, count: BLOCKS * rounds, blocks: 0, inserted: space.keys, progress };
    let large_durable = chain.series("durable large blocks", Size::Large, Durability::Durable)?;
    let large_pipelined = chain.series("pipelined large blocks", Size::Large, Durability::Pipelined)?;
    let (small_durable, small_log_bytes, append) = chain.small_durable_series()?;
    let small_pipelined = chain.series("pipelined small blocks", Size::Small, Durability::Pipelined)?;
    Ok(Blocks { large_durable, large_pipelined, small_durable, small_pipelined, small_log_bytes, append })
}

/// How large a block is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Large,
    Small,
}

/// Blocks, one after the other. Each series is on a database just opened, which no checkpoint is under way in, and begins with a block that
/// is not measured.
struct Chain<'a> {
    space: &'a KeySpace,
    path: &'a Path,
    /// Blocks of a series.
    count: u64,
    /// Blocks up to now.
    blocks: u64,
    /// The number of the next key to be inserted.
    inserted: u64,
    progress: &'a mut dyn Progress,
}

impl Chain<'_> {
    fn series(&mut self, step: &'static str, size: Size, durability: Durability) -> Result<Spread> {
        self.progress.begin(step, self.count);
        let db = Options::new().open(self.path)?;
        self.commit(&db, size, durability)?;
        let mut times = Vec::new();
        for done in 1..=self.count {
            times.push(self.commit(&db, size, durability)?);
            self.progress.advance(done)?;
        }
        db.close()?;
        Ok(Spread::of(times))
    }

    /// The milliseconds of durable small blocks, the bytes that each appended, and the milliseconds of appending as many.
    fn small_durable_series(&mut self) -> Result<(Spread, Spread, Spread)> {
        let failed = || Error::system("append to a file beside the database");
        self.progress.begin("durable small blocks", self.count);
        let db = Options::new().open(self.path)?;
        let commit = |chain: &mut Self| -> Result<(f64, u64)> {
            let before = db.stats().log_position;
            let milliseconds = chain.commit(&db, Size::Small, Durability::Durable)?;
            Ok((milliseconds, db.stats().log_position - before))
        };
        // Twice as much as is needed, for one that begins a new file of the log.
        let room = self.count * 2 * commit(self)?.1;
        let mut bare_log = BareLog::create(self.path.with_extension("appended"), room).map_err(failed())?;
        let (mut times, mut bytes, mut appends) = (Vec::new(), Vec::new(), Vec::new());
        for done in 1..=self.count {
            let (milliseconds, written) = commit(self)?;
            times.push(milliseconds);
            bytes.push(written as f64);
            appends.push(bare_log.append(self.space, written).map_err(failed())?);
            self.progress.advance(done)?;
        }
        bare_log.remove().map_err(failed())?;
        db.close()?;
        Ok((Spread::of(times), Spread::of(bytes), Spread::of(appends)))
    }

    /// Commits the next block; the milliseconds of that.
    fn commit(&mut self, db: &Db, size: Size, durability: Durability) -> Result<f64> {
        let changes = self.next_block(size);
        let started = Instant::now();
        db.commit(&changes, durability)?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    fn next_block(&mut self, size: Size) -> Changes {
        let stream = FIRST_STREAM + self.blocks;
        self.blocks += 1;
        if size == Size::Small {
            return updates(self.space, stream, SMALL_BLOCK_UPDATES);
        }
        let mut changes = updates(self.space, stream, UPDATES);
        // The first block of all finds nothing to delete, and is not measured.
        let before = self.inserted - BLOCK_INSERTS;
        for number in (before..before + BLOCK_DELETES).filter(|number| *number >= self.space.keys) {
            let (address, slot) = self.space.key(number);
            changes.set_storage(address, slot, U256::ZERO);
        }
        for number in self.inserted..self.inserted + BLOCK_INSERTS {
            let (address, slot) = self.space.key(number);
            changes.set_storage(address, slot, self.space.value(number, stream));
        }
        self.inserted += BLOCK_INSERTS;
        changes
    }
}
