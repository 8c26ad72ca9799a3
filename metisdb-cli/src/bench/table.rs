//! The table: markdown, a row for each figure and a column for each size of the database.

use metisdb_benches::{
    BATCH, BLOCK_DELETES, BLOCK_INSERTS, COMMIT_CHANGES, Comparison, Database, Hardware, Opened, SMALL_BLOCK_UPDATES,
    Spread, UPDATES,
};

use super::Figures;
use crate::output::count;

/// A row: what the figure is, and how it is told of one database.
type Row = (String, fn(&Database) -> String);

/// What the figures hold for, and the figures.
pub(super) fn draw(figures: &Figures) -> String {
    let Figures { hardware: Hardware { processor, cores, load }, seed, rounds, databases } = figures;
    let mut accounts: Vec<_> = databases.iter().map(|database| count(database.accounts)).collect();
    accounts.dedup();
    let mut lines = vec![
        format!(
            "On {cores} cores of {processor}, load average {load} at the start; slots of 32 bytes in {} accounts, random order,",
            accounts.join(" and ")
        ),
        format!(
            "seed {seed}, {rounds} rounds. Times are medians (minimum-maximum). The map is `hashbrown` with `foldhash` over the same keys, read in turn."
        ),
        String::new(),
    ];
    let columns: Vec<_> = databases.iter().map(size).collect();
    lines.push(format!("| | {} |", columns.join(" | ")));
    lines.push(format!("|---{}|", "|---".repeat(columns.len())));
    for (label, cell) in [loads(), roots(), blocks(), opens(databases), reads()].into_iter().flatten() {
        let cells: Vec<_> = databases.iter().map(cell).collect();
        lines.push(format!("| {label} | {} |", cells.join(" | ")));
    }
    lines.join("\n") + "\n"
}

fn loads() -> Vec<Row> {
    vec![
        (format!("load, durable commits of {}, each with its root", count(COMMIT_CHANGES)), |database| {
            format!("{} s", figure(database.load.seconds))
        }),
        ("on disk after a checkpoint, bytes a key".to_owned(), |database| {
            bytes_a_key(database.load.disk_bytes(), database.keys)
        }),
        ("of that log, trie, image".to_owned(), |database| {
            let load = &database.load;
            [load.log_disk_bytes, load.arena_disk_bytes, load.image_bytes]
                .map(|bytes| bytes_a_key(bytes, database.keys))
                .join(", ")
        }),
        ("index in memory, bytes a key".to_owned(), |database| {
            bytes_a_key(database.load.index_bytes, database.load.index_keys)
        }),
        ("memory outside the index, peak while loading".to_owned(), |database| {
            format!("{} MiB", figure(database.load.heap_bytes() as f64 / f64::from(1 << 20)))
        }),
    ]
}

fn roots() -> Vec<Row> {
    vec![
        (format!("root of {} random updates, trie as a checkpoint left it", count(UPDATES)), |database| {
            time(&database.roots.root)
        }),
        ("the same when the blocks before are in memory".to_owned(), |database| time(&database.roots.propose)),
        (
            "a block of them, durable, with its root: alone, beside checkpoints, beside a reader that never ends"
                .to_owned(),
            |database| {
                let roots = &database.roots;
                [roots.block, roots.block_beside_checkpoints, roots.block_beside_endless_reader]
                    .map(|block| time(&block))
                    .join(", ")
            },
        ),
        ("root of as many by one thread, trie as a checkpoint left it".to_owned(), |database| {
            time(&database.roots.root_by_one_thread)
        }),
        ("proof of an account".to_owned(), |database| format!("{} \u{b5}s", spread(&database.proofs.account, 1.0))),
        ("proof of a slot and its account".to_owned(), |database| {
            format!("{} \u{b5}s", spread(&database.proofs.slot, 1.0))
        }),
    ]
}

