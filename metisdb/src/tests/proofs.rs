//! Proofs of many keys and of ranges, of the states that random histories lead to.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use super::{
    Random,
    model::State,
    tries::{Reads, Shape},
    wide,
};
use crate::{
    Account, Changes, Durability, Error,
    proof::{AccountClaim, AccountRangeEntry, EMPTY_ROOT, ProofError},
};

/// Behind it there is no hash.
const LAST: B256 = B256::repeat_byte(0xff);

impl Shape {
    /// A proof of many keys says what the state says, and has each node of their single proofs, once.
    pub(super) fn compare_multiproof(&self, reader: &impl Reads, state: &State, random: &mut Random) {
        let roots = state.roots(self.plain);
        let mut keys: Vec<(Address, Vec<U256>)> = Vec::new();
        for _ in 0..random.below(8) {
            let address = if random.one_in(5) {
                Address::from_word(wide(random.next() >> 1).into())
            } else {
                self.address(random)
            };
            keys.push((
                address,
                (0..random.below(5)).map(|_| self.slot(state, address, random.one_in(2), random)).collect(),
            ));
        }
        let asked: Vec<(Address, &[U256])> = keys.iter().map(|(address, slots)| (*address, &slots[..])).collect();
        let proof = reader.multiproof(&asked).unwrap();
        proof.verify(roots.state).unwrap_or_else(|error| panic!("{keys:?} under {}: {error}", roots.state));

        let distinct: BTreeSet<Address> = keys.iter().map(|(address, _)| *address).collect();
        assert_eq!(proof.accounts.len(), distinct.len(), "each account once");
        let mut singly: BTreeSet<Bytes> = BTreeSet::new();
        for AccountClaim { address, account, storage_root, slots, nodes } in &proof.accounts {
            assert_eq!(*account, state.accounts.get(address).copied(), "{address}");
            assert_eq!(*storage_root, roots.storage(address), "{address}");
            let own = keys.iter().filter(|(own, _)| own == address).flat_map(|(_, slots)| slots.iter().copied());
            let (own, proven): (BTreeSet<U256>, BTreeSet<U256>) =
                (own.collect(), slots.iter().map(|claim| claim.slot).collect());
            assert_eq!((&own, own.len()), (&proven, slots.len()), "each slot of {address} once");
            for claim in slots {
                let expected = state.slots.get(&(*address, claim.slot)).copied().unwrap_or_default();
                assert_eq!(claim.value, expected, "slot {} of {address}", claim.slot);
            }
            let own: Vec<U256> = own.into_iter().collect();
            let single = reader.proof(address, &own).unwrap();
            singly.extend(single.nodes);
            let of_slots: BTreeSet<Bytes> = single.slots.into_iter().flat_map(|slot| slot.nodes).collect();
            assert_eq!(nodes.iter().cloned().collect::<BTreeSet<_>>(), of_slots, "nodes of the storage of {address}");
            assert_eq!(nodes.len(), of_slots.len(), "each node of the storage of {address} once");
        }
        assert_eq!(proof.nodes.iter().cloned().collect::<BTreeSet<_>>(), singly, "nodes of the accounts");
        assert_eq!(proof.nodes.len(), singly.len(), "each node of the accounts once");
    }

