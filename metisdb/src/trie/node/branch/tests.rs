//! Branches that are shared, by threads too, and freed once.

use std::thread;

use alloy_primitives::B256;

use super::*;
use crate::trie::{
    commitment::Reference,
    node::{Child, KeyTag, Leaf, Link, NodeRef},
};

fn leaf(number: u64) -> Child {
    let link = Link::Leaf(Leaf { key: KeyTag::of(number), storage: None });
    Child { reference: Reference::hash(B256::with_last_byte(number as u8)), link }
}

/// A branch of as many children as can be, each over one of two leaves.
fn grown(width: u8) -> Branch {
    let mut children = Children::default();
    for nibble in 0..width {
        let mut below = Children::default();
        below.set(1, Some(leaf(u64::from(nibble))));
        below.set(9, Some(leaf(100 + u64::from(nibble))));
        let link = Link::Branch(NodeRef::Memory(Branch::new(Nibbles::EMPTY, below)));
        children.set(nibble, Some(Child { reference: Reference::hash(B256::with_last_byte(nibble)), link }));
    }
    Branch::new(Nibbles::of(&B256::repeat_byte(0x5a), 0, 7), children)
}

/// The tag of the leaf at the end of two steps.
fn tag_below(branch: &Branch, nibble: u8) -> Option<u64> {
    let Link::Branch(NodeRef::Memory(below)) = branch.children().get(nibble)?.link else { return None };
    let Link::Leaf(leaf) = below.children().get(9)?.link else { return None };
    Some(leaf.key.get())
}

#[test]
fn a_branch_is_what_it_was_made_of() {
    for width in 2..=16 {
        let branch = grown(width);
        assert_eq!((branch.prefix().len(), branch.children().mask().count_ones()), (7, u32::from(width)));
        for nibble in 0..16 {
            let expected = (nibble < width).then_some(100 + u64::from(nibble));
            assert_eq!(tag_below(&branch, nibble), expected);
        }
    }
}

/// What is below stays for as long as anybody holds it, and what a vector gave away is not dropped by it.
#[test]
fn what_is_below_lives_as_long_as_a_holder() {
    let branch = grown(4);
    let Some(Child { link: Link::Branch(NodeRef::Memory(below)), .. }) = branch.children().get(2) else {
        panic!("it was set")
    };
    let copy = branch.clone();
    drop(branch);
    assert_eq!(tag_below(&copy, 3), Some(103));
    drop(copy);
    // Other branches take the cells that are free now.
    let others: Vec<Branch> = (2..=16).map(grown).collect();
    assert_eq!(below.children().get(1).map(|child| child.reference), Some(Reference::hash(B256::with_last_byte(2))));
    drop(others);
}

/// The nibble was counted in a byte: from the 255th round on the test failed. And what the last holder saw of the others stood behind a fence, so
/// that the thread sanitizer reported a race wherever two threads had held a branch.
#[test]
fn threads_share_a_branch() {
    let branch = grown(16);
    thread::scope(|scope| {
        for seed in 0..3 {
            let mut own = branch.clone();
            scope.spawn(move || {
                for round in seed..seed + if cfg!(miri) { 5 } else { 2_000 } {
                    let copy = own.clone();
                    drop(std::mem::replace(&mut own, copy));
                    let nibble = (round % 16) as u8;
                    assert_eq!(tag_below(&own, nibble), Some(100 + u64::from(nibble)));
                }
            });
        }
        drop(branch);
    });
}
