//! A naive Merkle-Patricia trie: appendices B, C and D of the Yellow Paper in code, and nothing else.
//!
//! It builds every root from scratch and shares no code with the crate, which it judges. Whoever includes this file
//! needs `alloy-primitives` only.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};

/// A key in nibbles, and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// What an account's leaf is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NaiveAccount<'s> {
    /// Number of transactions sent or contracts created.
    pub(crate) nonce: u64,
    /// Balance in wei.
    pub(crate) balance: U256,
    /// Keccak-256 of the code.
    pub(crate) code_hash: B256,
    /// The storage. Zero values are left out of its trie.
    pub(crate) slots: &'s BTreeMap<U256, U256>,
}

/// The RLP of a byte string (appendix B).
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => with_length(0x80, bytes),
    }
}

/// The RLP of a number: the string of its bytes, largest first, without leading zeros.
pub(crate) fn number(number: U256) -> Vec<u8> {
    let bytes: [u8; 32] = number.to_be_bytes();
    string(without_leading_zeros(&bytes))
}

/// The RLP of a list of items that are RLP already.
pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    with_length(0xc0, &items.concat())
}

fn with_length(offset: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    if length <= 55 {
        return [&[offset + length as u8], payload].concat();
    }
    let length = (length as u64).to_be_bytes();
    let length = without_leading_zeros(&length);
    [&[offset + 55 + length.len() as u8], length, payload].concat()
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn nibbles(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte / 16, byte % 16]).collect()
}

/// The function HP (appendix C): nibbles as bytes, with a flag for leaves.
fn hex_prefix(nibbles: &[u8], leaf: bool) -> Vec<u8> {
    let flag = if leaf { 2 } else { 0 };
    let even = match nibbles.len() % 2 {
        0 => [&[flag, 0], nibbles].concat(),
        _ => [&[flag + 1], nibbles].concat(),
    };
    even.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

/// The function n (appendix D): how a node stands in its parent.
fn node(entries: &[Entry], depth: usize) -> Vec<u8> {
    if entries.is_empty() {
        return string(&[]);
    }
    let structure = structure(entries, depth);
    if structure.len() < 32 { structure } else { string(keccak256(structure).as_slice()) }
}

/// The function c (appendix D): the node of the entries, which are sorted and share their first `depth` nibbles.
pub(crate) fn structure(entries: &[Entry], depth: usize) -> Vec<u8> {
    let first = &entries[0].0;
    if let [(key, value)] = entries {
        return list(&[string(&hex_prefix(&key[depth..], true)), string(value)]);
    }
    let shared = (depth..first.len())
        .find(|at| entries.iter().any(|(key, _)| key.get(*at) != Some(&first[*at])))
        .unwrap_or(first.len());
    if shared > depth {
        return list(&[string(&hex_prefix(&first[depth..shared], false)), node(entries, shared)]);
    }
    let (value, mut rest) = match &entries[0] {
        (key, value) if key.len() == depth => (value.as_slice(), &entries[1..]),
        _ => (&[][..], entries),
    };
    let mut items = Vec::new();
    for nibble in 0..16 {
        let (child, others) = rest.split_at(rest.partition_point(|(key, _)| key[depth] <= nibble));
        items.push(node(child, depth + 1));
        rest = others;
    }
    items.push(string(value));
    list(&items)
}

/// The root of a trie of these keys and values, given in any order.
///
/// # Panics
/// If a key stands there twice, or a value is empty: there is no such entry in a trie.
pub(crate) fn root(entries: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>) -> B256 {
    let mut sorted: Vec<Entry> =
        entries.into_iter().map(|(key, value)| (nibbles(key.as_ref()), value.as_ref().to_vec())).collect();
    sorted.sort();
    assert!(sorted.windows(2).all(|pair| pair[0].0 != pair[1].0), "the keys differ");
    assert!(sorted.iter().all(|(_, value)| !value.is_empty()), "no value is empty");
    keccak256(if sorted.is_empty() { string(&[]) } else { structure(&sorted, 0) })
}

/// The value of an account in the state trie (section 4.1).
pub(crate) fn account_value(nonce: u64, balance: U256, storage_root: B256, code_hash: B256) -> Vec<u8> {
    let hash = |hash: B256| string(hash.as_slice());
    list(&[number(U256::from(nonce)), number(balance), hash(storage_root), hash(code_hash)])
}

/// The value of a slot in a storage trie.
pub(crate) fn slot_value(value: U256) -> Vec<u8> {
    number(value)
}

/// The path of a key in Ethereum's tries: its hash.
pub(crate) fn hashed(key: &[u8]) -> B256 {
    keccak256(key)
}

/// The root of a storage trie. `path` is [`hashed`], or what a test takes in its place.
pub(crate) fn storage_root(slots: &BTreeMap<U256, U256>, path: &impl Fn(&[u8]) -> B256) -> B256 {
    let set = slots.iter().filter(|(_, value)| !value.is_zero());
    root(set.map(|(slot, value)| (path(&slot.to_be_bytes::<32>()), slot_value(*value))))
}

/// The root of the state trie of these accounts. `path` is [`hashed`], or what a test takes in its place.
pub(crate) fn state_root<'s>(
    accounts: impl IntoIterator<Item = (Address, NaiveAccount<'s>)>,
    path: impl Fn(&[u8]) -> B256,
) -> B256 {
    root(accounts.into_iter().map(|(address, account)| {
        let storage_root = storage_root(account.slots, &path);
        let value = account_value(account.nonce, account.balance, storage_root, account.code_hash);
        (path(address.as_slice()), value)
    }))
}
