//! The bytes of a node in the arena. Pure functions of bytes.
//!
//! The bytes are owned by `spec/format.md`, "Nodes".

use std::sync::Arc;

use alloy_primitives::B256;

use super::Place;
use crate::{
    log::{Damage, crc32c},
    trie::{
        commitment::Reference,
        nibbles::{Nibbles, PATH_NIBBLES, nibble},
        node::{Child, KeyTag, Leaf, Link, NodeRef, nibbles_of},
    },
};

const CHECKSUM_AT: usize = 0;
const BIRTH_AT: usize = 4;
const FLAGS_AT: usize = 8;
const CHILDREN_AT: usize = 9;
const LEAVES_AT: usize = 11;
/// Bytes of a node in front of its prefix.
pub(crate) const HEADER_BYTES: usize = 13;

/// Name, offset and size of each field of the header, as in `spec/format.md`.
#[cfg(test)]
pub(crate) const FIELDS: &[(&str, usize, usize)] = &[
    ("checksum", CHECKSUM_AT, BIRTH_AT - CHECKSUM_AT),
    ("birth", BIRTH_AT, FLAGS_AT - BIRTH_AT),
    ("flags", FLAGS_AT, CHILDREN_AT - FLAGS_AT),
    ("children", CHILDREN_AT, LEAVES_AT - CHILDREN_AT),
    ("leaves", LEAVES_AT, HEADER_BYTES - LEAVES_AT),
];

const PREFIX_MASK: u8 = 63;
const FLAG_EMBEDDED: u8 = 64;
const FLAG_STORAGE: u8 = 128;
const REFERENCE_BYTES: usize = 32;
/// Bytes of a key tag or a place.
const LINK_BYTES: usize = 6;
const ENTRY_BYTES: usize = REFERENCE_BYTES + LINK_BYTES;

/// A decoded node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Generation of the checkpoint that wrote it.
    pub(crate) birth: u32,
    pub(crate) prefix: Nibbles,
    pub(crate) mask: u16,
    pub(crate) children: Vec<Child>,
    /// Length of its bytes.
    pub(crate) bytes: usize,
}

/// Which kinds of children a branch has.
#[derive(Clone, Copy, Default)]
struct Kinds {
    children: u16,
    leaves: u16,
    embedded: u16,
    storage: u16,
    storage_leaves: u16,
}

impl Kinds {
    fn of(mask: u16, children: &[Child]) -> Self {
        let mut kinds = Self { children: mask, ..Self::default() };
        for (nibble, child) in nibbles_of(mask).zip(children) {
            let bit = 1 << nibble;
            if child.reference.as_hash().is_none() {
                kinds.embedded |= bit;
            }
            if let Link::Leaf(leaf) = &child.link {
                kinds.leaves |= bit;
                if let Some(storage) = &leaf.storage {
                    kinds.storage |= bit;
                    kinds.storage_leaves |= if matches!(storage.link, Link::Leaf(_)) { bit } else { 0 };
                }
            }
        }
        kinds
    }

    /// Bytes of a node with these kinds of children.
    fn node_bytes(&self, prefix_nibbles: usize) -> usize {
        let masks = if self.embedded != 0 { 2 } else { 0 } + if self.storage != 0 { 4 } else { 0 };
        let entries = (self.children.count_ones() + self.storage.count_ones()) as usize;
        HEADER_BYTES + prefix_nibbles.div_ceil(2) + masks + entries * ENTRY_BYTES
    }
}

/// Length of the bytes of a node.
pub(crate) fn node_bytes(prefix: &Nibbles, mask: u16, children: &[Child]) -> usize {
    Kinds::of(mask, children).node_bytes(prefix.len())
}

