//! Records: one version of one key. Pure functions of bytes.
//!
//! The bytes are owned by `spec/format.md`, "Record header" and "Record bodies".

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};

use crate::{
    key::{AccountId, RecordKey},
    log::Damage,
    types::{Account, Block, MAX_CODE_BYTES},
};

/// Bytes of a record in front of its body.
pub(crate) const HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// Versions stay below this.
pub(crate) const VERSION_LIMIT: u64 = 1 << 40;
/// Positions of records stay below this.
pub(crate) const POSITION_LIMIT: u64 = 1 << 46;

const CHECKSUM_AT: usize = 0;
const META_AT: usize = 4;
const VERSION_AT: usize = 5;
const PREVIOUS_AT: usize = 10;

/// Name, offset and size of each field of the header, as in `spec/format.md`.
#[cfg(test)]
pub(crate) const FIELDS: &[(&str, usize, usize)] = &[
    ("checksum", CHECKSUM_AT, META_AT - CHECKSUM_AT),
    ("meta", META_AT, VERSION_AT - META_AT),
    ("version", VERSION_AT, PREVIOUS_AT - VERSION_AT),
    ("previous", PREVIOUS_AT, HEADER_BYTES - PREVIOUS_AT),
];

const SLOT_VALUE_MAX: u8 = 32;
const ACCOUNT: u8 = 64;
const ACCOUNT_DELETED: u8 = 65;
const WIPE: u8 = 80;
const CODE: u8 = 96;
const BLOCK: u8 = 112;
const ROOT: u8 = 120;

/// Bytes of a slot record without its value.
const SLOT_BYTES: usize = HEADER_BYTES + 40;
/// Bytes of an account record without code hash and balance.
const ACCOUNT_BYTES: usize = HEADER_BYTES + 32;
const ACCOUNT_DELETED_BYTES: usize = HEADER_BYTES + 24;
const WIPE_BYTES: usize = HEADER_BYTES + 8;
const CODE_BYTES: usize = HEADER_BYTES + 36;
const BLOCK_BYTES: usize = HEADER_BYTES + 80;
/// Bytes of a root's record.
pub(crate) const ROOT_BYTES: usize = HEADER_BYTES + 40;
/// The scheme of Ethereum in a root's record.
pub(crate) const SCHEME_ETHEREUM: u8 = 1;

const FLAG_HAS_CODE: u8 = 1;

/// What the log keeps of an account beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredAccount {
    pub(crate) account: Account,
    /// Distinguishes accounts whose addresses have the same keyed hash.
    pub(crate) salt: u8,
}

/// A record's key with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Slot {
        account: AccountId,
        slot: U256,
        value: U256,
    },
    Account {
        address: Address,
        stored: StoredAccount,
    },
    AccountDeleted {
        address: Address,
        salt: u8,
    },
    Wipe {
        account: AccountId,
    },
    Code {
        hash: B256,
        code: &'a [u8],
    },
    Block(Block),
    /// The root of the version that the frame names.
    Root {
        scheme: u8,
        root: B256,
    },
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) version: u64,
    /// Position of the record that this one supersedes.
    pub(crate) previous: Option<u64>,
    pub(crate) body: Body<'a>,
}

impl Body<'_> {
    /// The key that the record belongs to.
    pub(crate) fn key(&self) -> RecordKey {
        match *self {
            Body::Slot { account, slot, .. } => RecordKey::Slot(account, slot),
            Body::Account { address, .. } | Body::AccountDeleted { address, .. } => RecordKey::Account(address),
            Body::Wipe { account } => RecordKey::Wipe(account),
            Body::Code { hash, .. } => RecordKey::Code(hash),
            Body::Block(block) => RecordKey::Block(block.number),
            Body::Root { .. } => RecordKey::Root,
        }
    }

    /// Bytes of the whole record, padding included.
    pub(crate) fn padded_bytes(&self) -> usize {
        let bytes = match self {
            Body::Slot { value, .. } => SLOT_BYTES + value.byte_len(),
            Body::Account { stored, .. } => {
                let code = if stored.account.code_hash == KECCAK256_EMPTY { 0 } else { 32 };
                ACCOUNT_BYTES + code + stored.account.balance.byte_len()
            }
            Body::AccountDeleted { .. } => ACCOUNT_DELETED_BYTES,
            Body::Wipe { .. } => WIPE_BYTES,
            Body::Code { code, .. } => CODE_BYTES + code.len(),
            Body::Block(_) => BLOCK_BYTES,
            Body::Root { .. } => ROOT_BYTES,
        };
        bytes.next_multiple_of(ALIGNMENT)
    }
}

