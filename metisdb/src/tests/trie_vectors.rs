//! The naive trie against Ethereum's own trie tests and against `alloy-trie`, so that it may judge others.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    ops::Bound,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use serde_json::Value;

use super::{
    Random, mix,
    naive_trie::{NaiveAccount, hashed, root, state_root, storage_root},
    trie_updates::Bench,
};

/// The vectors' folder; `None`, with a word on the standard error output, where it is not on this machine.
fn trie_tests() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let folder = env::var_os("METISDB_FIXTURES").map_or_else(beside, PathBuf::from).join("trie_tests");
    if !folder.is_dir() {
        // Written past the test runner, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: no fixtures");
        return None;
    }
    Some(folder)
}

/// The cases of a file by their names.
fn cases(file: &Path) -> serde_json::Map<String, Value> {
    let text = fs::read(file).unwrap();
    let Value::Object(cases) = serde_json::from_slice(&text).unwrap() else {
        panic!("{} is no object", file.display())
    };
    assert!(!cases.is_empty(), "{} has cases", file.display());
    cases
}

/// Bytes as the vectors write them: hexadecimal behind `0x`, else the text itself.
fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a text");
    text.strip_prefix("0x").map_or_else(|| text.as_bytes().to_vec(), |digits| hex::decode(digits).unwrap())
}

/// The insertions, and deletions where the value is missing, in their order.
fn steps(case: &Value) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let value = |value: &Value| (!value.is_null()).then(|| bytes(value));
    match &case["in"] {
        Value::Object(pairs) => pairs.iter().map(|(key, of)| (bytes(&Value::from(key.as_str())), value(of))).collect(),
        Value::Array(pairs) => pairs.iter().map(|pair| (bytes(&pair[0]), value(&pair[1]))).collect(),
        other => panic!("steps of an unknown shape: {other}"),
    }
}

fn root_after(steps: &[(Vec<u8>, Option<Vec<u8>>)], secure: bool) -> B256 {
    let mut map = BTreeMap::new();
    for (key, value) in steps {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(key),
        };
    }
    if secure { root(map.into_iter().map(|(key, value)| (keccak256(key), value))) } else { root(map) }
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

#[test]
fn ethereum_trie_tests() {
    let Some(folder) = trie_tests() else { return };
    let mut checked = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_lowercase();
        if name == "trietestnextprev" {
            // It tells the neighbours of keys, not roots: the test below.
            continue;
        }
        for (case, content) in &cases(&file) {
            let mut steps = steps(content);
            let expected: B256 = content["root"].as_str().unwrap().parse().unwrap();
            let secure = name.contains("secure");
            assert_eq!(root_after(&steps, secure), expected, "{name}, {case}");
            if secure {
                assert_own_roots(&steps, expected, &format!("{name}, {case}"));
            }
            checked += 1;
            // Files with a list of steps mean that order; an object has none.
            let any_order = content["in"].is_object();
            for seed in 0..if any_order { 20 } else { 0 } {
                shuffle(&mut steps, &mut Random(seed));
                assert_eq!(root_after(&steps, secure), expected, "{name}, {case}, seed {seed}");
            }
        }
    }
    assert!(checked > 0, "there are vectors");
}

/// The same of the database's own trie: step by step, in two updates, and all at once. Its paths are hashes, as all paths of states: so
/// of the vectors those with plain keys, some of which begin others, are for the naive trie alone.
fn assert_own_roots(steps: &[(Vec<u8>, Option<Vec<u8>>)], expected: B256, case: &str) {
    for steps_at_once in [1, steps.len().div_ceil(2), steps.len()] {
        let mut bench = Bench::new(2);
        for steps in steps.chunks(steps_at_once) {
            bench.apply(&steps.iter().map(|(key, value)| (keccak256(key), value.clone())).collect());
        }
        assert_eq!(bench.root(), expected, "{case}, {steps_at_once} steps at once");
    }
}

