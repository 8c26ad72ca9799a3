//! The entrance for fuzzers: arbitrary bytes as a genesis file. Built for fuzzers and for the tests only.

use std::{path::Path, sync::Arc};

use alloy_primitives::{B256, hex};
use metisdb::{Db, Options, storage::SimulatedDisk};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    genesis::{self, Loader},
    interrupt::Interrupt,
};

/// What is no genesis is refused, whatever it is; what is one is the same when it is written down and read again.
///
/// # Panics
/// Where that does not hold.
pub fn genesis(bytes: &[u8]) {
    let (db, root) = match import(bytes) {
        Ok(imported) => imported,
        Err(Failure::Refused(_)) => return,
        Err(failure) => panic!("it can only be refused: {failure}"),
    };
    let again = import(written(&db).to_string().as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(again.1, root);
}

fn import(bytes: &[u8]) -> Result<(Db, B256), Failure> {
    let options = Options::new().segment_bytes(1 << 16).expected_keys(0).checkpoint_log_bytes(u64::MAX);
    let db = options.create_on(Arc::new(SimulatedDisk::new(1)))?;
    let interrupt = Interrupt::default();
    let mut loader = Loader::new(&db, interrupt.clone())?;
    let path = Path::new("genesis.json");
    let preamble = genesis::read(path, bytes, bytes.len() as u64, &mut loader, &interrupt)?;
    let (root, loaded) = loader.finish(|root| Ok(preamble.header.block(root).ok()))?;
    let snapshot = db.snapshot()?;
    assert_eq!(snapshot.root()?, root);
    let accounts = snapshot.accounts(B256::ZERO)?.collect::<Result<Vec<_>, _>>()?;
    let mut slots = 0;
    for (_, address, _) in &accounts {
        slots += snapshot.slots(address, B256::ZERO)?.count() as u64;
    }
    assert_eq!((loaded.accounts, loaded.slots), (accounts.len() as u64, slots));
    drop(snapshot);
    Ok((db, root))
}

/// The state as a genesis file.
fn written(db: &Db) -> Value {
    let snapshot = db.snapshot().expect("a snapshot");
    let mut alloc = Map::new();
    for item in snapshot.accounts(B256::ZERO).expect("accounts") {
        let (_, address, account) = item.expect("an account");
        let slots = snapshot.slots(&address, B256::ZERO).expect("slots").map(|item| item.expect("a slot"));
        let storage: Map<String, Value> =
            slots.map(|(_, slot, value)| (format!("{slot:#x}"), json!(format!("{value:#x}")))).collect();
        let code = snapshot.code(&account.code_hash).expect("an answer").unwrap_or_default();
        let (nonce, balance) = (format!("{:#x}", account.nonce), account.balance.to_string());
        let fields =
            json!({"nonce": nonce, "balance": balance, "code": hex::encode_prefixed(code), "storage": storage});
        alloc.insert(address.to_string(), fields);
    }
    json!({ "alloc": alloc })
}

#[cfg(test)]
mod tests {
    use std::fs;

    /// What fuzzing found worth keeping, among it everything that ever failed.
    #[test]
    fn the_corpus_passes() {
        let entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/genesis")).unwrap();
        let mut count = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            super::genesis(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus is empty");
    }
}
