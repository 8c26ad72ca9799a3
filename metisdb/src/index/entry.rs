//! The 64-bit entry of the index and the marker that says how far the table has grown.

/// Bits of a hash that an entry keeps.
pub(super) const TAG_BITS: u32 = 19;

/// Positions are multiples of 8 below this bound.
pub(super) const POSITION_LIMIT: u64 = 1 << 46;

/// First bit of the tag.
pub(super) const TAG_SHIFT: u32 = 44;

const POSITION_MASK: u64 = (1 << 43) - 1;
const VERIFIED: u64 = 1 << 43;
const CHAIN: u64 = 1 << 63;

/// What one slot of a line holds: nothing, a record's position, or the number of an overflow line.
///
/// Bits 0 to 42 are the position divided by 8 or the overflow line, bit 43 says that the record's
/// checksum was checked, bits 44 to 62 are the tag, bit 63 marks an overflow line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    /// The empty slot. No record's entry equals it, since position 0 is not a record's.
    pub(super) const EMPTY: Self = Self(0);

    /// The entry of a record whose checksum has not been checked.
    pub(super) fn new(tag: u32, position: u64) -> Self {
        assert!(
            position != 0 && position.is_multiple_of(8) && position < POSITION_LIMIT,
            "position {position} is not a record's"
        );
        Self((u64::from(tag) << TAG_SHIFT) | (position / 8))
    }

    /// The link to an overflow line.
    pub(super) fn link(overflow: u64) -> Self {
        debug_assert!(overflow <= POSITION_MASK);
        Self(CHAIN | overflow)
    }

    /// The overflow line that this entry links to.
    pub(super) fn linked(self) -> Option<u64> {
        (self.0 & CHAIN != 0).then_some(self.0 & POSITION_MASK)
    }

    /// Whether this is a record's entry.
    pub(super) fn is_record(self) -> bool {
        self.0 != 0 && self.0 & CHAIN == 0
    }

    /// Whether this is a record's entry with that tag.
    pub(super) fn has_tag(self, tag: u32) -> bool {
        self.0 != 0 && self.0 >> TAG_SHIFT == u64::from(tag)
    }

    /// The tag of a record's entry.
    pub(super) fn tag(self) -> u32 {
        (self.0 >> TAG_SHIFT) as u32
    }

    /// The position of a record's entry.
    pub(super) fn position(self) -> u64 {
        (self.0 & POSITION_MASK) * 8
    }

    /// Whether the record's checksum was checked.
    pub(super) fn verified(self) -> bool {
        self.0 & VERIFIED != 0
    }

    /// The same entry with its record's checksum checked.
    pub(super) fn with_verified(self) -> Self {
        Self(self.0 | VERIFIED)
    }

    /// The same entry with its record's checksum not checked.
    pub(super) fn without_verified(self) -> Self {
        Self(self.0 & !VERIFIED)
    }
}

/// How far the table has grown, in one word that only ever rises.
///
/// Bits 56 to 63 are the level, bits 1 to 55 the number of lines of this level that are split, bit
/// 0 says that chains shortened by the last split may have been cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker(pub(super) u64);

impl Marker {
    /// The marker of a table with `2^level + split` lines.
    pub(super) fn new(level: u32, split: u64) -> Self {
        debug_assert!(split < 1 << level);
        Self((u64::from(level) << 56) | (split << 1))
    }

    /// Every line has at least that many address bits.
    pub(super) fn level(self) -> u32 {
        (self.0 >> 56) as u32
    }

    /// The next line to split; the lines before it have one address bit more.
    pub(super) fn split(self) -> u64 {
        (self.0 & ((1 << 56) - 1)) >> 1
    }

    /// Number of lines, without overflow lines.
    pub(super) fn lines(self) -> u64 {
        (1 << self.level()) + self.split()
    }

    /// The line of a hash.
    pub(super) fn line_of(self, hash: u64) -> u64 {
        let width = 1_u64 << self.level();
        let line = hash & (width - 1);
        if line < self.split() { hash & (2 * width - 1) } else { line }
    }

    /// Number of address bits of a line.
    pub(super) fn address_bits(self, line: u64) -> u32 {
        let width = 1_u64 << self.level();
        self.level() + u32::from(line & (width - 1) < self.split())
    }

    /// The marker after one more split.
    pub(super) fn next(self) -> Self {
        let split = self.split() + 1;
        if split == 1 << self.level() { Self::new(self.level() + 1, 0) } else { Self::new(self.level(), split) }
    }

    /// The marker of the same table, once chains may be cut off.
    pub(super) fn cutting(self) -> Self {
        Self(self.0 | 1)
    }
}
