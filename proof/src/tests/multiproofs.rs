//! Proofs of many paths: one list of nodes is accepted, and what it proves.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{
    super::{EMPTY_ROOT, MultiProof, NodeError, ProofError, RlpError, verify_paths},
    Random, branch, claims,
    claims::world,
    extension, leaf, path, proof,
    tries::{Entries, prove, random_entries, random_paths},
};
use crate::{AccountClaim, AccountProof, SlotClaim};

const LONG: [u8; 40] = [0xaa; 40];

/// A trie of three keys, `0…`, `03…` behind an extension, and `1…`, and its nodes in their order.
fn honest() -> (B256, [B256; 3], Vec<Bytes>) {
    let (low, high) = (leaf(&[0; 61], &LONG), leaf(&[2; 61], &LONG));
    let inner = branch(&[(0, &low), (3, &high)]);
    let long = extension(&[0], &inner);
    let right = leaf(&[0; 63], &LONG);
    let root = branch(&[(0, &long), (1, &right)]);
    let nodes = proof(&[&root, &long, &inner, &low, &high, &right]);
    let second: Vec<u8> = [&[0, 0, 3][..], &[2; 61]].concat();
    (keccak256(&nodes[0]), [path(&[]), path(&second), path(&[1])], nodes)
}

fn refusal(nodes: &[Bytes]) -> ProofError {
    let (root, paths, _) = honest();
    verify_paths(root, &paths, nodes).expect_err("a list of nodes that is not the honest one")
}

#[test]
fn the_honest_multiproof_is_accepted() {
    let (root, paths, nodes) = honest();
    assert_eq!(verify_paths(root, &paths, &nodes), Ok(vec![Some(&LONG[..]); 3]));
    let absent = [path(&[0, 1]), path(&[2])];
    assert_eq!(verify_paths(root, &absent, &nodes[..2]), Ok(vec![None, None]), "extension and empty child");
    assert_eq!(verify_paths(root, &[], &[]), Ok(vec![]));
    assert_eq!(MultiProof::default().verify(root), Ok(()), "nothing is claimed");
    assert_eq!(
        MultiProof { nodes: nodes.clone(), ..MultiProof::default() }.verify(root),
        Err(ProofError::Unused { index: 0 })
    );
    assert_eq!(verify_paths(EMPTY_ROOT, &paths, &[]), Ok(vec![None; 3]));
}

#[test]
fn a_multiproof_without_a_node() {
    let (root, _, nodes) = honest();
    assert_eq!(refusal(&[]), ProofError::NoNodes { root });
    for index in 0..nodes.len() {
        let mut fewer = nodes.clone();
        let expected = keccak256(fewer.remove(index));
        match refusal(&fewer) {
            ProofError::Incomplete { index: at, expected: missing } => {
                assert_eq!((at, missing), (fewer.len(), expected), "the last one");
                assert_eq!(index, fewer.len());
            }
            ProofError::HashMismatch { index: at, expected: missing, .. } => {
                assert_eq!((at, missing), (index, expected))
            }
            other => panic!("{other:?}"),
        }
    }
    for count in 1..nodes.len() {
        let expected = keccak256(&nodes[count]);
        assert_eq!(refusal(&nodes[..count]), ProofError::Incomplete { index: count, expected });
    }
}

#[test]
fn a_multiproof_with_a_node_too_many() {
    let (_, _, nodes) = honest();
    for index in 0..=nodes.len() {
        for donor in &nodes {
            let mut more = nodes.clone();
            more.insert(index, donor.clone());
            let named = match refusal(&more) {
                ProofError::Unused { index } | ProofError::HashMismatch { index, .. } => index,
                other => panic!("{other:?}"),
            };
            assert!(named >= index, "node {named} is named, {index} is too many");
        }
    }
    let (root, paths, _) = honest();
    let refusal = verify_paths(root, &paths[..2], &nodes).expect_err("nothing leads to the last node");
    assert_eq!(refusal, ProofError::Unused { index: 5 });
    let refusal = verify_paths(root, &[], &nodes).expect_err("nothing is asked for");
    assert_eq!(refusal, ProofError::Unused { index: 0 });
}

#[test]
fn a_multiproof_in_another_order() {
    let (_, _, nodes) = honest();
    for first in 0..nodes.len() {
        for second in first + 1..nodes.len() {
            let mut other = nodes.clone();
            other.swap(first, second);
            assert!(matches!(refusal(&other), ProofError::HashMismatch { index, .. } if index == first));
        }
    }
}

