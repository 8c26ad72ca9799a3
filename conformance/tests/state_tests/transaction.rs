//! The transaction of a state test: one for each choice of data, gas and value.

use alloy_eips::{
    eip2930::{AccessList, AccessListItem},
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use k256::{ecdsa::SigningKey, elliptic_curve::sec1::ToEncodedPoint};
use metisdb_conformance::database::Checked;
use revm::context::{TxEnv, either::Either};
use serde::Deserialize;

/// The parts that transactions are made of.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parts {
    data: Vec<String>,
    gas_limit: Vec<String>,
    value: Vec<String>,
    nonce: String,
    to: Option<String>,
    sender: Option<String>,
    secret_key: Option<String>,
    gas_price: Option<String>,
    max_fee_per_gas: Option<String>,
    max_priority_fee_per_gas: Option<String>,
    access_lists: Option<Vec<Option<Vec<Access>>>>,
    blob_versioned_hashes: Option<Vec<String>>,
    max_fee_per_blob_gas: Option<String>,
    authorization_list: Option<Vec<Authorized>>,
}

/// Which parts one transaction has.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Choice {
    data: usize,
    gas: usize,
    value: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Access {
    address: String,
    storage_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorized {
    chain_id: String,
    address: String,
    nonce: String,
    v: Option<String>,
    y_parity: Option<String>,
    r: String,
    s: String,
}

fn bytes(text: &str) -> Checked<Bytes> {
    hex::decode(text).map(Bytes::from).map_err(|error| format!("{text}: {error}"))
}

/// A number; tests write those that do not fit as `0x:bigint 0x…`.
fn number(text: &str) -> Checked<U256> {
    let text = text.strip_prefix("0x:bigint ").unwrap_or(text);
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("{text} is no hexadecimal number"))?;
    if digits.is_empty() {
        return Ok(U256::ZERO);
    }
    U256::from_str_radix(digits, 16).map_err(|error| format!("{text}: {error}"))
}

fn word(text: &str) -> Checked<B256> {
    Ok(number(text)?.into())
}

fn narrow<T: TryFrom<U256>>(text: &str) -> Checked<T> {
    number(text)?.try_into().map_err(|_| format!("{text} is too large"))
}

fn address(text: &str) -> Checked<Address> {
    Address::try_from(&bytes(text)?[..]).map_err(|error| format!("{text}: {error}"))
}

impl Access {
    fn item(&self) -> Checked<AccessListItem> {
        let storage_keys = self.storage_keys.iter().map(|key| word(key)).collect::<Checked<_>>()?;
        Ok(AccessListItem { address: address(&self.address)?, storage_keys })
    }
}

impl Authorized {
    fn signed(&self) -> Checked<SignedAuthorization> {
        let authorization = Authorization {
            chain_id: number(&self.chain_id)?,
            address: address(&self.address)?,
            nonce: narrow(&self.nonce)?,
        };
        let parity = self.y_parity.as_deref().or(self.v.as_deref()).ok_or("an authorization without parity")?;
        Ok(SignedAuthorization::new_unchecked(authorization, narrow(parity)?, number(&self.r)?, number(&self.s)?))
    }
}

impl Parts {
    fn sender(&self) -> Checked<Address> {
        if let Some(sender) = &self.sender {
            return address(sender);
        }
        let key = self.secret_key.as_deref().ok_or("the transaction has neither a sender nor a key")?;
        let key = SigningKey::from_slice(word(key)?.as_slice()).map_err(|error| error.to_string())?;
        let point = key.verifying_key().as_affine().to_encoded_point(false);
        Ok(Address::from_raw_public_key(&point.as_bytes()[1..]))
    }

    fn access_list(&self, data: usize) -> Checked<Option<AccessList>> {
        let Some(list) = self.access_lists.as_ref().and_then(|lists| lists.get(data)) else { return Ok(None) };
        let items = list.iter().flatten().map(Access::item).collect::<Checked<Vec<_>>>()?;
        Ok(list.is_some().then_some(AccessList(items)))
    }

    fn kind(&self) -> Checked<TxKind> {
        let to = self.to.as_deref().filter(|to| !to.is_empty());
        to.map_or(Ok(TxKind::Create), |to| Ok(TxKind::Call(address(to)?)))
    }

    /// The transaction of a choice.
    ///
    /// # Errors
    /// What in it cannot be written as a transaction at all.
    pub(crate) fn choose(&self, choice: Choice, chain_id: u64) -> Checked<TxEnv> {
        fn part(list: &[String], index: usize) -> Checked<&str> {
            list.get(index).map(String::as_str).ok_or_else(|| format!("there is no part {index}"))
        }
        fn all<T, U>(list: Option<&[T]>, parse: impl Fn(&T) -> Checked<U>) -> Checked<Vec<U>> {
            list.unwrap_or_default().iter().map(parse).collect()
        }
        let access_list = self.access_list(choice.data)?;
        let tx_type = if self.authorization_list.is_some() {
            4
        } else if self.max_fee_per_blob_gas.is_some() || self.blob_versioned_hashes.is_some() {
            3
        } else if self.max_fee_per_gas.is_some() {
            2
        } else {
            u8::from(access_list.is_some())
        };
        let kind = self.kind()?;
        if tx_type >= 3 && kind.is_create() {
            return Err("transactions with blobs or authorizations have no form that creates".into());
        }
        let price = self.max_fee_per_gas.as_deref().or(self.gas_price.as_deref()).unwrap_or("0x");
        Ok(TxEnv {
            tx_type,
            caller: self.sender()?,
            gas_limit: narrow(part(&self.gas_limit, choice.gas)?)?,
            gas_price: narrow(price)?,
            kind,
            value: number(part(&self.value, choice.value)?)?,
            data: bytes(part(&self.data, choice.data)?)?,
            nonce: narrow(&self.nonce)?,
            chain_id: Some(chain_id),
            access_list: access_list.unwrap_or_default(),
            gas_priority_fee: self.max_priority_fee_per_gas.as_deref().map(narrow).transpose()?,
            blob_hashes: all(self.blob_versioned_hashes.as_deref(), |hash| word(hash))?,
            max_fee_per_blob_gas: self.max_fee_per_blob_gas.as_deref().map_or(Ok(0), narrow)?,
            authorization_list: all(self.authorization_list.as_deref(), |one| one.signed().map(Either::Left))?,
        })
    }
}

/// The hash of logs, as the tests have it.
pub(crate) fn logs_hash(logs: &[alloy_primitives::Log]) -> B256 {
    let mut encoded = Vec::new();
    alloy_rlp::encode_list(logs, &mut encoded);
    keccak256(encoded)
}
