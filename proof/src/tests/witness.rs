//! Witnesses: what is refused, each by name, and their forms.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::Decodable;

use super::{Random, branch, integer, leaf, list, nibbles, string};
use crate::{
    Account, AccountChange, EMPTY_ROOT, Fields, NodeError, PartialState, RlpError, StateChanges, Witness, WitnessError,
    account::encode_account, preimage_key,
};

const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb0);
const SLOT: U256 = U256::from_limbs([7, 0, 0, 0]);

fn witness(state: &[&[u8]]) -> Witness {
    Witness { state: state.iter().map(|node| Bytes::copy_from_slice(node)).collect(), ..Witness::default() }
}

/// The only leaf of a trie.
fn lone_leaf(key: &[u8], value: &[u8]) -> Vec<u8> {
    leaf(&nibbles(&keccak256(key)), value)
}

/// The state in which Alice has one slot, and is all there is: its nodes, and its root.
fn alone(account: &[u8], slot: &[u8]) -> (Witness, B256) {
    let storage = lone_leaf(&SLOT.to_be_bytes::<32>(), slot);
    let account = lone_leaf(ALICE.as_slice(), account);
    (witness(&[&account, &storage]), keccak256(account))
}

fn storage_root_of(slot: &[u8]) -> B256 {
    keccak256(lone_leaf(&SLOT.to_be_bytes::<32>(), slot))
}

fn sound() -> (Witness, B256) {
    let slot = integer(U256::from(42));
    alone(&encode_account(&Account { nonce: 5, ..Account::default() }, storage_root_of(&slot)), &slot)
}

/// What the reads and a change of Alice come to.
fn use_all(witness: &Witness, root: B256) -> Result<(Option<Account>, U256, B256), WitnessError> {
    let state = PartialState::of_root(witness, root);
    let slots = [(SLOT, U256::from(43))].into();
    let changes = StateChanges::from([(ALICE, AccountChange { slots, ..AccountChange::default() })]);
    Ok((state.account(&ALICE)?, state.storage(&ALICE, SLOT)?, state.root_after(&changes)?))
}

#[test]
fn the_state_of_a_witness_is_read_and_changed() {
    let (witness, root) = sound();
    let account = Account { nonce: 5, ..Account::default() };
    let after = encode_account(&account, storage_root_of(&integer(U256::from(43))));
    let root_after = keccak256(lone_leaf(ALICE.as_slice(), &after));
    assert_eq!(use_all(&witness, root), Ok((Some(account), U256::from(42), root_after)));
    let state = PartialState::of_root(&witness, root);
    assert_eq!((state.account(&BOB), state.storage(&BOB, SLOT)), (Ok(None), Ok(U256::ZERO)));
    assert_eq!(state.storage(&ALICE, U256::ZERO), Ok(U256::ZERO));
    let gone = AccountChange { fields: Fields::Deleted, wiped: true, ..AccountChange::default() };
    assert_eq!(state.root_after(&[(ALICE, gone)].into()), Ok(EMPTY_ROOT));
    let doubled = Witness { state: [&witness.state[..], &witness.state[..]].concat(), ..witness };
    assert_eq!(use_all(&doubled, root).map(|(_, _, root)| root), Ok(root_after), "twice does no harm");
}

/// Without nodes the empty state alone can be read.
#[test]
fn a_witness_of_nothing() {
    let state = PartialState::of_root(&Witness::default(), EMPTY_ROOT);
    assert_eq!((state.account(&ALICE), state.storage_root(&ALICE)), (Ok(None), Ok(EMPTY_ROOT)));
    let set = AccountChange { fields: Fields::Set(Account::default()), ..AccountChange::default() };
    let root = keccak256(lone_leaf(ALICE.as_slice(), &encode_account(&Account::default(), EMPTY_ROOT)));
    assert_eq!(state.root_after(&[(ALICE, set)].into()), Ok(root));
    let state = PartialState::of_root(&Witness::default(), root);
    assert!(
        matches!(state.account(&ALICE), Err(WitnessError::MissingNode { hash, path }) if hash == root && path.nibbles == 0)
    );
}

