use metisdb::Options;
use tempfile::TempDir;

use super::*;

fn commit(db: &Db, version: u64, expected: &mut Expected) {
    let word = committer::commit(db, version, || Ok::<_, metisdb::Error>(())).unwrap();
    let Word::Durable(version, root) = word else { panic!("{word:?}") };
    expected.roots.insert(version, root);
}

/// A database with ten commits, and what a process would have said that made them.
fn ten_commits() -> (TempDir, Db, Expected) {
    let folder = tempfile::tempdir().unwrap();
    let db = committer::open(&folder.path().join("state")).unwrap();
    let mut expected = Expected::default();
    for version in 1..=10 {
        commit(&db, version, &mut expected);
    }
    (folder, db, expected)
}

#[test]
fn what_was_acknowledged_is_found() {
    let (_folder, db, mut expected) = ten_commits();
    expected.compare(&db, 11).unwrap().unwrap();
    assert_eq!(expected.version, 10);
    // One more than was acknowledged is in order, and from then on must stay.
    let before = expected.roots.clone();
    commit(&db, 11, &mut expected);
    expected.roots = before;
    expected.compare(&db, 11).unwrap().unwrap();
    assert!(expected.roots.contains_key(&11));
}

#[test]
fn a_lost_commit_is_noticed() {
    let (_folder, db, mut expected) = ten_commits();
    expected.roots.insert(11, B256::ZERO);
    let wrong = expected.compare(&db, 12).unwrap().unwrap_err();
    assert_eq!(wrong, "found is version 10, acknowledged was 11, begun was 12");
}

#[test]
fn a_commit_that_never_began_is_noticed() {
    let (_folder, db, mut expected) = ten_commits();
    expected.roots.remove(&10);
    expected.compare(&db, 9).unwrap().unwrap_err();
}

#[test]
fn a_wrong_root_is_noticed() {
    let (_folder, db, mut expected) = ten_commits();
    expected.roots.insert(4, B256::repeat_byte(4));
    let wrong = expected.compare(&db, 10).unwrap().unwrap_err();
    assert!(wrong.starts_with("the root of version 4 is 0x"), "{wrong}");
}

#[test]
fn half_a_commit_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new().create(folder.path().join("state")).unwrap();
    // All of version 1 but one slot.
    let mut slots: HashMap<_, _> = committer::slots(1).collect();
    slots.retain(|_, value| !value.is_zero());
    let mut changes = metisdb::Changes::new();
    let (address, account) = committer::account(1);
    changes.set_account(address, account);
    for ((contract, slot), value) in slots.iter().skip(1) {
        changes.set_account(*contract, metisdb::Account::default()).set_storage(*contract, *slot, *value);
    }
    db.commit(&changes, metisdb::Durability::Durable).unwrap();
    let wrong = Expected::default().compare(&db, 1).unwrap().unwrap_err();
    assert!(wrong.contains(" in version 1 is "), "{wrong}");
}

#[test]
fn words_are_read_as_they_were_said() {
    for word in [Word::Begins(7), Word::Durable(8, B256::repeat_byte(9))] {
        let line = word.line();
        assert_eq!(Word::read(&line), Some(word));
        // A process that was killed may have said half a word.
        assert_eq!((0..line.len()).find_map(|end| Word::read(&line[..end])), None);
    }
}
