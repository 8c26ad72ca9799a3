//! Keys that someone chooses to hurt: hashes that collide, prefixes as long as a path, one account with everything in it, accounts that go and come back.
//!
//! What a user of a chain cannot choose is the seed of the index's hash (`key`), and 64 nibbles of a Keccak hash. The tests know the one or weaken
//! the other, and so show what the defence is worth.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{
    Random, assert_proves, disk, mix,
    model::{State, Step, changes},
    naive_trie, small,
    tries::{Shape, alloy_root},
    wide,
};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Options, Proposal, Snapshot,
    fuzzing::oracle_root,
    index::Index,
    key::{AccountId, KeyHasher},
    proof::EMPTY_ROOT,
};

const CRAFTED: u64 = 50_000;
const CONTRACT: Address = Address::repeat_byte(0xc0);

/// The four secret words that a message is added to, of the hash of addresses (0) or of slots (1).
fn secret_words(seed: &[u8; 32], function: usize) -> [u64; 4] {
    let mut secret = [0; 160];
    blake3::Hasher::new_derive_key("MetisDB 2026-11 index hash").update(seed).finalize_xof().fill(&mut secret);
    std::array::from_fn(|word| u64::from_le_bytes(*secret[80 * function + 8 * word..].first_chunk().unwrap()))
}

/// Slots of one hash, by who knows the seed: in each product one factor is zero, whatever the other is.
fn crafted_slots(seed: &[u8; 32], count: u64) -> Vec<U256> {
    let [_, second, _, fourth] = secret_words(seed, 1);
    (0..count)
        .map(|index| U256::from_limbs([index, second.wrapping_neg(), mix(index), fourth.wrapping_neg()]))
        .collect()
}

/// Addresses of one hash, in the same way: the other product is the same for all.
fn crafted_addresses(seed: &[u8; 32], count: u64) -> Vec<Address> {
    let [_, second, ..] = secret_words(seed, 0);
    let address = |index: u64| [&index.to_le_bytes()[..], &second.wrapping_neg().to_le_bytes(), &[0; 4]].concat();
    (0..count).map(|index| Address::from_slice(&address(index))).collect()
}

fn random_slots(seed: u64, count: u64) -> Vec<U256> {
    (0..count).map(|index| wide((seed << 32) + 8 * index)).collect()
}

fn random_address(number: u64) -> Address {
    Address::from_slice(&wide(8 * number).to_be_bytes::<32>()[..20])
}

/// Hashes put into an index: the lines that it had to add to crowded ones.
fn overflow_lines(hashes: impl Iterator<Item = u64>) -> u64 {
    let index = Index::new(2).unwrap();
    for (number, hash) in (1..).zip(hashes) {
        index.reserve(1).unwrap();
        index.insert(hash, 8 * number);
    }
    index.stats().overflow_lines
}

/// The contract with these slots, beside those that it has.
fn account_with(slots: &[(U256, U256)]) -> Changes {
    let mut changes = Changes::new();
    set_contract(&mut changes, slots);
    changes
}

fn set_contract(changes: &mut Changes, slots: &[(U256, U256)]) {
    changes.set_account(CONTRACT, Account { nonce: 1, ..Account::default() });
    for (slot, value) in slots {
        changes.set_storage(CONTRACT, *slot, *value);
    }
}

#[test]
fn keys_that_collide_under_one_seed_do_not_under_another() {
    let known = [1; 32];
    let (slots, addresses) = (crafted_slots(&known, CRAFTED), crafted_addresses(&known, CRAFTED));
    let hashes = |seed: &[u8; 32]| {
        let hasher = KeyHasher::new(seed);
        let of_slots: Vec<u64> = slots.iter().map(|slot| hasher.slot(AccountId(9), slot)).collect();
        let of_addresses: Vec<u64> = addresses.iter().map(|address| hasher.account_id(address, 0).0).collect();
        [of_slots, of_addresses]
    };
    for collided in hashes(&known) {
        assert!(collided.iter().all(|hash| *hash == collided[0]), "the attack works on who knows the seed");
        // Each of them is on the one chain.
        assert!(overflow_lines(collided.into_iter().take(2_000)) > 200);
    }
    let random = overflow_lines((0..CRAFTED).map(mix));
    for seed in 2..12 {
        for apart in hashes(&[seed; 32]) {
            assert_eq!(apart.iter().collect::<HashSet<_>>().len() as u64, CRAFTED, "seed {seed}");
            let lines = overflow_lines(apart.into_iter());
            assert!(lines < random * 3 / 2, "seed {seed}: {lines} overflow lines, {random} of random keys");
        }
    }
}

