//! Every byte of a proof: each cut, and each changed.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use metisdb::proof::{
    Account, AccountClaim, AccountProof, AccountRange, AccountRangeEntry, EMPTY_ROOT, MultiProof, SlotClaim, SlotProof,
    StorageRange,
};

use super::trie::{Entries, Proof, Trie};
use crate::{
    naive_trie::{self, NaiveAccount},
    random::Random,
};

/// Accounts of a state at most.
const MOST_ACCOUNTS: u64 = 40;
/// Slots of one of them at most.
const MOST_SLOTS: u64 = 12;

/// What the state holds of an account.
type Held = (Account, BTreeMap<U256, U256>);

/// A state, all of it known.
struct State {
    accounts: BTreeMap<Address, Held>,
    trie: Trie,
}

/// A proof as users meet it.
#[derive(Clone, Debug, PartialEq)]
enum Exported {
    Account(AccountProof),
    Many(MultiProof),
    Accounts(AccountRange),
    Slots(StorageRange),
}

/// A field of what is claimed.
enum Field<'p> {
    Bytes(&'p mut [u8]),
    Number(&'p mut U256),
    Nonce(&'p mut u64),
}

/// What was done to proofs of one seed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) cuts: u64,
    pub(super) changes: u64,
}

/// Makes a state and a proof, of a kind that depends on the seed, and tries every cut and every byte of it.
///
/// # Errors
/// What was believed and should not have been.
pub(super) fn exhaust(seed: u64) -> Result<Done, String> {
    let mut random = Random::new(seed ^ 0xb17e5);
    let state = State::random(&mut random);
    let mut proof = state.prove(seed, &mut random);
    let root = state.trie.root;
    if !(proof.is_believed(root) && state.holds(&proof)) {
        return Err(format!("the honest proof is refused: {proof:?}"));
    }
    let mut done = Done::default();
    cut_and_change_nodes(&mut proof, root, &mut random, &mut done)?;
    for index in 0..proof.fields().len() {
        for place in 0..proof.fields()[index].bytes() {
            let change = 1 + random.below(255) as u8;
            proof.fields()[index].change(place, change);
            // Another key may be absent as well, and another end of a range have nothing in between.
            if proof.is_believed(root) && !state.holds(&proof) {
                return Err(format!("believed with byte {place} of field {index} changed: {proof:?}"));
            }
            proof.fields()[index].change(place, change);
            done.changes += 1;
        }
    }
    if let Exported::Account(proof) = &proof {
        cut_and_change_json(proof, root, &mut random, &mut done)?;
    }
    Ok(done)
}

/// Each list of nodes, each node.
fn cut_and_change_nodes(proof: &mut Exported, root: B256, random: &mut Random, done: &mut Done) -> Result<(), String> {
    let refused = |proof: &Exported, what: &str| {
        if proof.is_believed(root) { Err(format!("believed with {what}: {proof:?}")) } else { Ok(()) }
    };
    for list in 0..proof.lists().len() {
        let whole = proof.lists()[list].clone();
        for count in 0..whole.len() {
            proof.lists()[list].truncate(count);
            refused(proof, "a list of nodes cut")?;
            proof.lists()[list].clone_from(&whole);
            done.cuts += 1;
        }
        for (index, node) in whole.iter().enumerate() {
            for place in 0..node.len() {
                proof.lists()[list][index] = node.slice(..place);
                refused(proof, "a node cut")?;
                let mut bytes = node.to_vec();
                bytes[place] ^= 1 + random.below(255) as u8;
                proof.lists()[list][index] = bytes.into();
                refused(proof, "a byte of a node changed")?;
                done.cuts += 1;
                done.changes += 1;
            }
            proof.lists()[list][index] = node.clone();
        }
    }
    Ok(())
}

/// The text of `eth_getProof`: what is read of it is the same proof, or is refused.
fn cut_and_change_json(proof: &AccountProof, root: B256, random: &mut Random, done: &mut Done) -> Result<(), String> {
    let text = serde_json::to_vec(proof).map_err(|error| error.to_string())?;
    let is_forged = |text: &[u8]| {
        serde_json::from_slice::<AccountProof>(text).is_ok_and(|read| read != *proof && read.verify(root).is_ok())
    };
    for place in 0..text.len() {
        if serde_json::from_slice::<AccountProof>(&text[..place]).is_ok() {
            return Err(format!("read though cut at {place}: {}", String::from_utf8_lossy(&text)));
        }
        let mut changed = text.clone();
        changed[place] ^= 1 + random.below(255) as u8;
        // Another absent slot is another proof, of something that is so.
        if is_forged(&changed) && !is_key(&text, place) {
            return Err(format!("believed with byte {place} changed: {}", String::from_utf8_lossy(&changed)));
        }
        done.cuts += 1;
        done.changes += 1;
    }
    Ok(())
}

/// Whether a place of the text is in the address or in a slot's number.
fn is_key(text: &[u8], place: usize) -> bool {
    let name = text[..place].rsplit(|byte| *byte == b',' || *byte == b'{').next().unwrap_or_default();
    name.starts_with(b"\"address\"") || name.starts_with(b"\"key\"")
}

impl Field<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(_) => 32,
            Self::Nonce(_) => 8,
        }
    }

    /// Doing it twice undoes it.
    fn change(&mut self, place: usize, change: u8) {
        match self {
            Self::Bytes(bytes) => bytes[place] ^= change,
            Self::Number(number) => **number ^= U256::from(change) << (8 * place),
            Self::Nonce(nonce) => **nonce ^= u64::from(change) << (8 * place),
        }
    }
}

