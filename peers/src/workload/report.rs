//! The result, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::figure::Figure;
use crate::{
    hardware::Hardware,
    store::Commits,
    stores::{BASE, Peer},
    summary::Spread,
};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    hardware: Hardware,
    keys: u64,
    accounts: u64,
    /// Blocks whose root more than one store computed: to the same result, else there is no report.
    pub(crate) equal_roots: usize,
    columns: Vec<Column>,
    samples: BTreeMap<Figure, BTreeMap<&'static str, Vec<f64>>>,
}

/// A store.
#[derive(Debug, Serialize)]
struct Column {
    name: &'static str,
    title: &'static str,
    /// Whether a commit ever survives a power cut.
    durable: bool,
}

impl Report {
    pub(crate) fn new(keys: u64, accounts: u64, hardware: Hardware, peers: &[Peer]) -> Self {
        let column =
            |peer: &Peer| Column { name: peer.name, title: peer.title, durable: peer.commits != Commits::Unsynced };
        Self {
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            hardware,
            keys,
            accounts,
            equal_roots: 0,
            columns: peers.iter().map(column).collect(),
            samples: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, figure: Figure, peer: &'static str, value: f64) {
        self.samples.entry(figure).or_default().entry(peer).or_default().push(value);
    }

    /// The median with the extremes, and how many times the base's it is.
    fn cell(&self, figure: Figure, name: &str) -> String {
        let Some(samples) = self.samples.get(&figure) else { return "-".into() };
        let Some(own) = samples.get(name) else { return "-".into() };
        let Spread { min, median, max } = Spread::of(own.clone());
        let mut cell = number(median);
        if own.len() > 1 {
            cell += &format!(" ({}-{})", number(min), number(max));
        }
        if let Some(base) = samples.get(BASE).filter(|_| name != BASE) {
            let base = Spread::of(base.clone()).median;
            if base > 0.0 {
                cell += &format!(" ×{}", number(median / base));
            }
        }
        cell
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        value if value < 0.0995 => 3,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hardware { processor, cores, load } = &self.hardware;
        writeln!(f, "options: {}", if self.command.is_empty() { "none" } else { &self.command })?;
        writeln!(f, "hardware: {processor}, {cores} cores; load average at the start {load}")?;
        writeln!(f, "{} keys; Ethereum roots of {} blocks compared, all equal", self.keys, self.equal_roots)?;
        writeln!(f, "median (minimum-maximum) ×median over that of MetisDB\n")?;
        let title = |column: &Column| if column.durable { column.title.into() } else { format!("{} *", column.title) };
        let mut rows = vec![vec![String::new()], vec!["---".into()]];
        rows[0].extend(self.columns.iter().map(title));
        rows[1].extend(self.columns.iter().map(|_| "---".into()));
        for figure in self.samples.keys() {
            let mut row = vec![figure.label().to_string()];
            row.extend(self.columns.iter().map(|column| self.cell(*figure, column.name)));
            rows.push(row);
        }
        let width = |place: usize| rows.iter().map(|row| row[place].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        for row in &rows {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
        }
        write!(f, "\n* never syncs, whatever a block is asked to be")
    }
}