/// Appends the record that will stand at `position` to `frame`.
pub(crate) fn encode(frame: &mut Vec<u8>, position: u64, record: &Record<'_>) {
    debug_assert!(record.version < VERSION_LIMIT && position < POSITION_LIMIT);
    debug_assert!(position.is_multiple_of(ALIGNMENT as u64));
    let start = frame.len();
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    let meta = encode_body(frame, &record.body);
    frame[start + META_AT] = meta;
    frame[start + VERSION_AT..start + PREVIOUS_AT].copy_from_slice(&record.version.to_le_bytes()[..5]);
    let previous = record.previous.unwrap_or(0) / ALIGNMENT as u64;
    frame[start + PREVIOUS_AT..start + HEADER_BYTES].copy_from_slice(&previous.to_le_bytes()[..6]);
    let checksum = checksum(&frame[start..], position);
    frame[start + CHECKSUM_AT..start + META_AT].copy_from_slice(&checksum.to_le_bytes());
    let padded = (frame.len() - start).next_multiple_of(ALIGNMENT);
    debug_assert_eq!(padded, record.body.padded_bytes());
    frame.resize(start + padded, 0);
}

/// Appends a body and returns the record's meta byte.
fn encode_body(frame: &mut Vec<u8>, body: &Body<'_>) -> u8 {
    match body {
        Body::Slot { account, slot, value } => {
            frame.extend_from_slice(&account.0.to_le_bytes());
            frame.extend_from_slice(&slot.to_be_bytes::<32>());
            push_trimmed(frame, value)
        }
        Body::Account { address, stored } => {
            let has_code = stored.account.code_hash != KECCAK256_EMPTY;
            let flags = if has_code { FLAG_HAS_CODE } else { 0 };
            let balance_bytes = stored.account.balance.byte_len() as u8;
            frame.extend_from_slice(address.as_slice());
            frame.extend_from_slice(&[flags, stored.salt, balance_bytes, 0]);
            frame.extend_from_slice(&stored.account.nonce.to_le_bytes());
            if has_code {
                frame.extend_from_slice(stored.account.code_hash.as_slice());
            }
            push_trimmed(frame, &stored.account.balance);
            ACCOUNT
        }
        Body::AccountDeleted { address, salt } => {
            frame.extend_from_slice(address.as_slice());
            frame.extend_from_slice(&[0, *salt, 0, 0]);
            ACCOUNT_DELETED
        }
        Body::Wipe { account } => {
            frame.extend_from_slice(&account.0.to_le_bytes());
            WIPE
        }
        Body::Code { hash, code } => {
            frame.extend_from_slice(hash.as_slice());
            frame.extend_from_slice(&(code.len() as u32).to_le_bytes());
            frame.extend_from_slice(code);
            CODE
        }
        Body::Block(block) => {
            frame.extend_from_slice(&block.number.to_le_bytes());
            frame.extend_from_slice(block.hash.as_slice());
            frame.extend_from_slice(block.parent_hash.as_slice());
            frame.extend_from_slice(&block.timestamp.to_le_bytes());
            BLOCK
        }
        Body::Root { scheme, root } => {
            frame.extend_from_slice(&[*scheme, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend_from_slice(root.as_slice());
            ROOT
        }
    }
}

/// Appends the value big-endian without leading zeros and returns how many bytes that were.
fn push_trimmed(frame: &mut Vec<u8>, value: &U256) -> u8 {
    let bytes = value.to_be_bytes::<32>();
    let length = value.byte_len();
    frame.extend_from_slice(&bytes[32 - length..]);
    length as u8
}

/// The checksum of a record's bytes (without padding) at a position: a sound record in the wrong place is damage.
#[inline]
fn checksum(record: &[u8], position: u64) -> u32 {
    let units = position / ALIGNMENT as u64;
    super::crc32c(&record[META_AT..]) ^ (units as u32) ^ ((units >> 32) as u32)
}

/// No record is shorter.
pub(crate) const LEAST_BYTES: usize = WIPE_BYTES;

/// How many bytes of a record [`length`] needs, told by its first [`LEAST_BYTES`].
#[inline]
pub(crate) fn prefix_bytes(head: &[u8]) -> usize {
    match head[META_AT] {
        ACCOUNT => ACCOUNT_BYTES,
        CODE => CODE_BYTES,
        _ => LEAST_BYTES,
    }
}

/// Length without padding of the record that begins with `prefix`.
///
/// # Errors
/// Damage where the kind is unknown or the length impossible.
#[inline]
pub(crate) fn length(prefix: &[u8]) -> Result<usize, Damage> {
    match prefix[META_AT] {
        value_bytes @ 0..=SLOT_VALUE_MAX => Ok(SLOT_BYTES + usize::from(value_bytes)),
        ACCOUNT => {
            let [flags, _, balance_bytes] = *field::<3>(prefix, HEADER_BYTES + 20)?;
            if flags & !FLAG_HAS_CODE != 0 || balance_bytes > 32 {
                return Err(Damage::new("account flags and balance length", format!("{flags} and {balance_bytes}")));
            }
            let code = if flags & FLAG_HAS_CODE != 0 { 32 } else { 0 };
            Ok(ACCOUNT_BYTES + code + usize::from(balance_bytes))
        }
        ACCOUNT_DELETED => Ok(ACCOUNT_DELETED_BYTES),
        WIPE => Ok(WIPE_BYTES),
        CODE => {
            let code = u32::from_le_bytes(*field(prefix, HEADER_BYTES + 32)?) as usize;
            if code > MAX_CODE_BYTES {
                return Err(Damage::new("code within the length limit", format!("{code} bytes")));
            }
            Ok(CODE_BYTES + code)
        }
        BLOCK => Ok(BLOCK_BYTES),
        ROOT => Ok(ROOT_BYTES),
        kind => Err(Damage::new("a known kind of record", format!("kind {kind}"))),
    }
}

/// No slot's record is longer.
pub(crate) const SLOT_MOST_BYTES: usize = SLOT_BYTES + SLOT_VALUE_MAX as usize;

/// Length of the record that begins with `head` ([`LEAST_BYTES`] of it), if it is one of a slot of this account.
#[inline(always)]
pub(crate) fn length_of_slot(head: &[u8], account: AccountId) -> Option<usize> {
    let id = u64::from_le_bytes(head[HEADER_BYTES..LEAST_BYTES].try_into().expect("8 bytes"));
    (head[META_AT] <= SLOT_VALUE_MAX && id == account.0).then(|| SLOT_BYTES + usize::from(head[META_AT]))
}

/// Whether a slot's record is of this slot.
#[inline(always)]
pub(crate) fn is_of_slot(record: &[u8], slot: &U256) -> bool {
    let number: &[u8; 32] = record[HEADER_BYTES + 8..SLOT_BYTES].try_into().expect("32 bytes");
    // Word by word: a call to compare 32 bytes would cost more than they do.
    let differences = U256::from_be_bytes(*number).into_limbs().into_iter().zip(slot.as_limbs());
    differences.fold(0, |all, (stored, wanted)| all | (stored ^ wanted)) == 0
}

/// The version of any record.
#[inline(always)]
pub(crate) fn version(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[2..10].try_into().expect("8 bytes")) >> 24
}

/// The value of a slot's record.
#[inline(always)]
pub(crate) fn slot_value(record: &[u8]) -> U256 {
    // The value is the end of the record, and less than all of what is in front of it.
    let mut words = U256::from_be_bytes(*record.last_chunk::<32>().expect("32 bytes")).into_limbs();
    let bits = 8 * (record.len() - SLOT_BYTES);
    if bits < 256 {
        for (index, word) in words.iter_mut().enumerate() {
            // As many bits as the word has of the value.
            let own = bits.saturating_sub(64 * index).min(64) as u32;
            *word &= u64::MAX.checked_shr(64 - own).unwrap_or(0);
        }
    }
    U256::from_limbs(words)
}

/// Whether a record is of this key, told without decoding it where it is a slot's.
#[inline]
pub(crate) fn is_of_key(record: &[u8], key: &RecordKey) -> Result<bool, Damage> {
    match key {
        RecordKey::Slot(account, slot) => {
            Ok(length_of_slot(&record[..LEAST_BYTES], *account).is_some() && is_of_slot(record, slot))
        }
        _ => Ok(decode(record)?.body.key() == *key),
    }
}

/// Length with its padding of a record given without.
#[inline]
pub(crate) fn padded(record: &[u8]) -> usize {
    record.len().next_multiple_of(ALIGNMENT)
}

/// Checks the checksum of a record, given without its padding.
#[inline]
pub(crate) fn verify(record: &[u8], position: u64) -> Result<(), Damage> {
    let stored = u32::from_le_bytes(*field(record, CHECKSUM_AT)?);
    let actual = checksum(record, position);
    if stored == actual {
        Ok(())
    } else {
        Err(Damage::new(format!("record checksum {stored:08x}"), format!("{actual:08x}")))
    }
}

/// Decodes a record, given without its padding: as long as [`length`] says.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>, Damage> {
    let version = version(bytes);
    let previous = (u64::from_le_bytes(*field(bytes, 8)?) >> 16) * ALIGNMENT as u64;
    let previous = (previous != 0).then_some(previous);
    let body = match bytes[META_AT] {
        value_bytes @ 0..=SLOT_VALUE_MAX => Body::Slot {
            account: AccountId(u64::from_le_bytes(*field(bytes, HEADER_BYTES)?)),
            slot: U256::from_be_bytes(*field::<32>(bytes, HEADER_BYTES + 8)?),
            value: U256::from_be_slice(&bytes[SLOT_BYTES..SLOT_BYTES + usize::from(value_bytes)]),
        },
        ACCOUNT => decode_account(bytes)?,
        ACCOUNT_DELETED => Body::AccountDeleted {
            address: Address::from(field::<20>(bytes, HEADER_BYTES)?),
            salt: bytes[HEADER_BYTES + 21],
        },
        WIPE => Body::Wipe { account: AccountId(u64::from_le_bytes(*field(bytes, HEADER_BYTES)?)) },
        CODE => Body::Code { hash: B256::from(field::<32>(bytes, HEADER_BYTES)?), code: &bytes[CODE_BYTES..] },
        ROOT => Body::Root { scheme: bytes[HEADER_BYTES], root: B256::from(field::<32>(bytes, HEADER_BYTES + 8)?) },
        _ => Body::Block(Block {
            number: u64::from_le_bytes(*field(bytes, HEADER_BYTES)?),
            hash: B256::from(field::<32>(bytes, HEADER_BYTES + 8)?),
            parent_hash: B256::from(field::<32>(bytes, HEADER_BYTES + 40)?),
            timestamp: u64::from_le_bytes(*field(bytes, HEADER_BYTES + 72)?),
        }),
    };
    Ok(Record { version, previous, body })
}