/// Writes keys, a fifth a commit, and reads each.
fn write_and_read<K: Copy>(
    keys: &[K],
    set: impl Fn(&mut Changes, K),
    read: impl Fn(&Snapshot, K) -> bool,
    seed: u64,
) -> Duration {
    let db = Options::new().expected_keys(0).create_on(disk(seed)).unwrap();
    db.commit(&account_with(&[]), Durability::Durable).unwrap();
    let begun = Instant::now();
    for some in keys.chunks(keys.len() / 5) {
        let mut changes = Changes::new();
        some.iter().for_each(|key| set(&mut changes, *key));
        db.commit(&changes, Durability::Pipelined).unwrap();
    }
    let snapshot = db.snapshot().unwrap();
    assert!(keys.iter().all(|key| read(&snapshot, *key)));
    begun.elapsed()
}

/// The most that crafted keys may cost of what random ones cost: the quickest of rounds that alternate, for a busy machine makes rounds slower, never
/// quicker.
fn assert_cost(kind: &str, round: impl Fn(bool, u64) -> Duration) {
    const ROUNDS: usize = 7;
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..ROUNDS as u64 {
        for (times, is_crafted) in times.iter_mut().zip([true, false]) {
            times.push(round(is_crafted, number + 1));
        }
    }
    let [crafted, random] = times.map(|times| times.into_iter().min().expect("there were rounds"));
    let ratio = crafted.as_secs_f64() / random.as_secs_f64();
    println!("{CRAFTED} {kind}: crafted {crafted:?}, random {random:?}, {ratio:.2} times");
    assert!(ratio < 2.0, "{kind}: {ratio:.2} times");
}

/// The seed is drawn when a database is made, so the attacker crafted the keys for another one.
#[test]
fn crafted_keys_cost_what_random_ones_do() {
    assert_cost("slots", |is_crafted, seed| {
        let slots = if is_crafted { crafted_slots(&[7; 32], CRAFTED) } else { random_slots(seed, CRAFTED) };
        let set = |changes: &mut Changes, slot| {
            changes.set_storage(CONTRACT, slot, U256::from(1));
        };
        write_and_read(&slots, set, |snapshot, slot| !snapshot.storage(&CONTRACT, slot).unwrap().is_zero(), seed)
    });
    assert_cost("addresses", |is_crafted, seed| {
        let random = || (0..CRAFTED).map(|index| random_address((seed << 32) + index)).collect();
        let addresses = if is_crafted { crafted_addresses(&[7; 32], CRAFTED) } else { random() };
        let set = |changes: &mut Changes, address| {
            changes.set_account(address, Account::default());
        };
        write_and_read(&addresses, set, |snapshot, address| snapshot.account(&address).unwrap().is_some(), seed)
    });
}

/// An image of the index has room for 255 keys in a line. With more, for which the seed must be known (it is in every copy of the files),
/// every checkpoint failed from then on: the log was never cut, and commits stopped once the trie had used its memory. Such an
/// index has no image now, and the next open reads the log instead.
#[test]
fn a_line_with_more_keys_than_an_image_holds_costs_the_image_alone() {
    let disk = disk(3);
    let db = small().create_on(disk.clone()).unwrap();
    let seed = db.store.log.identity.seed;
    let slots: Vec<(U256, U256)> = crafted_slots(&seed, 400).into_iter().map(|slot| (slot, slot)).collect();
    db.commit(&account_with(&slots), Durability::Durable).unwrap();
    for _ in 0..2 {
        db.checkpoint().unwrap();
    }
    let root = db.snapshot().unwrap().root().unwrap();
    db.close().unwrap();
    let db = small().open_on(disk).unwrap();
    let snapshot = db.snapshot().unwrap();
    assert_eq!(snapshot.root().unwrap(), root);
    assert!(slots.iter().all(|(slot, value)| snapshot.storage(&CONTRACT, *slot).unwrap() == *value));
    db.check(CheckLevel::Full).unwrap();
    // Once they are gone, there is an image again.
    let mut changes = Changes::new();
    changes.set_storage(CONTRACT, slots[0].0, U256::from(5));
    db.commit(&changes, Durability::Durable).unwrap();
    db.checkpoint().unwrap();
    db.close().unwrap();
}

/// The deepest path that there can be: at each of its 64 nibbles another key parts.
fn staircase(bottom: U256) -> Vec<U256> {
    (0..64).map(|step: usize| bottom ^ (U256::from(1) << (4 * step))).chain([bottom]).collect()
}

