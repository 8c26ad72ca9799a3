//! Superblocks: what recovery starts from. Two files alternate, so that one is always whole.
//!
//! The bytes are owned by `spec/format.md`, "Superblock".

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    layout::layout,
    log::{
        Damage, crc32c,
        frame::SEQUENCE_LIMIT,
        record::{ALIGNMENT, VERSION_LIMIT},
        segment::{FORMAT_VERSION, Identity, SEGMENT_BYTES, SLOT_LIMIT, log_limit},
    },
    storage::{Storage, StorageFile},
};

const MAGIC: [u8; 8] = *b"METISDB1";
const ROW_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

layout! {
    /// The fixed part of a superblock.
    SuperblockHeader, 256 {
        magic: [u8; 8] = 0,
        format_version: u32 = 8,
        segment_count: u32 = 12,
        generation: u64 = 16,
        database_id: [u8; 16] = 24,
        seed: [u8; 32] = 40,
        segment_bytes: u64 = 72,
        checkpoint_position: u64 = 80,
        checkpoint_version: u64 = 88,
        checkpoint_sequence: u64 = 96,
        checkpoint_chain: u32 = 104,
        reserved: u32 = 108,
        durable_upto: u64 = 112,
        horizon: u64 = 120,
        image_generation: u64 = 128,
        image_bytes: u64 = 136,
        trie: [u8; 112] = 144,
    }
}

/// A segment that exists, and where its last frame ends (0: it is still written to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) number: u64,
    pub(crate) end: u64,
}

/// An index image: its generation and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageReference {
    pub(crate) generation: u64,
    pub(crate) bytes: u64,
}

/// What one superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) generation: u64,
    pub(crate) identity: Identity,
    pub(crate) checkpoint_position: u64,
    pub(crate) checkpoint_version: u64,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) checkpoint_chain: u32,
    pub(crate) durable_upto: u64,
    pub(crate) horizon: u64,
    pub(crate) image: Option<ImageReference>,
    pub(crate) segments: Vec<SegmentRow>,
}

/// The file that a generation is written to.
pub(crate) fn file_name(generation: u64) -> String {
    format!("superblock.{}", generation % 2)
}

impl Superblock {
    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let image = self.image.unwrap_or(ImageReference { generation: 0, bytes: 0 });
        let header = SuperblockHeader {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            segment_count: u32::try_from(self.segments.len()).expect("segments are limited"),
            generation: self.generation,
            database_id: self.identity.database_id,
            seed: self.identity.seed,
            segment_bytes: self.identity.segment_bytes,
            checkpoint_position: self.checkpoint_position,
            checkpoint_version: self.checkpoint_version,
            checkpoint_sequence: self.checkpoint_sequence,
            checkpoint_chain: self.checkpoint_chain,
            reserved: 0,
            durable_upto: self.durable_upto,
            horizon: self.horizon,
            image_generation: image.generation,
            image_bytes: image.bytes,
            trie: [0; 112],
        };
        let mut bytes = header.encode().to_vec();
        for row in &self.segments {
            bytes.extend_from_slice(&row.number.to_le_bytes());
            bytes.extend_from_slice(&row.end.to_le_bytes());
        }
        let checksum = crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a superblock; longer files may hold the rest of an older, longer one behind it.
    ///
    /// # Errors
    /// `Ok(Err(version))` for a sound superblock of another format version; damage otherwise.
    fn decode(bytes: &[u8]) -> Result<std::result::Result<Self, u32>, Damage> {
        let short = || Damage::new("a whole superblock", format!("{} bytes", bytes.len()));
        let fixed: &[u8; SuperblockHeader::BYTES] = bytes.first_chunk().ok_or_else(short)?;
        let header = SuperblockHeader::decode(fixed);
        if header.magic != MAGIC {
            return Err(Damage::new("superblock magic METISDB1", format!("{:02x?}", header.magic)));
        }
        let rows_bytes = header.segment_count as usize * ROW_BYTES;
        let end = SuperblockHeader::BYTES + rows_bytes;
        let stored = bytes.get(end..end + CHECKSUM_BYTES).ok_or_else(short)?;
        let actual = crc32c(&bytes[..end]).to_le_bytes();
        if stored != actual {
            return Err(Damage::new(format!("superblock checksum {stored:02x?}"), format!("{actual:02x?}")));
        }
        if header.format_version != FORMAT_VERSION {
            return Ok(Err(header.format_version));
        }
        let number = |at: &[u8]| u64::from_le_bytes(at.try_into().expect("8 bytes"));
        let segments = bytes[SuperblockHeader::BYTES..end]
            .chunks_exact(ROW_BYTES)
            .map(|row| SegmentRow { number: number(&row[..8]), end: number(&row[8..]) })
            .collect();
        let image = ImageReference { generation: header.image_generation, bytes: header.image_bytes };
        let superblock = Self {
            generation: header.generation,
            identity: Identity {
                database_id: header.database_id,
                seed: header.seed,
                segment_bytes: header.segment_bytes,
            },
            checkpoint_position: header.checkpoint_position,
            checkpoint_version: header.checkpoint_version,
            checkpoint_sequence: header.checkpoint_sequence,
            checkpoint_chain: header.checkpoint_chain,
            durable_upto: header.durable_upto,
            horizon: header.horizon,
            image: (image.generation != 0).then_some(image),
            segments,
        };
        match superblock.is_possible() {
            true => Ok(Ok(superblock)),
            false => Err(Damage::new("possible sizes, positions and versions", "a superblock that contradicts itself")),
        }
    }

