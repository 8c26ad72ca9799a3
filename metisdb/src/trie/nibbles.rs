//! Runs of nibbles: the steps of a path through the trie, half a byte each.

use alloy_primitives::B256;

/// Nibbles in a path.
pub(crate) const PATH_NIBBLES: usize = 64;

/// The nibble of a path at an index below [`PATH_NIBBLES`].
#[inline]
pub(crate) fn nibble(path: &B256, index: usize) -> u8 {
    let byte = path[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

/// How many of their first nibbles two paths share.
pub(crate) fn shared(left: &B256, right: &B256) -> usize {
    match left.iter().zip(right).position(|(left, right)| left != right) {
        Some(byte) => 2 * byte + usize::from(left[byte] >> 4 == right[byte] >> 4),
        None => PATH_NIBBLES,
    }
}

/// At most [`PATH_NIBBLES`] nibbles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nibbles {
    /// Two to a byte, the first one in the upper half; zero behind the last.
    bytes: B256,
    length: u8,
}

impl Nibbles {
    /// No nibbles.
    pub(crate) const EMPTY: Self = Self { bytes: B256::ZERO, length: 0 };

    /// The nibbles of a path from `from` up to and without `to`.
    pub(crate) fn of(path: &B256, from: usize, to: usize) -> Self {
        let mut nibbles = Self::EMPTY;
        if from.is_multiple_of(2) {
            let count = (to - from).div_ceil(2);
            nibbles.bytes[..count].copy_from_slice(&path[from / 2..from / 2 + count]);
            if (to - from) % 2 == 1 {
                nibbles.bytes[count - 1] &= 0xf0;
            }
            nibbles.length = (to - from) as u8;
            return nibbles;
        }
        // Half a byte further: each byte is made of two.
        let count = (to - from) / 2;
        let first = from / 2;
        for (own, pair) in nibbles.bytes[..count].iter_mut().zip(path[first..].windows(2)) {
            *own = pair[0] << 4 | pair[1] >> 4;
        }
        nibbles.length = 2 * count as u8;
        if (to - from) % 2 == 1 {
            nibbles.push(nibble(path, to - 1));
        }
        nibbles
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The nibble at an index below the length.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> u8 {
        debug_assert!(index < self.len());
        nibble(&self.bytes, index)
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, nibble: u8) {
        let index = self.len();
        self.bytes[index / 2] |= if index.is_multiple_of(2) { nibble << 4 } else { nibble };
        self.length += 1;
    }

    /// The first `count`.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self::of(&self.bytes, 0, count)
    }

    /// All but the first `count`.
    pub(crate) fn without_first(&self, count: usize) -> Self {
        Self::of(&self.bytes, count, self.len())
    }

    /// These, one more, and `rest`.
    pub(crate) fn joined(&self, nibble: u8, rest: &Self) -> Self {
        let mut all = *self;
        all.push(nibble);
        for index in 0..rest.len() {
            all.push(rest.get(index));
        }
        all
    }

    /// How many of them, from the first on, a path has from `depth` on.
    pub(crate) fn shared_with(&self, path: &B256, depth: usize) -> usize {
        (0..self.len()).position(|index| self.get(index) != nibble(path, depth + index)).unwrap_or(self.len())
    }

    /// The first path that begins with them.
    pub(crate) fn first_path(&self) -> B256 {
        self.bytes
    }

    /// The last path that begins with them.
    pub(crate) fn last_path(&self) -> B256 {
        let mut path = self.bytes;
        path[self.len().div_ceil(2)..].fill(0xff);
        if self.len() % 2 == 1 {
            path[self.len() / 2] |= 15;
        }
        path
    }

    /// As bytes, two to a byte, the last one filled up with zero.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.bytes[..self.len().div_ceil(2)]
    }

    /// From [`Nibbles::packed`]; `None` where bytes behind the last nibble are not zero.
    pub(crate) fn from_packed(length: usize, packed: &[u8]) -> Option<Self> {
        let mut nibbles = Self { length: u8::try_from(length).ok()?, ..Self::EMPTY };
        nibbles.bytes.get_mut(..packed.len())?.copy_from_slice(packed);
        let padded = length % 2 == 1 && packed.last().is_some_and(|last| last & 15 != 0);
        (packed.len() == length.div_ceil(2) && !padded).then_some(nibbles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_joined_and_packed() {
        let path = B256::new(std::array::from_fn(|index| (index * 37 + 5) as u8));
        for from in 0..64 {
            for to in from..=64 {
                let run = Nibbles::of(&path, from, to);
                let plain: Vec<u8> = (from..to).map(|index| nibble(&path, index)).collect();
                assert_eq!((0..run.len()).map(|index| run.get(index)).collect::<Vec<_>>(), plain);
                assert_eq!(Nibbles::from_packed(run.len(), run.packed()), Some(run));
                assert_eq!(run.shared_with(&path, from), run.len());
                let ends = [run.first_path(), run.last_path()].map(|end| Nibbles::of(&end, 0, run.len()));
                assert_eq!(ends, [run; 2]);
                let behind = [run.first_path(), run.last_path()].map(|end| Nibbles::of(&end, run.len(), 64));
                assert!((run.len()..64).all(|at| [0, 15] == behind.map(|rest| rest.get(at - run.len()))));
                if to > from {
                    let middle = (to - from) / 2;
                    let joined = run.first(middle).joined(run.get(middle), &run.without_first(middle + 1));
                    assert_eq!(joined, run);
                }
            }
        }
        assert_eq!(Nibbles::from_packed(1, &[0x12]), None, "padding is zero");
        assert_eq!(Nibbles::from_packed(2, &[]), None);
    }

    #[test]
    fn shared_nibbles_are_counted() {
        let path = B256::repeat_byte(0x11);
        for index in 0..64 {
            let mut other = path;
            other[index / 2] ^= if index % 2 == 0 { 0x20 } else { 2 };
            assert_eq!(shared(&path, &other), index);
        }
        assert_eq!(shared(&path, &path), 64);
    }
}
