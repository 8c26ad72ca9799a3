//! Witnesses: forms of any bytes, honest witnesses with changes, and nodes of a stranger's making.

use std::{collections::BTreeMap, fmt::Debug};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Header;
use arbitrary::{Result, Unstructured};

use super::{MOST, change, encoded, hashed, leaf_of, many::listed, some_nodes};
use crate::{
    Accessed, Account, AccountChange, Fields, PartialState, StateChanges, Witness, WitnessError, WitnessMode, collect,
};

/// Slots that an account can have.
const SLOTS: u64 = 16;

/// The accounts of a state, each with its slots.
type World = BTreeMap<Address, (Account, BTreeMap<U256, U256>)>;

/// A form is what the oracle reads. A state of which a witness has a part, whatever was made of it, says what is so, or nothing.
pub fn witness(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let _ = match input.int_in_range(0..=2) {
        Ok(0) => {
            form(input.take_rest());
            Ok(())
        }
        Ok(1) => changed_witness(&mut input),
        _ => made_up(&mut input),
    };
}

fn form(bytes: &[u8]) {
    let read = Witness::from_rlp(bytes).ok();
    assert_eq!(read, oracle_form(bytes).ok(), "{bytes:02x?}");
    let is_form = |form: Vec<u8>| form == bytes || form == with_no_keys(bytes);
    assert!(read.is_none_or(|witness| is_form(witness.to_rlp())), "{bytes:02x?} has another form");
}

/// The list with an empty one behind its items: where the keys are left out, they are none.
fn with_no_keys(mut list: &[u8]) -> Vec<u8> {
    let items = Header::decode_bytes(&mut list, true).expect("it was read");
    let mut form = Vec::new();
    Header { list: true, payload_length: items.len() + 1 }.encode(&mut form);
    [&form, items, &[0xc0]].concat()
}

fn oracle_form(mut bytes: &[u8]) -> alloy_rlp::Result<Witness> {
    let mut parts = Header::decode_bytes(&mut bytes, true)?;
    let (headers, codes, state) =
        (oracle_part(&mut parts, true)?, oracle_part(&mut parts, false)?, oracle_part(&mut parts, false)?);
    let keys = if parts.is_empty() { Vec::new() } else { oracle_part(&mut parts, false)? };
    let is_all = parts.is_empty() && bytes.is_empty();
    if is_all { Ok(Witness { state, codes, keys, headers }) } else { Err(alloy_rlp::Error::UnexpectedLength) }
}

fn oracle_part(parts: &mut &[u8], are_lists: bool) -> alloy_rlp::Result<Vec<Bytes>> {
    let mut rest = Header::decode_bytes(parts, true)?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let before = rest;
        let payload = Header::decode_bytes(&mut rest, are_lists)?;
        let whole = &before[..before.len() - rest.len()];
        items.push(Bytes::copy_from_slice(if are_lists { whole } else { payload }));
    }
    Ok(items)
}

/// The witness of some reads and changes is enough for them; with other nodes, it says nothing else.
fn changed_witness(input: &mut Unstructured<'_>) -> Result<()> {
    let world = some_world(input)?;
    let changes = some_changes(input)?;
    let mut accessed = Accessed::default();
    for _ in 0..input.int_in_range(0..=MOST)? {
        accessed.accounts.insert(some_address(input)?);
        accessed.slots.insert((some_address(input)?, some_slot(input)?));
    }
    let (root, nodes) = whole(&world);
    let state = PartialState::of_root(&Witness { state: nodes, ..Witness::default() }, root);
    let Some(after) = world_after(&world, &changes) else {
        let verdict = state.root_after(&changes);
        assert!(matches!(verdict, Err(WitnessError::SlotWithoutAccount { .. })), "{world:?}, {changes:?}: {verdict:?}");
        return Ok(());
    };
    let mode = if input.arbitrary()? { WitnessMode::Canonical } else { WitnessMode::Superset };
    let mut witness = collect(&state, root, &accessed, &changes, mode).expect("the whole state is there");
    let root_after = whole(&after).0;
    let told = PartialState::of_root(&witness, root);
    assert_eq!(told.root_after(&changes), Ok(root_after), "{world:?}, {changes:?}");
    assert!(accessed.accounts.iter().all(|address| told.account(address).is_ok()), "{world:?}, {accessed:?}");
    assert!(
        accessed.slots.iter().all(|(address, slot)| told.storage(address, *slot).is_ok()),
        "{world:?}, {accessed:?}"
    );
    for _ in 0..input.int_in_range(0..=MOST)? {
        change(input, &mut witness.state, &mut B256::default())?;
    }
    let told = PartialState::of_root(&witness, root);
    is_so(told.root_after(&changes), root_after);
    for address in (0..MOST as u8).map(Address::repeat_byte) {
        is_so(told.account(&address), world.get(&address).map(|(account, _)| *account));
        for slot in (0..SLOTS).map(U256::from) {
            let value = world.get(&address).and_then(|(_, slots)| slots.get(&slot)).copied().unwrap_or_default();
            is_so(told.storage(&address, slot), value);
        }
    }
    Ok(())
}

