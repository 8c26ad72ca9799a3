//! Reads, proofs, roots and commits by themselves, on a database of a million slots that is made for the run and goes away with it.
//!
//! ```text
//! cargo bench -p metisdb-benches --bench store
//! ```

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use metisdb::{Changes, Db, Durability, Key, Options, Snapshot};
use metisdb_benches::{BATCH, Error, KeySpace, SMALL_BLOCK_UPDATES, UPDATES, key_space, load, updates};

const KEYS: u64 = 1_000_000;
/// Keys that are read in turn.
const DRAWN: usize = 1 << 20;

fn main() -> Result<(), Error> {
    let mut criterion = Criterion::default().configure_from_args();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("state");
    let space = key_space(KEYS, 1);
    load(&path, &space, &mut ())?;
    let db = Options::new().open(&path)?;
    let snapshot = db.snapshot()?;
    reads(&mut criterion, &snapshot, &space);
    proofs(&mut criterion, &snapshot, &space);
    drop(snapshot);
    roots(&mut criterion, &db, &space);
    commits(&mut criterion, &db, &space);
    db.close()?;
    criterion.final_summary();
    Ok(())
}

/// Numbers of keys in random order, again and again.
fn draws(space: &KeySpace) -> impl Iterator<Item = u64> {
    (0..).map(|turn| space.draw(0, turn % DRAWN as u64))
}

fn reads(criterion: &mut Criterion, snapshot: &Snapshot, space: &KeySpace) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(1));
    for (name, first) in [("present", 0), ("absent", space.keys)] {
        let keys: Vec<_> = draws(space).take(DRAWN).map(|number| space.key(first + number)).collect();
        let mut keys = keys.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (address, slot) = keys.next().expect("they come again and again");
                snapshot.storage(address, *slot).expect("it can be read")
            });
        });
    }
    let keys: Vec<_> = draws(space).take(DRAWN).map(|number| space.key(number)).collect();
    let keys: Vec<Key> = keys.into_iter().map(|(address, slot)| Key::Storage(address, slot)).collect();
    let mut batches = keys.chunks_exact(BATCH).cycle();
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("get_many", |bencher| {
        bencher.iter(|| {
            let batch = batches.next().expect("they come again and again");
            snapshot.get_many(batch).expect("they can be read")
        });
    });
}

fn proofs(criterion: &mut Criterion, snapshot: &Snapshot, space: &KeySpace) {
    let mut group = criterion.benchmark_group("proof");
    let mut keys = draws(space).map(|number| space.key(number));
    let mut next = || keys.next().expect("it has no end");
    group.bench_function("account", |bencher| {
        let prove = |(address, _)| snapshot.proof(&address, &[]).expect("it can be proven");
        bencher.iter_batched(&mut next, prove, BatchSize::SmallInput);
    });
    group.bench_function("slot", |bencher| {
        let prove = |(address, slot)| snapshot.proof(&address, &[slot]).expect("it can be proven");
        bencher.iter_batched(&mut next, prove, BatchSize::SmallInput);
    });
}

/// Blocks that no other one has a value in common with.
fn blocks(space: &KeySpace, first_stream: u64, count: u64) -> impl FnMut() -> Changes {
    let mut streams = first_stream..;
    move || updates(space, streams.next().expect("it has no end"), count)
}

/// From changes to the root, on the trie that the load left.
fn roots(criterion: &mut Criterion, db: &Db, space: &KeySpace) {
    let mut group = criterion.benchmark_group("root");
    group.sample_size(20);
    for count in [UPDATES, SMALL_BLOCK_UPDATES] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} updates"), |bencher| {
            let propose = |changes| {
                let snapshot = db.snapshot().expect("the process did not fork");
                let proposal = db.propose(&snapshot, &changes).expect("its root can be computed");
                black_box(proposal.root());
                (changes, proposal)
            };
            bencher.iter_batched(blocks(space, 1 << 32, count), propose, BatchSize::PerIteration);
        });
    }
}

/// From changes to a new version with its root, which nobody waits for to be durable.
fn commits(criterion: &mut Criterion, db: &Db, space: &KeySpace) {
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(20);
    let mut first_stream = 1 << 33;
    for count in [UPDATES, SMALL_BLOCK_UPDATES] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} updates, not synced"), |bencher| {
            let commit = |changes| (db.commit(&changes, Durability::Pipelined).expect("it can be committed"), changes);
            // Criterion may call this more than once, and what is not changed is not written.
            first_stream += 1 << 16;
            bencher.iter_batched(blocks(space, first_stream, count), commit, BatchSize::PerIteration);
        });
    }
}
