//! Tests of every line that is compiled: one body, as for what they test.

/// The tests of a line.
macro_rules! line_tests {
    ($feature:literal, $line:ident, $interface:ident, ($($state:ident)::+)) => {
        #[cfg(feature = $feature)]
        mod $line {
            use ::$interface::{Database, DatabaseCommit, DatabaseRef};
            use ::$($state)::+::{AccountStatus, Bytecode, EvmState, EvmStorageSlot};
            use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
            use metisdb::{
                Account, Block, Changes, Db, Durability, Options, Recorder,
                proof::{PartialState, Witness, WitnessError, WitnessMode},
            };

            use crate::{
                Base, CodeCache, EmptyAccounts, ReadError, Stateless,
                $line::{Overlay, StateReader, changes_of_state},
            };

            const CONTRACT: Address = Address::repeat_byte(0xaa);
            const OTHER: Address = Address::repeat_byte(0xbb);
            const CODE: &[u8] = &[0x60, 0x01, 0x00];

            fn assert_shareable<T: Send + Sync + Clone>(_: &T) {}

            /// A database with a contract that has slots 1 and 2, and block 9; in a folder that goes with the handle.
            fn database() -> (Db, tempfile::TempDir) {
                let folder = tempfile::tempdir().unwrap();
                let db = Options::new().create(folder.path().join("state")).unwrap();
                let mut changes = Changes::new();
                let code_hash = keccak256(CODE);
                changes.set_account(CONTRACT, Account { nonce: 3, balance: U256::MAX, code_hash });
                changes.set_code(code_hash, Bytes::from_static(CODE));
                changes.set_storage(CONTRACT, U256::from(1), U256::from(2));
                changes.set_storage(CONTRACT, U256::from(2), U256::from(3));
                changes.set_block(Block { number: 9, hash: B256::repeat_byte(9), ..Block::default() });
                db.commit(&changes, Durability::Durable).unwrap();
                (db, folder)
            }

            /// A touched account after a transaction, its slots as they were and are.
            fn touched(nonce: u64, slots: &[(u64, u64, u64)]) -> ::$($state)::+::Account {
                let mut account = ::$($state)::+::Account::default();
                account.info.nonce = nonce;
                account.mark_touch();
                for (slot, before, after) in slots {
                    let mut written = EvmStorageSlot::default();
                    written.original_value = U256::from(*before);
                    written.present_value = U256::from(*after);
                    account.storage.insert(U256::from(*slot), written);
                }
                account
            }

            fn state(accounts: impl IntoIterator<Item = (Address, ::$($state)::+::Account)>) -> EvmState {
                accounts.into_iter().collect()
            }

            /// What is read through a recorder, code from a cache included, is what a witness has; whatever else is asked of the witness
            /// fails, and the first failure is remembered.
            #[test]
            fn what_was_recorded_is_read_from_the_witness_alone() {
                let (db, _folder) = database();
                let snapshot = db.snapshot().unwrap();
                let codes = CodeCache::default();
                StateReader::with_codes(snapshot.clone(), &codes).code_by_hash_ref(keccak256(CODE)).unwrap();
                let recorder = Recorder::new(snapshot.clone());
                let mut recorded = Overlay::new(StateReader::with_codes(recorder.clone(), &codes), EmptyAccounts::Removed);
                assert_shareable(&recorded);
                let info = recorded.basic(CONTRACT).unwrap().unwrap();
                recorded.code_by_hash(info.code_hash).unwrap();
                recorded.storage(CONTRACT, U256::from(1)).unwrap();
                recorded.commit(state([(CONTRACT, touched(4, &[(1, 2, 0)]))]));
                let changes = recorded.changes().unwrap();
                let root = recorded.propose(&db).unwrap().root();
                let witness = recorder.witness(&changes, WitnessMode::Canonical).unwrap();

                let partial = PartialState::of_root(&witness, snapshot.root().unwrap());
                let stateless = Stateless::new(partial);
                let mut alone = Overlay::new(StateReader::new(stateless.clone()), EmptyAccounts::Removed);
                assert_eq!(alone.basic(CONTRACT).unwrap().unwrap(), info);
                assert_eq!(alone.code_by_hash(info.code_hash).unwrap().original_byte_slice(), CODE);
                assert_eq!(alone.storage(CONTRACT, U256::from(1)).unwrap(), U256::from(2));
                assert!(alone.has_storage(&CONTRACT).unwrap());
                alone.commit(state([(CONTRACT, touched(4, &[(1, 2, 0)]))]));
                assert_eq!(alone.changes().unwrap(), changes);
                assert_eq!(stateless.state().root_after(&changes.by_account()), Ok(root));
                assert_eq!(stateless.failure(), None);
                assert_eq!(stateless.accessed(), recorder.accessed());

                let missing = WitnessError::MissingBlockHash { number: 9 };
                let error = alone.block_hash(9).unwrap_err();
                assert!(matches!(error, ReadError::Database(metisdb::Error::Witness(reason)) if *reason == missing));
                alone.code_by_hash(B256::ZERO).unwrap_err();
                assert_eq!(stateless.failure(), Some(&missing), "the first one");
                let proposed = alone.propose(&db);
                assert!(matches!(proposed, Err(metisdb::Error::Witness(reason)) if *reason == WitnessError::NoDatabase));

                let nothing = Stateless::new(PartialState::of_root(&Witness::default(), snapshot.root().unwrap()));
                assert!(StateReader::new(nothing.clone()).basic_ref(CONTRACT).is_err() && nothing.failure().is_some());
            }

            /// Code of an account that a block only reads was not noted when the block had created a contract of the same code before, which
            /// was told from memory. Who replays and keeps code by account looks for it in the witness, and did not find it.
            #[test]
            fn code_that_the_block_creates_is_noted_when_it_is_read_of_another_account() {
                let (db, _folder) = database();
                let snapshot = db.snapshot().unwrap();
                let recorder = Recorder::new(snapshot.clone());
                let mut overlay = Overlay::new(StateReader::new(recorder.clone()), EmptyAccounts::Removed);
                let mut created = touched(1, &[]);
                created.status |= AccountStatus::Created;
                created.info.code_hash = keccak256(CODE);
                created.info.code = Some(Bytecode::new_raw(Bytes::from_static(CODE)));
                overlay.commit(state([(OTHER, created)]));
                assert!(overlay.basic(OTHER).unwrap().unwrap().code.is_some());
                let changes = overlay.changes().unwrap();
                let codes = || recorder.witness(&changes, WitnessMode::Canonical).unwrap().codes;
                assert_eq!(codes(), Vec::<Bytes>::new(), "what the block creates is not in the state before it");

                let info = overlay.basic(CONTRACT).unwrap().unwrap();
                assert_eq!(info.code, None);
                assert_eq!(overlay.code_by_hash(info.code_hash).unwrap().original_byte_slice(), CODE);
                assert_eq!(codes(), [Bytes::from_static(CODE)]);

                let stateless = Stateless::new(PartialState::of_root(&Witness::default(), snapshot.root().unwrap()));
                StateReader::new(stateless.clone()).code_by_hash_ref(info.code_hash).unwrap_err();
                assert_eq!(stateless.accessed().codes, [info.code_hash].into(), "also where it fails");
            }

            /// The same where the account that is only read was touched before, by a fee say, without its code: it then came with the code of
            /// the contract that the block had created.
            #[test]
            fn code_that_the_block_creates_is_noted_when_it_is_read_of_an_account_that_was_touched() {
                let (db, _folder) = database();
                let recorder = Recorder::new(db.snapshot().unwrap());
                let mut overlay = Overlay::new(StateReader::new(recorder.clone()), EmptyAccounts::Removed);
                let mut created = touched(1, &[]);
                created.status |= AccountStatus::Created;
                created.info.code_hash = keccak256(CODE);
                created.info.code = Some(Bytecode::new_raw(Bytes::from_static(CODE)));
                let mut paid = touched(3, &[]);
                (paid.info.code_hash, paid.info.code) = (keccak256(CODE), None);
                overlay.commit(state([(OTHER, created), (CONTRACT, paid)]));
                assert!(overlay.basic(OTHER).unwrap().unwrap().code.is_some());
                let changes = overlay.changes().unwrap();
                let codes = || recorder.witness(&changes, WitnessMode::Canonical).unwrap().codes;
                assert_eq!(codes(), Vec::<Bytes>::new());

                let info = overlay.basic(CONTRACT).unwrap().unwrap();
                assert_eq!((info.nonce, info.code), (3, None));
                assert_eq!(overlay.code_by_hash(keccak256(CODE)).unwrap().original_byte_slice(), CODE);
                assert_eq!(codes(), [Bytes::from_static(CODE)]);
            }

            /// Code of an account that was neither created nor delegates, as forks give it to accounts, was left out without a word.
            #[test]
            fn code_that_an_account_is_given_is_stored() {
                let (db, _folder) = database();
                let code = Bytecode::new_raw(Bytes::from_static(&[0x60, 0x02, 0x00]));
                let mut given = touched(1, &[]);
                (given.info.code_hash, given.info.code) = (code.hash_slow(), Some(code.clone()));
                let changes = changes_of_state(&state([(OTHER, given)]), EmptyAccounts::Removed);
                db.commit(&changes, Durability::Durable).unwrap();
                let reader = StateReader::new(db.snapshot().unwrap());
                let info = reader.basic_ref(OTHER).unwrap().unwrap();
                assert_eq!(reader.code_by_hash_ref(info.code_hash).unwrap().original_bytes(), code.original_bytes());
            }

            /// The next block was executed on the state of another database if one was named.
            #[test]
            fn a_state_is_committed_to_its_own_database() {
                let ((own, _own_folder), (other, _other_folder)) = (database(), database());
                let mut overlay = Overlay::new(StateReader::new(own.snapshot().unwrap()), EmptyAccounts::Removed);
                overlay.commit(state([(OTHER, touched(7, &[]))]));
                let refused = overlay.commit_to(&other, Durability::Durable).unwrap_err();
                assert!(matches!(refused, metisdb::Error::OtherDatabase { .. }), "{refused}");
                overlay.commit_to(&own, Durability::Durable).unwrap();
                assert_eq!(overlay.basic(OTHER).unwrap().unwrap().nonce, 7);
                assert_eq!((own.stats().version, other.stats().version), (2, 1));
            }

            #[test]
            fn revm_reads_what_was_committed_and_what_is_proposed() {
                let (db, _folder) = database();
                let mut reader = StateReader::new(db.snapshot().unwrap());
                assert_shareable(&reader);
                let info = reader.basic_ref(CONTRACT).unwrap().unwrap();
                assert_eq!((info.nonce, info.balance, info.code_hash), (3, U256::MAX, keccak256(CODE)));
                assert_eq!(reader.code_by_hash(info.code_hash).unwrap().original_byte_slice(), CODE);
                assert_eq!(reader.storage(CONTRACT, U256::from(1)).unwrap(), U256::from(2));
                assert_eq!(reader.storage_ref(CONTRACT, U256::from(7)).unwrap(), U256::ZERO);
                assert_eq!(reader.block_hash_ref(9).unwrap(), B256::repeat_byte(9));
                assert_eq!(reader.block_hash(8).unwrap(), B256::ZERO);
                assert!(reader.basic(OTHER).unwrap().is_none());

                let mut changes = Changes::new();
                changes.set_account(OTHER, Account { nonce: 1, ..Account::default() });
                changes.set_storage(CONTRACT, U256::from(1), U256::ZERO);
                let proposal = db.propose(&db.snapshot().unwrap(), &changes).unwrap();
                let proposed = StateReader::new(proposal.clone());
                assert_eq!(proposed.base().root().unwrap(), proposal.root());
                assert_eq!(proposed.basic_ref(OTHER).unwrap().unwrap().nonce, 1);
                assert_eq!(proposed.storage_ref(CONTRACT, U256::from(1)).unwrap(), U256::ZERO);
                assert_eq!(proposed.storage_ref(CONTRACT, U256::from(2)).unwrap(), U256::from(3));
                assert_eq!(proposed.block_hash_ref(9).unwrap(), B256::repeat_byte(9));
                assert!(reader.basic_ref(OTHER).unwrap().is_none(), "the snapshot stays as it is");
            }

            #[test]
            fn missing_and_malformed_code_are_errors() {
                let (db, _folder) = database();
                let malformed = Bytes::from_static(&[0xef, 0x01, 0x00, 0x01]);
                let code_hash = keccak256(&malformed);
                let mut changes = Changes::new();
                changes.set_code(code_hash, malformed);
                db.commit(&changes, Durability::Durable).unwrap();

                let reader = StateReader::new(db.snapshot().unwrap());
                let (unknown, known) = (B256::repeat_byte(1), code_hash);
                let error = reader.code_by_hash_ref(unknown).unwrap_err().clone();
                assert!(matches!(error, ReadError::MissingCode(hash) if hash == unknown));
                let error = reader.code_by_hash_ref(known).unwrap_err();
                assert!(matches!(error, ReadError::MalformedCode(hash) if hash == known));
                assert!(reader.code_by_hash_ref(KECCAK256_EMPTY).unwrap().is_empty());
            }

            #[test]
            fn code_is_analysed_once_for_all_readers_of_a_cache() {
                let (db, _folder) = database();
                let codes = CodeCache::default();
                let bytes = |reader: &StateReader| {
                    let code = reader.code_by_hash_ref(keccak256(CODE)).unwrap();
                    code.bytecode().as_ptr()
                };
                let first = StateReader::with_codes(db.snapshot().unwrap(), &codes);
                let second = StateReader::with_codes(db.snapshot().unwrap(), &codes);
                let other = StateReader::new(db.snapshot().unwrap());
                assert_eq!(bytes(&first), bytes(&second));
                assert_eq!(bytes(&first), bytes(&first.clone()));
                assert_ne!(bytes(&first), bytes(&other), "another cache has bytes of its own");
            }

            #[test]
            fn the_rules_of_a_commit() {
                let (db, _folder) = database();
                let base: Base = db.snapshot().unwrap().into();
                let address = Address::repeat_byte;
                let mut untouched = touched(1, &[(1, 0, 1)]);
                untouched.unmark_touch();
                let mut destroyed = touched(1, &[(1, 2, 9)]);
                destroyed.mark_selfdestruct();
                let mut created = touched(1, &[(5, 0, 6), (6, 0, 0)]);
                created.mark_created();
                let code = Bytecode::new_raw(Bytes::from_static(&[0x00]));
                created.info.code_hash = keccak256([0x00]);
                created.info.code = Some(code);
                let mut delegating = touched(7, &[]);
                let designator = [&[0xef, 0x01, 0x00][..], &[0x11; 20]].concat();
                delegating.info.code_hash = keccak256(&designator);
                delegating.info.code = Some(Bytecode::new_raw(designator.clone().into()));
                assert_eq!(untouched.status, AccountStatus::default());
                let executed = state([
                    (address(1), untouched),
                    (CONTRACT, destroyed),
                    (address(3), created),
                    (address(4), touched(0, &[])),
                    (address(5), touched(2, &[(1, 1, 0), (2, 2, 2), (3, 0, 4)])),
                    (address(6), delegating),
                ]);

                let account = |nonce| Account { nonce, ..Account::default() };
                let mut expected = Changes::new();
                expected.delete_account(CONTRACT);
                expected.wipe_storage(address(3));
                expected.set_account(address(3), Account { code_hash: keccak256([0x00]), ..account(1) });
                expected.set_code(keccak256([0x00]), Bytes::from_static(&[0x00]));
                expected.set_storage(address(3), U256::from(5), U256::from(6));
                expected.set_account(address(5), account(2));
                expected.set_storage(address(5), U256::from(1), U256::ZERO);
                expected.set_storage(address(5), U256::from(3), U256::from(4));
                expected.set_account(address(6), Account { code_hash: keccak256(&designator), ..account(7) });
                expected.set_code(keccak256(&designator), designator.into());
                let mut kept = expected.clone();
                kept.set_account(address(4), account(0));
                expected.delete_account(address(4));
                assert_eq!(changes_of_state(&executed, EmptyAccounts::Removed), expected);
                assert_eq!(changes_of_state(&executed, EmptyAccounts::Kept), kept);

                for (empty, direct) in [(EmptyAccounts::Removed, expected), (EmptyAccounts::Kept, kept)] {
                    let mut overlay = Overlay::new(StateReader::new(base.clone()), empty);
                    DatabaseCommit::commit(&mut overlay, executed.clone());
                    let root = overlay.propose(&db).unwrap().root();
                    assert_eq!(root, base.propose(&db, &direct).unwrap().root());
                }
            }

            #[test]
            fn an_overlay_reads_what_it_stages_and_commits_it() {
                let (db, _folder) = database();
                let before = db.snapshot().unwrap();
                let mut overlay = Overlay::new(StateReader::new(before.clone()), EmptyAccounts::Removed);
                assert_shareable(&overlay);
                assert!(overlay.changes().unwrap().is_empty());

                let mut contract = touched(3, &[(1, 2, 8), (2, 3, 4)]);
                contract.info.balance = U256::MAX;
                contract.info.code_hash = keccak256(CODE);
                DatabaseCommit::commit(&mut overlay, state([(CONTRACT, contract.clone()), (OTHER, touched(1, &[]))]));
                contract.storage.get_mut(&U256::from(2)).unwrap().present_value = U256::from(3);
                contract.storage.get_mut(&U256::from(2)).unwrap().original_value = U256::from(4);
                DatabaseCommit::commit(&mut overlay, state([(CONTRACT, contract)]));
                assert_eq!(overlay.storage_ref(CONTRACT, U256::from(1)).unwrap(), U256::from(8));
                assert_eq!(overlay.storage(CONTRACT, U256::from(2)).unwrap(), U256::from(3));
                assert_eq!(overlay.basic(OTHER).unwrap().unwrap().nonce, 1);
                assert!(overlay.has_storage(&CONTRACT).unwrap() && !overlay.has_storage(&OTHER).unwrap());
                let mut expected = Changes::new();
                expected.set_account(OTHER, Account { nonce: 1, ..Account::default() });
                expected.set_storage(CONTRACT, U256::from(1), U256::from(8));
                assert_eq!(overlay.changes().unwrap(), expected, "what is as before is left out");

                let root = overlay.propose(&db).unwrap().root();
                overlay.set_block(Block { number: 10, hash: B256::repeat_byte(10), ..Block::default() });
                let commit = overlay.commit_to(&db, Durability::Durable).unwrap();
                let after = db.snapshot_at(commit.version()).unwrap();
                assert_eq!(after.root().unwrap(), root);
                assert_eq!(after.block_hash(10).unwrap(), Some(B256::repeat_byte(10)));
                assert_eq!(overlay.reader().base().root().unwrap(), root);
                assert!(overlay.changes().unwrap().is_empty(), "it goes on from what was committed");

                let mut destroyed = touched(0, &[]);
                destroyed.mark_selfdestruct();
                DatabaseCommit::commit(&mut overlay, state([(CONTRACT, destroyed)]));
                assert!(overlay.basic_ref(CONTRACT).unwrap().is_none());
                assert_eq!(overlay.storage_ref(CONTRACT, U256::from(1)).unwrap(), U256::ZERO);
                assert!(!overlay.has_storage(&CONTRACT).unwrap());

                db.commit(&Changes::new(), Durability::Durable).unwrap();
                let error = overlay.commit_to(&db, Durability::Durable).unwrap_err();
                assert!(matches!(error, metisdb::Error::NotChildOfNewest { .. }), "somebody else was first");
                assert!(overlay.basic_ref(CONTRACT).unwrap().is_none(), "nothing that was staged is lost");
            }
        }
    };
}

line_tests!("revm-31", revm_31, revm_31_interface, (revm_31_state));
line_tests!("revm-38", revm_38, revm_38_interface, (revm_38_interface::state));
line_tests!("revm-40", revm_40, revm_40_interface, (revm_40_interface::state));
line_tests!("revm-43", revm_43, revm_43_interface, (revm_43_interface::state));