fn is_so<T: PartialEq + Debug>(told: std::result::Result<T, WitnessError>, truth: T) {
    assert!(told.as_ref().is_ok_and(|told| *told == truth) || told.is_err(), "{told:?}, and not {truth:?}");
}

/// Whatever nodes there are, reading and changing what they are taken for ends.
fn made_up(input: &mut Unstructured<'_>) -> Result<()> {
    let nodes = some_nodes(input)?;
    let changes = some_changes(input)?;
    let root = keccak256(&nodes[0]);
    let witness = Witness { state: nodes.clone(), codes: nodes.clone(), keys: Vec::new(), headers: nodes };
    let state = PartialState::of_root(&witness, root);
    let _ = state.root_after(&changes);
    let _ = state.storage(&some_address(input)?, some_slot(input)?);
    let _ = PartialState::after_block(&witness, root);
    Ok(())
}

fn some_address(input: &mut Unstructured<'_>) -> Result<Address> {
    Ok(Address::repeat_byte(input.int_in_range(0..=MOST as u8 - 1)?))
}

fn some_slot(input: &mut Unstructured<'_>) -> Result<U256> {
    Ok(U256::from(input.int_in_range(0..=SLOTS - 1)?))
}

fn some_account(input: &mut Unstructured<'_>) -> Result<Account> {
    Ok(Account { nonce: input.arbitrary()?, balance: U256::from(input.arbitrary::<u128>()?), ..Account::default() })
}

fn some_world(input: &mut Unstructured<'_>) -> Result<World> {
    let mut world = World::new();
    for _ in 0..input.int_in_range(0..=MOST)? {
        let mut slots = BTreeMap::new();
        for _ in 0..input.int_in_range(0..=MOST)? {
            slots.insert(some_slot(input)?, U256::from(input.int_in_range(1..=u128::MAX)?));
        }
        world.insert(some_address(input)?, (some_account(input)?, slots));
    }
    Ok(world)
}

fn some_changes(input: &mut Unstructured<'_>) -> Result<StateChanges> {
    let mut changes = StateChanges::new();
    for _ in 0..input.int_in_range(0..=MOST)? {
        let fields = match input.int_in_range(0..=3)? {
            0 => Fields::Deleted,
            1 => Fields::Set(some_account(input)?),
            _ => Fields::Kept,
        };
        let mut slots = BTreeMap::new();
        for _ in 0..input.int_in_range(0..=MOST)? {
            let value = if input.arbitrary()? { U256::ZERO } else { U256::from(input.arbitrary::<u8>()?) };
            slots.insert(some_slot(input)?, value);
        }
        changes.insert(some_address(input)?, AccountChange { fields, wiped: input.ratio(1_u8, 4)?, slots });
    }
    Ok(changes)
}

/// `None` where a slot is set of an account that is not there.
fn world_after(world: &World, changes: &StateChanges) -> Option<World> {
    let mut after = world.clone();
    for (address, AccountChange { fields, wiped, slots }) in changes {
        match fields {
            Fields::Kept => {}
            Fields::Set(account) => after.entry(*address).or_default().0 = *account,
            Fields::Deleted => drop(after.remove(address)),
        }
        let Some((_, own)) = after.get_mut(address) else {
            if slots.values().any(|value| !value.is_zero()) {
                return None;
            }
            continue;
        };
        if *wiped {
            own.clear();
        }
        own.extend(slots);
        own.retain(|_, value| !value.is_zero());
    }
    Some(after)
}

/// The root of a state, and all nodes of its tries.
fn whole(world: &World) -> (B256, Vec<Bytes>) {
    let (mut accounts, mut nodes) = (BTreeMap::new(), Vec::new());
    for (address, (account, slots)) in world {
        let slots = slots.iter().map(|(slot, value)| (hashed(*slot), *value)).collect();
        let (storage_root, below) = listed(&encoded(&slots), |_, _| true);
        nodes.extend(below);
        accounts.insert(keccak256(address), alloy_rlp::encode(leaf_of(account, storage_root)));
    }
    let (root, above) = listed(&accounts, |_, _| true);
    nodes.extend(above);
    (root, nodes)
}
