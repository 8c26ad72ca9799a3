//! A lost or damaged arena, alone and together with a lost image or superblock: everything is as before, or refused with the
//! reason; never a wrong root.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};

use super::{Random, disk, mix, small, wide};
use crate::{
    Account, Changes, CheckLevel, Db, Durability, Error, Options,
    storage::{SimulatedDisk, Storage},
    superblock::{self, TopReference},
    trie::{
        arena::{
            self, ExtentHeader, Place,
            bytes::{self, Node},
            pages::PAGE_BYTES,
        },
        commitment::Reference,
        nibbles::Nibbles,
        node::{Child, Link, NodeRef},
    },
};

const RETAIN: u64 = 3;
const VERSIONS: u64 = 5;
const EXTENT_BYTES: u64 = 1 << 16;

/// A closed database, or one that was not, and the root of each version; three versions follow.
struct Sample {
    disk: Arc<SimulatedDisk>,
    accounts: u64,
    slots: u64,
    roots: Vec<B256>,
}

fn options() -> Options {
    small().retain_versions(RETAIN)
}

fn address(number: u64) -> Address {
    Address::from_word(B256::from(wide(number << 8)))
}

fn copy(disk: &SimulatedDisk) -> Arc<SimulatedDisk> {
    Arc::new(disk.after_power_loss(1))
}

