//! Chunks and their records: `spec/snapshot-file.md`, "Chunks". Pure functions of bytes.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};

use crate::{
    layout::layout,
    log::Damage,
    types::{Account, MAX_CODE_BYTES},
};

const MAGIC: [u8; 4] = *b"MSCH";
/// Longest body of a chunk.
pub(crate) const MAX_BODY_BYTES: usize = 4 << 20;
/// Most records of a chunk.
pub(crate) const MAX_RECORDS: usize = 1 << 16;

const ACCOUNT: u8 = 64;
const CONTINUED: u8 = 66;
const CODE: u8 = 96;
/// Account flag: the code hash stands there.
const FLAG_HAS_CODE: u8 = 1;

layout! {
    /// What stands in front of a chunk's body.
    ChunkHeader, 56 {
        magic: [u8; 4] = 0,
        kind: u8 = 4,
        reserved: [u8; 3] = 5,
        record_count: u32 = 8,
        body_bytes: u32 = 12,
        index: u64 = 16,
        hash: [u8; 32] = 24,
    }
}

layout! {
    /// The body of the last chunk.
    End, 56 {
        codes: u64 = 0,
        accounts: u64 = 8,
        slots: u64 = 16,
        chunks: [u8; 32] = 24,
    }
}

/// What a chunk holds, in the order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Codes = 1,
    State = 2,
    End = 3,
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Code(&'a [u8]),
    Account(Address, Account),
    /// The account whose slots go on.
    Continued(Address),
    Slot(U256, U256),
}

impl ChunkHeader {
    /// The header of a body, with the hash that binds both to the file.
    pub(super) fn of(kind: Kind, record_count: usize, index: u64, body: &[u8], identity: &[u8; 32]) -> Self {
        let header = Self {
            magic: MAGIC,
            kind: kind as u8,
            reserved: [0; 3],
            record_count: record_count as u32,
            body_bytes: body.len() as u32,
            index,
            hash: [0; 32],
        };
        Self { hash: header.expected_hash(body, identity), ..header }
    }

    fn expected_hash(&self, body: &[u8], identity: &[u8; 32]) -> [u8; 32] {
        let bytes = self.encode();
        let mut hasher = blake3::Hasher::new_keyed(identity);
        hasher.update(&bytes[..Self::BYTES - size_of_val(&self.hash)]);
        hasher.update(body);
        *hasher.finalize().as_bytes()
    }

    /// What the chunk holds, if it can be the one with this number: nothing of it is believed before.
    pub(super) fn check(&self, index: u64) -> Result<Kind, Damage> {
        if self.magic != MAGIC || self.reserved != [0; 3] {
            return Err(Damage::new("the header of a chunk", format!("{:02x?}", &self.encode()[..8])));
        }
        if self.index != index {
            return Err(Damage::new(format!("number {index}"), format!("number {}", self.index)));
        }
        let (records, bytes) = (self.record_count as usize, self.body_bytes as usize);
        match self.kind {
            3 if (records, bytes) == (0, End::BYTES) => Ok(Kind::End),
            kind @ 1..=2 if (1..=MAX_RECORDS).contains(&records) && bytes <= MAX_BODY_BYTES => {
                Ok(if kind == 1 { Kind::Codes } else { Kind::State })
            }
            kind => {
                let expected = "a known kind, and records and bytes within their bounds";
                Err(Damage::new(expected, format!("kind {kind}, {records} records, {bytes} bytes")))
            }
        }
    }

    /// Whether the hash is that of header and body in this file.
    pub(super) fn verify(&self, body: &[u8], identity: &[u8; 32]) -> Result<(), Damage> {
        let actual = self.expected_hash(body, identity);
        if actual == self.hash {
            Ok(())
        } else {
            Err(Damage::new(format!("hash {}", B256::new(self.hash)), B256::new(actual).to_string()))
        }
    }
}