fn account_fields(account: &mut Account) -> [Field<'_>; 3] {
    let Account { nonce, balance, code_hash } = account;
    [Field::Nonce(nonce), Field::Number(balance), Field::Bytes(&mut code_hash[..])]
}

fn slot_fields(claim: &mut SlotClaim) -> [Field<'_>; 2] {
    [Field::Number(&mut claim.slot), Field::Number(&mut claim.value)]
}

impl Exported {
    fn is_believed(&self, root: B256) -> bool {
        match self {
            Self::Account(proof) => proof.verify(root),
            Self::Many(proof) => proof.verify(root),
            Self::Accounts(range) => range.verify(root),
            Self::Slots(range) => range.verify(root),
        }
        .is_ok()
    }

    fn lists(&mut self) -> Vec<&mut Vec<Bytes>> {
        match self {
            Self::Account(AccountProof { nodes, slots, .. }) => {
                slots.iter_mut().map(|slot| &mut slot.nodes).chain([nodes]).collect()
            }
            Self::Many(MultiProof { accounts, nodes }) => {
                accounts.iter_mut().map(|claim| &mut claim.nodes).chain([nodes]).collect()
            }
            Self::Accounts(range) => vec![&mut range.nodes],
            Self::Slots(range) => vec![&mut range.nodes, &mut range.account.nodes],
        }
    }

    fn fields(&mut self) -> Vec<Field<'_>> {
        let mut fields = Vec::new();
        match self {
            Self::Account(AccountProof { address, account, storage_root, slots, .. }) => {
                fields.extend([Field::Bytes(&mut address[..]), Field::Bytes(&mut storage_root[..])]);
                fields.extend(account.iter_mut().flat_map(account_fields));
                for SlotProof { slot, value, .. } in slots {
                    fields.extend([Field::Number(slot), Field::Number(value)]);
                }
            }
            Self::Many(MultiProof { accounts, .. }) => {
                for AccountClaim { address, account, storage_root, slots, .. } in accounts {
                    fields.extend([Field::Bytes(&mut address[..]), Field::Bytes(&mut storage_root[..])]);
                    fields.extend(account.iter_mut().flat_map(account_fields));
                    fields.extend(slots.iter_mut().flat_map(slot_fields));
                }
            }
            Self::Accounts(AccountRange { from, to, accounts, .. }) => {
                fields.extend([Field::Bytes(&mut from[..]), Field::Bytes(&mut to[..])]);
                for AccountRangeEntry { address, account, storage_root } in accounts {
                    fields.extend([Field::Bytes(&mut address[..]), Field::Bytes(&mut storage_root[..])]);
                    fields.extend(account_fields(account));
                }
            }
            Self::Slots(StorageRange { account, from, to, slots, .. }) => {
                fields.extend([Field::Bytes(&mut from[..]), Field::Bytes(&mut to[..])]);
                fields.extend([Field::Bytes(&mut account.address[..]), Field::Bytes(&mut account.storage_root[..])]);
                fields.extend(account.account.iter_mut().flat_map(account_fields));
                fields.extend(slots.iter_mut().flat_map(slot_fields));
            }
        }
        fields
    }
}

