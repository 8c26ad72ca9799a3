//! What a path's proof must not get away with. Wherever the hashes can be made to fit, they do, so that nothing but the named
//! fault stands against acceptance.

use alloy_primitives::{B256, Bytes, keccak256};

use super::{
    super::{EMPTY_ROOT, NodeError, ProofError, RlpError, verify_path},
    branch, extension, leaf, list, path, prefixed, proof, reference, string,
};

/// A value of 40 bytes, so that its leaf is hashed.
const LONG: [u8; 40] = [0xaa; 40];

/// What the nodes prove of `path` under the root that the first of them has.
fn verify<'a>(path: &B256, nodes: &'a [Bytes]) -> Result<Option<&'a [u8]>, ProofError> {
    verify_path(keccak256(&nodes[0]), path, nodes)
}

/// The fault of the node that a proof is made of, whose root fits.
fn fault(node: &[u8]) -> NodeError {
    fault_at(&[node])
}

/// The fault of the last node of a proof whose root fits.
fn fault_at(nodes: &[&[u8]]) -> NodeError {
    match verify(&path(&[]), &proof(nodes)) {
        Err(ProofError::Node { index, source }) if index + 1 == nodes.len() => source,
        other => panic!("{other:?} instead of a fault in the last node"),
    }
}

/// A leaf of a key that starts with 1.
fn neighbour() -> Vec<u8> {
    leaf(&[0; 63], &LONG)
}

/// The honest proof of the key of 64 zeros, with the value [`LONG`]: a branch, an extension, a branch, a leaf.
fn honest() -> Vec<Bytes> {
    let end = leaf(&[0; 59], &LONG);
    let inner = branch(&[(0, &end), (3, &leaf(&[2; 59], &LONG))]);
    let long = extension(&[0; 3], &inner);
    let root = branch(&[(0, &long), (1, &neighbour())]);
    proof(&[&root, &long, &inner, &end])
}

#[test]
fn the_honest_proof_is_accepted() {
    let nodes = honest();
    assert_eq!(verify(&path(&[]), &nodes), Ok(Some(&LONG[..])));
    assert_eq!(verify(&path(&[2]), &nodes[..1]), Ok(None), "an empty child");
    assert_eq!(verify(&path(&[0, 0, 1]), &nodes[..2]), Ok(None), "another extension");
    assert_eq!(verify(&path(&[0, 0, 0, 0, 0, 1]), &nodes), Ok(None), "another leaf");
    assert_eq!(verify_path(EMPTY_ROOT, &path(&[]), &[]), Ok(None));
    assert_eq!(EMPTY_ROOT, keccak256([0x80]));
}

/// A proof of presence is never one of absence: the path has not been seen to part from the trie.
#[test]
fn a_truncated_proof() {
    let nodes = honest();
    for index in 1..nodes.len() {
        let expected = keccak256(&nodes[index]);
        assert_eq!(verify(&path(&[]), &nodes[..index]), Err(ProofError::Incomplete { index, expected }));
    }
}

#[test]
fn no_nodes_for_a_filled_trie() {
    let root = B256::repeat_byte(7);
    assert_eq!(verify_path(root, &path(&[]), &[]), Err(ProofError::NoNodes { root }));
}

#[test]
fn nodes_for_an_empty_trie() {
    for node in [vec![0x80], leaf(&[0; 64], &LONG)] {
        let expected = Err(ProofError::NodesOfEmptyTrie { nodes: 1 });
        assert_eq!(verify_path(EMPTY_ROOT, &path(&[]), &proof(&[&node])), expected);
    }
}

#[test]
fn nodes_behind_the_end() {
    let mut nodes = honest();
    assert_eq!(verify(&path(&[2]), &nodes), Err(ProofError::Unused { index: 1 }), "behind an empty child");
    assert_eq!(verify(&path(&[0, 0, 1]), &nodes), Err(ProofError::Unused { index: 2 }), "behind an extension");
    nodes.push(neighbour().into());
    assert_eq!(verify(&path(&[]), &nodes), Err(ProofError::Unused { index: 4 }), "behind the leaf");
}

