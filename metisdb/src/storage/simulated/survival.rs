//! What a power loss leaves of changes that were not synced.

use std::ops::Range;

/// Unit that a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A small generator whose numbers depend on the seed alone.
#[derive(Clone)]
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

/// Decides change by change what survives.
pub(super) enum Survival {
    Nothing,
    Everything,
    Drawn {
        generator: Generator,
        /// Eighths of all changes that survive. One fixed rate would hardly ever leave a long list
        /// of changes nearly complete, or nearly gone.
        rate: u64,
    },
    /// Bit by bit, the lowest first: whether the next part survives.
    Chosen(u64),
}

/// The parts of a write to `[offset, offset + length)`, one a sector, relative to its beginning.
pub(super) fn sectors(offset: u64, length: usize) -> impl Iterator<Item = Range<usize>> {
    let first = SECTOR - (offset % SECTOR as u64) as usize;
    let starts = std::iter::once(0).chain((first..).step_by(SECTOR)).take_while(move |start| *start < length);
    starts.map(move |start| start..length.min(if start == 0 { first } else { start + SECTOR }))
}

impl Survival {
    pub(super) fn new(seed: u64) -> Self {
        match seed {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => {
                let mut generator = Generator::new(seed);
                let rate = 1 + generator.below(7);
                Self::Drawn { generator, rate }
            }
        }
    }

    /// Whether a change that happens as a whole survives.
    pub(super) fn keeps(&mut self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Drawn { generator, rate } => generator.below(8) < *rate,
            Self::Chosen(kept) => {
                let keeps = *kept & 1 == 1;
                *kept >>= 1;
                keeps
            }
        }
    }

    /// Calls `keep` with the surviving parts of a write to `[offset, offset + length)`, relative to
    /// its beginning: all of it, none, or any of its sectors.
    pub(super) fn keep_parts(&mut self, offset: u64, length: usize, mut keep: impl FnMut(Range<usize>)) {
        let torn = match self {
            Self::Nothing | Self::Everything => false,
            Self::Drawn { generator, .. } => generator.below(3) == 0,
            Self::Chosen(_) => true,
        };
        if !torn {
            if self.keeps() {
                keep(0..length);
            }
            return;
        }
        for sector in sectors(offset, length) {
            if self.keeps() {
                keep(sector);
            }
        }
    }
}
