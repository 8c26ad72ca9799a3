//! Witnesses: exported of a database, looked at and replayed without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use alloy_consensus::{Block, BlockBody, Header, TxEnvelope};
use alloy_eips::{
    eip4788::BEACON_ROOTS_ADDRESS,
    eip4895::{Withdrawal, Withdrawals},
};
use alloy_primitives::{Address, B256, Bytes, U256, bytes, hex, keccak256};
use alloy_rlp::Decodable;
use metisdb::{
    Account, Changes, Durability, Options,
    proof::{Witness, preimage_key},
};
use metisdb_execution::{Chain, Forks, metadata};
use metisdb_revm::Base;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ABSENT, REFUSED, UNUSABLE, fails, json_of, text};

/// A database behind whose version 1 a block follows, and files with the block and its parent's header.
struct World {
    folder: TempDir,
    block: Block<TxEnvelope>,
}

/// The block has withdrawals, one to an account that does not exist, and a system call that reads and sets slots.
fn world() -> World {
    // The slot of the time takes what it is called with.
    world_of(bytes!("5f35425500"), 7)
}

/// The same with other code to be called, and with headers from one of a number on, up to the parent's, which has seven.
fn world_of(code: Bytes, oldest: u64) -> World {
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new().create(folder.path().join("db")).unwrap();
    let contract = Account { nonce: 1, code_hash: keccak256(&code), ..Account::default() };
    let mut changes = Changes::new();
    changes.set_code(contract.code_hash, code).set_account(BEACON_ROOTS_ADDRESS, contract);
    for number in 1..=50 {
        changes.set_storage(BEACON_ROOTS_ADDRESS, U256::from(number), U256::from(number));
        changes
            .set_account(Address::repeat_byte(number), Account { balance: U256::from(number), ..Account::default() });
    }
    db.commit(&changes, Durability::Durable).unwrap();
    let snapshot = db.snapshot().unwrap();
    let header = |number, parent_hash| Header {
        number,
        parent_hash,
        timestamp: 1_000,
        state_root: snapshot.root().unwrap(),
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(7),
        excess_blob_gas: Some(0),
        blob_gas_used: Some(0),
        withdrawals_root: Some(B256::ZERO),
        parent_beacon_block_root: Some(B256::ZERO),
        ..Header::default()
    };
    let (mut parent, mut base) = (Header::default(), Base::from(snapshot.clone()));
    for number in oldest..=7 {
        parent = header(number, parent.hash_slow());
        fs::write(folder.path().join(format!("header{number}")), alloy_rlp::encode(&parent)).unwrap();
        let mut changes = Changes::new();
        changes.set_block(metadata(&parent, parent.hash_slow()));
        base = base.propose(&db, &changes).unwrap().into();
    }
    let chain = Chain::new(Forks::named("Cancun").unwrap(), 1);
    let mut header = chain.next_header(&parent, parent.hash_slow(), 1_012);
    header.parent_beacon_block_root = Some(B256::repeat_byte(0x42));
    let withdrawal = |byte| Withdrawal { address: Address::repeat_byte(byte), amount: 5, ..Withdrawal::default() };
    let withdrawals = Some(Withdrawals::new(vec![withdrawal(9), withdrawal(0xee)]));
    let mut block = Block { header, body: BlockBody { withdrawals, ..BlockBody::default() } };
    let executed = chain.execute(base.clone(), &block, &[]).unwrap();
    let root = base.propose(&db, &executed.changes).unwrap().root();
    chain.seal(&mut block, &executed, root);
    db.close().unwrap();
    fs::write(folder.path().join("parent"), hex::encode_prefixed(alloy_rlp::encode(&parent))).unwrap();
    fs::write(folder.path().join("block"), alloy_rlp::encode(&block)).unwrap();
    World { folder, block }
}

impl World {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn export(&self, form: &str, out: &str) -> Vec<String> {
        let [db, block, parent, out] = ["db", "block", "parent", out].map(|name| self.path(name));
        let rules = ["--forks", "Cancun", "--form", form].map(str::to_owned);
        let files = ["witness", "export", "--db", &db, "--block", &block, "--headers", &parent, "--out", &out];
        [&files.map(str::to_owned)[..], &rules].concat()
    }

