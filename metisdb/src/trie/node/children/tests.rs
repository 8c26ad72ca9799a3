//! Packed children against a map of plain ones.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use super::*;
use crate::{tests::Random, trie::nibbles::Nibbles};

/// What tells one child from another: how it is referred to, and where it and its storage lead, branches in memory by their address.
type Told = (Vec<u8>, (u8, u64), Option<(Vec<u8>, (u8, u64))>);

fn told(child: &Child) -> Told {
    let end = |link: &Link| match link {
        Link::Leaf(leaf) => (0, leaf.key.get()),
        Link::Branch(NodeRef::Arena(place)) => (1, place.get()),
        Link::Branch(NodeRef::Memory(branch)) => (2, branch.address()),
    };
    let storage = match &child.link {
        Link::Leaf(leaf) => leaf.storage.as_ref().map(|top| (top.reference.as_bytes().to_vec(), end(&top.link))),
        Link::Branch(_) => None,
    };
    (child.reference.as_bytes().to_vec(), end(&child.link), storage)
}

fn draw_place(random: &mut Random) -> Place {
    Place::new(8192 + random.below(1 << 40)).unwrap()
}

fn draw_node(random: &mut Random) -> NodeRef {
    if random.one_in(2) {
        return NodeRef::Arena(draw_place(random));
    }
    let mut children = Children::default();
    for nibble in 0..2 {
        let link = Link::Leaf(Leaf { key: KeyTag::of(random.next()), storage: None });
        children.set(nibble, Some(Child { reference: Reference::hash(B256::ZERO), link }));
    }
    NodeRef::Memory(Branch::new(Nibbles::EMPTY, children))
}

fn draw_child(random: &mut Random) -> Child {
    let hash = |random: &mut Random| Reference::hash(B256::repeat_byte(random.next() as u8));
    let link = match random.below(4) {
        0 | 1 => Link::Branch(draw_node(random)),
        kind => {
            // Small ones, too: they are no numbers.
            let limit = if random.one_in(2) { 3 } else { u64::MAX };
            let key = KeyTag::of(random.below(limit));
            let top = match random.below(3) {
                0 => Link::Leaf(Leaf { key: KeyTag::of(random.below(3)), storage: None }),
                _ => Link::Branch(draw_node(random)),
            };
            let storage = (kind == 3).then(|| Arc::new(Child { reference: hash(random), link: top }));
            Link::Leaf(Leaf { key, storage })
        }
    };
    let reference = if random.one_in(4) { Reference::embedded(&[0xc3, 1, 2, 3]) } else { hash(random) };
    Child { reference, link }
}

fn assert_same(children: &Children, model: &BTreeMap<u8, Child>, case: &str) {
    let all: Vec<(u8, Told)> = children.view().iter().map(|(nibble, child)| (nibble, told(&child))).collect();
    let expected: Vec<(u8, Told)> = model.iter().map(|(nibble, child)| (*nibble, told(child))).collect();
    assert_eq!(all, expected, "{case}");
    let referred = children.view().references().map(|referred| match referred {
        Referred::Nothing => Vec::new(),
        Referred::Hash(hash) => hash.to_vec(),
        Referred::Node(node) => node.to_vec(),
    });
    let none = Vec::new();
    let expected = (0..16).map(|nibble| model.get(&nibble).map_or(none.clone(), |child| told(child).0));
    assert!(referred.eq(expected), "{case}");
    let in_memory: Vec<u64> = children.view().in_memory().map(|branch| branch.address()).collect();
    let ends = model.values().map(told).flat_map(|(_, end, storage)| [Some(end), storage.map(|storage| storage.1)]);
    let expected: Vec<u64> = ends.flatten().filter(|(kind, _)| *kind == 2).map(|(_, pointer)| pointer).collect();
    assert_eq!(in_memory, expected, "{case}");
    assert_eq!(children.branches.len(), expected.len(), "{case}: what no entry leads to is let go");
    for nibble in 0..16 {
        let ways = [false, true].map(|into_storage| match children.view().way(nibble, into_storage) {
            None => None,
            Some(Way::Leaf) => Some((0, 0)),
            Some(Way::Arena(place)) => Some((1, place.get())),
            Some(Way::Memory(branch)) => Some((2, branch.address())),
        });
        let bare = |(kind, value): (u8, u64)| if kind == 0 { (0, 0) } else { (kind, value) };
        let expected = model.get(&nibble).map(told);
        let own = expected.as_ref().map(|told| bare(told.1));
        let storage = expected.and_then(|told| told.2).map(|told| bare(told.1));
        assert_eq!(ways, [own, storage], "{case}, nibble {nibble}");
    }
}