fn decode_account(bytes: &[u8]) -> Result<Body<'_>, Damage> {
    let [flags, salt, balance_bytes] = *field::<3>(bytes, HEADER_BYTES + 20)?;
    let nonce = u64::from_le_bytes(*field(bytes, HEADER_BYTES + 24)?);
    let (code_hash, balance_at) = if flags & FLAG_HAS_CODE != 0 {
        (B256::from(field::<32>(bytes, ACCOUNT_BYTES)?), ACCOUNT_BYTES + 32)
    } else {
        (KECCAK256_EMPTY, ACCOUNT_BYTES)
    };
    let balance = U256::from_be_slice(&bytes[balance_at..balance_at + usize::from(balance_bytes)]);
    Ok(Body::Account {
        address: Address::from(field::<20>(bytes, HEADER_BYTES)?),
        stored: StoredAccount { account: Account { nonce, balance, code_hash }, salt },
    })
}

/// Bounds, checksum and decoding in one step, for sequential readers: the record at the front of `bytes` and its padded length.
pub(crate) fn read(bytes: &[u8], position: u64) -> Result<(Record<'_>, usize), Damage> {
    let short = || Damage::new("a record inside its frame", format!("{} bytes left", bytes.len()));
    let head = bytes.get(..LEAST_BYTES).ok_or_else(short)?;
    let length = length(bytes.get(..prefix_bytes(head)).ok_or_else(short)?)?;
    let record = bytes.get(..length).ok_or_else(short)?;
    verify(record, position)?;
    Ok((decode(record)?, length.next_multiple_of(ALIGNMENT)))
}

