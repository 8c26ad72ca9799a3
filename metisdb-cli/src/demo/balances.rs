//! What the tokens hold in the database, compared with what plain arithmetic says.

use alloy_primitives::U256;
use metisdb::{Key, Snapshot, Value};
use metisdb_execution::tokens::{
    Model, PAIR_ADDRESS, TOKENS, balance_slot, first_balance, first_reserve, holder, reserve_slot,
};

use super::checks::{Outcome, same};
use crate::output::count;

/// Reads the balances of everybody and compares each with what it must be, and their sum with the supply.
pub(super) fn compare_balances(model: &Model, snapshot: &Snapshot) -> metisdb::Result<Outcome> {
    for (token, address) in TOKENS.iter().enumerate() {
        let mut sum = snapshot.storage(address, balance_slot(&PAIR_ADDRESS))?;
        let mut supply = first_reserve();
        let numbers: Vec<u64> = (0..model.size().holders).collect();
        for some in numbers.chunks(64) {
            let key = |number: &u64| Key::Storage(*address, balance_slot(&holder(*number)));
            let keys: Vec<Key> = some.iter().map(key).collect();
            for (number, value) in some.iter().zip(snapshot.get_many(&keys)?) {
                let Value::Storage(found) = value else { unreachable!("slots were asked for") };
                let who = format_args!("the balance of holder {number} in token {token}");
                if let Err(wrong) = same(who, found, model.balance(token, *number)) {
                    return Ok(Err(wrong));
                }
                sum += found;
                supply += first_balance(token, *number);
            }
        }
        if let Err(wrong) = same(format_args!("the sum of all balances of token {token}"), sum, supply) {
            return Ok(Err(wrong));
        }
    }
    let (all, changed) = (count(2 * model.size().holders), count(model.changed() as u64));
    Ok(Ok(format!("all {all} balances as computed apart, {changed} changed; their sums kept")))
}

/// Compares the pair's reserves with its balances and with what they must be; their product never falls.
pub(super) fn compare_pair(model: &Model, snapshot: &Snapshot) -> metisdb::Result<Outcome> {
    let mut product = U256::ONE;
    for (token, address) in TOKENS.iter().enumerate() {
        let reserve = snapshot.storage(&PAIR_ADDRESS, reserve_slot(token))?;
        let balance = snapshot.storage(address, balance_slot(&PAIR_ADDRESS))?;
        let compared = same(format_args!("the pair's reserve of token {token}"), reserve, model.reserve(token))
            .and_then(|()| same(format_args!("the pair's balance in token {token}"), balance, reserve));
        if let Err(wrong) = compared {
            return Ok(Err(wrong));
        }
        product *= reserve;
    }
    let first = first_reserve() * first_reserve();
    Ok(if product >= first {
        Ok("the pair's reserves are its balances, and their product did not fall".to_owned())
    } else {
        Err(format!("the product of the pair's reserves fell from {first} to {product}"))
    })
}