    /// An export with the headers of these files.
    fn export_with(&self, headers: &[&str], out: &str) -> Vec<String> {
        let mut arguments = self.export("rlp", out);
        let place = arguments.iter().position(|argument| *argument == self.path("parent")).unwrap();
        arguments.splice(place..=place, headers.iter().map(|name| self.path(name)));
        arguments
    }

    fn replay(&self, witness: &str) -> Vec<String> {
        let [witness, block] = [witness, "block"].map(|name| self.path(name));
        ["witness", "replay", &witness, "--block", &block, "--forks", "Cancun"].map(str::to_owned).to_vec()
    }

    fn verify(&self, witness: &str, parent: B256) -> Vec<String> {
        ["witness", "verify", &self.path(witness), "--parent", &parent.to_string()].map(str::to_owned).to_vec()
    }
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Files below a folder, with what they hold.
fn files(folder: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path));
        } else {
            found.push((path.clone(), fs::read_to_string(path).unwrap()));
        }
    }
    found
}

#[test]
fn a_block_is_replayed_from_what_was_exported() {
    let world = world();
    let header = &world.block.header;
    for form in ["json", "rlp"] {
        let exported = json_of(&borrowed(&world.export(form, form)));
        assert_eq!((&exported["version"], &exported["codes"], &exported["headers"]), (&json!(1), &json!(1), &json!(1)));
        let replayed = json_of(&borrowed(&world.replay(form)));
        assert_eq!(replayed["hash"], json!(header.hash_slow().to_string()));
        assert_eq!(replayed["state_root"], json!(header.state_root.to_string()));
        let verified = json_of(&borrowed(&world.verify(form, header.parent_hash)));
        assert_eq!(verified["accounts"], json!({ "present": 2, "absent": 1 }));
        assert!(text(&borrowed(&world.verify(form, header.parent_hash))).contains("2 proven to exist, 1 not to"));
    }
    let shown = text(&borrowed(&[world.export("json", "superset"), vec!["--superset".into()]].concat()));
    assert!(shown.contains("version") && shown.contains("nodes"), "{shown}");
    assert!(text(&borrowed(&world.replay("superset"))).contains(&header.state_root.to_string()));
}

/// Once what geth answers was refused: no keys but null, and headers as objects.
#[test]
fn a_block_is_replayed_from_an_answer_of_geth() {
    let world = world();
    text(&borrowed(&world.export("json", "json")));
    let mut witness: Value = serde_json::from_slice(&fs::read(world.path("json")).unwrap()).unwrap();
    let parent = hex::decode(fs::read(world.path("parent")).unwrap()).unwrap();
    let parent = Header::decode(&mut &parent[..]).unwrap();
    let mut object = serde_json::to_value(&parent).unwrap();
    // geth tells the hash besides; nothing depends on it.
    object["hash"] = parent.hash_slow().to_string().into();
    for keys in [Value::Null, json!([])] {
        (witness["keys"], witness["headers"]) = (keys, json!([object]));
        fs::write(world.path("geth"), witness.to_string()).unwrap();
        let replayed = json_of(&borrowed(&world.replay("geth")));
        assert_eq!(replayed["state_root"], json!(world.block.header.state_root.to_string()));
    }
    let mut other = object.clone();
    other["gasUsed"] = "0x1".into();
    for (header, reason) in
        [(other, "is missing"), (json!({}), "a header is neither"), (json!(5), "a header is neither")]
    {
        witness["headers"] = json!([header]);
        fs::write(world.path("other"), witness.to_string()).unwrap();
        let refused = fails(&borrowed(&world.replay("other")), REFUSED);
        assert!(refused.contains(reason), "{refused}");
    }
}

#[test]
fn preimages_stand_under_their_keys() {
    let world = world();
    text(&borrowed(&world.export("rlp", "rlp")));
    let witness = Witness::from_rlp(&fs::read(world.path("rlp")).unwrap()).unwrap();
    for (form, first, rest) in [("files", "0x", ""), ("directory", "", "/")] {
        text(&borrowed(&world.export(form, form)));
        let found = files(world.path(form).into());
        assert_eq!(found.len(), witness.preimages().count());
        for (path, content) in found {
            let key = hex::encode(preimage_key(&hex::decode(&content).unwrap()));
            let name = format!("/{form}/{first}{}{rest}{}.txt", &key[..4], &key[4..]);
            assert!(path.to_str().unwrap().ends_with(&name), "{name}: {path:?}");
        }
    }
}

