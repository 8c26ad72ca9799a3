//! Executed but not yet proposed: the one body of code for all lines of revm.

/// Makes `Overlay` and `changes_of_state` of the line whose names are in scope.
macro_rules! overlay {
    () => {
        fn stage(stage: &mut Stage<Bytecode>, (address, account): (Address, &Account), empty: EmptyAccounts) {
            let marks = Marks {
                is_touched: account.is_touched(),
                is_selfdestructed: account.is_selfdestructed(),
                is_created: account.is_created(),
                is_empty: account.is_empty(),
            };
            let Some(fate) = marks.fate(empty) else { return };
            let AccountInfo { nonce, balance, code_hash, code, .. } = &account.info;
            if let Some(code) = code {
                stage.keep_code(*code_hash, code);
            }
            let slots = account.changed_storage_slots().map(|(slot, value)| (*slot, value.present_value));
            let account = metisdb::Account { nonce: *nonce, balance: *balance, code_hash: *code_hash };
            stage.apply((address, fate), account, slots);
        }

        /// The changes of one execution, by Ethereum's rules: accounts that were not touched stay; those that destroyed
        /// themselves, and those left empty if `empty` says so, are removed with their storage; of a created account the storage
        /// that stood at its address before is cleared; of all others the changed slots are written, zero deletes.
        ///
        /// For the transactions of a block one after the other take [`Overlay`], which also leaves out what did not change.
        pub fn changes_of_state(state: &EvmState, empty: EmptyAccounts) -> Changes {
            let mut staged = Stage::default();
            for (address, account) in state {
                stage(&mut staged, (*address, account), empty);
            }
            staged.changes(None, Bytecode::original_bytes).expect("there is no base, so nothing is read")
        }

        /// A state that transactions change in memory: what they leave is read by those after them, and by nobody else until
        /// [`Overlay::commit_to`]. Dropping it discards it; the database never sees it.
        ///
        /// [`DatabaseCommit::commit`] cannot fail, so it only stages; what is durable is a call of its own.
        #[derive(Clone, Debug)]
        pub struct Overlay {
            reader: StateReader,
            empty: EmptyAccounts,
            stage: Stage<Bytecode>,
        }

        impl Overlay {
            /// Begins on a state. `empty` is the rule of the block that is executed.
            pub fn new(reader: StateReader, empty: EmptyAccounts) -> Self {
                Self { reader, empty, stage: Stage::default() }
            }

            /// What is below.
            pub fn reader(&self) -> &StateReader {
                &self.reader
            }

            /// The metadata to be stored with the block that is executed, where `BLOCKHASH` of later blocks finds it.
            pub fn set_block(&mut self, block: Block) {
                self.stage.block = Some(block);
            }

            /// Whether any slot of an account is set, as EIP-7610 asks it of the address of a new contract. (Of an account without
            /// code, that is: such a one clears no slots, so those that are staged as zero are not looked for below.) Asks the trie.
            ///
            /// # Errors
            /// [`ReadError::Database`].
            pub fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
                match self.stage.has_storage(address) {
                    Some(has_storage) => Ok(has_storage),
                    None => Ok(self.reader.base().has_storage(address)?),
                }
            }

            /// What was staged, without what is below already: accounts, slots and code that are as before are left out.
            ///
            /// # Errors
            /// [`metisdb::Error::Corruption`] where what is below cannot be read.
            pub fn changes(&self) -> metisdb::Result<Changes> {
                self.stage.changes(Some(self.reader.base()), Bytecode::original_bytes)
            }

            /// Proposes what was staged, and so knows its root. `db` must be the database that is read. Nothing becomes visible.
            ///
            /// # Errors
            /// As [`Db::propose`].
            pub fn propose(&self, db: &Db) -> metisdb::Result<Proposal> {
                self.reader.base().propose(db, &self.changes()?)
            }

            /// Makes what was staged the next version of the database, and goes on from there with nothing staged. Blocks on
            /// other commits and, with [`Durability::Durable`], on the device.
            ///
            /// # Errors
            /// As [`Proposal::commit`]; what was staged is still there. After [`metisdb::Error::NotChildOfNewest`] another commit
            /// was first: execute again on what it made.
            pub fn commit_to(&mut self, db: &Db, durability: Durability) -> metisdb::Result<Commit> {
                let proposal = self.propose(db)?;
                let commit = proposal.commit(durability)?;
                // Should the version be out of reach by now, the proposal still reads the same.
                let base = commit.snapshot().map_or_else(|_| proposal.into(), Base::from);
                self.reader.set_base(base);
                self.stage = Stage::default();
                Ok(commit)
            }
        }

        impl DatabaseCommit for Overlay {
            fn commit(&mut self, changes: EvmState) {
                for (address, account) in &changes {
                    stage(&mut self.stage, (*address, account), self.empty);
                }
            }
        }

        impl DatabaseRef for Overlay {
            type Error = ReadError;

            fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
                let Some(staged) = self.stage.account(&address) else { return self.reader.basic_ref(address) };
                let Some(account) = staged else { return Ok(None) };
                let mut code = self.stage.code(&account.code_hash);
                if code.is_some() && !self.stage.is_created(&address) {
                    // What another account was created with is not this one's: who reads that of the state before asks for it.
                    let before = self.reader.base().account(&address)?;
                    code = code.filter(|_| before.is_none_or(|before| before.code_hash != account.code_hash));
                }
                Ok(Some(StateReader::info(account, code)))
            }

            fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, ReadError> {
                let Some(code) = self.stage.code(&code_hash) else { return self.reader.code_by_hash_ref(code_hash) };
                // Code that the stage gave an account comes with it: this is asked for one that had it before.
                self.reader.base().note_code(&code_hash);
                Ok(code)
            }

            fn storage_ref(&self, address: Address, index: U256) -> Result<U256, ReadError> {
                self.stage.slot(&address, &index).map_or_else(|| self.reader.storage_ref(address, index), Ok)
            }

            fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
                self.reader.block_hash_ref(number)
            }
        }

        database_by_reference!(Overlay);
    };
}