#[test]
fn nodes_in_the_wrong_order() {
    let root = keccak256(&honest()[0]);
    for index in 0..3 {
        let mut nodes = honest();
        nodes.swap(index, index + 1);
        let refusal = verify_path(root, &path(&[]), &nodes);
        assert!(matches!(refusal, Err(ProofError::HashMismatch { index: at, .. }) if at == index), "{refusal:?}");
    }
}

#[test]
fn a_node_given_twice() {
    for index in 0..3 {
        let mut nodes = honest();
        nodes.insert(index, nodes[index].clone());
        assert!(
            matches!(verify(&path(&[]), &nodes), Err(ProofError::HashMismatch { index: at, .. }) if at == index + 1)
        );
    }
    let mut nodes = honest();
    nodes.push(nodes[3].clone());
    assert_eq!(verify(&path(&[]), &nodes), Err(ProofError::Unused { index: 4 }));
}

#[test]
fn nodes_of_another_root_or_place() {
    let nodes = honest();
    let root = B256::repeat_byte(7);
    assert!(matches!(verify_path(root, &path(&[]), &nodes), Err(ProofError::HashMismatch { index: 0, .. })));
    let spliced = [&nodes[..1], &[neighbour().into()]].concat();
    assert!(matches!(verify(&path(&[]), &spliced), Err(ProofError::HashMismatch { index: 1, .. })));
}

/// A value may well be the hash of a node; it is a value all the same.
#[test]
fn a_leaf_value_taken_for_a_reference() {
    let target = leaf(&[0; 63], &LONG);
    let hash = keccak256(&target);
    let root = leaf(&[0; 64], hash.as_slice());
    assert_eq!(verify(&path(&[]), &proof(&[&root])), Ok(Some(hash.as_slice())));
    assert_eq!(verify(&path(&[]), &proof(&[&root, &target])), Err(ProofError::Unused { index: 1 }));
    let embedded = list(&[prefixed(&[0; 64], true), leaf(&[], &[1])]);
    assert_eq!(fault(&embedded), NodeError::Rlp(RlpError::NotAString), "a node in the place of a value");
}

#[test]
fn a_hash_of_a_short_node() {
    let short = leaf(&[], &[1]);
    let by_hash = string(keccak256(&short).as_slice());
    let mut items = vec![string(&[]); 17];
    (items[0], items[1]) = (by_hash, leaf(&[], &[2]));
    let end = list(&items);
    let root = extension(&[0; 63], &end);
    let refused = |index| Err(ProofError::Node { index, source: NodeError::TooShort { bytes: 3 } });
    assert_eq!(verify(&path(&[]), &proof(&[&root, &end, &short])), refused(2));
    assert_eq!(verify(&path(&[]), &proof(&[&short])), refused(0));
}

#[test]
fn an_embedded_node_of_32_bytes() {
    for (bytes, expected) in [(31, None), (32, Some(NodeError::EmbeddedTooLong { bytes: 32 }))] {
        let value = vec![0xaa; bytes - 3];
        let embedded = leaf(&[0], &value);
        assert_eq!(embedded.len(), bytes);
        let mut items = vec![string(&[]); 17];
        (items[0], items[1]) = (embedded, reference(&LONG));
        let end = list(&items);
        let nodes = proof(&[&extension(&[0; 62], &end), &end]);
        let expected = expected.map_or(Ok(Some(&value[..])), |source| Err(ProofError::Node { index: 1, source }));
        assert_eq!(verify(&path(&[]), &nodes), expected);
    }
}

/// What stands inside its parent is not listed a second time.
#[test]
fn an_embedded_node_that_is_listed() {
    let short = leaf(&[], &[1]);
    let root = extension(&[0; 63], &branch(&[(0, &short), (1, &leaf(&[], &[2]))]));
    assert_eq!(verify(&path(&[]), &proof(&[&root])), Ok(Some(&[1][..])));
    assert_eq!(verify(&path(&[]), &proof(&[&root, &short])), Err(ProofError::Unused { index: 1 }));
}

