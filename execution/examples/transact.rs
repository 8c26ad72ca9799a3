//! A transaction executed by revm on MetisDB, made durable, read back and proven. The README shows it.

use alloy_primitives::{Address, U256};
use metisdb::{Account, Changes, Durability, Options};
use metisdb_revm::{EmptyAccounts, Overlay, StateReader};
use revm::{Context, ExecuteCommitEvm, MainBuilder, MainContext, context::TxEnv};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("metisdb-transact-{}", std::process::id()));
    let db = Options::new().create(&path)?;
    let (alice, bob) = (Address::repeat_byte(0xa1), Address::repeat_byte(0xb0));
    let mut changes = Changes::new();
    changes.set_account(alice, Account { balance: U256::from(100), ..Account::default() });
    let before = db.commit(&changes, Durability::Durable)?.version();

    let mut state = Overlay::new(StateReader::new(db.snapshot()?), EmptyAccounts::Removed);
    let payment = TxEnv::builder().caller(alice).to(bob).value(U256::from(42)).gas_limit(21_000).build().unwrap();
    Context::mainnet().with_db(&mut state).build_mainnet().transact_commit(payment)?;
    state.commit_to(&db, Durability::Durable)?; // from here on it survives a power cut

    let now = db.snapshot()?;
    assert_eq!(now.account(&bob)?.unwrap().balance, U256::from(42));
    assert_eq!(db.snapshot_at(before)?.account(&bob)?, None); // the old version is still there
    now.proof(&bob, &[])?.verify(now.root()?)?; // anyone who knows the root can check it
    Ok(std::fs::remove_dir_all(&path)?)
}
