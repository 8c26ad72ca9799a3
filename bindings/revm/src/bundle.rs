//! revm's own collection of changes: the one body of code for all lines of revm.

/// Makes the conversion of `StateChangeset` of the line whose names are in scope.
macro_rules! bundle {
    () => {
        /// The changes of a `StateChangeset`: what revm's `State` collected, by `take_bundle` and `to_plain_state_and_reverts`
        /// (or `to_plain_state`).
        ///
        /// revm applied the rules for empty accounts when it collected them.
        pub fn changes_of_changeset(changeset: &StateChangeset) -> Changes {
            let mut changes = Changes::new();
            let mut removed = AddressSet::default();
            for (address, info) in &changeset.accounts {
                match info {
                    Some(AccountInfo { nonce, balance, code_hash, .. }) => {
                        let account = metisdb::Account { nonce: *nonce, balance: *balance, code_hash: *code_hash };
                        changes.set_account(*address, account);
                    }
                    None => {
                        removed.insert(*address);
                        changes.delete_account(*address);
                    }
                }
            }
            for storage in changeset.storage.iter().filter(|storage| !removed.contains(&storage.address)) {
                if storage.wipe_storage {
                    changes.wipe_storage(storage.address);
                }
                for (slot, value) in &storage.storage {
                    changes.set_storage(storage.address, *slot, *value);
                }
            }
            for (hash, code) in &changeset.contracts {
                changes.set_code(*hash, code.original_bytes());
            }
            changes
        }
    };
}