impl Entry<'_> {
    /// Kind of the chunks that it belongs in.
    pub(super) fn kind(&self) -> Kind {
        if matches!(self, Self::Code(_)) { Kind::Codes } else { Kind::State }
    }

    /// Bytes of the record.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Code(code) => 5 + code.len(),
            Self::Account(_, account) => {
                31 + account.balance.byte_len() + if account.code_hash == KECCAK256_EMPTY { 0 } else { 32 }
            }
            Self::Continued(_) => 21,
            Self::Slot(slot, value) => 2 + slot.byte_len() + value.byte_len(),
        }
    }

    /// Appends the record.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Code(code) => {
                out.push(CODE);
                out.extend_from_slice(&(code.len() as u32).to_le_bytes());
                out.extend_from_slice(code);
            }
            Self::Account(address, account) => {
                let has_code = account.code_hash != KECCAK256_EMPTY;
                out.push(ACCOUNT);
                out.extend_from_slice(address.as_slice());
                out.extend_from_slice(&[if has_code { FLAG_HAS_CODE } else { 0 }, account.balance.byte_len() as u8]);
                out.extend_from_slice(&account.nonce.to_le_bytes());
                if has_code {
                    out.extend_from_slice(account.code_hash.as_slice());
                }
                push_number(&account.balance, out);
            }
            Self::Continued(address) => {
                out.push(CONTINUED);
                out.extend_from_slice(address.as_slice());
            }
            Self::Slot(slot, value) => {
                out.extend_from_slice(&[value.byte_len() as u8, slot.byte_len() as u8]);
                push_number(slot, out);
                push_number(value, out);
            }
        }
        debug_assert_eq!(out.len() - start, self.bytes());
    }
}

/// Appends a number, big-endian, without leading zeros.
fn push_number(number: &U256, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes::<32>()[32 - number.byte_len()..]);
}

/// The records of a body.
///
/// # Errors
/// Damage where they are not as many as the header says, or not all of this kind of chunk, or written in another way than [`Entry::encode`] does.
pub(super) fn decode(kind: Kind, record_count: u32, body: &[u8]) -> Result<Vec<Entry<'_>>, Damage> {
    let mut rest = Bytes(body);
    let mut entries = Vec::new();
    while !rest.0.is_empty() {
        let entry = rest.entry()?;
        if entry.kind() != kind {
            return Err(Damage::new(format!("records of {kind:?}"), format!("one of {:?}", entry.kind())));
        }
        entries.push(entry);
        if entries.len() > record_count as usize {
            break;
        }
    }
    if entries.len() == record_count as usize {
        Ok(entries)
    } else {
        Err(Damage::new(format!("{record_count} records"), "another number of them"))
    }
}

/// What is still to be decoded.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Damage::new(format!("{count} bytes of a record"), format!("the last {}", self.0.len())))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        Ok(self.take(N)?.try_into().expect("as many bytes"))
    }

    /// A number of so many bytes.
    fn number(&mut self, bytes: u8) -> Result<U256, Damage> {
        let number = self.take(usize::from(bytes))?;
        if bytes > 32 || number.first() == Some(&0) {
            return Err(Damage::new(
                "a number of up to 32 bytes that does not begin with zero",
                format!("{number:02x?}"),
            ));
        }
        Ok(U256::from_be_slice(number))
    }

    fn entry(&mut self) -> Result<Entry<'a>, Damage> {
        match self.array()? {
            [value_bytes @ 1..=32] => {
                let [slot_bytes] = self.array()?;
                Ok(Entry::Slot(self.number(slot_bytes)?, self.number(value_bytes)?))
            }
            [ACCOUNT] => self.account(),
            [CONTINUED] => Ok(Entry::Continued(Address::new(self.array()?))),
            [CODE] => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                if !(1..=MAX_CODE_BYTES).contains(&length) {
                    return Err(Damage::new(format!("a code of 1 to {MAX_CODE_BYTES} bytes"), length.to_string()));
                }
                Ok(Entry::Code(self.take(length)?))
            }
            [kind] => Err(Damage::new("a known kind of record", format!("kind {kind}"))),
        }
    }

    fn account(&mut self) -> Result<Entry<'a>, Damage> {
        let address = Address::new(self.array()?);
        let [flags, balance_bytes] = self.array()?;
        let nonce = u64::from_le_bytes(self.array()?);
        let code_hash = match flags {
            0 => KECCAK256_EMPTY,
            FLAG_HAS_CODE => B256::new(self.array()?),
            _ => return Err(Damage::new("known account flags", flags.to_string())),
        };
        if flags == FLAG_HAS_CODE && code_hash == KECCAK256_EMPTY {
            return Err(Damage::new("no hash of the empty code", "one"));
        }
        let balance = self.number(balance_bytes)?;
        Ok(Entry::Account(address, Account { nonce, balance, code_hash }))
    }
}