fn names(disk: &SimulatedDisk, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

impl Sample {
    /// `behind`: versions behind the last checkpoint.
    fn new(accounts: u64, slots: u64, behind: u64) -> Self {
        let disk = disk(accounts);
        let mut sample = Self { disk: disk.clone(), accounts, slots, roots: vec![crate::proof::EMPTY_ROOT] };
        let db = options().create_on(disk.clone()).unwrap();
        for version in 1..=VERSIONS - behind {
            sample.roots.push(sample.commit(&db, version).unwrap());
            if version == 2 {
                db.checkpoint().unwrap();
            }
        }
        db.checkpoint().unwrap();
        for version in VERSIONS - behind + 1..=VERSIONS {
            sample.roots.push(sample.commit(&db, version).unwrap());
        }
        if behind == 0 {
            db.close().unwrap();
        } else {
            drop(db);
        }
        // What the next versions must lead to.
        let db = options().open_on(copy(&disk)).unwrap();
        for version in VERSIONS + 1..=VERSIONS + 3 {
            sample.roots.push(sample.commit(&db, version).unwrap());
        }
        sample
    }

    /// The first version sets everything, the others a few keys each.
    fn commit(&self, db: &Db, version: u64) -> Result<B256, Error> {
        let mut changes = Changes::new();
        for number in (0..self.accounts).filter(|number| version == 1 || mix(version << 32 | number).is_multiple_of(6))
        {
            changes.set_account(address(number), Account { nonce: version, ..Account::default() });
            for slot in
                (0..self.slots).filter(|slot| number < 3 && (version == 1 || (slot + version).is_multiple_of(5)))
            {
                changes.set_storage(address(number), U256::from(slot), wide(version << 20 | slot));
            }
        }
        db.commit(&changes, Durability::Durable)?;
        db.snapshot()?.root()
    }

    /// Every retained version proves each of its accounts, or says that the arena is damaged. Returns how often it did.
    fn assert_never_wrong(&self, db: &Db, case: &str) -> u64 {
        let mut refused = 0;
        let newest = db.stats().version;
        for version in db.stats().oldest_version..=newest {
            let snapshot = db.snapshot_at(version).unwrap();
            let root = self.roots[version as usize];
            assert_eq!(snapshot.root().unwrap(), root, "{case}: root of {version}");
            for number in 0..self.accounts.min(20) {
                match snapshot.proof(&address(number), &[U256::ZERO, U256::from(self.slots)]) {
                    Ok(proof) => proof.verify(root).unwrap_or_else(|error| panic!("{case}, {version}: {error}")),
                    Err(error) => {
                        assert_names_arena(&error, case);
                        refused += 1;
                    }
                }
            }
            let listed = snapshot
                .accounts(B256::ZERO)
                .and_then(|mut accounts| accounts.try_fold(0, |count, account| account.map(|_| count + 1)));
            match listed {
                Ok(count) => assert_eq!(count, if version == 0 { 0 } else { self.accounts }, "{case}, {version}"),
                Err(error) => assert_names_arena(&error, case),
            }
        }
        refused
    }

    /// All is as before the damage, and stays so.
    fn assert_sound(&self, disk: &Arc<SimulatedDisk>, case: &str) {
        let reader = options().open_read_only_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(self.assert_never_wrong(&reader, case), 0, "{case}, read-only");
        drop(reader);
        let db = options().open_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        self.assert_goes_on(db, disk, case);
    }

    /// Reads, commits, takes checkpoints and is opened again as if nothing had been.
    fn assert_goes_on(&self, db: Db, disk: &Arc<SimulatedDisk>, case: &str) {
        assert_eq!(db.stats().version, VERSIONS, "{case}");
        assert_eq!(self.assert_never_wrong(&db, case), 0, "{case}");
        for version in VERSIONS + 1..=VERSIONS + 3 {
            let root = self.commit(&db, version).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(root, self.roots[version as usize], "{case}: root of {version}");
            db.checkpoint().unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{case}: {error}"));
        drop(db);
        let db = options().open_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(self.assert_never_wrong(&db, case), 0, "{case}, opened again");
        db.check(CheckLevel::Full).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

fn assert_names_arena(error: &Error, case: &str) {
    assert!(error.is_corruption(), "{case}: {error}");
    assert!(error.to_string().contains("/arena.000000000"), "{case}: {error}");
}

/// What can happen to the files beside the damage in the arena.
const BESIDE: [&str; 5] =
    ["nothing", "image lost", "image damaged", "newest superblock damaged", "older superblock damaged"];

fn hurt(disk: &SimulatedDisk, beside: &str) {
    let newest = superblock::read(disk).unwrap().unwrap().newest.generation;
    match beside {
        "image lost" => names(disk, "index.").iter().for_each(|name| disk.remove_file(name)),
        "image damaged" => names(disk, "index.").iter().for_each(|name| disk.damage(name, 200, 1)),
        "newest superblock damaged" => disk.damage(&superblock::file_name(newest), 100, 1),
        "older superblock damaged" => disk.damage(&superblock::file_name(newest + 1), 100, 1),
        _ => {}
    }
}

/// An extent without which the database was opened had its number given to the next new one: nodes that were lost and
/// new ones had the same places, and a checkpoint gave the parents of the lost ones a birth that let the new ones pass.
#[test]
fn a_lost_extent_costs_time_and_nothing_else() {
    let mut cases = 0;
    for behind in [0, 1] {
        let sample = Sample::new(300, 900, behind);
        let extents = names(&sample.disk, "arena.");
        assert!(extents.len() >= 3, "{extents:?}");
        for beside in BESIDE {
            for name in &extents {
                for damage in ["removed", "emptied", "cut", "longer", "another's", "header"] {
                    let disk = copy(&sample.disk);
                    match damage {
                        "removed" => disk.remove_file(name),
                        "emptied" => disk.put_file(name, Vec::new()),
                        "cut" => disk.truncate_file(name, EXTENT_BYTES - 1),
                        "longer" => {
                            let mut bytes = disk.file_bytes(name).unwrap();
                            bytes.push(0);
                            disk.put_file(name, bytes);
                        }
                        "another's" => {
                            disk.put_file(name, disk.file_bytes(&extents[usize::from(*name == extents[0])]).unwrap())
                        }
                        _ => disk.damage(name, cases % ExtentHeader::BYTES as u64, 1 << (cases % 8)),
                    }
                    hurt(&disk, beside);
                    sample.assert_sound(&disk, &format!("{name} {damage}, {beside}, {behind} versions behind"));
                    cases += 1;
                }
            }
            let disk = copy(&sample.disk);
            extents.iter().for_each(|name| disk.remove_file(name));
            hurt(&disk, beside);
            sample.assert_sound(&disk, &format!("no arena, {beside}, {behind} versions behind"));
        }
    }
    println!("{cases} cases");
}

/// Places of bytes to flip, with the bits: all bits of the header, every byte that is in use, and some of the rest.
fn flips(bytes: &[u8]) -> Vec<(u64, u8)> {
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let header = (0..ExtentHeader::BYTES as u64).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    let in_use = (PAGE_BYTES..=used + 8).map(|at| (at, 1 << (at % 8)));
    let rest = (ExtentHeader::BYTES as u64..EXTENT_BYTES).step_by(509).map(|at| (at, 0x80));
    header.chain(in_use).chain(rest).collect()
}

/// The state is as it was before a commit failed, and right again after a rebuild.
fn assert_unchanged_and_mendable(sample: &Sample, db: Db, disk: &Arc<SimulatedDisk>, case: &str) {
    assert_eq!(db.stats().version, VERSIONS, "{case}");
    assert_eq!(db.snapshot().unwrap().account(&address(0)).unwrap().map(|account| account.nonce > 0), Some(true));
    sample.assert_never_wrong(&db, case);
    drop(db);
    let db = options().rebuild(true).open_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
    sample.assert_goes_on(db, disk, case);
}

#[test]
fn a_flipped_bit_anywhere_in_the_arena_is_told_or_does_not_matter() {
    let sample = Sample::new(24, 12, 0);
    let names = names(&sample.disk, "arena.");
    let (mut told, mut harmless) = (0, 0);
    for name in &names {
        for (offset, bits) in flips(&sample.disk.file_bytes(name).unwrap()) {
            let case = format!("{name}, byte {offset}, bits {bits:02x}");
            let disk = copy(&sample.disk);
            disk.damage(name, offset, bits);
            let db = options().open_on(disk.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
            if let Err(error) = db.check(CheckLevel::Full) {
                assert_names_arena(&error, &case);
            }
            let refused = sample.assert_never_wrong(&db, &case);
            match sample.commit(&db, VERSIONS + 1) {
                Ok(root) => {
                    assert_eq!(root, sample.roots[VERSIONS as usize + 1], "{case}");
                    sample.assert_never_wrong(&db, &case);
                    harmless += u64::from(refused == 0);
                    told += u64::from(refused > 0);
                }
                Err(error) => {
                    assert_names_arena(&error, &case);
                    told += 1;
                    if offset % 16 == 0 {
                        assert_unchanged_and_mendable(&sample, db, &disk, &case);
                    }
                }
            }
        }
    }
    println!("{} extents: {told} flips told, {harmless} without effect", names.len());
    assert!(told > 500);
}

/// The map shows what the file holds: a bit that goes bad while the database is open is found by the next read.
#[test]
fn a_bit_that_flips_while_the_database_is_open_is_told() {
    let sample = Sample::new(300, 100, 0);
    let mut random = Random(5);
    let db = options().open_on(sample.disk.clone()).unwrap();
    let names = names(&sample.disk, "arena.");
    let mut told = 0;
    for _ in 0..300 {
        let name = &names[random.below(names.len() as u64) as usize];
        let (offset, bits) = (PAGE_BYTES + random.below(EXTENT_BYTES - PAGE_BYTES), 1 << random.below(8));
        let case = format!("{name}, byte {offset}, bits {bits:02x}");
        sample.disk.damage(name, offset, bits);
        told += sample.assert_never_wrong(&db, &case);
        sample.disk.damage(name, offset, bits);
        assert_eq!(sample.assert_never_wrong(&db, &case), 0, "{case}: mended");
    }
    println!("{told} reads told of the damage");
    assert!(told > 100);
}

/// Puts another node in the place of the topmost branch's child that leads to an account.
fn forge(sample: &Sample, number: u64, edit: impl FnOnce(&mut Node, Place)) -> Arc<SimulatedDisk> {
    let disk = copy(&sample.disk);
    let TopReference::Branch(top) = superblock::read(&*disk).unwrap().unwrap().newest.trie.top else {
        panic!("the topmost node is a branch")
    };
    let load = |place: Place| {
        let offset = place.get() % EXTENT_BYTES;
        let end = (offset / PAGE_BYTES + 1) * PAGE_BYTES;
        let file = disk.file_bytes(&arena::file_name(place.get() / EXTENT_BYTES)).unwrap();
        bytes::decode(&file[offset as usize..end as usize], place).unwrap()
    };
    let nibble = alloy_primitives::keccak256(address(number))[0] >> 4;
    let top = load(top);
    assert_eq!((top.children.view().mask(), top.prefix.len()), (0xffff, 0));
    let Some(Link::Branch(NodeRef::Arena(place))) = top.children.view().get(nibble).map(|child| child.link) else {
        panic!("a branch below the topmost one")
    };
    let mut node = load(place);
    edit(&mut node, place);
    let mut out = Vec::new();
    bytes::encode(&mut out, place, node.birth, node.view(), |_| panic!("read from the arena"));
    let name = arena::file_name(place.get() / EXTENT_BYTES);
    let mut file = disk.file_bytes(&name).unwrap();
    let offset = (place.get() % EXTENT_BYTES) as usize;
    file[offset..offset + out.len()].copy_from_slice(&out);
    disk.put_file(&name, file);
    disk
}

/// T2: a node in a place that was written again is told by its birth from the one that was meant.
#[test]
fn a_node_of_a_later_checkpoint_than_its_parent_is_damage() {
    let sample = Sample::new(300, 12, 0);
    let disk = forge(&sample, 7, |node, _| node.birth += 100);
    let db = options().open_on(disk.clone()).unwrap();
    let error = db.snapshot().unwrap().proof(&address(7), &[]).unwrap_err();
    assert_names_arena(&error, "a later birth");
    assert_names_arena(&db.check(CheckLevel::Full).unwrap_err(), "a later birth");
    drop(db);
    let db = options().rebuild(true).open_on(disk.clone()).unwrap();
    sample.assert_goes_on(db, &disk, "a later birth, rebuilt");
}

/// A sound node with wrong hashes is found when the root of what was committed behind the checkpoint is compared with the log.
#[test]
fn a_wrong_node_with_a_sound_checksum_does_not_change_the_root() {
    let sample = Sample::new(300, 12, 1);
    let changed = (0..300).find(|number| mix(VERSIONS << 32 | number).is_multiple_of(6)).unwrap();
    let disk = forge(&sample, changed, |node, _| {
        // Both ends, so that one of them is not on the way to what changes.
        let mask = node.children.view().mask();
        for (nibble, wrong) in [(mask.trailing_zeros() as u8, 1), (mask.ilog2() as u8, 2)] {
            let child = node.children.view().get(nibble).unwrap();
            let child = Child { reference: Reference::hash(B256::repeat_byte(wrong)), ..child };
            node.children.set(nibble, Some(child));
        }
    });
    sample.assert_sound(&disk, "wrong hashes");
}

/// Nodes with sound checksums whose prefixes together are longer than a path, or that lead to themselves: walks indexed paths
/// behind their end, or went round for ever.
#[test]
fn a_sound_node_that_leads_too_deep_is_damage() {
    let sample = Sample::new(300, 12, 0);
    let to_itself = |node: &mut Node, place: Place| {
        let children: Vec<(u8, Child)> = node.children.view().iter().collect();
        for (nibble, child) in children {
            node.children.set(nibble, Some(Child { link: Link::Branch(NodeRef::Arena(place)), ..child }));
        }
    };
    let too_long = |node: &mut Node, _: Place| node.prefix = Nibbles::of(&B256::repeat_byte(0x77), 0, 63);
    for (case, disk) in [("to itself", forge(&sample, 7, to_itself)), ("too long", forge(&sample, 7, too_long))] {
        for image in ["with an image", "without"] {
            if image == "without" {
                names(&disk, "index.").iter().for_each(|name| disk.remove_file(name));
            }
            let case = format!("a node {case}, {image}");
            let copy = copy(&disk);
            let db = options().open_on(copy.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
            if image == "without" {
                // Counting the pages found it, and the trie was made anew.
                sample.assert_goes_on(db, &copy, &case);
                continue;
            }
            assert!(db.check(CheckLevel::Full).unwrap_err().is_corruption(), "{case}");
            let snapshot = db.snapshot().unwrap();
            let mut listed = snapshot.accounts(B256::ZERO).unwrap();
            assert!(listed.find_map(Result::err).unwrap().is_corruption(), "{case}");
            for number in 0..sample.accounts {
                if let Err(error) = snapshot.proof(&address(number), &[]) {
                    assert!(error.is_corruption(), "{case}: {error}");
                }
                let mut changes = Changes::new();
                changes.delete_account(address(number));
                if let Err(error) = db.propose(&snapshot, &changes) {
                    assert!(error.is_corruption(), "{case}: {error}");
                }
            }
            drop(listed);
            drop(snapshot);
            let outcome = db.checkpoint();
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.is_corruption()), "{case}");
            drop(db);
            let db = options().rebuild(true).open_on(copy.clone()).unwrap();
            sample.assert_goes_on(db, &copy, &case);
        }
    }
}