/// Appends the node that will stand at `place`. `place_of` tells where the branches that it names are.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    place: Place,
    birth: u32,
    (prefix, mask, children): (&Nibbles, u16, &[Child]),
    place_of: impl Fn(&NodeRef) -> Place,
) {
    let kinds = Kinds::of(mask, children);
    let start = out.len();
    out.extend_from_slice(&[0; BIRTH_AT]);
    out.extend_from_slice(&birth.to_le_bytes());
    let embedded = if kinds.embedded != 0 { FLAG_EMBEDDED } else { 0 };
    let storage = if kinds.storage != 0 { FLAG_STORAGE } else { 0 };
    out.push(prefix.len() as u8 | embedded | storage);
    out.extend_from_slice(&kinds.children.to_le_bytes());
    out.extend_from_slice(&kinds.leaves.to_le_bytes());
    out.extend_from_slice(prefix.packed());
    if kinds.embedded != 0 {
        out.extend_from_slice(&kinds.embedded.to_le_bytes());
    }
    if kinds.storage != 0 {
        out.extend_from_slice(&kinds.storage.to_le_bytes());
        out.extend_from_slice(&kinds.storage_leaves.to_le_bytes());
    }
    for child in children {
        encode_child(out, child, &place_of);
        if let Link::Leaf(Leaf { storage: Some(storage), .. }) = &child.link {
            encode_child(out, storage, &place_of);
        }
    }
    debug_assert_eq!(out.len() - start, kinds.node_bytes(prefix.len()));
    let checksum = checksum(&out[start..], place);
    out[start + CHECKSUM_AT..start + BIRTH_AT].copy_from_slice(&checksum.to_le_bytes());
}

fn encode_child(out: &mut Vec<u8>, child: &Child, place_of: &impl Fn(&NodeRef) -> Place) {
    out.extend_from_slice(child.reference.padded());
    let link = match &child.link {
        Link::Leaf(leaf) => leaf.key.get(),
        Link::Branch(node) => place_of(node).get(),
    };
    out.extend_from_slice(&link.to_le_bytes()[..LINK_BYTES]);
}

/// The checksum of a node at a place: a sound node in the wrong place is damage.
fn checksum(node: &[u8], place: Place) -> u32 {
    crc32c(&node[BIRTH_AT..]) ^ (place.get() as u32) ^ ((place.get() >> 32) as u32)
}

/// Reads the node at the front of `bytes`, which are those from `place` to the end of its page.
///
/// # Errors
/// Damage where it is not what was written there.
pub(crate) fn decode(bytes: &[u8], place: Place) -> Result<Node, Damage> {
    let short = || Damage::new("a node inside its page", format!("{} bytes left", bytes.len()));
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(short)?;
    let flags = header[FLAGS_AT];
    let prefix_nibbles = usize::from(flags & PREFIX_MASK);
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]])).ok_or_else(short);
    let mut kinds = Kinds { children: u16_at(CHILDREN_AT)?, leaves: u16_at(LEAVES_AT)?, ..Kinds::default() };
    let prefix_end = HEADER_BYTES + prefix_nibbles.div_ceil(2);
    let mut at = prefix_end;
    if flags & FLAG_EMBEDDED != 0 {
        kinds.embedded = u16_at(at)?;
        at += 2;
    }
    if flags & FLAG_STORAGE != 0 {
        kinds.storage = u16_at(at)?;
        kinds.storage_leaves = u16_at(at + 2)?;
        at += 4;
    }
    let length = kinds.node_bytes(prefix_nibbles);
    let node = bytes.get(..length).ok_or_else(short)?;
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let actual = checksum(node, place);
    if stored != actual {
        return Err(Damage::new(format!("node checksum {stored:08x}"), format!("{actual:08x}")));
    }
    let impossible = || Damage::new("a branch of two children or more", format!("masks {:04x}", kinds.children));
    let stray = (kinds.leaves | kinds.embedded) & !kinds.children
        | kinds.storage & !kinds.leaves
        | kinds.storage_leaves & !kinds.storage;
    // A length that the masks do not explain would have been told by the flags.
    let prefix = Nibbles::from_packed(prefix_nibbles, &node[HEADER_BYTES..prefix_end]).ok_or_else(impossible)?;
    if kinds.children.count_ones() < 2 || stray != 0 {
        return Err(impossible());
    }
    let children = decode_children(&kinds, &node[at..]).ok_or_else(impossible)?;
    let birth = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    Ok(Node { birth, prefix, mask: kinds.children, children, bytes: length })
}