#[inline]
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<&[u8; N], Damage> {
    bytes
        .get(at..at + N)
        .and_then(|field| field.try_into().ok())
        .ok_or_else(|| Damage::new("a longer record", format!("{} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(record: Record<'_>, position: u64) {
        let mut bytes = Vec::new();
        encode(&mut bytes, position, &record);
        assert_eq!(bytes.len(), record.body.padded_bytes());
        let (decoded, padded) = read(&bytes, position).unwrap();
        assert_eq!((decoded, padded), (record, bytes.len()));
        assert!(read(&bytes, position + 8).is_err(), "a record in the wrong place is damage");
        for cut in 0..bytes.len() - 7 {
            assert!(read(&bytes[..cut], position).is_err(), "truncated to {cut}");
        }
    }

    fn limits() -> Vec<Record<'static>> {
        let address = Address::repeat_byte(0xfe);
        let account = Account { nonce: u64::MAX, balance: U256::MAX, code_hash: B256::repeat_byte(3) };
        let bodies = [
            Body::Slot { account: AccountId(u64::MAX), slot: U256::MAX, value: U256::MAX },
            Body::Slot { account: AccountId(0), slot: U256::ZERO, value: U256::ZERO },
            Body::Account { address, stored: StoredAccount { account, salt: 255 } },
            Body::Account { address, stored: StoredAccount { account: Account::default(), salt: 0 } },
            Body::AccountDeleted { address, salt: 7 },
            Body::Wipe { account: AccountId(u64::MAX) },
            Body::Code { hash: B256::repeat_byte(9), code: &[0x60; 1000] },
            Body::Block(Block { number: u64::MAX, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 1 }),
        ];
        let numbers = [(0, None), (VERSION_LIMIT - 1, Some(POSITION_LIMIT - 8))];
        let record = |body| numbers.map(|(version, previous)| Record { version, previous, body });
        bodies.into_iter().flat_map(record).collect()
    }

    #[test]
    fn values_at_their_limits_round_trip() {
        for record in limits() {
            round_trip(record, 8);
            round_trip(record, POSITION_LIMIT - 8);
        }
    }

    #[test]
    fn values_of_every_length_are_read_in_place() {
        for value in (0..=256).map(|bits| U256::MAX.checked_shr(256 - bits).unwrap_or_default()) {
            let body = Body::Slot { account: AccountId(u64::MAX), slot: U256::MAX, value };
            let mut bytes = Vec::new();
            encode(&mut bytes, 8, &Record { version: 1, previous: None, body });
            let length = length_of_slot(&bytes[..LEAST_BYTES], AccountId(u64::MAX)).unwrap();
            assert_eq!(slot_value(&bytes[..length]), value);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for record in limits() {
            let mut bytes = Vec::new();
            encode(&mut bytes, 4096, &record);
            let length = length(&bytes).unwrap();
            for bit in 0..length * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&bytes, 4096).is_err(), "bit {bit} of {record:?}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), position in any::<u64>()) {
            let _ = read(&bytes, position);
        }
    }
}
