//! The JSON of `eth_getProof` (EIP-1186), as geth writes it.
//!
//! Whatever is read is the only form of what it says, but that digits above 9 may be written large, that keys of slots may be
//! numbers, and that both hashes of an absent account may be zero. Nothing is taken for granted: a field too many or too few, a number with a zero in front, a list longer than a path can
//! be, all are refused. What is read takes memory in proportion to the text, at most sixteen times as much.
//!
//! EIP-1186 does not say whether an account exists. Some clients give an absent one the fields of an empty one, as is done here:
//! what its nodes prove tells them apart, whatever the root is; where they prove nothing, the account is taken for absent, and
//! refused by [`AccountProof::verify`] in either case. Others (geth since 1.13.4) answer zeros alone, also for both hashes, which no
//! account has: that is read as absent, whatever the nodes prove.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::{Account, AccountProof, EMPTY_ROOT, SlotProof, node::PATH_NIBBLES, paths::verify_path};

/// A path has a node for each nibble at most, and the leaf.
const MOST_NODES: usize = PATH_NIBBLES + 1;
/// More than the longest node of a trie: a branch of sixteen hashes has 532.
const MOST_NODE_BYTES: usize = 1024;
/// What some clients write of an account that does not exist, and of its storage. None has these hashes: even of nothing there is
/// one that is not zero.
const ZEROS: (Account, B256) = (Account { nonce: 0, balance: U256::ZERO, code_hash: B256::ZERO }, B256::ZERO);

/// An answer to `eth_getProof`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answer {
    address: Data<20>,
    account_proof: Nodes,
    balance: Quantity,
    code_hash: Data<32>,
    nonce: Quantity,
    storage_hash: Data<32>,
    storage_proof: Vec<SlotAnswer>,
}

/// A slot of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotAnswer {
    key: Key,
    value: Quantity,
    proof: Nodes,
}

/// A number without zeros in front, 0x first.
struct Quantity(U256);

/// Bytes in full, 0x first.
struct Data<const BYTES: usize>([u8; BYTES]);

/// The number of a slot: in full, as geth repeats a key of 32 bytes; or as a quantity, as it repeats any other.
struct Key(U256);

/// The nodes of a path.
struct Nodes(Vec<Bytes>);

/// One of them.
struct Node(Bytes);

impl Serialize for AccountProof {
    /// Writes the answer of `eth_getProof`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Account { nonce, balance, code_hash } = self.account.unwrap_or_default();
        let slot = |slot: &SlotProof| SlotAnswer {
            key: Key(slot.slot),
            value: Quantity(slot.value),
            proof: Nodes(slot.nodes.clone()),
        };
        let answer = Answer {
            address: Data(self.address.into_array()),
            account_proof: Nodes(self.nodes.clone()),
            balance: Quantity(balance),
            code_hash: Data(code_hash.0),
            nonce: Quantity(U256::from(nonce)),
            storage_hash: Data(self.storage_root.0),
            storage_proof: self.slots.iter().map(slot).collect(),
        };
        answer.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AccountProof {
    /// Reads an answer of `eth_getProof`. Nothing of it is proven before [`AccountProof::verify`].
    ///
    /// # Errors
    /// Whatever does not have that form, with what is wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let answer = Answer::deserialize(deserializer)?;
        let nonce = u64::try_from(answer.nonce.0).map_err(|_| D::Error::custom("the nonce has more than 64 bits"))?;
        let account = Account { nonce, balance: answer.balance.0, code_hash: B256::new(answer.code_hash.0) };
        let storage_root = B256::new(answer.storage_hash.0);
        let (address, nodes) = (Address::new(answer.address.0), answer.account_proof.0);
        let (account, storage_root) = match (account, storage_root) {
            zeros if zeros == ZEROS => (None, EMPTY_ROOT),
            (account, root) if account != Account::default() => (Some(account), root),
            (account, root) => (proves_presence(&address, &nodes).then_some(account), root),
        };
        let slot = |slot: SlotAnswer| SlotProof { slot: slot.key.0, value: slot.value.0, nodes: slot.proof.0 };
        Ok(Self { address, account, storage_root, nodes, slots: answer.storage_proof.into_iter().map(slot).collect() })
    }
}

/// Whether under some root the nodes prove that the account exists.
fn proves_presence(address: &Address, nodes: &[Bytes]) -> bool {
    let root = nodes.first().map_or(EMPTY_ROOT, keccak256);
    matches!(verify_path(root, &keccak256(address), nodes), Ok(Some(_)))
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Hex("a number of 256 bits at most, 0x first, without zeros in front", quantity))
            .map(Self)
    }
}

impl<const BYTES: usize> Serialize for Data<BYTES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_prefixed(self.0))
    }
}

impl<'de, const BYTES: usize> Deserialize<'de> for Data<BYTES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = if BYTES == 20 { "an address, 0x and 40 digits" } else { "a hash, 0x and 64 digits" };
        deserializer.deserialize_str(Hex(expected, data)).map(Self)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Data(self.0.to_be_bytes::<32>()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = |text: &str| data(text).map(U256::from_be_bytes::<32>).or_else(|| quantity(text));
        deserializer
            .deserialize_str(Hex("a slot's number, 0x and 64 digits, or a number without zeros in front", key))
            .map(Self)
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(hex::encode_prefixed))
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MOST_NODES} nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Node(node)) = list.next_element()? {
            if self.0.len() == MOST_NODES {
                return Err(A::Error::invalid_length(MOST_NODES + 1, &self));
            }
            self.0.push(node);
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = |text: &str| {
            let digits = text.strip_prefix("0x").filter(|digits| digits.len() <= 2 * MOST_NODE_BYTES)?;
            hex::decode(strict(digits)?).ok().map(Bytes::from)
        };
        deserializer.deserialize_str(Hex("a node of at most 1024 bytes, 0x first", node)).map(Self)
    }
}

/// Reads a text, or says what was expected.
struct Hex<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Hex<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let Self(expected, read) = self;
        // The text may be long; where it begins is enough to find it.
        let begin: String = text.chars().take(80).collect();
        read(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(&begin), &expected))
    }
}

/// Digits, and nothing that a lenient decoder would skip.
fn strict(digits: &str) -> Option<&str> {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)
}

fn quantity(text: &str) -> Option<U256> {
    let digits = strict(text.strip_prefix("0x")?)?;
    let is_shortest = digits == "0" || !digits.starts_with('0');
    if !is_shortest || digits.is_empty() || digits.len() > 64 {
        return None;
    }
    U256::from_str_radix(digits, 16).ok()
}

fn data<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = strict(text.strip_prefix("0x")?)?;
    hex::decode_to_array(digits).ok()
}