#[test]
fn a_leaf_before_or_beyond_the_end_of_its_path() {
    for count in [0, 1, 62, 63, 65, 66, 1_000] {
        assert_eq!(fault(&leaf(&vec![0; count], &LONG)), NodeError::LeafDepth { nibbles: count });
        assert_eq!(fault(&leaf(&vec![1; count], &LONG)), NodeError::LeafDepth { nibbles: count }, "off the path");
    }
    let long = leaf(&[0; 64], &LONG);
    let root = branch(&[(0, &long), (1, &neighbour())]);
    assert_eq!(fault_at(&[&root, &long]), NodeError::LeafDepth { nibbles: 65 });
}

#[test]
fn a_branch_or_extension_that_goes_too_deep() {
    let end = branch(&[(0, &leaf(&[], &[1])), (1, &leaf(&[], &[2]))]);
    assert_eq!(verify(&path(&[]), &proof(&[&extension(&[0; 63], &end)])), Ok(Some(&[1][..])), "the limit");
    for count in [64, 65, 1_000] {
        assert_eq!(fault(&extension(&vec![0; count], &end)), NodeError::TooDeep { nibbles: count });
        assert_eq!(fault(&extension(&vec![5; count], &end)), NodeError::TooDeep { nibbles: count }, "off the path");
    }
    let below = branch(&[(0, &LONG), (1, &LONG)]);
    let last = branch(&[(0, &below), (1, &LONG)]);
    assert_eq!(fault_at(&[&extension(&[0; 63], &last), &last, &below]), NodeError::TooDeep { nibbles: 64 });
    let last = branch(&[(0, &end), (1, &leaf(&[], &[2]))]);
    assert_eq!(fault_at(&[&extension(&[0; 63], &last), &last]), NodeError::TooDeep { nibbles: 64 }, "embedded");
}

/// 64 branches and a leaf; for a branch more there is no nibble left.
#[test]
fn a_proof_longer_than_the_longest() {
    let chain = |branches: usize| {
        let mut nodes = vec![leaf(&vec![0; 64_usize.saturating_sub(branches)], &LONG)];
        for depth in (0..branches).rev() {
            let neighbour = leaf(&vec![0; 63_usize.saturating_sub(depth)], &LONG);
            nodes.insert(0, branch(&[(0, &nodes[0]), (1, &neighbour)]));
        }
        nodes.into_iter().map(Bytes::from).collect::<Vec<_>>()
    };
    let longest = chain(64);
    assert_eq!((longest.len(), verify(&path(&[]), &longest)), (65, Ok(Some(&LONG[..]))));
    let fault = ProofError::Node { index: 64, source: NodeError::TooDeep { nibbles: 64 } };
    assert_eq!(verify(&path(&[]), &chain(65)), Err(fault));
}

#[test]
fn hex_prefixes_that_do_not_exist() {
    for flag in 4..16 {
        let bytes = [&[flag << 4][..], &[0; 32]].concat();
        assert_eq!(fault(&list(&[string(&bytes), string(&LONG)])), NodeError::PrefixFlag { flag });
    }
    assert_eq!(fault(&list(&[string(&[]), string(&LONG)])), NodeError::PrefixMissing);
    assert_eq!(fault(&list(&[leaf(&[], &[1]), string(&LONG)])), NodeError::Rlp(RlpError::NotAString));
}

#[test]
fn padding_that_is_not_zero() {
    for padding in 1..16 {
        for flag in [0x00, 0x20] {
            let bytes = [&[flag | padding][..], &[0; 32]].concat();
            assert_eq!(fault(&list(&[string(&bytes), string(&LONG)])), NodeError::PrefixPadding { padding });
        }
    }
}