fn blocks() -> Vec<Row> {
    let all = count(UPDATES + BLOCK_INSERTS + BLOCK_DELETES);
    let large = format!("{} updates, {BLOCK_INSERTS} inserts, {BLOCK_DELETES} deletes", count(UPDATES));
    vec![
        (format!("block of {all} changes ({large}), durable, with its root"), |database| {
            time(&database.blocks.large_durable)
        }),
        ("the same, `Durability::Pipelined`".to_owned(), |database| time(&database.blocks.large_pipelined)),
        (format!("block of {SMALL_BLOCK_UPDATES} updates, durable, with its root"), |database| {
            time(&database.blocks.small_durable)
        }),
        (
            "one append and `fdatasync` of the bytes that it appends to the log, to a file beside it".to_owned(),
            |database| {
                format!("{}, {:.1} kB", time(&database.blocks.append), database.blocks.small_log_bytes.median / 1e3)
            },
        ),
        (format!("block of {SMALL_BLOCK_UPDATES} updates, `Durability::Pipelined`"), |database| {
            time(&database.blocks.small_pipelined)
        }),
    ]
}

fn opens(databases: &[Database]) -> Vec<Row> {
    let replayed = databases.iter().map(|database| database.opens.replayed_bytes).max().unwrap_or(0);
    let killed = format!("open after a kill, {} MB of log to replay: readable, with the trie", replayed / 1_000_000);
    vec![
        ("open after a close".to_owned(), |database| time(&database.opens.clean.readable)),
        (killed, |database| opened(&database.opens.killed)),
        ("the same when the index image is lost".to_owned(), |database| opened(&database.opens.killed_without_image)),
    ]
}

fn opened(Opened { readable, with_trie }: &Opened) -> String {
    format!("{}, {}", time(readable), time(with_trie))
}

fn reads() -> Vec<Row> {
    vec![
        ("read a present key, independent reads".to_owned(), |database| read(&database.reads.present_independent)),
        ("the same, each waiting for the one before".to_owned(), |database| read(&database.reads.present_fenced)),
        (format!("`get_many` of {BATCH}"), |database| beside_the_map(&database.reads.get_many, "ns a key")),
        ("read an absent key, independent".to_owned(), |database| read(&database.reads.absent_independent)),
        ("present, independent, every read verified".to_owned(), |database| {
            read(&database.verified_reads.present_independent)
        }),
    ]
}

/// How many keys a database has.
fn size(database: &Database) -> String {
    const MILLION: u64 = 1_000_000;
    match database.keys {
        keys if keys.is_multiple_of(MILLION) => format!("{} million keys", count(keys / MILLION)),
        keys => format!("{} keys", count(keys)),
    }
}

fn bytes_a_key(bytes: u64, keys: u64) -> String {
    figure(bytes as f64 / keys as f64)
}

fn read(comparison: &Comparison) -> String {
    beside_the_map(comparison, "ns")
}

fn beside_the_map(comparison: &Comparison, unit: &str) -> String {
    let beside = comparison.ratio().map(|ratio| format!(", {ratio:.2} times the map"));
    format!("{} {unit}{}", spread(&comparison.metisdb, 1.0), beside.unwrap_or_default())
}

/// Milliseconds, or seconds where they are many.
fn time(milliseconds: &Spread) -> String {
    if milliseconds.median < 1e3 {
        format!("{} ms", spread(milliseconds, 1.0))
    } else {
        format!("{} s", spread(milliseconds, 1e-3))
    }
}

/// The middle, and what it lies between.
fn spread(Spread { min, median, max }: &Spread, scale: f64) -> String {
    let [min, median, max] = [min, median, max].map(|value| figure(value * scale));
    format!("{median} ({min}-{max})")
}

/// Three digits, or all before the point.
fn figure(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.0, 9.876, 98.76, 987.6, 12_345.6].map(figure), ["0.00", "9.88", "98.8", "988", "12346"]);
    }

    #[test]
    fn times_are_readable() {
        let of = |values: [f64; 3]| time(&Spread::of(values.to_vec()));
        assert_eq!(of([4.0, 1.5, 120.0]), "4.00 (1.50-120) ms");
        assert_eq!(of([999.0, 1_400.0, 2_000.0]), "1.40 (1.00-2.00) s");
    }
}