fn step_through(db: &Db, state: &mut State, steps: &[Step]) {
    steps.iter().for_each(|step| state.apply(step));
    db.commit(&changes(steps), Durability::Pipelined).unwrap();
    let root = db.snapshot().unwrap().root().unwrap();
    assert_eq!(root, alloy_root(state, true));
}

/// Paths are the plain keys, as if hashes could be chosen: an account whose slots share up to 63 nibbles, and addresses that do.
#[test]
fn prefixes_as_long_as_a_path() {
    let mut random = Random(11);
    let mut options = small();
    options.plain_paths = true;
    let disk = disk(11);
    let mut db = options.clone().create_on(disk.clone()).unwrap();
    let mut state = State::default();
    let slots: Vec<U256> = (0..12).flat_map(|_| staircase(wide(random.next() >> 1))).collect();
    let addresses: Vec<Address> = (0..40)
        .map(|step| {
            let bit = U256::from(1) << (4 * step as usize);
            Address::from_slice(&(U256::from_be_slice(CONTRACT.as_slice()) ^ bit).to_be_bytes::<32>()[12..])
        })
        .chain([CONTRACT])
        .collect();
    let load: Vec<Step> = (addresses.iter().map(|address| Step::Set(*address, Account::default())))
        .chain(slots.iter().map(|slot| Step::Slot(CONTRACT, *slot, U256::from(1))))
        .collect();
    let begun = Instant::now();
    step_through(&db, &mut state, &load);
    println!(
        "{} slots and {} addresses in staircases: loaded after {:?}",
        slots.len(),
        addresses.len(),
        begun.elapsed()
    );
    let begun = Instant::now();
    for round in 2..30 {
        // The bottom of a staircase appears and goes, with the key beside it: extensions of most of a path come and fall together.
        let slot = slots[65 * random.below(12) as usize + 64];
        let value = U256::from(round * random.below(2));
        step_through(
            &db,
            &mut state,
            &[
                Step::Slot(CONTRACT, slot, value),
                Step::Slot(CONTRACT, slot ^ U256::from(1), value),
                Step::Delete(addresses[random.below(40) as usize]),
            ],
        );
    }
    println!("28 commits at the bottom, the oracle's roots included: {:?}", begun.elapsed());
    for round in 0..3_u64 {
        db.checkpoint().unwrap();
        db.check(CheckLevel::Full).unwrap();
        let held = db.snapshot().unwrap();
        let root = held.root().unwrap();
        let mut steps =
            vec![Step::Delete(CONTRACT), Step::Set(CONTRACT, Account { nonce: round, ..Account::default() })];
        steps.extend(slots.iter().skip(round as usize).step_by(3).map(|slot| Step::Slot(CONTRACT, *slot, U256::MAX)));
        step_through(&db, &mut state, &steps);
        assert_eq!(held.root().unwrap(), root);
        let depths: usize = db.snapshot().unwrap().slots(&CONTRACT, B256::ZERO).unwrap().map(Result::unwrap).count();
        assert_eq!(depths, slots.iter().skip(round as usize).step_by(3).collect::<HashSet<_>>().len());
        drop(held);
        drop(db);
        db = options.clone().rebuild(round == 1).open_on(disk.clone()).unwrap();
        assert_eq!(db.snapshot().unwrap().root().unwrap(), alloy_root(&state, true));
    }
    db.close().unwrap();
}

/// Anonymous memory of this process, in MiB.
fn memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Tells how long a part took, and what memory there is at its end.
fn timed<T>(what: &str, part: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = part();
    println!("{what}: {:?}, {} MiB", begun.elapsed(), memory_mib());
    result
}

/// The storage root of one account, by the oracle.
fn storage_root(slots: impl Iterator<Item = (U256, U256)>) -> B256 {
    let leaf = |(slot, value): (U256, U256)| (keccak256(slot.to_be_bytes::<32>()), naive_trie::slot_value(value));
    oracle_root(&slots.map(leaf).collect::<BTreeMap<_, _>>())
}

const MANY: u64 = 1_000_000;
/// Slots that one commit sets, and the trie's memory.
const BATCH: u64 = 25_000;
const MEMORY: u64 = 64 << 20;

/// The slots of a round, of which no two share any, with their values.
fn many(round: u64) -> impl Iterator<Item = (U256, U256)> {
    let slot = move |number| if round == 1 { wide(8 * number) } else { U256::from(number) };
    (0..MANY).map(slot).map(move |slot| (slot, (slot >> 1) + U256::from(round)))
}

/// Loads the slots, in the first commit as a contract that is destroyed and created again.
fn load(db: &Db, round: u64) {
    let slots: Vec<_> = many(round).collect();
    for (index, some) in slots.chunks(BATCH as usize).enumerate() {
        let mut changes = Changes::new();
        if index == 0 {
            changes.delete_account(CONTRACT);
        }
        set_contract(&mut changes, some);
        db.commit(&changes, Durability::Pipelined).unwrap();
    }
}