/// No trie is asked: the file tells the order of keys that every walk over one has to keep.
#[test]
fn ethereum_next_and_previous_keys() {
    let Some(folder) = trie_tests() else { return };
    for (case, content) in &cases(&folder.join("trietestnextprev.json")) {
        let keys: BTreeMap<Vec<u8>, ()> =
            content["in"].as_array().unwrap().iter().map(|key| (bytes(key), ())).collect();
        for test in content["tests"].as_array().unwrap() {
            let probe = bytes(&test[0]);
            let previous = keys.range(..probe.clone()).next_back().map(|(key, ())| key.clone());
            let next = keys.range((Bound::Excluded(probe), Bound::Unbounded)).next().map(|(key, ())| key.clone());
            assert_eq!(previous.unwrap_or_default(), bytes(&test[1]), "{case}: before {}", test[0]);
            assert_eq!(next.unwrap_or_default(), bytes(&test[2]), "{case}: after {}", test[0]);
        }
    }
}

fn alloy_root(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Short keys make nodes of less than 32 bytes and deep extensions, few distinct bytes make long shared prefixes.
#[test]
fn random_tries_agree_with_another_implementation() {
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let key_bytes = [1, 2, 3, 4, 8, 32][random.below(6) as usize];
        let distinct = [2, 3, 16, 255][random.below(4) as usize];
        let value_bytes = [1, 2, 31, 32, 33, 54, 57, 70, 300][random.below(9) as usize];
        let mut entries = BTreeMap::new();
        for _ in 0..random.below(60) {
            let key: Vec<u8> = (0..key_bytes).map(|_| random.below(distinct) as u8 * (255 / distinct) as u8).collect();
            let value: Vec<u8> = (0..1 + random.below(value_bytes)).map(|_| random.next() as u8).collect();
            entries.insert(key, value);
        }
        assert_eq!(root(&entries), alloy_root(&entries), "seed {seed}");
    }
}

#[test]
fn random_states_agree_with_another_implementation() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut accounts = BTreeMap::new();
        for _ in 0..random.below(30) {
            let address = Address::from_slice(&mix(random.below(100)).to_be_bytes().repeat(3)[..20]);
            let number = |random: &mut Random| U256::from(random.next()) << random.below(193) as usize;
            let slots: BTreeMap<U256, U256> = (0..random.below(20))
                .map(|_| (number(&mut random), if random.one_in(5) { U256::ZERO } else { number(&mut random) }))
                .collect();
            let nonce = if random.one_in(3) { 0 } else { random.next() >> random.below(64) };
            let balance = if random.one_in(3) { U256::ZERO } else { number(&mut random) };
            accounts.insert(address, (nonce, balance, keccak256(random.next().to_be_bytes()), slots));
        }
        let naive = accounts.iter().map(|(address, (nonce, balance, code_hash, slots))| {
            (*address, NaiveAccount { nonce: *nonce, balance: *balance, code_hash: *code_hash, slots })
        });
        let theirs = accounts.iter().map(|(address, (nonce, balance, code_hash, slots))| {
            let set = slots.iter().filter(|(_, value)| !value.is_zero());
            let storage_root =
                alloy_trie::root::storage_root_unhashed(set.map(|(slot, value)| (B256::from(*slot), *value)));
            assert_eq!(self::storage_root(slots, &hashed), storage_root, "seed {seed}, {address}");
            (*address, TrieAccount { nonce: *nonce, balance: *balance, storage_root, code_hash: *code_hash })
        });
        assert_eq!(state_root(naive, hashed), alloy_trie::root::state_root_unhashed(theirs), "seed {seed}");
    }
}

/// A path function that spreads badly gives another trie than the usual one, and a valid one.
#[test]
fn other_paths_are_another_trie() {
    let near = |key: &[u8]| B256::left_padding_from(&keccak256(key)[..8]);
    let slots: BTreeMap<U256, U256> = (1..50).map(|slot| (U256::from(slot), U256::from(slot))).collect();
    let by_hand: BTreeMap<Vec<u8>, Vec<u8>> =
        slots.iter().map(|(slot, value)| (near(&slot.to_be_bytes::<32>()).to_vec(), vec![value.to::<u8>()])).collect();
    assert_eq!(storage_root(&slots, &near), alloy_root(&by_hand));
    assert_ne!(storage_root(&slots, &near), storage_root(&slots, &hashed));
}