    /// Whether its numbers can be those of a database, so that nothing computed from them overflows.
    fn is_possible(&self) -> bool {
        let bytes = self.identity.segment_bytes;
        let numbers_rise = self.segments.windows(2).all(|pair| pair[0].number < pair[1].number);
        bytes.is_power_of_two()
            && SEGMENT_BYTES.contains(&bytes)
            && self.checkpoint_position <= log_limit(bytes)
            && self.checkpoint_position.is_multiple_of(ALIGNMENT as u64)
            && self.checkpoint_version < VERSION_LIMIT
            && self.checkpoint_sequence < SEQUENCE_LIMIT
            && self.generation < SEQUENCE_LIMIT
            && numbers_rise
            && self.segments.last().is_some_and(|row| row.number < SEQUENCE_LIMIT)
    }

    /// Writes the superblock over the older of the two, or over itself, and makes it durable.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.write_unsynced(storage)?.sync()
    }

    /// Writes the superblock without making it durable: the caller syncs the file.
    pub(crate) fn write_unsynced(&self, storage: &dyn Storage) -> Result<Arc<dyn StorageFile>> {
        let name = file_name(self.generation);
        let bytes = self.encode();
        let (file, created) = match storage.open(&name)? {
            Some(file) => (file, false),
            None => (storage.create(&name)?, true),
        };
        if file.length()? < bytes.len() as u64 {
            file.set_length(bytes.len() as u64)?;
        }
        file.write_all_at(&bytes, 0)?;
        if created {
            storage.sync_directory()?;
        }
        Ok(file)
    }
}

/// Both superblocks, as far as they are sound.
#[derive(Debug)]
pub(crate) struct Superblocks {
    /// The newer sound one.
    pub(crate) newest: Superblock,
    /// The other one, if it is sound too.
    pub(crate) older: Option<Superblock>,
}

/// Reads both superblocks. `None` where neither file exists.
///
/// # Errors
/// Corruption where files exist and neither is sound; another format version.
pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Superblocks>> {
    let mut sound: Vec<Superblock> = Vec::new();
    let mut first_damage = None;
    for slot in 0..2 {
        let Some(file) = storage.open(&file_name(slot))? else { continue };
        let limit = (SuperblockHeader::BYTES + SLOT_LIMIT as usize * ROW_BYTES + CHECKSUM_BYTES) as u64;
        let mut bytes = vec![0; file.length()?.min(limit) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        match Superblock::decode(&bytes) {
            Ok(Ok(superblock)) => sound.push(superblock),
            Ok(Err(found)) => {
                return Err(Error::FormatVersion { path: file.path(), found, supported: FORMAT_VERSION });
            }
            Err(damage) => {
                let error = damage.at("superblock", file.path(), 0);
                tracing::warn!(%error, "one superblock is damaged");
                first_damage.get_or_insert(error);
            }
        }
    }
    sound.sort_by_key(|superblock| superblock.generation);
    match (sound.pop(), first_damage) {
        (Some(newest), _) => Ok(Some(Superblocks { older: sound.pop(), newest })),
        (None, Some(damage)) => Err(damage),
        (None, None) => Ok(None),
    }
}
