//! Snapshot files by the letter of `spec/snapshot-file.md`, and nothing else: shares no code with the crate, which it judges.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};

use crate::{Account, Block};

pub(super) const CODES: u8 = 1;
pub(super) const STATE: u8 = 2;
pub(super) const END: u8 = 3;

/// A whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) accounts: BTreeMap<Address, Account>,
    pub(super) slots: BTreeMap<(Address, U256), U256>,
    pub(super) codes: BTreeMap<B256, Bytes>,
}

/// A chunk without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawChunk {
    pub(super) kind: u8,
    pub(super) record_count: u32,
    pub(super) body: Vec<u8>,
}

/// A file whose hashes are not written down: they follow from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawFile {
    pub(super) version: u64,
    pub(super) root: B256,
    pub(super) blocks: Vec<Block>,
    /// Without the end.
    pub(super) chunks: Vec<RawChunk>,
    /// Codes, accounts, slots.
    pub(super) totals: [u64; 3],
}

/// Reads from the front.
struct Front<'b>(&'b [u8]);

impl<'b> Front<'b> {
    fn take(&mut self, count: usize) -> &'b [u8] {
        let (front, rest) = self.0.split_at(count);
        self.0 = rest;
        front
    }

    fn number(&mut self, count: usize) -> u64 {
        self.take(count).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn hash(&mut self) -> B256 {
        B256::from_slice(self.take(32))
    }
}

fn keyed(identity: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    blake3::keyed_hash(identity.try_into().unwrap(), &parts.concat()).as_bytes().to_vec()
}

impl RawFile {
    /// Reads a sound file; panics at anything else.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut front = Front(bytes);
        assert_eq!(front.take(8), b"METISNAP");
        assert_eq!([front.number(4), front.number(1), front.number(1)], [1, 1, 0]);
        let block_count = front.number(2);
        assert!(block_count <= 256);
        let (version, root) = (front.number(8), front.hash());
        let blocks: Vec<_> = (0..block_count)
            .map(|_| Block {
                number: front.number(8),
                hash: front.hash(),
                parent_hash: front.hash(),
                timestamp: front.number(8),
            })
            .collect();
        let identity = *blake3::hash(&bytes[..bytes.len() - front.0.len()]).as_bytes();
        assert_eq!(front.take(32), identity);
        let (mut chunks, mut hashes) = (Vec::new(), Vec::new());
        loop {
            let head = front.take(24);
            let hash = front.take(32);
            let mut fields = Front(head);
            assert_eq!(fields.take(4), b"MSCH");
            let kind = fields.number(1) as u8;
            assert_eq!(fields.number(3), 0);
            let (record_count, body_bytes) = (fields.number(4) as u32, fields.number(4) as usize);
            assert_eq!(fields.number(8), chunks.len() as u64);
            let body = front.take(body_bytes);
            assert_eq!(hash, keyed(&identity, &[head, body]));
            if kind == END {
                assert_eq!((record_count, body.len()), (0, 56));
                let mut end = Front(body);
                let totals = [end.number(8), end.number(8), end.number(8)];
                assert_eq!(end.0, keyed(&identity, &[&hashes]));
                assert!(front.0.is_empty());
                return Self { version, root, blocks, chunks, totals };
            }
            assert!(body.len() <= 4_194_304 && (1..=65_536).contains(&record_count));
            chunks.push(RawChunk { kind, record_count, body: body.to_vec() });
            hashes.extend_from_slice(hash);
        }
    }

    /// The bytes, every hash as it must be.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = [&b"METISNAP"[..], &[1, 0, 0, 0, 1, 0], &(self.blocks.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(self.root.as_slice());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.number.to_le_bytes());
            bytes.extend_from_slice(block.hash.as_slice());
            bytes.extend_from_slice(block.parent_hash.as_slice());
            bytes.extend_from_slice(&block.timestamp.to_le_bytes());
        }
        let identity = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&identity);
        let mut hashes = Vec::new();
        for (index, chunk) in self.chunks.iter().enumerate() {
            let written = chunk.write(index as u64, &identity);
            hashes.extend_from_slice(&written[24..56]);
            bytes.extend_from_slice(&written);
        }
        let mut body: Vec<u8> = self.totals.iter().flat_map(|total| total.to_le_bytes()).collect();
        body.extend_from_slice(&keyed(&identity, &[&hashes]));
        let end = RawChunk { kind: END, record_count: 0, body };
        bytes.extend_from_slice(&end.write(self.chunks.len() as u64, &identity));
        bytes
    }

    /// All that the file holds, in the order that it must have, each key once.
    pub(super) fn content(&self) -> Content {
        let mut content = Content::default();
        let (mut account, mut last_kind) = (None, CODES);
        let (mut last_account, mut last_slot, mut last_code) = (None, None, None);
        let climb = |last: &mut Option<B256>, hash: B256| {
            assert!(last.is_none_or(|last| last < hash));
            *last = Some(hash);
        };
        for chunk in &self.chunks {
            assert!(chunk.kind >= last_kind);
            last_kind = chunk.kind;
            let (mut front, mut record_count) = (Front(&chunk.body), 0);
            while !front.0.is_empty() {
                record_count += 1;
                let record_kind = front.number(1);
                assert_eq!(record_kind == 96, chunk.kind == CODES);
                match record_kind {
                    96 => {
                        let length = front.number(4) as usize;
                        let code = front.take(length);
                        climb(&mut last_code, keccak256(code));
                        content.codes.insert(keccak256(code), Bytes::copy_from_slice(code));
                    }
                    64 => {
                        let address = Address::from_slice(front.take(20));
                        let [flags, balance_bytes, nonce] = [front.number(1), front.number(1), front.number(8)];
                        let code_hash = if flags == 1 { front.hash() } else { KECCAK256_EMPTY };
                        let balance = U256::from_be_slice(front.take(balance_bytes as usize));
                        climb(&mut last_account, keccak256(address));
                        (account, last_slot) = (Some(address), None);
                        content.accounts.insert(address, Account { nonce, balance, code_hash });
                    }
                    66 => assert_eq!((account, record_count), (Some(Address::from_slice(front.take(20))), 1)),
                    value_bytes => {
                        let slot_bytes = front.number(1) as usize;
                        let slot = U256::from_be_slice(front.take(slot_bytes));
                        let value = U256::from_be_slice(front.take(value_bytes as usize));
                        assert!(!value.is_zero() && record_count > 1);
                        climb(&mut last_slot, keccak256(slot.to_be_bytes::<32>()));
                        content.slots.insert((account.unwrap(), slot), value);
                    }
                }
            }
            assert_eq!(record_count, chunk.record_count);
        }
        let counts = [content.codes.len(), content.accounts.len(), content.slots.len()];
        assert_eq!(self.totals, counts.map(|count| count as u64));
        content
    }
}

impl RawChunk {
    /// With its header.
    pub(super) fn write(&self, index: u64, identity: &[u8; 32]) -> Vec<u8> {
        let head = [
            &b"MSCH"[..],
            &[self.kind, 0, 0, 0],
            &self.record_count.to_le_bytes(),
            &(self.body.len() as u32).to_le_bytes(),
            &index.to_le_bytes(),
        ]
        .concat();
        let hash = keyed(identity, &[&head, &self.body]);
        [&head[..], &hash, &self.body].concat()
    }
}
