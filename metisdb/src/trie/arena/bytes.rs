//! The bytes of a node in the arena. Pure functions of bytes.
//!
//! The bytes are owned by `spec/format.md`, "Nodes".

use alloy_primitives::B256;

use super::Place;
use crate::{
    log::{Damage, crc32c},
    trie::{
        commitment::BranchView,
        nibbles::{Nibbles, PATH_NIBBLES, nibble},
        node::{Branch, Children, ENTRY_BYTES, Kinds, LINK_BYTES, REFERENCE_BYTES},
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

/// A decoded node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Generation of the checkpoint that wrote it.
    pub(crate) birth: u32,
    pub(crate) prefix: Nibbles,
    pub(crate) children: Children,
    /// Length of its bytes.
    pub(crate) bytes: usize,
}

impl Node {
    /// What is encoded of it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn view(&self) -> BranchView<'_> {
        BranchView { prefix: &self.prefix, children: self.children.view() }
    }
}

/// Length of the bytes of a node with these kinds of children.
fn bytes_of(prefix_nibbles: usize, kinds: &Kinds) -> usize {
    let masks = if kinds.embedded != 0 { 2 } else { 0 } + if kinds.storage != 0 { 4 } else { 0 };
    HEADER_BYTES + prefix_nibbles.div_ceil(2) + masks + kinds.entries() * ENTRY_BYTES
}

/// Length of the bytes of a node.
pub(crate) fn node_bytes(node: BranchView<'_>) -> usize {
    bytes_of(node.prefix.len(), &node.children.kinds())
}

/// Appends the node that will stand at `place`. `place_of` tells where the branches in memory will be that it names.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    place: Place,
    birth: u32,
    BranchView { prefix, children }: BranchView<'_>,
    place_of: impl Fn(&Branch) -> Place,
) {
    let kinds = children.kinds();
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
    children.encode(out, place_of);
    debug_assert_eq!(out.len() - start, bytes_of(prefix.len(), &kinds));
    let checksum = checksum(&out[start..], place);
    out[start + CHECKSUM_AT..start + BIRTH_AT].copy_from_slice(&checksum.to_le_bytes());
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
    let length = bytes_of(prefix_nibbles, &kinds);
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
    let children = Children::decode(kinds, &node[at..]).ok_or_else(impossible)?;
    let birth = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    Ok(Node { birth, prefix, children, bytes: length })
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
