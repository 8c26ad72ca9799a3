//! The screen: everything that was seen, on 40 lines of 80 columns.

use std::{fmt::Write, path::Path};

use metisdb::Stats;
use serde::Serialize;

use super::{
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
pub(super) struct Figures<'a> {
    pub(super) seconds: f64,
    pub(super) seed: u64,
    /// Where the database is now, if it was kept.
    pub(super) kept: Option<&'a Path>,
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

impl Figures<'_> {
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
            let cut = line.trim_end().chars().take(WIDTH).collect::<String>();
            screen.push_str(&cut);
            screen.push('\n');
        };
        let place = self.kept.map_or("removed".to_owned(), |path| format!("kept in {}", path.display()));
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

    fn state(&self) -> [String; 2] {
        let Disk { log_bytes, trie_bytes, index_bytes, keys, open_ns } = self.disk;
        let a_key = |bytes: u64| bytes as f64 / keys.max(1) as f64;
        [
            format!(
                "State   {} slots, loaded at {} a second with their roots; opens in {}",
                count(self.load.size.slots),
                count(self.load.slots_per_second),
                nanoseconds(open_ns)
            ),
            format!(
                "Size    log {}, trie {} on disk; index {} in memory ({:.1} bytes a key)",
                short_bytes(log_bytes),
                short_bytes(trie_bytes),
                short_bytes(index_bytes),
                a_key(index_bytes)
            ),
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
                "Blocks  {} transactions a second, {} Mgas, each block durable before the next",
                count(timing.transactions_per_second),
                timing.gas_per_second / 1_000_000
            ),
            row("", "all".to_owned(), &|step| step.name.to_owned()),
            row("median", nanoseconds(timing.total_p50_ns), &|step| nanoseconds(step.p50_ns)),
            row("p99", nanoseconds(timing.total_p99_ns), &|step| nanoseconds(step.p99_ns)),
            row("of the time", "100 %".to_owned(), &|step| format!("{:.0} %", step.share * 100.0)),
            format!("        storage (root, append, sync): {:.0} % of the time", timing.storage_share * 100.0),
        ]
    }

    fn reads(&self) -> Vec<String> {
        let Reads { per_second, per_second_in_batches, percentiles, clock_ns, ref picture, .. } = self.reads;
        let mut lines = vec![
            format!(
                "Reads   {} random slots a second by one thread, {} in batches of 64",
                count(per_second),
                count(per_second_in_batches)
            ),
            format!(
                "        p50 {}, p99 {}, p99.9 {}, max {}; {} of it the clock",
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
mod tests {
    use super::*;

    #[test]
    fn long_checks_are_wrapped() {
        let check = Check { name: "long", held: false, told: format!("{} {} end", "a".repeat(60), "b".repeat(70)) };
        let lines = told(&check);
        assert_eq!(lines[0], format!("  \u{2717} FAILED: {}", "a".repeat(60)));
        assert_eq!(lines[1], format!("    {} end", "b".repeat(70)));
    }
}
