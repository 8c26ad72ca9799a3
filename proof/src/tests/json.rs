//! The JSON of `eth_getProof`: written in its one form, and nothing else read.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use serde_json::{Value, json};

use super::{
    super::{AccountProof, EMPTY_ROOT},
    claims::world,
};
use crate::{Account, ProofError};

fn written(proof: &AccountProof) -> Value {
    serde_json::to_value(proof).expect("a proof can be written")
}

fn read(value: &Value) -> Result<AccountProof, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_read_again() {
    let (mut present, mut absent) = (0, 0);
    for seed in 0..40 {
        let (root, proofs) = world(seed);
        for proof in proofs {
            let again = read(&written(&proof)).expect("it was written so");
            assert_eq!(again, proof, "seed {seed}");
            assert_eq!(again.verify(root), Ok(()), "seed {seed}");
            *(if proof.account.is_some() { &mut present } else { &mut absent }) += 1;
        }
    }
    assert!(present > 200 && absent == 40, "{present}, {absent}");
}

/// An account with no fields and one that does not exist are written alike but for the nodes, which tell them apart.
#[test]
fn an_empty_account_and_an_absent_one() {
    let (root, empty) = super::claims::forged(&super::claims::encode(&Account::default(), EMPTY_ROOT), &[5]);
    let empty =
        AccountProof { account: Some(Account::default()), storage_root: EMPTY_ROOT, slots: Vec::new(), ..empty };
    assert_eq!(empty.verify(root), Ok(()));
    assert_eq!(read(&written(&empty)), Ok(empty.clone()));

    let absent = AccountProof { address: Address::ZERO, account: None, ..empty.clone() };
    assert_eq!(absent.verify(root), Ok(()));
    let text = written(&absent);
    assert_eq!(text["nonce"], "0x0");
    assert_eq!(text["balance"], "0x0");
    assert_eq!(text["codeHash"], KECCAK256_EMPTY.to_string());
    assert_eq!(text["storageHash"], EMPTY_ROOT.to_string());
    assert_eq!(read(&text), Ok(absent));

    // In an empty state no node says so.
    let nothing = AccountProof { account: None, nodes: Vec::new(), ..empty };
    assert_eq!(read(&written(&nothing)).map(|proof| proof.verify(EMPTY_ROOT)), Ok(Ok(())));
}

/// Once the honest answer of geth since 1.13.4 on an account that does not exist, in which both hashes are zero, was refused.
#[test]
fn an_absent_account_with_hashes_of_zero() {
    let zeros = |proof: &AccountProof| {
        let mut text = written(proof);
        for (field, zero) in [("nonce", "0x0".into()), ("balance", "0x0".into()), ("codeHash", B256::ZERO.to_string())]
        {
            text[field] = zero.into();
        }
        text["storageHash"] = B256::ZERO.to_string().into();
        text
    };
    let (mut present, mut absent) = (0, 0);
    for seed in 0..40 {
        let (root, proofs) = world(seed);
        for proof in proofs {
            let read = read(&zeros(&proof)).expect("a form of absence");
            assert_eq!((read.account, read.storage_root), (None, EMPTY_ROOT), "seed {seed}");
            if proof.account.is_none() {
                assert_eq!(read, proof, "seed {seed}");
                assert_eq!(read.verify(root), Ok(()), "seed {seed}");
                absent += 1;
            } else {
                let what = "existence";
                let verdict = read.verify(root);
                assert!(
                    matches!(verdict, Err(ProofError::AccountMismatch { what: told, .. }) if told == what),
                    "{verdict:?}"
                );
                present += 1;
            }
        }
    }
    assert!(present > 200 && absent == 40, "{present}, {absent}");
}

/// Zeros are a form of absence as a whole: an account with some of them is claimed to exist, and refused.
#[test]
fn hashes_of_zero_beside_other_fields() {
    let (root, proof) = super::claims::forged(&super::claims::encode(&Account::default(), EMPTY_ROOT), &[]);
    let absent =
        AccountProof { address: Address::ZERO, account: None, storage_root: EMPTY_ROOT, slots: Vec::new(), ..proof };
    let zero = B256::ZERO.to_string();
    for fields in [&["codeHash"][..], &["storageHash"], &["nonce", "codeHash", "storageHash"]] {
        let mut text = written(&absent);
        for field in fields {
            text[*field] = if *field == "nonce" { "0x1".into() } else { zero.clone().into() };
        }
        let verdict = read(&text).expect("of the form of an answer").verify(root);
        assert!(matches!(verdict, Err(ProofError::AccountMismatch { .. })), "{fields:?}: {verdict:?}");
    }
}

