//! Entrances for fuzzers: RLP, proofs and witnesses, beside an independent implementation. Built for fuzzers and for the tests only.

mod many;
mod witnesses;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Header;
use alloy_trie::{
    HashBuilder, Nibbles, TrieAccount,
    proof::{ProofRetainer, verify_proof},
};
use arbitrary::{Result, Unstructured};

use crate::{
    AccountProof, EMPTY_ROOT, SlotProof,
    account::{Account, decode_account},
    rlp::{Item, Reader},
    verify_path,
};

#[cfg(test)]
pub(crate) use self::many::prove_range;
pub use self::{many::proofs, witnesses::witness};

/// Keys of a trie, slots of a proof and changes of one, at most.
const MOST: usize = 6;
/// Nodes shorter than this stand inside their parents.
const EMBEDDED_BELOW: usize = 32;

/// Bytes as RLP: the oracle reads the same items, integers, hashes and accounts, or refuses the same bytes.
pub fn rlp(bytes: &[u8]) {
    let mut pending = vec![bytes];
    while let Some(rest) = pending.pop() {
        if rest.is_empty() {
            continue;
        }
        let mut theirs = rest;
        match (Reader::new(rest).item(), Header::decode(&mut theirs)) {
            (Ok(item), Ok(header)) => {
                let (payload, behind) = theirs.split_at(header.payload_length);
                assert_eq!((item.is_list, item.payload), (header.list, payload), "{rest:02x?}");
                assert_eq!(item.encoded, &rest[..rest.len() - behind.len()], "{rest:02x?}");
                pending.push(behind);
                pending.extend(item.is_list.then_some(payload));
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("{rest:02x?}: {ours:?}, the oracle {theirs:?}"),
        }
    }
    let only = || Item::only(bytes);
    assert_eq!(only().and_then(Item::u64).ok(), alloy_rlp::decode_exact(bytes).ok(), "{bytes:02x?}");
    assert_eq!(only().and_then(Item::u256).ok(), alloy_rlp::decode_exact(bytes).ok(), "{bytes:02x?}");
    assert_eq!(only().and_then(Item::hash).ok(), alloy_rlp::decode_exact(bytes).ok(), "{bytes:02x?}");
    let theirs = alloy_rlp::decode_exact::<TrieAccount>(bytes).ok();
    let ours = decode_account(bytes).ok().map(|(account, storage_root)| leaf_of(&account, storage_root));
    assert_eq!(ours, theirs, "{bytes:02x?}");
}

fn leaf_of(account: &Account, storage_root: B256) -> TrieAccount {
    let Account { nonce, balance, code_hash } = *account;
    TrieAccount { nonce, balance, storage_root, code_hash }
}

/// A proof: nodes of a stranger's making, an honest path proof with changes, or an honest claim with changes.
pub fn proof(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let _ = match input.int_in_range(0..=2) {
        Ok(0) => made_up(&mut input),
        Ok(1) => changed_path(&mut input),
        _ => changed_claim(&mut input),
    };
}

fn made_up(input: &mut Unstructured<'_>) -> Result<()> {
    let path = B256::new(input.arbitrary()?);
    let nodes = some_nodes(input)?;
    judge(keccak256(&nodes[0]), &path, &nodes);
    many::made_up(&[path, B256::new(input.arbitrary()?)], &nodes);
    Ok(())
}

/// Nodes of any bytes, at least one, each named by its parent where the input says.
fn some_nodes(input: &mut Unstructured<'_>) -> Result<Vec<Bytes>> {
    let mut nodes = Vec::new();
    for _ in 0..input.int_in_range(1..=4)? {
        let length = input.int_in_range(0..=180)?;
        nodes.push(Bytes::copy_from_slice(input.bytes(length.min(input.len()))?));
    }
    let places: Vec<u8> = (1..nodes.len()).map(|_| input.arbitrary()).collect::<Result<_>>()?;
    for (index, place) in places.into_iter().enumerate().rev() {
        let hash = keccak256(&nodes[index + 1]);
        let mut parent = nodes[index].to_vec();
        let at = usize::from(place) % parent.len().max(1);
        if let Some(name) = parent.get_mut(at..at + 32) {
            name.copy_from_slice(hash.as_slice());
        }
        nodes[index] = parent.into();
    }
    Ok(nodes)
}

/// What is accepted here, the oracle accepts, too.
fn judge<'n>(root: B256, path: &B256, nodes: &'n [Bytes]) -> Option<Option<&'n [u8]>> {
    let value = verify_path(root, path, nodes).ok()?;
    let theirs = verify_proof(root, Nibbles::unpack(path), value.map(<[u8]>::to_vec), nodes);
    assert!(theirs.is_ok(), "{path} under {root}: {value:02x?}, the oracle {theirs:?}: {nodes:?}");
    Some(value)
}