#[test]
fn an_extension_of_nothing() {
    let end = branch(&[(0, &neighbour()), (1, &neighbour())]);
    assert_eq!(fault(&extension(&[], &end)), NodeError::ExtensionEmpty);
}

#[test]
fn an_extension_without_a_child() {
    assert_eq!(fault(&list(&[prefixed(&[0; 62], false), string(&[])])), NodeError::ExtensionChildMissing);
}

/// An honest trie merges an extension with what it leads to, unless that is a branch.
#[test]
fn an_extension_to_a_leaf_or_extension() {
    let end = leaf(&[0; 60], &LONG);
    assert_eq!(fault_at(&[&extension(&[0; 4], &end), &end]), NodeError::ExtensionChild);
    let end = branch(&[(0, &leaf(&[0; 55], &LONG)), (1, &LONG)]);
    let inner = extension(&[0; 4], &end);
    assert_eq!(fault_at(&[&extension(&[0; 4], &inner), &inner]), NodeError::ExtensionChild);
    for nibble in [0, 1] {
        let embedded = extension(&[nibble; 62], &leaf(&[0; 2], &[1]));
        assert_eq!(fault(&embedded), NodeError::ExtensionChild, "nibble {nibble}");
    }
}

#[test]
fn a_branch_with_fewer_than_two_children() {
    assert_eq!(fault(&branch(&[(0, &neighbour())])), NodeError::BranchChildren { children: 1 });
    assert_eq!(fault(&branch(&[(9, &neighbour())])), NodeError::BranchChildren { children: 1 }, "off the path");
    let single = branch(&[(0, &leaf(&[], &[1]))]);
    assert_eq!(fault(&extension(&[0; 63], &single)), NodeError::BranchChildren { children: 1 }, "embedded");
    assert_eq!(fault(&extension(&[0; 63], &branch(&[]))), NodeError::BranchChildren { children: 0 });
}

#[test]
fn a_branch_with_a_value() {
    for value in [string(&[1]), string(&LONG)] {
        let mut items = vec![reference(&neighbour()); 16];
        items.push(value);
        assert_eq!(fault(&list(&items)), NodeError::BranchValue);
    }
}

#[test]
fn a_list_of_another_count() {
    for count in [1, 3, 15, 16, 18, 19, 200] {
        let node = list(&vec![reference(&LONG); count]);
        assert_eq!(fault(&node), NodeError::ItemCount { items: count.min(18) });
    }
    assert_eq!(fault(&extension(&[0; 63], &[0xc0])), NodeError::ItemCount { items: 0 });
    assert_eq!(fault(&string(&LONG)), NodeError::Rlp(RlpError::NotAList));
}

#[test]
fn a_child_that_is_neither_hash_nor_node() {
    for bytes in [1, 31, 33, 40] {
        let mut items = vec![reference(&neighbour()); 17];
        (items[9], items[16]) = (string(&LONG[..bytes]), string(&[]));
        assert_eq!(fault(&list(&items)), NodeError::ChildLength { bytes });
        let node = list(&[prefixed(&[0; 62], false), string(&LONG[..bytes])]);
        assert_eq!(fault(&node), NodeError::ChildLength { bytes });
    }
}

#[test]
fn a_leaf_without_a_value() {
    assert_eq!(fault(&leaf(&[0; 64], &[])), NodeError::LeafEmpty);
}

#[test]
fn bytes_behind_a_node() {
    let node = [leaf(&[0; 64], &LONG), vec![0]].concat();
    assert_eq!(fault(&node), NodeError::Rlp(RlpError::TrailingBytes { bytes: 1 }));
}

#[test]
fn lengths_and_bytes_that_are_not_minimal() {
    let honest = leaf(&[0; 64], &[5; 10]);
    assert_eq!(honest[0], 0xc0 + 45);
    let node = [vec![0xf8, 45], honest[1..].to_vec()].concat();
    assert_eq!(fault(&node), NodeError::Rlp(RlpError::LengthNotMinimal));
    let node = list(&[prefixed(&[0; 64], true), vec![0x81, 5]]);
    assert_eq!(fault(&node), NodeError::Rlp(RlpError::ByteNotMinimal));
    let node = list(&[prefixed(&[0; 64], true), [vec![0xb8, 40], LONG.to_vec()].concat()]);
    assert_eq!(fault(&node), NodeError::Rlp(RlpError::LengthNotMinimal));
}