#[test]
fn quantities_have_no_zeros_in_front_and_hashes_are_whole() {
    let (_, proof) = super::claims::forged(&[], &[5]);
    let text = written(&proof);
    let node = |node: &alloy_primitives::Bytes| node.to_string();
    let expected = json!({
        "address": "0x0101010101010101010101010101010101010101",
        "accountProof": [node(&proof.nodes[0])],
        "balance": "0x3e8",
        "codeHash": KECCAK256_EMPTY.to_string(),
        "nonce": "0x1",
        "storageHash": proof.storage_root.to_string(),
        "storageProof": [{
            "key": format!("0x{:064x}", 2),
            "value": "0x5",
            "proof": [node(&proof.slots[0].nodes[0])],
        }],
    });
    assert_eq!(text, expected);
}

/// As geth repeats the keys that it was given.
#[test]
fn a_key_is_a_hash_or_a_quantity() {
    let (root, proof) = super::claims::forged(&[], &[5]);
    for key in ["0x2", &format!("0x{:064x}", 2)] {
        let mut text = written(&proof);
        text["storageProof"][0]["key"] = key.into();
        assert_eq!(read(&text).map(|proof| proof.verify(root)), Ok(Ok(())));
    }
}

#[test]
fn another_form_of_json_is_refused() {
    let (_, proof) = super::claims::forged(&[], &[5]);
    let text = written(&proof);
    let long = "0".repeat(2 * 1024 + 2);
    let nodes = vec!["0x00"; 66];
    let faults = [
        ("/nonce", json!("0x01"), "without zeros in front"),
        ("/nonce", json!("0x"), "without zeros in front"),
        ("/nonce", json!("1"), "without zeros in front"),
        ("/nonce", json!(1), "invalid type: integer"),
        ("/nonce", json!("0x10000000000000000"), "more than 64 bits"),
        ("/nonce", json!("0x1_0"), "without zeros in front"),
        ("/nonce", json!("0x+1"), "without zeros in front"),
        ("/balance", json!("0x1".to_owned() + &"0".repeat(64)), "256 bits"),
        ("/balance", json!("0X1"), "0x first"),
        ("/balance", Value::Null, "invalid type: null"),
        ("/address", json!("0x01"), "0x and 40 digits"),
        ("/address", json!("0x010101010101010101010101010101010101010g"), "0x and 40 digits"),
        ("/codeHash", json!("0x00"), "0x and 64 digits"),
        ("/storageHash", json!(B256::ZERO.to_string().replace("0x", "")), "0x and 64 digits"),
        ("/storageHash", json!(format!("0x{}", B256::ZERO)), "0x and 64 digits"),
        ("/accountProof", json!("0x00"), "at most 65 nodes"),
        ("/accountProof", json!(nodes), "at most 65 nodes"),
        ("/accountProof/0", json!("0x0"), "a node"),
        ("/accountProof/0", json!("00"), "a node"),
        ("/accountProof/0", json!("0x0x00"), "a node"),
        ("/accountProof/0", json!(format!("0x{long}")), "a node of at most 1024 bytes"),
        ("/storageProof/0/key", json!("0x02"), "slot's number"),
        ("/storageProof/0/key", json!(format!("0x{:066x}", 2)), "slot's number"),
        ("/storageProof/0/value", json!("0x05"), "without zeros in front"),
        ("/storageProof/0", json!({ "key": "0x2", "value": "0x5" }), "missing field `proof`"),
        ("/storageProof", json!({}), "invalid type: map"),
    ];
    for (place, value, expected) in faults {
        let mut text = text.clone();
        *text.pointer_mut(place).expect("it is there") = value.clone();
        let refusal = read(&text).expect_err(place);
        assert!(refusal.contains(expected) && refusal.len() < 300, "{place} as {value}: {refusal}");
    }
    for (place, name) in [("", "nonce"), ("", "storageProof"), ("/storageProof/0", "key")] {
        let (mut missing, mut unknown) = (text.clone(), text.clone());
        missing.pointer_mut(place).and_then(Value::as_object_mut).expect("an object").remove(name);
        assert!(read(&missing).expect_err(name).contains("missing field"));
        unknown.pointer_mut(place).expect("it is there")["other"] = json!(1);
        assert!(read(&unknown).expect_err(name).contains("unknown field `other`"));
    }
    let twice = text.to_string().replacen('{', "{\"nonce\":\"0x1\",", 1);
    let refusal = serde_json::from_str::<AccountProof>(&twice).expect_err("a field twice").to_string();
    assert!(refusal.contains("duplicate field"), "{refusal}");
    let behind = format!("{text}0");
    assert!(serde_json::from_str::<AccountProof>(&behind).is_err());
    assert_eq!(read(&text).map(|proof| proof.slots[0].slot), Ok(U256::from(2)));
}