#[test]
fn an_account_with_a_million_slots() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().max_unwritten_trie_bytes(MEMORY).retain_versions(2);
    let mut db = options.clone().create(folder.path()).unwrap();
    println!("{} MiB at the beginning", memory_mib());
    for round in [1, 2] {
        timed("load", || load(&db, round));
        let stats = db.stats();
        // A commit may begin right below the limit.
        assert!(stats.unwritten_trie_bytes <= MEMORY + BATCH * 1_500, "{stats:?}");
        assert!(stats.index_bytes <= 16 * stats.keys + (4 << 20), "{stats:?}");
        let snapshot = db.snapshot().unwrap();
        let root = timed("root", || snapshot.storage_root(&CONTRACT).unwrap());
        assert_eq!(root, storage_root(many(round)));
        assert_eq!(
            snapshot.storage(&CONTRACT, wide(8 * 7)).unwrap().is_zero(),
            round == 2,
            "a slot of the first round"
        );
        let some: Vec<(U256, U256)> = many(round).step_by(997).chain([(U256::MAX, U256::ZERO)]).collect();
        let slots: Vec<U256> = some.iter().map(|(slot, _)| *slot).collect();
        let proof = timed("proof of 1,004 slots", || snapshot.proof(&CONTRACT, &slots).unwrap());
        proof.verify(snapshot.root().unwrap()).unwrap();
        assert!(proof.slots.iter().map(|slot| (slot.slot, slot.value)).eq(some));
        drop(snapshot);
        timed("checkpoint", || db.checkpoint().unwrap());
        drop(db);
        db = timed("open", || options.clone().open(folder.path()).unwrap());
        let snapshot = db.snapshot().unwrap();
        assert_eq!(snapshot.storage_root(&CONTRACT).unwrap(), root);
        assert_proves(&snapshot, snapshot.root().unwrap(), "a million slots");
    }
    let mut wipe = Changes::new();
    wipe.wipe_storage(CONTRACT);
    let wiped = timed("wipe", || db.commit(&wipe, Durability::Durable).unwrap().version());
    assert!(!db.snapshot().unwrap().has_storage(&CONTRACT).unwrap());
    timed("close", || db.close().unwrap());
    let db = timed("rebuild", || options.rebuild(true).open(folder.path()).unwrap());
    let snapshot = db.snapshot().unwrap();
    assert_eq!((snapshot.version(), snapshot.storage_root(&CONTRACT).unwrap()), (wiped, EMPTY_ROOT));
    println!("{:#?}", db.stats());
}

/// In a state of few accounts, an account's leaf is the topmost node of the trie, or stands right below it: a thorough checkpoint took its storage for a
/// piece of each part that it sweeps, up to 256 of them, and wrote all of it as many times. That of a million slots wrote gigabytes, for minutes.
#[test]
fn a_thorough_checkpoint_writes_a_lone_storage_once() {
    for others in [0, 1, 4] {
        let disk = disk(9);
        let options = Options::new().expected_keys(0).segment_bytes(1 << 20).max_unwritten_trie_bytes(1 << 20);
        let db = options.create_on(disk.clone()).unwrap();
        for some in random_slots(1, 24_000).chunks(2_000) {
            let mut changes = account_with(&some.iter().map(|slot| (*slot, *slot)).collect::<Vec<_>>());
            for number in 0..others {
                changes.set_account(random_address(number), Account::default());
            }
            db.commit(&changes, Durability::Pipelined).unwrap();
        }
        let root = db.snapshot().unwrap().root().unwrap();
        let before = disk.operations();
        db.checkpoint().unwrap();
        let operations = disk.operations() - before;
        println!("{others} other accounts: {operations} operations of the disk");
        assert!(operations < 300, "{others} other accounts: {operations} operations of the disk");
        db.check(CheckLevel::Full).unwrap();
        assert_eq!(db.snapshot().unwrap().root().unwrap(), root);
        db.close().unwrap();
    }
}