fn changed_path(input: &mut Unstructured<'_>) -> Result<()> {
    let entries = some_entries(input)?;
    let path = near_one(input, &entries)?;
    let (root, mut proofs) = prove(&entries, &[path]);
    let honest = proofs.remove(0);
    let expected = entries.get(&path).map(Vec::as_slice);
    assert_eq!(judge(root, &path, &honest), Some(expected), "an honest proof of {path} under {root}");
    let (mut nodes, mut named) = (honest.clone(), root);
    for _ in 0..input.int_in_range(1..=MOST)? {
        change(input, &mut nodes, &mut named)?;
    }
    let verdict = judge(named, &path, &nodes);
    assert!(named != root || verdict.is_none() || nodes == honest, "two proofs of {path} under {root}: {nodes:?}");
    Ok(())
}

fn some_entries(input: &mut Unstructured<'_>) -> Result<BTreeMap<B256, Vec<u8>>> {
    let mut entries = BTreeMap::new();
    for _ in 0..input.int_in_range(0..=2 * MOST)? {
        let path = near_one(input, &entries)?;
        let length = input.int_in_range(1..=40)?;
        let value = input.bytes(usize::min(length, input.len()))?.to_vec();
        // No trie holds an empty value.
        entries.insert(path, if value.is_empty() { vec![1] } else { value });
    }
    Ok(entries)
}

/// Some key that shares a prefix with one that there is.
fn near_one(input: &mut Unstructured<'_>, entries: &BTreeMap<B256, Vec<u8>>) -> Result<B256> {
    let mut path = match entries.len() {
        0 => B256::ZERO,
        count => *entries.keys().nth(input.choose_index(count)?).expect("an index below their number"),
    };
    let (place, byte): (u8, u8) = (input.arbitrary()?, input.arbitrary()?);
    path[usize::from(place % 32)] ^= byte;
    Ok(path)
}

/// The root of a trie, and the nodes that prove these paths.
fn prove(entries: &BTreeMap<B256, Vec<u8>>, paths: &[B256]) -> (B256, Vec<Vec<Bytes>>) {
    let targets = paths.iter().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (path, value) in entries {
        builder.add_leaf(Nibbles::unpack(path), value);
    }
    let root = builder.root();
    let retained = builder.take_proof_nodes();
    let nodes = |path: &B256| {
        let all = retained.matching_nodes_sorted(&Nibbles::unpack(path)).into_iter();
        all.map(|(_, node)| node).filter(|node| node.len() >= EMBEDDED_BELOW).collect()
    };
    (root, paths.iter().map(nodes).collect())
}

/// Changes the list of nodes, or the bytes of one; the nodes above may name it anew, up to the root.
fn change(input: &mut Unstructured<'_>, nodes: &mut Vec<Bytes>, root: &mut B256) -> Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let index = input.choose_index(nodes.len())?;
    match input.int_in_range(0..=9)? {
        0 => nodes.truncate(index),
        1 => drop(nodes.remove(index)),
        2 => nodes.insert(index, nodes[index].clone()),
        3 => nodes.swap(0, index),
        _ => {
            let honest = keccak256(&nodes[index]);
            let mut bytes = nodes[index].to_vec();
            let at = input.choose_index(bytes.len().max(1))?;
            let tail = bytes.split_off(at.min(bytes.len()));
            let length = input.int_in_range(0..=34)?;
            bytes.extend_from_slice(input.bytes(usize::min(length, input.len()))?);
            bytes.extend_from_slice(tail.get(input.int_in_range(0..=34)?..).unwrap_or_default());
            nodes[index] = bytes.into();
            if input.arbitrary()? {
                name_anew(nodes, index, honest, root);
            }
        }
    }
    Ok(())
}

fn name_anew(nodes: &mut [Bytes], changed: usize, mut old: B256, root: &mut B256) {
    for index in (0..changed).rev() {
        let new = keccak256(&nodes[index + 1]);
        let mut parent = nodes[index].to_vec();
        let Some(place) = parent.windows(32).position(|bytes| bytes == old) else { return };
        parent[place..place + 32].copy_from_slice(new.as_slice());
        old = keccak256(std::mem::replace(&mut nodes[index], parent.into()));
    }
    *root = keccak256(&nodes[0]);
}

/// A state: some addresses hold one account with one storage.
struct World {
    account: Account,
    /// By path.
    storage: BTreeMap<B256, U256>,
    storage_root: B256,
    /// Leaves by path.
    accounts: BTreeMap<B256, Vec<u8>>,
    root: B256,
}

