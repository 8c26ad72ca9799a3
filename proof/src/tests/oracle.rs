//! Proofs made by an independent implementation are accepted, with the value that its trie holds.

use super::{
    super::verify_path,
    Random,
    tries::{PathProof, oracle, prove, random_entries, random_paths},
};

/// The proofs of some random tries.
pub(super) fn proofs(seeds: std::ops::Range<u64>) -> Vec<PathProof> {
    let of_one = |seed| {
        let mut random = Random(seed);
        let entries = random_entries(&mut random);
        let paths = random_paths(&entries, &mut random);
        prove(&entries, &paths).1
    };
    seeds.flat_map(of_one).collect()
}

#[test]
fn honest_proofs_are_accepted() {
    let mut seen = [0; 6];
    for (index, proof) in proofs(0..2_000).into_iter().enumerate() {
        let PathProof { root, path, nodes, value, is_embedded } = &proof;
        assert!(oracle(*root, path, value.as_deref(), nodes), "the oracle refuses its own proof {index}: {proof:?}");
        assert_eq!(verify_path(*root, path, nodes), Ok(value.as_deref()), "proof {index}: {proof:?}");
        let kinds = [true, value.is_some(), value.is_none(), *is_embedded, nodes.is_empty(), nodes.len() > 4];
        for (count, is_such) in seen.iter_mut().zip(kinds) {
            *count += u32::from(is_such);
        }
    }
    println!("[proofs, of presence, of absence, with embedded nodes, of empty tries, of 5 nodes or more]: {seen:?}");
    assert!(seen.iter().all(|&count| count > 200), "a kind of proof is too rare: {seen:?}");
}