#[test]
fn packed_children_are_those_that_were_set() {
    for seed in 0..if cfg!(miri) { 2 } else { 200 } {
        let mut random = Random(seed);
        let (mut children, mut model) = (Children::default(), BTreeMap::new());
        for step in 0..60 {
            let nibble = random.below(16) as u8;
            let child = (!random.one_in(4)).then(|| draw_child(&mut random));
            children.set(nibble, child.clone());
            match child {
                Some(child) => model.insert(nibble, child),
                None => model.remove(&nibble),
            };
            let case = format!("seed {seed}, step {step}");
            assert_same(&children, &model, &case);
            assert_same(&children.view().settled(), &model, &case);
        }
        settles_and_comes_back(&children, &model, &mut random);
    }
}

/// What a checkpoint has written is named by its place, from then on and in the arena's bytes.
fn settles_and_comes_back(children: &Children, model: &BTreeMap<u8, Child>, random: &mut Random) {
    for branch in children.view().in_memory() {
        branch.written().plan(draw_place(random));
    }
    let mut bytes = Vec::new();
    children.view().encode(&mut bytes, |branch| branch.written().planned().unwrap());
    children.view().in_memory().for_each(|branch| branch.written().settle());
    let settled: BTreeMap<u8, Child> = model.iter().map(|(nibble, child)| (*nibble, child.settled())).collect();
    assert_same(&children.view().settled(), &settled, "settled");
    assert_same(&Children::decode(children.view().kinds(), &bytes).unwrap(), &settled, "decoded");
    assert!(Children::decode(children.view().kinds(), &bytes[1..]).is_none());
}

/// A number below all places was a branch in memory: in the arena there is none.
#[test]
fn an_entry_that_leads_nowhere_is_refused() {
    let mut children = Children::default();
    let place = Place::new(8192).unwrap();
    for nibble in [3, 9] {
        let link = Link::Branch(NodeRef::Arena(place));
        children.set(nibble, Some(Child { reference: Reference::hash(B256::ZERO), link }));
    }
    let mut bytes = Vec::new();
    children.view().encode(&mut bytes, |_| unreachable!("nothing is in memory"));
    assert!(Children::decode(children.view().kinds(), &bytes).is_some());
    for low in [0_u64, 1, 31, 8191] {
        bytes[REFERENCE_BYTES..ENTRY_BYTES].copy_from_slice(&low.to_le_bytes()[..LINK_BYTES]);
        assert!(Children::decode(children.view().kinds(), &bytes).is_none(), "{low}");
    }
}

/// The next children of the same thread get the buffers of those that went, and nothing of what was in them.
#[test]
fn buffers_are_used_again_empty() {
    let child = draw_child(&mut Random(1));
    let on_a_thread = move || {
        let mut children = Children::default();
        children.set(7, Some(child));
        drop(children);
        let (entries, branches) = buffers::take();
        assert!(entries.is_empty() && entries.capacity() > 0 && branches.is_empty());
        assert_eq!(buffers::take().0.capacity(), 0, "there was one pair");
    };
    std::thread::scope(|scope| scope.spawn(on_a_thread).join().unwrap());
}