#[test]
fn paths_that_do_not_ascend() {
    let (root, [first, second, third], nodes) = honest();
    for paths in [[first, third, second], [first, second, second]] {
        assert_eq!(verify_paths(root, &paths, &nodes), Err(ProofError::KeyOrder { index: 2 }));
    }
}

/// The leaf of one path, embedded in a branch, is unsound: it is seen on the way of another.
#[test]
fn an_unsound_embedded_node_beside_the_paths() {
    let short = leaf(&[], &[1]);
    let deep = branch(&[(0, &short), (5, &leaf(&[7], &[1]))]);
    let root = extension(&[0; 63], &deep);
    let nodes = proof(&[&root, &deep]);
    let source = NodeError::LeafDepth { nibbles: 65 };
    let expected =
        if deep.len() < 32 { ProofError::Node { index: 0, source } } else { ProofError::Node { index: 1, source } };
    let nodes = if deep.len() < 32 { &nodes[..1] } else { &nodes[..] };
    assert_eq!(verify_paths(keccak256(&root), &[path(&[])], nodes), Err(expected));
}

/// For random tries, the list is made of the lists of single paths, and no other is accepted; the values are those of the trie.
#[test]
fn multiproofs_of_random_tries() {
    let (mut shared, mut changed) = (0, 0);
    for seed in 0..400 {
        let mut random = Random(seed);
        let entries = random_entries(&mut random);
        let mut paths = random_paths(&entries, &mut random);
        paths.sort_unstable();
        paths.dedup();
        let (root, nodes, singly) = join(&entries, &paths);
        let values: Vec<Option<&[u8]>> = paths.iter().map(|path| entries.get(path).map(Vec::as_slice)).collect();
        assert_eq!(verify_paths(root, &paths, &nodes), Ok(values.clone()), "seed {seed}");
        shared += singly - nodes.len();
        for index in 0..nodes.len() {
            let mut other = nodes.clone();
            let place = random.below(other[index].len());
            let mut bytes = other[index].to_vec();
            bytes[place] = random.other(bytes[place]);
            other[index] = bytes.into();
            assert!(verify_paths(root, &paths, &other).is_err(), "seed {seed}, node {index}, byte {place}");
            other.remove(index);
            assert!(verify_paths(root, &paths, &other).is_err(), "seed {seed}, without node {index}");
            changed += 1;
        }
    }
    println!("{shared} nodes were shared, {changed} were changed");
    assert!(shared > 1_000 && changed > 1_000);
}

/// The nodes of the proofs of single paths, by an independent implementation, joined in the order of their places; and how many
/// they were singly.
fn join(entries: &Entries, paths: &[B256]) -> (B256, Vec<Bytes>, usize) {
    let (root, proofs) = prove(entries, paths);
    let mut nodes: Vec<Bytes> = Vec::new();
    let mut before: &[Bytes] = &[];
    for proof in &proofs {
        // Two lists agree from the root on as far as the paths lead to the same nodes.
        let same = before.iter().zip(&proof.nodes).take_while(|(one, other)| one == other).count();
        nodes.extend_from_slice(&proof.nodes[same..]);
        before = &proof.nodes;
    }
    (root, nodes, proofs.iter().map(|proof| proof.nodes.len()).sum())
}

/// The claims of single proofs, as one multiproof.
fn multiproof(root: B256, mut singles: Vec<AccountProof>) -> MultiProof {
    singles.sort_by_key(|proof| keccak256(proof.address));
    let mut proof = MultiProof::default();
    let mut before: Vec<Bytes> = Vec::new();
    for AccountProof { address, account, storage_root, nodes, mut slots } in singles {
        let same = before.iter().zip(&nodes).take_while(|(one, other)| one == other).count();
        proof.nodes.extend_from_slice(&nodes[same..]);
        before = nodes;
        slots.sort_by_key(|slot| claims::hash_slot(slot.slot));
        slots.dedup_by_key(|slot| slot.slot);
        let mut claim = AccountClaim { address, account, storage_root, slots: Vec::new(), nodes: Vec::new() };
        let mut above: Vec<Bytes> = Vec::new();
        for slot in slots {
            let same = above.iter().zip(&slot.nodes).take_while(|(one, other)| one == other).count();
            claim.nodes.extend_from_slice(&slot.nodes[same..]);
            above = slot.nodes;
            claim.slots.push(SlotClaim { slot: slot.slot, value: slot.value });
        }
        proof.accounts.push(claim);
    }
    assert_eq!(proof.verify(root), Ok(()));
    proof
}

/// Why a changed multiproof of an account with slots is refused.
fn claim_refusal(change: impl FnOnce(&mut MultiProof)) -> ProofError {
    let (root, singles) = world(3);
    let mut proof = multiproof(root, singles);
    change(&mut proof);
    proof.verify(root).expect_err("a changed claim is accepted")
}

