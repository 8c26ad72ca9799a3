//! Checks what must hold of a table between two calls of the writer.

use std::collections::HashSet;

use super::{SLOTS, Table, Writer, overflow_lines_for};

impl Table {
    /// Checks that every entry is in its line, that every chain is as short as can be, and that
    /// every overflow line is in one place.
    pub(in crate::index) fn audit(&self, writer: &Writer, entries: u64) {
        let marker = self.marker();
        let mut found = 0;
        let mut overflow_lines = HashSet::new();
        for number in 0..marker.lines() {
            let address_mask = (1_u64 << marker.address_bits(number)) - 1;
            let initial_mask = (1_u64 << self.initial_log2) - 1;
            let mut of_line = 0;
            let mut in_chain = 0;
            let mut line = self.line(number);
            loop {
                let records = (0..SLOTS).map(|slot| line.get(slot)).filter(|e| e.is_record());
                for entry in records {
                    let hash = u64::from(entry.tag()) << self.initial_log2 | number & initial_mask;
                    assert_eq!(hash & address_mask, number, "entry in a wrong line");
                    of_line += 1;
                }
                let Some(next) = line.get(SLOTS - 1).linked() else {
                    break;
                };
                assert!(overflow_lines.insert(next), "overflow line in two chains");
                in_chain += 1;
                line = self.overflow_line(next);
            }
            assert_eq!(in_chain, overflow_lines_for(of_line), "chain of {of_line}");
            found += of_line as u64;
        }
        assert_eq!(found, entries);
        assert_eq!(overflow_lines.len() as u64, writer.overflow_lines());
        for &idle in writer.free.iter().chain(&writer.cut_off) {
            assert!(overflow_lines.insert(idle), "overflow line in two places");
        }
        assert_eq!(overflow_lines.len() as u64, writer.unused);
    }
}