/// Contracts that destroy themselves and are created again at their address in the same block, with some of the slots that they had, block
/// after block in chains of proposals, two children of each.
#[test]
fn accounts_wiped_and_created_again_in_one_block() {
    for seed in super::forks::seeds(6) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let shape = Shape::hashed(5);
        let disk = disk(seed);
        let mut db = small().retain_versions(3).create_on(disk.clone()).unwrap();
        let mut state = State::default();
        for round in 0..6 {
            let snapshot = db.snapshot().unwrap();
            let mut chain: Vec<(Proposal, State)> = Vec::new();
            for _ in 0..8 {
                let mut next = chain.last().map_or_else(|| state.clone(), |(_, state)| state.clone());
                let [left, right] = [reborn(&shape, &mut random), reborn(&shape, &mut random)];
                let propose = |steps: &[Step]| match chain.last() {
                    Some((parent, _)) => parent.propose(&changes(steps)).unwrap(),
                    None => db.propose(&snapshot, &changes(steps)).unwrap(),
                };
                let (sibling, proposal) = (propose(&left), propose(&right));
                let mut other = next.clone();
                left.iter().for_each(|step| other.apply(step));
                shape.compare(&sibling, &other);
                right.iter().for_each(|step| next.apply(step));
                shape.compare(&proposal, &next);
                chain.push((proposal, next));
            }
            let kept = random.below(9) as usize;
            for (proposal, next) in chain.drain(..).take(kept) {
                proposal.commit(Durability::Pipelined).unwrap();
                assert_eq!(db.snapshot().unwrap().root().unwrap(), alloy_root(&next, false));
                state = next;
            }
            shape.compare(&db.snapshot().unwrap(), &state);
            shape.compare_proof(&db.snapshot().unwrap(), &state, B256::ZERO, &mut random);
            drop(snapshot);
            if round % 2 == 0 {
                db.checkpoint().unwrap();
            }
            drop(db);
            db = small().retain_versions(3).rebuild(round == 3).open_on(disk.clone()).unwrap();
            shape.compare(&db.snapshot().unwrap(), &state);
        }
        db.check(CheckLevel::Full).unwrap();
        db.close().unwrap();
    }
}

/// Steps of a block in which every account goes, and most come back.
fn reborn(shape: &Shape, random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    for address in &shape.addresses {
        let account = Account { nonce: random.below(3), ..Account::default() };
        if random.one_in(2) {
            steps.extend([Step::Set(*address, account), Step::Slot(*address, shape.slots[0], U256::from(9))]);
        }
        steps.push(Step::Delete(*address));
        if !random.one_in(5) {
            steps.push(Step::Set(*address, account));
            for slot in &shape.slots {
                if random.one_in(3) {
                    steps.push(Step::Slot(*address, *slot, U256::from(random.below(3))));
                }
            }
        }
        if random.one_in(6) {
            steps.extend([Step::Set(*address, account), Step::Wipe(*address)]);
        }
    }
    steps
}

/// All accounts have one id but for the salt, one key in the index, and one tag in the trie: each is told from the others all the same.
///
/// The trie made from the log, some keys at a time, once took a leaf for another one of the same tag that was to come later, as long as their common
/// prefix was that long: a sound log did not open.
#[test]
fn many_accounts_under_one_hash() {
    const ACCOUNTS: u64 = 250;
    let mut options = small();
    options.account_id_mask = 0;
    let disk = disk(5);
    let mut db = options.clone().create_on(disk.clone()).unwrap();
    let mut state = State::default();
    let slots = |address: Address| (0..4).map(move |slot| Step::Slot(address, U256::from(slot), U256::from(slot + 1)));
    for number in 0..ACCOUNTS {
        let address = random_address(number);
        let steps: Vec<Step> = [Step::Set(address, Account { nonce: number, ..Account::default() })]
            .into_iter()
            .chain(slots(address))
            .chain((number > 10 && number % 3 == 0).then(|| Step::Delete(random_address(number - 7))))
            .collect();
        steps.iter().for_each(|step| state.apply(step));
        db.commit(&changes(&steps), Durability::Pipelined).unwrap();
    }
    let begun = Instant::now();
    for rebuild in [false, true] {
        assert_eq!(db.snapshot().unwrap().root().unwrap(), alloy_root(&state, false));
        for number in 0..ACCOUNTS {
            let address = random_address(number);
            let account = state.accounts.get(&address).copied();
            let snapshot = db.snapshot().unwrap();
            assert_eq!(snapshot.account(&address).unwrap(), account);
            let value = account.map_or(U256::ZERO, |_| U256::from(3));
            assert_eq!(snapshot.storage(&address, U256::from(2)).unwrap(), value);
        }
        db.checkpoint().unwrap();
        db.check(CheckLevel::Full).unwrap();
        db.close().unwrap();
        db = options.clone().rebuild(rebuild).open_on(disk.clone()).unwrap();
    }
    println!("{ACCOUNTS} accounts of one hash: read, written, checked and opened twice in {:?}", begun.elapsed());
    assert_eq!(db.snapshot().unwrap().account(&random_address(ACCOUNTS)).unwrap(), None);
}
