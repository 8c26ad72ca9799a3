//! The header of a snapshot file: `spec/snapshot-file.md`, "File header".

use std::fmt::{self, Display, Formatter};

use alloy_primitives::B256;

use crate::{
    layout::layout,
    log::{Damage, record::SCHEME_ETHEREUM},
    types::Block,
};

const MAGIC: [u8; 8] = *b"METISNAP";
/// The version of the format that is written and read.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Most blocks of a file: as many as the execution of the next block can ask for.
pub(crate) const MAX_BLOCKS: usize = 256;
/// Bytes of a block.
const BLOCK_BYTES: usize = 80;
/// Bytes of the file's identity.
pub(super) const IDENTITY_BYTES: usize = 32;

layout! {
    /// What stands in front of the blocks.
    FixedHeader, 56 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        scheme: u8 = 12,
        reserved: u8 = 13,
        block_count: u16 = 14,
        version: u64 = 16,
        root: [u8; 32] = 24,
    }
}

/// What a snapshot file is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    pub(super) version: u64,
    pub(super) root: B256,
    /// In the order of their numbers; the last was committed with the state.
    pub(super) blocks: Vec<Block>,
}

impl SnapshotHeader {
    /// Version of the state in the database that it comes from.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Root of the state.
    pub fn root(&self) -> B256 {
        self.root
    }

    /// The block that was committed with the state, and those before it, in the order of their numbers: at most 256, which is what the
    /// execution of the next block can ask for. None where none was committed with the state. The root does not prove them: compare them with
    /// those of a chain that is trusted.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The bytes, with the identity at their end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let fixed = FixedHeader {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            scheme: SCHEME_ETHEREUM,
            reserved: 0,
            block_count: self.blocks.len() as u16,
            version: self.version,
            root: self.root.0,
        };
        let mut bytes = fixed.encode().to_vec();
        for block in &self.blocks {
            bytes.extend_from_slice(&block.number.to_le_bytes());
            bytes.extend_from_slice(block.hash.as_slice());
            bytes.extend_from_slice(block.parent_hash.as_slice());
            bytes.extend_from_slice(&block.timestamp.to_le_bytes());
        }
        let identity = blake3::hash(&bytes);
        bytes.extend_from_slice(identity.as_bytes());
        bytes
    }

    /// Reads what [`FixedHeader::rest_bytes`] says behind the fixed part.
    ///
    /// # Errors
    /// Damage where any byte is not what [`SnapshotHeader::encode`] makes.
    pub(super) fn decode(fixed: &FixedHeader, rest: &[u8]) -> Result<Self, Damage> {
        let (blocks, _) = rest[..rest.len() - IDENTITY_BYTES].as_chunks::<BLOCK_BYTES>();
        let header =
            Self { version: fixed.version, root: B256::new(fixed.root), blocks: blocks.iter().map(block).collect() };
        let encoded = header.encode();
        if encoded[..FixedHeader::BYTES] != fixed.encode() || encoded[FixedHeader::BYTES..] != *rest {
            return Err(Damage::new("a header whose hash holds", "another"));
        }
        if header.blocks.windows(2).any(|pair| pair[0].number.checked_add(1) != Some(pair[1].number)) {
            return Err(Damage::new("blocks with consecutive numbers", "a gap"));
        }
        Ok(header)
    }
}

impl Display for SnapshotHeader {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "the state of version {} with the root {}", self.version, self.root)
    }
}

impl FixedHeader {
    /// The version of the format, if this is a snapshot file of another one.
    pub(super) fn other_version(&self) -> Option<u32> {
        (self.magic == MAGIC && self.format_version != FORMAT_VERSION).then_some(self.format_version)
    }

    /// Bytes behind the fixed part, the identity included.
    ///
    /// # Errors
    /// Damage where this is no header of a snapshot file.
    pub(super) fn rest_bytes(&self) -> Result<usize, Damage> {
        if self.magic != MAGIC {
            return Err(Damage::new(format!("{MAGIC:02x?} at its beginning"), format!("{:02x?}", self.magic)));
        }
        if self.scheme != SCHEME_ETHEREUM {
            return Err(Damage::new("a known scheme of commitment", format!("scheme {}", self.scheme)));
        }
        let block_count = usize::from(self.block_count);
        if block_count > MAX_BLOCKS {
            return Err(Damage::new(format!("at most {MAX_BLOCKS} blocks"), block_count.to_string()));
        }
        Ok(block_count * BLOCK_BYTES + IDENTITY_BYTES)
    }
}

fn block(bytes: &[u8; BLOCK_BYTES]) -> Block {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
    Block {
        number: number(0),
        hash: B256::from_slice(&bytes[8..40]),
        parent_hash: B256::from_slice(&bytes[40..72]),
        timestamp: number(72),
    }
}