    /// Ranges, one behind the other, are all of the state; and so are those of one account's storage.
    pub(super) fn compare_ranges(&self, reader: &impl Reads, state: &State, random: &mut Random) {
        let roots = state.roots(self.plain);
        let accounts: BTreeMap<B256, AccountRangeEntry> = state
            .accounts
            .iter()
            .map(|(address, account)| {
                let storage_root = roots.storage(address);
                (keccak256(address), AccountRangeEntry { address: *address, account: *account, storage_root })
            })
            .collect();
        let whole = |limit| {
            let mut got = Vec::new();
            let mut from = B256::ZERO;
            loop {
                let range = reader.account_range(from..=LAST, limit).unwrap();
                range.verify(roots.state).unwrap_or_else(|error| panic!("from {from} under {}: {error}", roots.state));
                assert!(range.accounts.len() <= limit && range.from == from);
                got.extend(range.accounts);
                if range.to == LAST {
                    return got;
                }
                from = behind(range.to);
            }
        };
        assert!(whole(1 + random.below(9) as usize).iter().eq(accounts.values()), "all accounts");

        let (from, to) = some_ends(accounts.keys(), random);
        let range = reader.account_range(from..=to, usize::MAX).unwrap();
        range.verify(roots.state).unwrap_or_else(|error| panic!("{from} to {to} under {}: {error}", roots.state));
        assert!(
            range.accounts.iter().eq(accounts.range(from..=to).map(|(_, entry)| entry)),
            "accounts in {from} to {to}"
        );

        let address = self.address(random);
        let own = state.storages().remove(&address).unwrap_or_default();
        let slots: BTreeMap<B256, (U256, U256)> =
            own.into_iter().map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), (slot, value))).collect();
        let (from, to) = some_ends(slots.keys(), random);
        let limit = 1 + random.below(6) as usize;
        let range = reader.storage_range(&address, from..=to, limit).unwrap();
        range.verify(roots.state).unwrap_or_else(|error| panic!("{address}, {from} to {to}: {error}"));
        let got = range.slots.iter().map(|claim| (claim.slot, claim.value));
        assert!(
            got.eq(slots.range(from..=to).map(|(_, slot)| *slot).take(limit)),
            "slots of {address} in {from} to {to}"
        );
        let is_all = slots.range(from..=to).count() <= limit;
        assert_eq!(
            range.to == to,
            is_all || slots.range(from..=to).nth(limit - 1).is_some_and(|(path, _)| *path == to)
        );
    }
}

fn behind(path: B256) -> B256 {
    (U256::from_be_bytes(path.0) + U256::ONE).into()
}

/// Ends of a range, often at a key, just before it or just behind it.
fn some_ends<'p>(paths: impl Iterator<Item = &'p B256>, random: &mut Random) -> (B256, B256) {
    let paths: Vec<&B256> = paths.collect();
    let mut end = || {
        let near = paths.get(random.below(paths.len() as u64 + 1) as usize).map(|path| U256::from_be_bytes(path.0));
        let number = match (near, random.below(4)) {
            (Some(path), 0) => path,
            (Some(path), 1) => path.saturating_add(U256::ONE),
            (Some(path), 2) => path.saturating_sub(U256::ONE),
            _ => wide(random.next() >> 1) >> random.below(2) as usize,
        };
        B256::from(number)
    };
    let ends = [end(), end()];
    (ends[0].min(ends[1]), ends[0].max(ends[1]))
}

#[test]
fn ranges_that_are_reversed_are_refused_and_limits_give_one_entry_at_least() {
    let db = super::small().create_on(super::disk(0)).unwrap();
    let mut changes = Changes::new();
    let owner = Address::repeat_byte(1);
    changes.set_account(owner, Account::default());
    changes.set_account(Address::repeat_byte(2), Account::default());
    changes.set_storage(owner, U256::from(3), U256::from(4));
    db.commit(&changes, Durability::Durable).unwrap();
    let snapshot = db.snapshot().unwrap();
    let (from, to) = (LAST, B256::ZERO);
    assert!(matches!(snapshot.account_range(from..=to, 1), Err(Error::EmptyRange { .. })));
    assert!(matches!(snapshot.storage_range(&owner, from..=to, 1), Err(Error::EmptyRange { .. })));
    assert!(matches!(snapshot.storage_range(&Address::ZERO, from..=to, 1), Err(Error::EmptyRange { .. })));

    let root = snapshot.root().unwrap();
    let range = snapshot.account_range(B256::ZERO..=LAST, 0).unwrap();
    range.verify(root).unwrap();
    assert_eq!(range.accounts.len(), 1);
    assert_eq!(range.to, keccak256(range.accounts[0].address));
    let absent = snapshot.storage_range(&Address::ZERO, B256::ZERO..=LAST, 1).unwrap();
    absent.verify(root).unwrap();
    assert_eq!((absent.account.account, absent.account.storage_root, absent.slots.len()), (None, EMPTY_ROOT, 0));
    let nothing = snapshot.multiproof(&[]).unwrap();
    assert_eq!(nothing.verify(root), Ok(()));
    assert!(nothing.nodes.is_empty());
    let other = snapshot.storage_range(&owner, B256::ZERO..=LAST, 1).unwrap();
    assert!(matches!(other.verify(LAST), Err(ProofError::HashMismatch { .. })));
}