impl World {
    fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let mut storage = BTreeMap::new();
        for _ in 0..input.int_in_range(0..=MOST)? {
            let value = U256::from(input.int_in_range(1..=u128::MAX)?);
            storage.insert(hashed(U256::from(input.int_in_range(0..=15)?)), value);
        }
        let balance = U256::from(input.arbitrary::<u128>()?);
        let account = Account { nonce: input.arbitrary()?, balance, ..Account::default() };
        let count = input.int_in_range(0..=MOST as u8)?;
        let storage_root = prove(&encoded(&storage), &[]).0;
        let leaf = alloy_rlp::encode(leaf_of(&account, storage_root));
        let accounts = (0..count).map(|byte| (keccak256(Address::repeat_byte(byte)), leaf.clone())).collect();
        let root = prove(&accounts, &[]).0;
        Ok(Self { account, storage, storage_root, accounts, root })
    }

    fn prove(&self, address: Address, slots: &[U256]) -> AccountProof {
        let path = keccak256(address);
        let exists = self.accounts.contains_key(&path);
        let paths: Vec<B256> = slots.iter().map(|slot| hashed(*slot)).collect();
        let proofs = if exists { prove(&encoded(&self.storage), &paths).1 } else { vec![Vec::new(); slots.len()] };
        let prove_slot = |(slot, nodes): (&U256, _)| SlotProof { slot: *slot, value: self.value(exists, *slot), nodes };
        AccountProof {
            address,
            account: exists.then_some(self.account),
            storage_root: if exists { self.storage_root } else { EMPTY_ROOT },
            nodes: prove(&self.accounts, &[path]).1.remove(0),
            slots: slots.iter().zip(proofs).map(prove_slot).collect(),
        }
    }

    fn value(&self, exists: bool, slot: U256) -> U256 {
        self.storage.get(&hashed(slot)).copied().filter(|_| exists).unwrap_or_default()
    }

    /// Whether a claim says what is so; another one than asked for may.
    fn is_true(&self, claim: &AccountProof) -> bool {
        let exists = self.accounts.contains_key(&keccak256(claim.address));
        let storage_root = if exists { self.storage_root } else { EMPTY_ROOT };
        claim.account == exists.then_some(self.account)
            && claim.storage_root == storage_root
            && claim.slots.iter().all(|slot| slot.value == self.value(exists, slot.slot))
    }
}

fn encoded(storage: &BTreeMap<B256, U256>) -> BTreeMap<B256, Vec<u8>> {
    storage.iter().map(|(path, value)| (*path, alloy_rlp::encode(value))).collect()
}

/// The honest proof of an account and some slots is accepted; whatever is made of it, no falsehood is.
fn changed_claim(input: &mut Unstructured<'_>) -> Result<()> {
    let world = World::take(input)?;
    let address = Address::repeat_byte(input.int_in_range(0..=MOST as u8)?);
    let slots: Vec<U256> = (0..MOST).map(|_| Ok(U256::from(input.int_in_range(0..=15)?))).collect::<Result<_>>()?;
    let mut claim = world.prove(address, &slots);
    claim.verify(world.root).unwrap_or_else(|error| panic!("{error}: {claim:?}"));
    for _ in 0..input.int_in_range(1..=MOST)? {
        change_claim(input, &mut claim)?;
    }
    assert!(claim.verify(world.root).is_err() || world.is_true(&claim), "under {}: {claim:?}", world.root);
    Ok(())
}

fn hashed(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

fn change_claim(input: &mut Unstructured<'_>, proof: &mut AccountProof) -> Result<()> {
    let mut unnamed = B256::ZERO;
    let bit = U256::from(1) << input.int_in_range(0..=255_usize)?;
    let slot = input.choose_index(MOST)?;
    let kind = input.int_in_range(0..=9)?;
    match (kind, proof.slots.get_mut(slot), &mut proof.account) {
        (0, Some(slot), _) => slot.value ^= bit,
        (1, Some(slot), _) => slot.slot ^= bit,
        (2 | 3, Some(slot), _) => change(input, &mut slot.nodes, &mut unnamed)?,
        (4, ..) => proof.address[input.choose_index(20)?] ^= 1,
        (5, _, Some(account)) => account.balance ^= bit,
        (6, _, account) => *account = account.is_none().then(Account::default),
        (7, ..) => proof.storage_root ^= B256::from(bit),
        (8, Some(_), _) => proof.slots.swap(0, slot),
        _ => change(input, &mut proof.nodes, &mut unnamed)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    /// What fuzzing found worth keeping, among it everything that ever failed.
    #[test]
    fn the_corpus_passes() {
        type Entrance = fn(&[u8]);
        let targets: [(&str, Entrance); 4] =
            [("rlp", super::rlp), ("proof", super::proof), ("proofs", super::proofs), ("witness", super::witness)];
        for (target, entrance) in targets {
            let corpus = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/{}"), target);
            let inputs: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "the corpus of {target} is empty");
            for path in inputs {
                println!("{}", path.display());
                entrance(&fs::read(path).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_as_the_oracle_reads_them(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::rlp(&bytes);
        }

        #[test]
        fn arbitrary_proofs_prove_what_the_oracle_says(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::proof(&bytes);
        }

        #[test]
        fn arbitrary_multiproofs_and_ranges_prove_what_is_so(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::proofs(&bytes);
        }

        #[test]
        fn arbitrary_witnesses_say_what_is_so(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::witness(&bytes);
        }
    }
}
