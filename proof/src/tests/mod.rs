//! Tests of proof verification: every refusal by name, and an independent implementation as the oracle.

mod claims;
#[cfg(feature = "serde")]
mod json;
mod multiproofs;
mod naive;
mod oracle;
mod partial;
mod ranges;
mod refusals;
mod rlp;
mod storage_roots;
mod tries;
mod witness;

use alloy_primitives::{B256, Bytes, U256, keccak256};

/// A small generator of numbers (splitmix64), so that a failing case is told by one seed.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// A byte that differs from the given one.
    fn other(&mut self, byte: u8) -> u8 {
        byte ^ (1 + self.below(255) as u8)
    }

    fn hash(&mut self) -> B256 {
        keccak256(self.next().to_be_bytes())
    }
}

/// The canonical encoding of a string.
fn string(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [0..=0x7f] => bytes.to_vec(),
        _ => [head(0x80, bytes.len()), bytes.to_vec()].concat(),
    }
}

/// The canonical encoding of a list of encoded items.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    [head(0xc0, payload.len()), payload].concat()
}

fn head(offset: u8, length: usize) -> Vec<u8> {
    if length <= 55 {
        return vec![offset + length as u8];
    }
    let length: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
    [vec![offset + 55 + length.len() as u8], length].concat()
}

/// The canonical encoding of an integer.
fn integer(number: U256) -> Vec<u8> {
    string(&number.to_be_bytes_trimmed_vec())
}

/// An encoded path with its hex prefix.
fn prefixed(nibbles: &[u8], is_leaf: bool) -> Vec<u8> {
    let flag = if is_leaf { 2 } else { 0 };
    let mut all = if nibbles.len() % 2 == 1 { vec![flag + 1] } else { vec![flag, 0] };
    all.extend_from_slice(nibbles);
    string(&all.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>())
}

/// A leaf.
fn leaf(nibbles: &[u8], value: &[u8]) -> Vec<u8> {
    list(&[prefixed(nibbles, true), string(value)])
}

/// An extension that leads to the node given.
fn extension(nibbles: &[u8], child: &[u8]) -> Vec<u8> {
    list(&[prefixed(nibbles, false), reference(child)])
}

/// A branch with the nodes given as children.
fn branch(children: &[(usize, &[u8])]) -> Vec<u8> {
    let mut items = vec![string(&[]); 17];
    for &(nibble, child) in children {
        items[nibble] = reference(child);
    }
    list(&items)
}

/// How a node stands in its parent.
fn reference(node: &[u8]) -> Vec<u8> {
    if node.len() < 32 { node.to_vec() } else { string(keccak256(node).as_slice()) }
}

/// The nibbles of a path.
fn nibbles(path: &B256) -> Vec<u8> {
    path.iter().flat_map(|&byte| [byte >> 4, byte & 0xf]).collect()
}

/// A path of the nibbles given, then zeros.
fn path(start: &[u8]) -> B256 {
    let mut all = [0; 64];
    all[..start.len()].copy_from_slice(start);
    let bytes: Vec<u8> = all.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    B256::from_slice(&bytes)
}

/// The form in which a proof is handed over.
fn proof(nodes: &[&[u8]]) -> Vec<Bytes> {
    nodes.iter().map(|node| Bytes::copy_from_slice(node)).collect()
}

/// Every test that the specification names exists, and every test of a refusal is named there.
#[test]
fn the_specification_names_the_tests() {
    let table = include_str!("../../../spec/proofs.md");
    let refusals = [include_str!("refusals.rs"), include_str!("multiproofs.rs"), include_str!("ranges.rs")].concat();
    let others =
        [include_str!("claims.rs"), include_str!("json.rs"), include_str!("oracle.rs"), include_str!("rlp.rs")];
    let sources = [&refusals, &others.concat(), include_str!("../../../torture/tests/quick.rs")].concat();
    for name in table.split('`').filter(|word| word.contains('_') && !word.contains([' ', '/', ':'])) {
        let is_other = ["eth_getProof", "EMPTY_ROOT"].contains(&name);
        assert!(is_other || sources.contains(&format!("#[test]\nfn {name}()")), "no test {name}");
    }
    let unnamed = |name: &&str| !name.starts_with("the_") && !name.starts_with("messages_");
    for name in refusals.split("#[test]\nfn ").skip(1).filter_map(|test| test.split('(').next()) {
        assert!(!unnamed(&name) || table.contains(&format!("`{name}`")), "{name} is missing in spec/proofs.md");
    }
}
