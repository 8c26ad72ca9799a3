//! The screen: everything that was seen, on 40 lines of 80 columns.

use std::fmt::Write;

use metisdb::Stats;
use serde::Serialize;

use super::{
    Parts,
    blocks::Timing,
    checks::{Check, Checks},
    crash::Kills,
    ground::Load,
    histogram::nanoseconds,
    reads::Reads,
};
use crate::output::{Answer, count, short_bytes};

const WIDTH: usize = 80;

/// Everything that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) seed: u64,
    pub(super) parts: Parts,
    /// Where the database is now, if it was kept.
    pub(super) kept: Option<String>,
    pub(super) checks: Checks,
    pub(super) load: Load,
    pub(super) timing: Timing,
    pub(super) reads: Reads,
    pub(super) disk: Disk,
    pub(super) kills: Kills,
}

/// What the database takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Disk {
    pub(super) log_bytes: u64,
    pub(super) trie_bytes: u64,
    /// Memory.
    pub(super) index_bytes: u64,
    pub(super) keys: u64,
    /// How long opening took after closing.
    pub(super) open_ns: u64,
}

impl Disk {
    /// After everything was written.
    pub(super) fn new(stats: &Stats, open_ns: u64) -> Self {
        Self {
            log_bytes: stats.log_disk_bytes,
            trie_bytes: stats.arena_disk_bytes,
            index_bytes: stats.index_bytes,
            keys: stats.keys,
            open_ns,
        }
    }
}

impl Figures {
    /// The answer; not a good one if anything did not hold.
    pub(super) fn answer(&self) -> Answer {
        let mut json = serde_json::to_value(self).expect("numbers, texts, and names as keys");
        json["sound"] = self.checks.all_held().into();
        let answer = Answer::screen(self.screen(), json);
        if self.checks.all_held() { answer } else { answer.unsound() }
    }

    fn screen(&self) -> String {
        let mut screen = String::new();
        let mut say = |line: String| {
            screen.push_str(line.trim_end());
            screen.push('\n');
        };
        let place = self.kept.as_ref().map_or("removed".to_owned(), |path| format!("kept in {path}"));
        say(format!("MetisDB in {:.0} seconds; the database is {place}", self.seconds));
        say(String::new());
        self.checks.iter().flat_map(told).for_each(&mut say);
        say(String::new());
        self.state().into_iter().for_each(&mut say);
        say(String::new());
        self.blocks().into_iter().for_each(&mut say);
        say(String::new());
        self.reads().into_iter().for_each(&mut say);
        screen
    }

    fn state(&self) -> [String; 4] {
        let Disk { log_bytes, trie_bytes, index_bytes, keys, open_ns } = self.disk;
        let (log, trie, index) = (short_bytes(log_bytes), short_bytes(trie_bytes), short_bytes(index_bytes));
        let a_key = index_bytes as f64 / keys.max(1) as f64;
        let rate = count(self.load.slots_per_second);
        [
            format!("State   {} slots, {} keys in all", count(self.load.size.slots), count(keys)),
            format!("        loaded at {rate} slots a second, with a root for every 100,000"),
            format!("Disk    log {log}, trie {trie}; opened in {} after closing", nanoseconds(open_ns)),
            format!("Memory  index {index}, {a_key:.1} bytes a key"),
        ]
    }

    fn blocks(&self) -> Vec<String> {
        let timing = &self.timing;
        let row = |label: &str, total: String, cell: &dyn Fn(&super::blocks::Step) -> String| {
            let mut line = format!("        {label:<12}");
            for step in &timing.steps {
                let _ = write!(line, "{:>10}", cell(step));
            }
            line + &format!("{total:>10}")
        };
        vec![
            format!(
                "Blocks  {} transactions a second ({} million gas), every block durable",
                count(timing.transactions_per_second),
                timing.gas_per_second / 1_000_000
            ),
            row("", "all".to_owned(), &|step| step.name.to_owned()),
            row("median", nanoseconds(timing.total_p50_ns), &|step| nanoseconds(step.p50_ns)),
            row("p99", nanoseconds(timing.total_p99_ns), &|step| nanoseconds(step.p99_ns)),
            row("of the time", "100 %".to_owned(), &|step| format!("{:.0} %", step.share * 100.0)),
            format!(
                "        {:.0} % is storage: root, append, sync; reads are in the execution",
                timing.storage_share * 100.0
            ),
        ]
    }

    fn reads(&self) -> Vec<String> {
        let Reads { per_second, per_second_in_batches, percentiles, clock_ns, ref picture, .. } = self.reads;
        let mut lines = vec![
            format!(
                "Reads   {} random slots a second; {} by 64 at once",
                count(per_second),
                count(per_second_in_batches)
            ),
            format!(
                "        p50 {}, p99 {}, p99.9 {}, max {}; clock {}",
                nanoseconds(percentiles.p50_ns),
                nanoseconds(percentiles.p99_ns),
                nanoseconds(percentiles.p999_ns),
                nanoseconds(percentiles.max_ns),
                nanoseconds(clock_ns)
            ),
        ];
        lines.extend(picture.iter().map(|line| format!("        {line}")));
        lines
    }
}

/// A check in as many lines as it takes.
fn told(check: &Check) -> Vec<String> {
    let mut lines = vec![if check.held { "  \u{2713}".to_owned() } else { "  \u{2717} FAILED:".to_owned() }];
    for word in check.told.split_whitespace() {
        let last = lines.last_mut().expect("there is a first one");
        if last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("    {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