/// Once what was written of a witness before the disk was full stayed, and was in the way of the next export.
#[test]
fn a_full_disk_leaves_no_part_of_a_witness() {
    let world = world();
    for form in ["json", "rlp", "files", "directory"] {
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        let output = command
            .args(["-c", script, env!("CARGO_BIN_EXE_metisdb")])
            .args(world.export(form, form))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(UNUSABLE), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("File too large"), "{output:?}");
        assert!(!Path::new(&world.path(form)).exists(), "{form}");
        text(&borrowed(&world.export(form, form)));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let world = world();
    text(&borrowed(&world.export("json", "json")));
    let taken = fails(&borrowed(&world.export("json", "json")), REFUSED);
    assert!(taken.contains("json is there already"), "{taken}");
    let whole: Value = serde_json::from_slice(&fs::read(world.path("json")).unwrap()).unwrap();
    for index in 0..whole["state"].as_array().unwrap().len() {
        let mut less = whole.clone();
        less["state"].as_array_mut().unwrap().remove(index);
        fs::write(world.path("less"), less.to_string()).unwrap();
        let refused = fails(&borrowed(&world.replay("less")), REFUSED);
        assert!(refused.contains("less"), "{refused}");
    }
    fails(&borrowed(&world.verify("json", B256::ZERO)), REFUSED);
    fails(&borrowed(&world.verify("block", world.block.header.parent_hash)), REFUSED);
    let older = [world.export("json", "older"), vec!["--version".into(), "0".into()]].concat();
    let refused = fails(&borrowed(&older), REFUSED);
    assert!(refused.contains("--version"), "{refused}");
    let missing = [world.export("json", "older"), vec!["--version".into(), "9".into()]].concat();
    fails(&borrowed(&missing), ABSENT);
    let mut wrong = world.export("json", "wrong");
    let place = wrong.iter().position(|argument| *argument == world.path("parent")).unwrap();
    wrong[place] = world.path("block");
    let refused = fails(&borrowed(&wrong), REFUSED);
    assert!(refused.contains("RLP is expected"), "{refused}");
}

/// Once all headers were written as they were given: in any order, twice, and of blocks that nothing asks for.
#[test]
fn the_headers_are_those_that_a_replay_needs() {
    // The slot of the time takes the hash of the block three before.
    for (code, first) in [(bytes!("6003430340425500"), 5), (bytes!("5f35425500"), 7)] {
        let world = world_of(code, 3);
        let stray = Header { number: 6, ..Header::default() };
        fs::write(world.path("stray"), alloy_rlp::encode(stray)).unwrap();
        let given = ["header7", "header3", "stray", "header6", "header6", "header4", "header5"];
        text(&borrowed(&world.export_with(&given, "rlp")));
        let witness = Witness::from_rlp(&fs::read(world.path("rlp")).unwrap()).unwrap();
        let expected: Vec<_> =
            (first..=7).map(|number| fs::read(world.path(&format!("header{number}"))).unwrap()).collect();
        assert_eq!(witness.headers, expected);
        let replayed = json_of(&borrowed(&world.replay("rlp")));
        assert_eq!(replayed["state_root"], json!(world.block.header.state_root.to_string()));
    }
}

/// Once a hash that the database did not have was zero for the export, and the replay, which had it, lacked a node or led elsewhere.
#[test]
fn a_hash_that_no_header_tells_is_named() {
    let world = world_of(bytes!("6003430340425500"), 3);
    for given in [&["header7"][..], &["header7", "header6"], &["header7", "header5", "header4"]] {
        let refused = fails(&borrowed(&world.export_with(given, "rlp")), REFUSED);
        assert!(refused.contains("the hash of block 5, which no header tells"), "{refused}");
    }
    let refused = fails(&borrowed(&world.export_with(&["header6", "header5"], "rlp")), REFUSED);
    assert!(refused.contains(&format!("the header {} is missing", world.block.header.parent_hash)), "{refused}");
}
