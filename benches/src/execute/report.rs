//! The result, for people and for programs.

use std::fmt;

use metisdb_benches::{Hardware, Spread};
use serde::Serialize;

use super::Way;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: String,
    pub(super) hardware: Hardware,
    /// Keys of the database.
    pub(super) keys: u64,
    pub(super) comparisons: Vec<Comparison>,
}

/// Blocks executed in all ways: milliseconds for all of them.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    what: String,
    transactions: u64,
    gas: u64,
    rows: Vec<Row>,
}

/// One way.
#[derive(Debug, Serialize)]
struct Row {
    way: &'static str,
    milliseconds: Spread,
    /// To the peer's time of the same round: 1.05 takes 5 % longer.
    ratio: Spread,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Peer => "revm's CacheDB under its State",
            Self::Empty => "MetisDB under revm's State, no code analysed",
            Self::Kept => "the same, code stays analysed",
            Self::Overlay => "MetisDB under its adapter's Overlay",
        }
    }
}

impl Comparison {
    /// Of the milliseconds of each round.
    pub(super) fn new(what: String, transactions: u64, gas: u64, times: [Vec<f64>; Way::ALL.len()]) -> Self {
        let [peer, ..] = &times;
        let row = |(way, own): (&Way, &Vec<f64>)| {
            let ratios = own.iter().zip(peer).map(|(own, peer)| own / peer).collect();
            Row { way: way.name(), milliseconds: Spread::of(own.clone()), ratio: Spread::of(ratios) }
        };
        let rows = Way::ALL.iter().zip(&times).map(row).collect();
        Self { what, transactions, gas, rows }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "command   {}", self.command)?;
        let Hardware { processor, cores, load } = &self.hardware;
        writeln!(f, "hardware  {processor}, {cores} cores; load average at the start {load}")?;
        writeln!(
            f,
            "state     {} keys; the executor's and the processor's caches are empty before every block",
            self.keys
        )?;
        for comparison in &self.comparisons {
            write!(f, "\n{comparison}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} transactions, {:.1} million gas", self.what, self.transactions, self.gas as f64 / 1e6)?;
        writeln!(
            f,
            "  {:<46}{:>7} {:>7} {:>7}  {:>7} {:>7} {:>7}",
            "milliseconds, to CacheDB's of the same round", "min", "median", "max", "min", "median", "max"
        )?;
        for Row { way, milliseconds, ratio } in &self.rows {
            writeln!(f, "  {way:<45} {milliseconds:.2}  {ratio:.3}")?;
        }
        Ok(())
    }
}
