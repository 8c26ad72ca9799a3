//! Superblocks: what recovery starts from. Two files alternate, so that one is always whole.
//!
//! The bytes are owned by `spec/format.md`, "Superblock".

use std::sync::Arc;

use alloy_primitives::B256;

use crate::{
    error::{Error, Result},
    layout::layout,
    log::{
        Damage, crc32c,
        frame::SEQUENCE_LIMIT,
        record::{ALIGNMENT, SCHEME_ETHEREUM, VERSION_LIMIT},
        segment::{FORMAT_VERSION, Identity, SEGMENT_BYTES, SLOT_LIMIT, log_limit},
    },
    probe,
    storage::{Storage, StorageFile},
    trie::{
        arena::{Place, pages},
        commitment::ethereum::EMPTY_ROOT,
        node::KeyTag,
    },
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
        scheme: u8 = 144,
        top_kind: u8 = 145,
        top_storage_kind: u8 = 146,
        trie_reserved: u8 = 147,
        trie_generation: u32 = 148,
        trie_sequence: u64 = 152,
        root: [u8; 32] = 160,
        top: u64 = 192,
        top_storage_root: [u8; 32] = 200,
        top_storage: u64 = 232,
        rest: [u8; 16] = 240,
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

/// The trie of the checkpoint's version. Its topmost node stands in the arena, or is a leaf that stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrieReference {
    pub(crate) root: B256,
    pub(crate) top: TopReference,
    /// Storage root and top of the storage of the account whose leaf is the topmost node.
    pub(crate) storage: Option<(B256, TopReference)>,
    /// Generation of the newest checkpoint that wrote any node of it.
    pub(crate) generation: u32,
    /// See `tries`.
    pub(crate) sequence: u64,
}

/// The topmost node of a trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopReference {
    Nothing,
    Leaf(KeyTag),
    Branch(Place),
    /// There was no space for it: the trie is made anew from the log.
    Absent,
}

impl TopReference {
    fn encode(self) -> (u8, u64) {
        match self {
            Self::Nothing => (0, 0),
            Self::Leaf(key) => (1, key.get()),
            Self::Branch(place) => (2, place.get()),
            Self::Absent => (3, 0),
        }
    }

    fn decode(kind: u8, link: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Nothing),
            1 => Some(Self::Leaf(KeyTag::of(link))),
            2 => Place::new(link).map(Self::Branch),
            3 => Some(Self::Absent),
            _ => None,
        }
    }
}

impl TrieReference {
    /// The trie without leaves.
    pub(crate) fn empty() -> Self {
        Self { root: EMPTY_ROOT, top: TopReference::Nothing, storage: None, generation: 0, sequence: 0 }
    }

    fn decode(header: &SuperblockHeader) -> Option<Self> {
        let storage = TopReference::decode(header.top_storage_kind, header.top_storage)?;
        let storage_root = B256::from(header.top_storage_root);
        (header.scheme == SCHEME_ETHEREUM && header.trie_sequence < pages::SEQUENCE_LIMIT).then_some(Self {
            root: header.root.into(),
            top: TopReference::decode(header.top_kind, header.top)?,
            storage: (storage != TopReference::Nothing).then_some((storage_root, storage)),
            generation: header.trie_generation,
            sequence: header.trie_sequence,
        })
    }
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
    pub(crate) trie: TrieReference,
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
        let (storage_root, storage) = self.trie.storage.unwrap_or((B256::ZERO, TopReference::Nothing));
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
            scheme: SCHEME_ETHEREUM,
            top_kind: self.trie.top.encode().0,
            top_storage_kind: storage.encode().0,
            trie_reserved: 0,
            trie_generation: self.trie.generation,
            trie_sequence: self.trie.sequence,
            root: self.trie.root.0,
            top: self.trie.top.encode().1,
            top_storage_root: storage_root.0,
            top_storage: storage.encode().1,
            rest: [0; 16],
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
        let contradiction =
            || Damage::new("possible sizes, positions and versions", "a superblock that contradicts itself");
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
            trie: TrieReference::decode(&header).ok_or_else(contradiction)?,
            segments,
        };
        match superblock.is_possible() {
            true => Ok(Ok(superblock)),
            false => Err(contradiction()),
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
        if created && !probe::skip("superblock-directory-sync") {
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

/// Generation of the newest superblock, if one is sound.
pub(crate) fn newest_generation(storage: &dyn Storage) -> Option<u64> {
    read(storage).ok().flatten().map(|superblocks| superblocks.newest.generation)
}

/// Reads both superblocks. `None` where neither file exists.
///
/// # Errors
/// Corruption where files exist and neither is sound, or the device's error where it delivers neither; another format version.
pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Superblocks>> {
    let mut sound: Vec<Superblock> = Vec::new();
    let mut first_damage = None;
    for slot in 0..2 {
        let Some(file) = storage.open(&file_name(slot))? else { continue };
        match read_one(&*file) {
            Ok(superblock) => sound.push(superblock),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "one superblock is damaged");
                first_damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    sound.sort_by_key(|superblock| superblock.generation);
    match (sound.pop(), first_damage) {
        (Some(newest), _) => Ok(Some(Superblocks { older: sound.pop(), newest })),
        (None, Some(damage)) => Err(damage),
        (None, None) => Ok(None),
    }
}

fn read_one(file: &dyn StorageFile) -> Result<Superblock> {
    let limit = (SuperblockHeader::BYTES + SLOT_LIMIT as usize * ROW_BYTES + CHECKSUM_BYTES) as u64;
    let mut bytes = vec![0; file.length()?.min(limit) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    match Superblock::decode(&bytes) {
        Ok(Ok(superblock)) => Ok(superblock),
        Ok(Err(found)) => Err(Error::FormatVersion { path: file.path(), found, supported: FORMAT_VERSION }),
        Err(damage) => Err(damage.at("superblock", file.path(), 0)),
    }
}