/// Nothing is allocated, and nothing overflows, for a length that is only announced.
#[test]
fn lengths_beyond_the_node() {
    for head in [0xbb, 0xbf, 0xfb, 0xff] {
        let node = [vec![head], vec![0xff; 40]].concat();
        assert_eq!(fault(&node), NodeError::Rlp(RlpError::Truncated));
        let node = list(&[prefixed(&[0; 64], true), node]);
        assert_eq!(fault(&node), NodeError::Rlp(RlpError::Truncated));
    }
}

/// What is embedded in a node of the proof is seen, so it must be sound off the path as well.
#[test]
fn an_unsound_embedded_node_off_the_path() {
    let honest = leaf(&[], &[1]);
    let cases = [
        (vec![0xc0], NodeError::ItemCount { items: 0 }),
        (leaf(&[1], &[2]), NodeError::LeafDepth { nibbles: 65 }),
        (leaf(&[], &[]), NodeError::LeafEmpty),
        (list(&[vec![0x40], vec![1]]), NodeError::PrefixFlag { flag: 4 }),
        (vec![0xc3, 0x20, 0x81, 0x05], NodeError::Rlp(RlpError::ByteNotMinimal)),
    ];
    for (unsound, expected) in cases {
        let root = extension(&[0; 63], &branch(&[(0, &honest), (1, &unsound)]));
        assert_eq!(fault(&root), expected);
    }
}

/// Below an embedded node off the path, the same nibbles may follow as on it.
#[test]
fn a_value_embedded_off_the_path() {
    let twins = |value: u8| branch(&[(0, &leaf(&[], &[value])), (1, &leaf(&[], &[value + 1]))]);
    let end = branch(&[(0, &twins(1)), (1, &twins(3))]);
    let nodes = proof(&[&extension(&[0; 62], &end), &end]);
    let long = branch(&[(0, &extension(&[0], &twins(1))), (1, &extension(&[0], &twins(3)))]);
    let long_nodes = proof(&[&extension(&[0; 61], &long), &long]);
    for (nibble, value) in [(0, Some(&[1][..])), (1, Some(&[3])), (2, None)] {
        assert_eq!(verify(&path(&[&[0; 62][..], &[nibble]].concat()), &nodes), Ok(value), "branches");
        assert_eq!(verify(&path(&[&[0; 61][..], &[nibble]].concat()), &long_nodes), Ok(value), "extensions");
    }
}

/// Lists in lists neither recurse nor pile up.
#[test]
fn lists_in_lists() {
    let mut node = string(&LONG);
    for _ in 0..10_000 {
        node = list(&[prefixed(&[0], false), node]);
    }
    assert!(matches!(fault(&node), NodeError::EmbeddedTooLong { .. }));
    let mut node = vec![0xc0];
    while node.len() < 28 {
        node = list(&[prefixed(&[0], false), node]);
    }
    assert_eq!(fault(&extension(&[0; 62], &node)), NodeError::ExtensionChild);
    let end = branch(&[(0, &node), (1, &leaf(&[], &[1]))]);
    assert_eq!(fault_at(&[&extension(&[0; 63], &end), &end]), NodeError::TooDeep { nibbles: 65 });
}

/// The message names the node and the reason.
#[test]
fn messages_tell_where_and_why() {
    let error = verify(&path(&[]), &proof(&[&leaf(&[0; 63], &LONG)])).expect_err("a short leaf");
    assert_eq!(
        error.to_string(),
        "node 0 cannot stand in a state trie: a leaf ends a path at 63 nibbles; all paths have 64"
    );
}