/// The first account that has slots that are set.
fn filled(proof: &mut MultiProof) -> &mut AccountClaim {
    let with_slots = |claim: &&mut AccountClaim| claim.slots.len() > 2;
    proof.accounts.iter_mut().find(with_slots).expect("there is one")
}

#[test]
fn a_multiproof_that_claims_something_else() {
    for seed in 0..20 {
        let (root, singles) = world(seed);
        multiproof(root, singles);
    }
    let existence = claim_refusal(|proof| filled(proof).account = None);
    assert!(matches!(existence, ProofError::AccountMismatch { what: "existence", .. }));
    let root = claim_refusal(|proof| filled(proof).storage_root = EMPTY_ROOT);
    assert!(matches!(root, ProofError::AccountMismatch { what: "storage root", .. }));
    let value = claim_refusal(|proof| filled(proof).slots[0].value ^= U256::ONE);
    assert!(matches!(value, ProofError::Storage { source, .. } if matches!(*source, ProofError::Slot { .. })));
    let absent = |proof: &mut MultiProof| proof.accounts.iter().position(|claim| claim.account.is_none()).expect("one");
    let storage = claim_refusal(|proof| {
        let index = absent(proof);
        proof.accounts[index].slots[0].value = U256::ONE;
    });
    assert!(matches!(storage, ProofError::Storage { .. }));
}

#[test]
fn accounts_or_slots_that_do_not_ascend() {
    assert_eq!(claim_refusal(|proof| proof.accounts.swap(0, 1)), ProofError::KeyOrder { index: 1 });
    let twice = claim_refusal(|proof| proof.accounts.insert(1, proof.accounts[0].clone()));
    assert_eq!(twice, ProofError::KeyOrder { index: 1 });
    let slots = claim_refusal(|proof| filled(proof).slots.swap(1, 2));
    assert!(matches!(slots, ProofError::Storage { source, .. } if *source == ProofError::KeyOrder { index: 2 }));
}

#[test]
fn slots_or_accounts_that_are_left_out() {
    // What is not claimed has no nodes to prove it.
    let slot = claim_refusal(|proof| filled(proof).slots.truncate(2));
    assert!(matches!(slot, ProofError::Storage { source, .. }
        if matches!(*source, ProofError::Unused { .. } | ProofError::HashMismatch { .. })));
    let other = claim_refusal(|proof| filled(proof).address = Address::ZERO);
    assert!(matches!(
        other,
        ProofError::KeyOrder { .. }
            | ProofError::HashMismatch { .. }
            | ProofError::Unused { .. }
            | ProofError::AccountMismatch { .. }
    ));
    let nodes = claim_refusal(|proof| {
        let index =
            proof.accounts.iter().position(|claim| claim.slots.is_empty() || claim.account.is_none()).unwrap_or(0);
        proof.accounts[index].nodes.push(proof.nodes[0].clone());
    });
    assert!(matches!(nodes, ProofError::Storage { .. }), "nodes that no slot needs");
}

#[test]
fn a_storage_of_another_account() {
    let refusal = claim_refusal(|proof| {
        let donor = filled(proof).clone();
        let other = proof.accounts.iter_mut().rfind(|claim| claim.storage_root != donor.storage_root).expect("another");
        (other.slots, other.nodes) = (donor.slots, donor.nodes);
    });
    assert!(matches!(refusal, ProofError::Storage { .. }));
}

#[test]
fn leaves_of_another_form_in_a_multiproof() {
    let (address, slot) = (Address::repeat_byte(1), U256::from(2));
    let top = leaf(&super::nibbles(&keccak256(address)), &[0xc0]);
    let claim = AccountClaim { address, account: None, storage_root: EMPTY_ROOT, slots: Vec::new(), nodes: Vec::new() };
    let multi = MultiProof { accounts: vec![claim], nodes: proof(&[&top]) };
    let expected = ProofError::Leaf { index: 0, what: "an account", source: RlpError::Truncated };
    assert_eq!(multi.verify(keccak256(&top)), Err(expected));

    let (root, single) = claims::forged(&[], &[0x80]);
    let AccountProof { address, account, storage_root, nodes, slots } = single;
    let claim = SlotClaim { slot, value: U256::ZERO };
    let claim = AccountClaim { address, account, storage_root, slots: vec![claim], nodes: slots[0].nodes.clone() };
    let refusal = MultiProof { accounts: vec![claim], nodes }.verify(root).expect_err("a leaf of zero");
    assert!(refusal.to_string().contains("holds zero"), "{refusal}");
}
