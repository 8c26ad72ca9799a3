//! The result, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::{
    load::Load,
    open::{Opened, Opens},
    reads::{Mode, Reads},
    roots::{Roots, UPDATES},
};
use crate::system::Hardware;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) hardware: Hardware,
    pub(crate) databases: Vec<DatabaseReport>,
}

/// What was measured on the database of one size.
#[derive(Debug, Serialize)]
pub(crate) struct DatabaseReport {
    pub(crate) keys: u64,
    pub(crate) accounts: u64,
    pub(crate) load: Load,
    pub(crate) reads: Vec<Reads>,
    pub(crate) roots: Roots,
    pub(crate) opens: Opens,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "command   {}", self.command)?;
        let Hardware { processor, cores, load } = &self.hardware;
        writeln!(f, "hardware  {processor}, {cores} cores; load average at the start {load}")?;
        for database in &self.databases {
            write!(f, "\n{database}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DatabaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "=== {} slots in {} accounts ===", self.keys, self.accounts)?;
        write_load(f, &self.load, self.keys)?;
        writeln!(f, "\nopen, milliseconds (files in the page cache)      min  median     max")?;
        let Opens { clean, killed, killed_without_image, replayed_bytes, rebuilt_from_bytes } = &self.opens;
        let killed_label = format!("after a kill, {} replayed", megabytes(*replayed_bytes));
        let no_image_label = format!("the same without image, {} read", megabytes(*rebuilt_from_bytes));
        for (label, Opened { readable, with_trie }) in
            [("after a close", clean), (&*killed_label, killed), (&*no_image_label, killed_without_image)]
        {
            row(f, label, &format!("{readable:.1}"))?;
            row(f, "  until the trie is there", &format!("{with_trie:.1}"))?;
        }
        write_roots(f, &self.roots)?;
        for reads in &self.reads {
            write_reads(f, reads)?;
        }
        Ok(())
    }
}

fn write_load(f: &mut fmt::Formatter<'_>, load: &Load, keys: u64) -> fmt::Result {
    let each = |bytes: u64| format!("{:.1} bytes a key ({})", bytes as f64 / keys as f64, megabytes(bytes));
    writeln!(f, "load: random order, durable commits of up to 50,000 changes")?;
    row(f, "time", &format!("{:.2} s, {:.0} keys/s", load.seconds, load.keys_per_second))?;
    let shares = format!("{:.2} s, {:.2} s in {} commits", load.staging_seconds, load.commit_seconds, load.commits);
    row(f, "  staging changes, committing", &shares)?;
    let (thorough, close) = (load.checkpoint_seconds, load.close_seconds);
    row(f, "  checkpoints meanwhile", &format!("{}", load.checkpoints))?;
    row(f, "  a thorough checkpoint; close", &format!("{thorough:.2} s; {close:.2} s"))?;
    row(f, "on disk", &each(load.disk_bytes()))?;
    row(f, "  log, bytes written", &each(load.log_bytes))?;
    row(f, "  log, files on disk", &each(load.log_disk_bytes))?;
    row(f, "  arena of the trie, files on disk", &each(load.arena_disk_bytes))?;
    row(f, "  arena of the trie, nodes in use", &each(load.arena_live_bytes))?;
    row(f, "  image of the index", &each(load.image_bytes))?;
    row(f, "  superblocks", &format!("{} bytes", load.superblock_bytes))?;
    let index = load.index_bytes as f64 / load.index_keys as f64;
    row(f, "index in memory", &format!("{index:.1} bytes a key ({} keys, accounts included)", load.index_keys))?;
    row(
        f,
        "memory outside the index, peak",
        &format!("{:.1} MiB, staged changes included", mebibytes(load.heap_bytes())),
    )
}

fn write_roots(f: &mut fmt::Formatter<'_>, roots: &Roots) -> fmt::Result {
    writeln!(f, "\nblocks of {UPDATES} random updates, milliseconds            min  median     max")?;
    row(f, "root: propose on a checkpoint's trie", &format!("{:.1}", roots.root))?;
    row(f, "the same on a trie in memory, block by block", &format!("{:.1}", roots.propose))?;
    row(f, "commit the proposal, durable", &format!("{:.1}", roots.commit))?;
    row(f, "both", &format!("{:.1}", roots.block))?;
    row(f, "both, beside a reader that never ends", &format!("{:.1}", roots.block_beside_endless_reader))?;
    let label = format!("both, beside {} checkpoints", roots.checkpoints);
    row(f, &label, &format!("{:.1}", roots.block_beside_checkpoints))?;
    row(f, "a checkpoint after 30 blocks", &format!("        {:>7.0}", roots.checkpoint_milliseconds))
}

fn write_reads(f: &mut fmt::Formatter<'_>, reads: &Reads) -> fmt::Result {
    let verify = if reads.verify_every_read { ", every read verified" } else { "" };
    writeln!(f, "\nreads, one thread, ns{verify:<24}       MetisDB                 hash map")?;
    writeln!(
        f,
        "{:<46}{:>7} {:>7} {:>7}  {:>7} {:>7} {:>7}   ratio",
        "", "min", "median", "max", "min", "median", "max"
    )?;
    row(f, "first round after opening", &format!("        {:>7.0}", reads.first_round))?;
    for comparison in &reads.comparisons {
        let (metisdb, hash_map) = (comparison.metisdb, comparison.hash_map);
        let label = match comparison.mode {
            Mode::PresentIndependent => "present, independent",
            Mode::PresentFenced => "present, fenced",
            Mode::AbsentIndependent => "absent, independent",
            Mode::AbsentFenced => "absent, fenced",
            Mode::GetMany => "present, get_many by 64 (map: one by one)",
        };
        row(f, label, &format!("{metisdb}  {hash_map}  {:>6.2}", comparison.ratio()))?;
    }
    Ok(())
}

fn row(f: &mut fmt::Formatter<'_>, label: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {label:<43} {value}")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
