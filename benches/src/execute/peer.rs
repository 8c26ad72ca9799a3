//! The state in memory.

use metisdb::Changes;
use revm::{
    bytecode::Bytecode,
    database::{CacheDB, EmptyDB},
    primitives::U256,
    state::AccountInfo,
};

/// revm's `CacheDB` with everything in it, code analysed.
#[derive(Debug, Default)]
pub(super) struct Peer(pub(super) CacheDB<EmptyDB>);

impl Peer {
    /// Does what a commit does to the database. Neither deletes nor wipes, which nothing here asks for.
    pub(super) fn apply(&mut self, changes: &Changes) {
        let Self(state) = self;
        for (code_hash, code) in changes.codes() {
            state.cache.contracts.insert(*code_hash, Bytecode::new_raw(code.clone()));
        }
        assert_eq!(changes.wiped().count(), 0, "nothing is deleted here");
        for (address, account) in changes.accounts() {
            let account = account.expect("what is deleted is wiped");
            let info = AccountInfo {
                nonce: account.nonce,
                balance: account.balance,
                code_hash: account.code_hash,
                ..AccountInfo::default()
            };
            state.cache.accounts.entry(*address).or_default().info = AccountInfo { code: None, ..info };
        }
        for ((address, slot), value) in changes.slots() {
            state.cache.accounts.entry(*address).or_default().storage.insert(*slot, *value);
        }
        if let Some(block) = changes.block() {
            state.cache.block_hashes.insert(U256::from(block.number), block.hash);
        }
    }
}