fn storage_trie(slots: &BTreeMap<U256, U256>) -> Trie {
    Trie::new(slots.iter().map(|(slot, value)| (path_of(*slot), naive_trie::slot_value(*value))).collect())
}

fn path_of(slot: U256) -> B256 {
    naive_trie::hashed(&slot.to_be_bytes::<32>())
}

impl State {
    fn random(random: &mut Random) -> Self {
        let (mut accounts, mut leaves) = (BTreeMap::new(), Entries::new());
        for _ in 0..1 + random.below(MOST_ACCOUNTS) {
            let slots: BTreeMap<U256, U256> = (0..random.below(MOST_SLOTS))
                .map(|slot| (U256::from(slot), (random.wide() >> random.below(255)) | U256::ONE))
                .collect();
            let code_hash = if random.one_in(2) { KECCAK256_EMPTY } else { B256::from(random.wide()) };
            let balance = random.wide() >> random.below(256);
            let account = Account { nonce: random.below(300), balance, code_hash };
            let root = storage_trie(&slots).root;
            let address = Address::from_word(random.wide().into());
            let leaf = naive_trie::account_value(account.nonce, account.balance, root, account.code_hash);
            leaves.insert(keccak256(address), leaf);
            accounts.insert(address, (account, slots));
        }
        let trie = Trie::new(leaves);
        let naive = accounts.iter().map(|(address, (account, slots)): (&Address, &Held)| {
            let Account { nonce, balance, code_hash } = *account;
            (*address, NaiveAccount { nonce, balance, code_hash, slots })
        });
        assert_eq!(trie.root, naive_trie::state_root(naive, naive_trie::hashed), "two tries of one state");
        Self { accounts, trie }
    }

    /// An address that there is, or not.
    fn some(&self, random: &mut Random) -> Address {
        let index = random.below(self.accounts.len() as u64 + 1) as usize;
        self.accounts.keys().nth(index).copied().unwrap_or_else(|| Address::from_word(random.wide().into()))
    }

    fn slots(&self, address: &Address) -> BTreeMap<U256, U256> {
        self.accounts.get(address).map(|(_, slots)| slots.clone()).unwrap_or_default()
    }

    fn account(&self, address: &Address) -> Option<Account> {
        self.accounts.get(address).map(|(account, _)| *account)
    }

    fn prove(&self, seed: u64, random: &mut Random) -> Exported {
        match seed % 4 {
            0 => Exported::Account(self.prove_account(self.some(random), random.below(3), random)),
            1 => {
                let mut accounts: Vec<AccountClaim> =
                    (0..1 + random.below(3)).map(|_| self.claim(self.some(random), random)).collect();
                accounts.sort_by_key(|claim| keccak256(claim.address));
                accounts.dedup_by_key(|claim| claim.address);
                let paths = accounts.iter().map(|claim| keccak256(claim.address)).collect();
                Exported::Many(MultiProof { nodes: self.trie.prove_paths(paths).nodes, accounts })
            }
            2 => {
                let [from, to] = ends(self.trie.entries.keys(), random);
                let nodes = self.trie.prove_range(from, to).nodes;
                Exported::Accounts(AccountRange { from, to, accounts: self.between(from, to), nodes })
            }
            _ => {
                let account = self.prove_account(self.some(random), 0, random);
                let slots = self.slots(&account.address);
                let trie = storage_trie(&slots);
                let [from, to] = ends(trie.entries.keys(), random);
                let nodes = trie.prove_range(from, to).nodes;
                Exported::Slots(StorageRange { account, from, to, slots: slots_between(&slots, from, to), nodes })
            }
        }
    }

