//! The kinds of damage.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    ops::Range,
};

use metisdb::storage::SimulatedDisk;

use super::{subject::Subject, walk::walk};
use crate::random::{Random, mix};

/// Unit in which the bytes of files other than the log count as in use.
const BLOCK: usize = 64;

/// One wound of one database.
#[derive(Clone, Debug)]
pub struct Wound {
    file: String,
    offset: usize,
    harm: Harm,
    /// It is in a record that a read of the newest version reads.
    live: bool,
}

#[derive(Clone, Debug)]
enum Harm {
    Flip {
        bit: u32,
    },
    /// The file ends at the offset.
    Truncated,
    Removed,
    /// Two blocks have changed their places.
    Swapped {
        with: usize,
        bytes: usize,
    },
    /// An older content is back.
    Stale {
        bytes: Vec<u8>,
    },
}

impl Wound {
    /// What is damaged, and how.
    pub(crate) fn kind(&self) -> String {
        let file = match self.file.split('.').next() {
            Some("index") => "image",
            Some(kind) => kind,
            None => "file",
        };
        let live = if self.live { ", live record" } else { "" };
        match self.harm {
            Harm::Flip { .. } => format!("flip in {file}{live}"),
            Harm::Truncated => format!("{file} truncated"),
            Harm::Removed => format!("{file} removed"),
            Harm::Swapped { bytes, .. } => format!("blocks of {bytes} swapped in {file}"),
            Harm::Stale { .. } => format!("stale {file} put back"),
        }
    }

    /// Whether a read has to fail.
    pub(crate) fn must_be_told(&self) -> bool {
        self.live
    }

    /// Whether the file is made from the log: proofs read it.
    pub(crate) fn is_of_derived(&self) -> bool {
        !self.file.starts_with("segment.") || self.offset.is_multiple_of(64)
    }

    /// Whether all that it may cost is time: what is damaged is made from the log, or there twice. Older content is sound by itself.
    pub(crate) fn costs_time_only(&self) -> bool {
        !self.file.starts_with("segment.") && !matches!(self.harm, Harm::Stale { .. })
    }

    /// Whether `check` is asked, too: it takes longer than the rest.
    pub(crate) fn is_checked(&self) -> bool {
        !matches!(self.harm, Harm::Flip { bit } if !mix(self.offset as u64 * 8 + u64::from(bit)).is_multiple_of(16))
    }

    pub(crate) fn inflict(&self, disk: &SimulatedDisk, files: &BTreeMap<String, Vec<u8>>) {
        match &self.harm {
            Harm::Flip { bit } => disk.damage(&self.file, self.offset as u64, 1 << bit),
            Harm::Truncated => disk.truncate_file(&self.file, self.offset as u64),
            Harm::Removed => disk.remove_file(&self.file),
            Harm::Swapped { with, bytes } => {
                let mut content = files[&self.file].clone();
                let (first, second) = content.split_at_mut(*with);
                first[self.offset..self.offset + bytes].swap_with_slice(&mut second[..*bytes]);
                disk.put_file(&self.file, content);
            }
            Harm::Stale { bytes } => disk.put_file(&self.file, bytes.clone()),
        }
    }
}

impl fmt::Display for Wound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, .. } = self;
        match &self.harm {
            Harm::Flip { bit } => write!(formatter, "bit {bit} of byte {offset} of {file} flipped"),
            Harm::Truncated => write!(formatter, "{file} cut to {offset} bytes"),
            Harm::Removed => write!(formatter, "{file} removed"),
            Harm::Swapped { with, bytes } => {
                write!(formatter, "{bytes} bytes at {offset} and {with} of {file} swapped")
            }
            Harm::Stale { bytes } => write!(formatter, "{file} as it was with {} bytes", bytes.len()),
        }
    }
}

/// Flips of every bit in use: of the log up to its end, and of all blocks of other files that hold anything.
pub(crate) fn every_bit(subject: &Subject) -> Result<Vec<Wound>, String> {
    let mut in_use: Vec<(&String, Range<usize>)> = Vec::new();
    // Of a key that is in several segments the last record is read: the names are in the order of the log.
    let mut newest: BTreeMap<Vec<u8>, (&String, Range<usize>)> = BTreeMap::new();
    for (file, bytes) in &subject.files {
        if file.starts_with("segment.") {
            let walk = walk(bytes)?;
            newest.extend(walk.newest.into_iter().map(|(key, record)| (key, (file, record))));
            in_use.push((file, 0..walk.end));
        } else {
            let blocks = bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            in_use.extend(blocks.map(|(index, block)| (file, index * BLOCK..index * BLOCK + block.len())));
        }
    }
    let live: HashSet<(&String, usize)> =
        newest.into_values().flat_map(|(file, record)| record.map(move |offset| (file, offset))).collect();
    let bytes = in_use.into_iter().flat_map(|(file, range)| range.map(move |offset| (file, offset)));
    let flips = bytes.flat_map(|(file, offset)| {
        let live = live.contains(&(file, offset));
        (0..8).map(move |bit| Wound { file: file.clone(), offset, harm: Harm::Flip { bit }, live })
    });
    Ok(flips.collect())
}

/// Truncations, removals, swapped blocks, and older contents.
pub(crate) fn other_wounds(subject: &Subject) -> Vec<Wound> {
    let mut wounds = Vec::new();
    for (file, bytes) in &subject.files {
        let mut add = |offset, harm| wounds.push(Wound { file: file.clone(), offset, harm, live: false });
        add(0, Harm::Removed);
        for end in (0..bytes.len()).step_by(512).chain((1..bytes.len()).step_by(1021)) {
            add(end, Harm::Truncated);
        }
        for size in [512, 4096] {
            let blocks: Vec<usize> = (0..bytes.len() / size).map(|block| block * size).collect();
            for (index, first) in blocks.iter().enumerate() {
                for second in &blocks[index + 1..] {
                    if bytes[*first..first + size] != bytes[*second..second + size] {
                        add(*first, Harm::Swapped { with: *second, bytes: size });
                    }
                }
            }
        }
    }
    for (file, bytes) in &subject.stale {
        // An image that is gone is foreign to every superblock, which is a case, too.
        wounds.push(Wound { file: file.clone(), offset: 0, harm: Harm::Stale { bytes: bytes.clone() }, live: false });
    }
    wounds
}

/// Flips of bits that are drawn from a seed, anywhere in the files.
pub(crate) fn random_bits(subject: &Subject, seed: u64, samples: usize) -> Vec<Wound> {
    let mut random = Random::new(seed);
    let files: Vec<(&String, usize)> = subject.files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
    let total: usize = files.iter().map(|(_, length)| length).sum();
    let draw = |_| {
        let mut at = random.below(total as u64) as usize;
        let bit = random.below(8) as u32;
        let mut files = files.iter();
        loop {
            let (file, length) = files.next().expect("below the sum of the lengths");
            if at < *length {
                return Wound { file: (*file).clone(), offset: at, harm: Harm::Flip { bit }, live: false };
            }
            at -= length;
        }
    };
    (0..samples).map(draw).collect()
}