#[test]
fn every_changed_byte_of_a_node() {
    let ((witness, root), mut random) = (sound(), Random(1));
    for index in 0..witness.state.len() {
        for place in 0..witness.state[index].len() {
            let mut bytes = witness.state[index].to_vec();
            bytes[place] = random.other(bytes[place]);
            let mut changed = witness.clone();
            changed.state[index] = bytes.into();
            let verdict = use_all(&changed, root);
            assert!(
                matches!(verdict, Err(WitnessError::MissingNode { .. })),
                "byte {place} of node {index}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_node_that_no_trie_has() {
    let child = lone_leaf(b"any", &[1; 40]);
    let short = leaf(&[1, 2, 3], &[1; 40]);
    let behind = [&child[..], &[0x80]].concat();
    let deep = super::extension(&[0; 64], &branch(&[(0, &child), (1, &child)]));
    let cases = [
        (branch(&[(3, &child)]), NodeError::BranchChildren { children: 1 }),
        (short, NodeError::LeafDepth { nibbles: 3 }),
        (behind, NodeError::Rlp(RlpError::TrailingBytes { bytes: 1 })),
        (deep, NodeError::TooDeep { nibbles: 64 }),
        (list(&[string(&[0x20]), string(&[1]), string(&[1; 40])]), NodeError::ItemCount { items: 3 }),
    ];
    for (node, expected) in cases {
        let verdict = PartialState::of_root(&witness(&[&node]), keccak256(&node)).account(&ALICE);
        assert!(matches!(&verdict, Err(WitnessError::Node { source, .. }) if *source == expected), "{verdict:?}");
    }
}

/// Once a hash was followed to a node that is so short that it stands inside its parent: no proof of it was accepted, but a read was.
#[test]
fn a_short_node_behind_a_hash() {
    let path = nibbles(&keccak256(ALICE));
    let (above, last) = path.split_at(63);
    let turn = usize::from(last[0]);
    let short = leaf(&[], &[1]);
    let mut items = vec![string(&[]); 17];
    (items[turn], items[turn ^ 1]) = (string(keccak256(&short).as_slice()), leaf(&[], &[2]));
    let end = list(&items);
    let root = super::extension(above, &end);
    let expected = NodeError::TooShort { bytes: 3 };
    for (nodes, root) in [(&[&root[..], &end, &short][..], keccak256(&root)), (&[&short], keccak256(&short))] {
        let state = PartialState::of_root(&witness(nodes), root);
        let gone = AccountChange { fields: Fields::Deleted, wiped: true, ..AccountChange::default() };
        for verdict in [state.account(&ALICE).map(drop), state.root_after(&[(ALICE, gone)].into()).map(drop)] {
            assert!(matches!(&verdict, Err(WitnessError::Node { source, .. }) if *source == expected), "{verdict:?}");
        }
    }
}

#[test]
fn a_leaf_of_another_form() {
    let (other, root) = alone(&list(&[integer(U256::from(1))]), &[1]);
    assert!(matches!(use_all(&other, root), Err(WitnessError::Leaf { what: "an account", .. })));
    for (value, is_zero) in
        [(vec![0x80], true), (string(&[0, 1]), false), (list(&[]), false), (string(&[1; 33]), false)]
    {
        let (other, root) = alone(&encode_account(&Account::default(), storage_root_of(&value)), &value);
        match use_all(&other, root) {
            Err(WitnessError::ZeroLeaf { path }) => assert!(is_zero && path.account == Some(ALICE)),
            Err(WitnessError::Leaf { what: "a slot's value", .. }) => assert!(!is_zero),
            verdict => panic!("{value:02x?}: {verdict:?}"),
        }
    }
}

/// A header with these fields; what the others hold does not matter.
fn header(parent_hash: B256, number: u64, state_root: B256) -> Bytes {
    let mut fields =
        vec![string(parent_hash.as_slice()), string(&[0; 32]), string(&[0; 20]), string(state_root.as_slice())];
    fields.extend([
        string(&[1; 32]),
        string(&[2; 32]),
        string(&[0; 256]),
        integer(U256::from(9)),
        integer(U256::from(number)),
    ]);
    fields.extend([integer(U256::from(30_000_000)), integer(U256::from(21_000)), string(b"extra")]);
    list(&fields).into()
}

/// The headers of a chain, oldest first.
fn headers(numbers: std::ops::Range<u64>, state_root: B256) -> Vec<Bytes> {
    let mut parent = B256::repeat_byte(9);
    let chain = numbers.map(|number| {
        let header = header(parent, number, state_root);
        parent = keccak256(&header);
        header
    });
    chain.collect()
}

#[test]
fn code_and_hashes_that_are_missing() {
    let code = Bytes::from_static(&[0x60, 0]);
    let headers = headers(10..14, EMPTY_ROOT);
    let hashes: Vec<B256> = headers.iter().map(keccak256).collect();
    let mut witness = Witness { codes: vec![code.clone()], headers, ..Witness::default() };
    witness.headers.swap(0, 2);
    let state = PartialState::after_block(&witness, hashes[3]).unwrap();
    assert_eq!(state.root(), EMPTY_ROOT);
    assert_eq!(state.code(&keccak256(&code)), Ok(code));
    assert_eq!(state.code(&KECCAK256_EMPTY), Ok(Bytes::new()));
    assert_eq!(state.code(&B256::ZERO), Err(WitnessError::MissingCode { code_hash: B256::ZERO }));
    for (number, hash) in (10..).zip(&hashes) {
        assert_eq!(state.block_hash(number), Ok(*hash));
    }
    for number in [0, 9, 14, u64::MAX] {
        assert_eq!(state.block_hash(number), Err(WitnessError::MissingBlockHash { number }));
    }
    let rooted = PartialState::of_root(&witness, EMPTY_ROOT);
    assert_eq!(
        rooted.block_hash(13),
        Err(WitnessError::MissingBlockHash { number: 13 }),
        "nothing is trusted but a root"
    );
}

#[test]
fn headers_that_nothing_leads_to() {
    let chain = headers(10..14, EMPTY_ROOT);
    let trusted = keccak256(&chain[3]);
    let without = |index: usize| {
        let mut headers = chain.clone();
        headers.remove(index);
        headers.extend(self::headers(8..12, B256::repeat_byte(1)));
        PartialState::after_block(&Witness { headers, ..Witness::default() }, trusted)
    };
    assert_eq!(without(3).err(), Some(WitnessError::MissingHeader { hash: trusted }));
    let state = without(1).unwrap();
    assert!(state.block_hash(12).is_ok() && state.block_hash(13).is_ok());
    for number in 8..12 {
        assert_eq!(state.block_hash(number), Err(WitnessError::MissingBlockHash { number }));
    }
}

#[test]
fn a_parent_with_another_number() {
    for number in [10, 12, 0, u64::MAX] {
        let parent = header(B256::ZERO, number, EMPTY_ROOT);
        let child = header(keccak256(&parent), 12, EMPTY_ROOT);
        let trusted = keccak256(&child);
        let verdict =
            PartialState::after_block(&Witness { headers: vec![child, parent], ..Witness::default() }, trusted);
        assert_eq!(verdict.err(), Some(WitnessError::HeaderNumber { number: 12, parent: number }));
    }
}

#[test]
fn a_header_that_is_none() {
    let sound = header(B256::ZERO, 1, EMPTY_ROOT).to_vec();
    let eight_fields = list(&vec![string(&[1; 32]); 8]);
    for bytes in
        [sound[1..].to_vec(), sound[..sound.len() - 1].to_vec(), [&sound[..], &[0]].concat(), eight_fields, Vec::new()]
    {
        let trusted = keccak256(&bytes);
        let witness = Witness { headers: vec![bytes.into()], ..Witness::default() };
        let verdict = PartialState::after_block(&witness, trusted);
        assert!(matches!(verdict, Err(WitnessError::Header { hash, .. }) if hash == trusted));
    }
}

#[test]
fn more_headers_than_can_be_asked_for() {
    for (count, is_taken) in [(256, true), (257, false)] {
        let headers = headers(0..count, EMPTY_ROOT);
        let trusted = keccak256(headers.last().unwrap());
        let verdict = PartialState::after_block(&Witness { headers, ..Witness::default() }, trusted);
        assert_eq!(verdict.is_ok(), is_taken);
        let too_many = WitnessError::TooManyHeaders { headers: 257, limit: 256 };
        assert_eq!(verdict.err(), (!is_taken).then_some(too_many));
    }
}

#[test]
fn a_slot_without_an_account() {
    let (witness, root) = sound();
    let state = PartialState::of_root(&witness, root);
    for fields in [Fields::Kept, Fields::Deleted] {
        let change = |value| AccountChange { fields, wiped: false, slots: [(SLOT, U256::from(value))].into() };
        let refused = state.root_after(&[(BOB, change(1))].into());
        assert_eq!(refused, Err(WitnessError::SlotWithoutAccount { address: BOB }));
        assert_eq!(state.root_after(&[(BOB, change(0))].into()), Ok(root), "nothing is there to be cleared");
    }
}

fn some_witness() -> Witness {
    let (witness, _) = sound();
    let codes = vec![Bytes::from_static(&[0]), Bytes::from(vec![0x5b; 300])];
    let keys = vec![Bytes::copy_from_slice(ALICE.as_slice()), Bytes::from(SLOT.to_be_bytes::<32>())];
    Witness { codes, keys, headers: headers(3..6, EMPTY_ROOT), ..witness }
}

/// The oracle (`alloy-rlp`) reads the form as geth's list of lists; headers stand in it as lists, oldest first.
#[test]
fn the_form_is_that_of_geth() {
    let witness = some_witness();
    let form = witness.to_rlp();
    let mut parts = Vec::<alloy_rlp::Header>::new();
    let mut rest = &form[..];
    let outer = alloy_rlp::Header::decode(&mut rest).unwrap();
    assert!(outer.list && outer.payload_length == rest.len());
    let mut headers = Vec::new();
    let head = alloy_rlp::Header::decode(&mut rest).unwrap();
    let (mut all, mut strings) = rest.split_at(head.payload_length);
    parts.push(head);
    while !all.is_empty() {
        let whole = all;
        let head = alloy_rlp::Header::decode(&mut all).unwrap();
        all = &all[head.payload_length..];
        headers.push(Bytes::copy_from_slice(&whole[..whole.len() - all.len()]));
    }
    assert_eq!(headers, witness.headers);
    for part in [&witness.codes, &witness.state, &witness.keys] {
        assert_eq!(&Vec::<Bytes>::decode(&mut strings).unwrap(), part);
    }
    assert!(strings.is_empty());
    assert_eq!(Witness::from_rlp(&form), Ok(witness));
    assert_eq!(Witness::from_rlp(&Witness::default().to_rlp()), Ok(Witness::default()));
}

/// Once the form of those versions of geth that know no keys, a list of three, was taken for one that is cut short.
#[test]
fn a_form_without_keys() {
    let witness = Witness { keys: Vec::new(), ..some_witness() };
    let form = witness.to_rlp();
    let Some((0xc0, parts)) = alloy_rlp::Header::decode_bytes(&mut &form[..], true).unwrap().split_last() else {
        panic!("four lists are written, the last one empty")
    };
    assert_eq!(Witness::from_rlp(&list(&[parts.to_vec()])), Ok(witness));
    for (parts, refusal) in [
        (vec![vec![0xc0]; 2], RlpError::Truncated),
        (vec![vec![0xc0]; 5], RlpError::TrailingBytes { bytes: 1 }),
        (vec![vec![0xc0], vec![0xc0], vec![0xc0], vec![0x80]], RlpError::NotAList),
    ] {
        assert_eq!(Witness::from_rlp(&list(&parts)), Err(WitnessError::Form(refusal)));
    }
}

#[test]
fn every_truncation_of_the_form() {
    let form = some_witness().to_rlp();
    for length in 0..form.len() {
        assert!(matches!(Witness::from_rlp(&form[..length]), Err(WitnessError::Form(_))), "{length} bytes");
    }
    let longer = [&form[..], &[0x80]].concat();
    assert_eq!(Witness::from_rlp(&longer), Err(WitnessError::Form(RlpError::TrailingBytes { bytes: 1 })));
    let mut random = Random(3);
    let mut read = 0;
    for place in 0..form.len() {
        let mut changed = form.clone();
        changed[place] = random.other(changed[place]);
        if let Ok(other) = Witness::from_rlp(&changed) {
            assert_eq!(other.to_rlp(), changed, "there is one form of each witness");
            read += 1;
        }
    }
    assert!(read > 0 && read < form.len(), "{read} changed forms are witnesses, too");
}

/// Once every item was copied by itself into a list that doubled as it grew: a hostile form of single bytes took 64 times its length.
#[test]
fn many_short_items_reserve_only_their_places() {
    const ITEMS: usize = 100_000;
    let single = |bytes: &[u8]| vec![Bytes::copy_from_slice(bytes); ITEMS];
    let witness = Witness { state: single(&[1]), codes: single(&[]), ..Witness::default() };
    let read = Witness::from_rlp(&witness.to_rlp()).unwrap();
    assert_eq!(read, witness);
    assert_eq!((read.state.capacity(), read.codes.capacity(), size_of::<Bytes>()), (ITEMS, ITEMS, 32));
    assert!(read.state.windows(2).all(|pair| pair[0].as_ptr().wrapping_add(1) == pair[1].as_ptr()), "one copy of all");
}

#[test]
fn preimages_have_the_keys_of_an_oracle() {
    let witness = some_witness();
    let pairs: Vec<(B256, &Bytes)> = witness.preimages().collect();
    assert_eq!(pairs.len(), witness.state.len() + witness.codes.len() + witness.headers.len());
    for (key, value) in &pairs {
        assert_eq!((key[0], &key[1..]), (2, &keccak256(value)[1..]));
        assert_eq!(*key, preimage_key(value));
    }
    let again = Witness::of_preimages(pairs.into_iter().map(|(_, value)| value.clone()));
    let (_, root) = sound();
    let state = PartialState::of_root(&again, root);
    assert_eq!(state.storage(&ALICE, SLOT), Ok(U256::from(42)));
    assert_eq!(state.code(&keccak256([0])), Ok(Bytes::from_static(&[0])));
}

#[cfg(feature = "serde")]
#[test]
fn the_json_is_an_execution_witness() {
    let witness = some_witness();
    let json = serde_json::to_value(&witness).unwrap();
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["codes", "headers", "keys", "state"]);
    assert_eq!(json["codes"][0], "0x00");
    assert_eq!(json["keys"][0], "0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1");
    assert_eq!(serde_json::from_value::<Witness>(json).unwrap(), witness);
    let least = serde_json::from_str::<Witness>(r#"{"state": [], "codes": ["0x6000"]}"#).unwrap();
    assert_eq!(least.codes, [Bytes::from_static(&[0x60, 0])]);
    // Once the null that geth writes for its keys was refused.
    let null = serde_json::from_str::<Witness>(r#"{"state": [], "codes": ["0x6000"], "keys": null, "headers": null}"#);
    assert_eq!(null.unwrap(), least);
    assert!(
        serde_json::from_str::<Witness>(r#"{"state": null, "codes": []}"#).is_err(),
        "no state is not an empty one"
    );
    assert!(serde_json::from_str::<Witness>(r#"{"state": ["0x0"], "codes": []}"#).is_err(), "half a byte");
}

#[test]
fn messages_tell_the_place() {
    let (witness, root) = sound();
    let without = Witness { state: witness.state[..1].to_vec(), ..Witness::default() };
    let message = PartialState::of_root(&without, root).storage(&ALICE, SLOT).unwrap_err().to_string();
    let hash = storage_root_of(&integer(U256::from(42)));
    assert!(
        message.starts_with(&format!("the node {hash} at the top of the storage of {ALICE} is missing; ")),
        "{message}"
    );
}

/// Every test that the table of refusals names exists.
#[test]
fn the_specification_of_witnesses_names_the_tests() {
    let sources =
        [include_str!("witness.rs"), include_str!("partial.rs"), include_str!("../../../metisdb/src/tests/witness.rs")];
    let table = include_str!("../../../spec/witness.md")
        .lines()
        .filter(|line| line.starts_with("| a ") || line.ends_with("` |"));
    let names: Vec<&str> =
        table.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| name.contains('_')).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(sources.iter().any(|source| source.contains(&format!("#[test]\nfn {name}()"))), "no test {name}");
    }
}