    fn prove_account(&self, address: Address, slots: u64, random: &mut Random) -> AccountProof {
        let held = self.slots(&address);
        let trie = storage_trie(&held);
        let prove = |slot: U256| {
            let Proof { nodes, .. } = trie.prove_paths(vec![path_of(slot)]);
            SlotProof { slot, value: held.get(&slot).copied().unwrap_or_default(), nodes }
        };
        AccountProof {
            address,
            account: self.account(&address),
            storage_root: trie.root,
            nodes: self.trie.prove_paths(vec![keccak256(address)]).nodes,
            slots: (0..slots).map(|_| prove(U256::from(random.below(MOST_SLOTS)))).collect(),
        }
    }

    fn claim(&self, address: Address, random: &mut Random) -> AccountClaim {
        let held = self.slots(&address);
        let trie = storage_trie(&held);
        let asked: BTreeMap<B256, U256> = (0..random.below(4))
            .map(|_| U256::from(random.below(MOST_SLOTS)))
            .map(|slot| (path_of(slot), slot))
            .collect();
        let nodes = trie.prove_paths(asked.keys().copied().collect()).nodes;
        let claim = |slot: U256| SlotClaim { slot, value: held.get(&slot).copied().unwrap_or_default() };
        let slots = asked.into_values().map(claim).collect();
        AccountClaim { address, account: self.account(&address), storage_root: trie.root, slots, nodes }
    }

    fn between(&self, from: B256, to: B256) -> Vec<AccountRangeEntry> {
        let mut entries: Vec<AccountRangeEntry> = self
            .accounts
            .iter()
            .filter(|(address, _)| (from..=to).contains(&keccak256(address)))
            .map(|(address, (account, slots))| {
                let storage_root = storage_trie(slots).root;
                AccountRangeEntry { address: *address, account: *account, storage_root }
            })
            .collect();
        entries.sort_by_key(|entry| keccak256(entry.address));
        entries
    }

    /// Whether what is claimed is so.
    fn holds(&self, proof: &Exported) -> bool {
        let is_account = |address: &Address, account: &Option<Account>, storage_root: B256| {
            let own = self.accounts.get(address).map_or(EMPTY_ROOT, |(_, slots)| storage_trie(slots).root);
            *account == self.account(address) && storage_root == own
        };
        let is_slot = |address: &Address, slot: &U256, value: U256| {
            value == self.slots(address).get(slot).copied().unwrap_or_default()
        };
        match proof {
            Exported::Account(AccountProof { address, account, storage_root, slots, .. }) => {
                is_account(address, account, *storage_root)
                    && slots.iter().all(|slot| is_slot(address, &slot.slot, slot.value))
            }
            Exported::Many(MultiProof { accounts, .. }) => accounts.iter().all(|claim| {
                is_account(&claim.address, &claim.account, claim.storage_root)
                    && claim.slots.iter().all(|slot| is_slot(&claim.address, &slot.slot, slot.value))
            }),
            Exported::Accounts(AccountRange { from, to, accounts, .. }) => *accounts == self.between(*from, *to),
            Exported::Slots(StorageRange { account, from, to, slots, .. }) => {
                is_account(&account.address, &account.account, account.storage_root)
                    && *slots == slots_between(&self.slots(&account.address), *from, *to)
            }
        }
    }
}

fn slots_between(slots: &BTreeMap<U256, U256>, from: B256, to: B256) -> Vec<SlotClaim> {
    let claim = |(slot, value): (&U256, &U256)| SlotClaim { slot: *slot, value: *value };
    let mut claims: Vec<SlotClaim> =
        slots.iter().map(claim).filter(|claim| (from..=to).contains(&path_of(claim.slot))).collect();
    claims.sort_by_key(|claim| path_of(claim.slot));
    claims
}

/// Ends of a range with a few keys in it.
fn ends<'p>(paths: impl Iterator<Item = &'p B256>, random: &mut Random) -> [B256; 2] {
    let paths: Vec<B256> = paths.copied().collect();
    let from = paths.get(random.below(paths.len() as u64 + 1) as usize).copied().unwrap_or_default();
    let place = paths.partition_point(|path| *path < from) + random.below(6) as usize;
    [from, paths.get(place).copied().unwrap_or(B256::repeat_byte(0xff))]
}
