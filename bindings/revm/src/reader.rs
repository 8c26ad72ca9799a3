//! A state as revm reads it: the one body of code for all lines of revm.

/// Makes `StateReader` of the line whose names are in scope.
macro_rules! reader {
    () => {
        impl DBErrorMarker for ReadError {}

        /// A snapshot or a proposal, as revm reads it.
        ///
        /// It takes no lock, waits for nobody, and any number of threads may share it or clone it. Block hashes come from the
        /// metadata that came with [`metisdb::Changes::set_block`] or [`metisdb::Proposal::seal`]; a block without is zero, as revm has it.
        ///
        /// It hands out no `AccountId`: MetisDB finds a slot by one hash of address and number, without asking for the account
        /// first, so there is no lookup that an id could spare.
        #[derive(Clone, Debug)]
        pub struct StateReader {
            base: Base,
            codes: CodeView<Bytecode>,
        }

        impl StateReader {
            /// Reads a snapshot or a proposal, with a code cache of its own: see [`StateReader::with_codes`].
            pub fn new(base: impl Into<Base>) -> Self {
                Self::with_codes(base, &CodeCache::default())
            }

            /// Reads a snapshot or a proposal. Code that was analysed is kept in `codes`, which may serve any number of readers
            /// of any databases, for code is known by its hash.
            pub fn with_codes(base: impl Into<Base>, codes: &CodeCache<Bytecode>) -> Self {
                Self { base: base.into(), codes: codes.view() }
            }

            /// What is read.
            pub fn base(&self) -> &Base {
                &self.base
            }

            fn set_base(&mut self, base: Base) {
                self.base = base;
            }

            fn info(account: metisdb::Account, code: Option<Bytecode>) -> AccountInfo {
                let metisdb::Account { nonce, balance, code_hash } = account;
                // Some lines have more fields, so not as a literal.
                let mut info = AccountInfo::from_balance(balance);
                (info.nonce, info.code_hash, info.code) = (nonce, code_hash, code);
                info
            }
        }

        impl DatabaseRef for StateReader {
            type Error = ReadError;

            fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
                Ok(self.base.account(&address)?.map(|account| Self::info(account, None)))
            }

            fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, ReadError> {
                if code_hash == KECCAK256_EMPTY {
                    return Ok(Bytecode::default());
                }
                if let Some(code) = self.codes.get(&code_hash) {
                    self.base.note_code(&code_hash);
                    return Ok(code);
                }
                let bytes = self.base.code(&code_hash)?.ok_or(ReadError::MissingCode(code_hash))?;
                let length = bytes.len();
                let code = Bytecode::new_raw_checked(bytes).map_err(|_| ReadError::MalformedCode(code_hash))?;
                self.codes.insert(code_hash, code.clone(), length);
                Ok(code)
            }

            fn storage_ref(&self, address: Address, index: U256) -> Result<U256, ReadError> {
                Ok(self.base.storage(&address, index)?)
            }

            fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
                Ok(self.base.block_hash(number)?.unwrap_or_default())
            }
        }

        database_by_reference!(StateReader);
    };
}

/// `Database`, which asks for exclusive access, for a type that needs none.
macro_rules! database_by_reference {
    ($type:ty) => {
        impl Database for $type {
            type Error = ReadError;

            fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
                self.basic_ref(address)
            }

            fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ReadError> {
                self.code_by_hash_ref(code_hash)
            }

            fn storage(&mut self, address: Address, index: U256) -> Result<U256, ReadError> {
                self.storage_ref(address, index)
            }

            fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
                self.block_hash_ref(number)
            }
        }
    };
}