/// Where a path leads that enters the node with so many nibbles behind it: to a branch, with the nibbles behind it there; or, past a leaf and
/// `into_storage`, to the topmost branch of the storage. Nothing is verified: for prefetching only.
pub(crate) fn peek(node: &[u8], path: &B256, depth: usize, into_storage: bool) -> Option<(Place, Option<usize>)> {
    let flags = *node.get(FLAGS_AT)?;
    let prefix_nibbles = usize::from(flags & PREFIX_MASK);
    let branching = depth + prefix_nibbles;
    if branching >= PATH_NIBBLES {
        return None;
    }
    let mask_at = |at: usize| node.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let (children, leaves) = (mask_at(CHILDREN_AT)?, mask_at(LEAVES_AT)?);
    let mut at = HEADER_BYTES + prefix_nibbles.div_ceil(2);
    at += if flags & FLAG_EMBEDDED != 0 { 2 } else { 0 };
    let (storage, storage_leaves) = if flags & FLAG_STORAGE != 0 { (mask_at(at)?, mask_at(at + 2)?) } else { (0, 0) };
    at += if flags & FLAG_STORAGE != 0 { 4 } else { 0 };
    let bit = 1 << nibble(path, branching);
    let before = (children & (bit - 1)).count_ones() + (storage & (bit - 1)).count_ones();
    let is_leaf = leaves & bit != 0;
    if children & bit == 0 || is_leaf && (!into_storage || storage & bit == 0 || storage_leaves & bit != 0) {
        return None;
    }
    let index = before as usize + usize::from(is_leaf);
    let link = at + index * ENTRY_BYTES + REFERENCE_BYTES;
    let mut wide = [0; 8];
    wide[..LINK_BYTES].copy_from_slice(node.get(link..link + LINK_BYTES)?);
    let place = Place::new(u64::from_le_bytes(wide))?;
    Some((place, (!is_leaf).then_some(branching + 1)))
}

fn decode_children(kinds: &Kinds, entries: &[u8]) -> Option<Vec<Child>> {
    let mut children = Vec::with_capacity(kinds.children.count_ones() as usize);
    let mut entries = entries.chunks_exact(ENTRY_BYTES);
    for nibble in nibbles_of(kinds.children) {
        let bit = 1 << nibble;
        let (reference, link) = entry(entries.next()?, kinds.embedded & bit != 0)?;
        let link = if kinds.leaves & bit == 0 {
            Link::Branch(NodeRef::Arena(Place::new(link)?))
        } else {
            let storage = if kinds.storage & bit == 0 {
                None
            } else {
                let (reference, link) = entry(entries.next()?, false)?;
                let link = if kinds.storage_leaves & bit == 0 {
                    Link::Branch(NodeRef::Arena(Place::new(link)?))
                } else {
                    Link::Leaf(Leaf { key: KeyTag::of(link), storage: None })
                };
                Some(Arc::new(Child { reference, link }))
            };
            Link::Leaf(Leaf { key: KeyTag::of(link), storage })
        };
        children.push(Child { reference, link });
    }
    Some(children)
}

fn entry(bytes: &[u8], is_embedded: bool) -> Option<(Reference, u64)> {
    let (reference, link) = bytes.split_first_chunk::<REFERENCE_BYTES>()?;
    let mut wide = [0; 8];
    wide[..LINK_BYTES].copy_from_slice(link);
    let reference = if is_embedded {
        // A list of fewer than 32 bytes: its first byte tells its length.
        let length = usize::from(reference[0].checked_sub(0xc0)?) + 1;
        Reference::embedded(reference.get(..length).filter(|node| node.len() < REFERENCE_BYTES)?)
    } else {
        Reference::hash((*reference).into())
    };
    Some((reference, u64::from_le_bytes(wide)))
}
