//! Comparing the eight tags of a line at once.

use super::memory::Line;
#[cfg(any(test, miri, loom, not(target_arch = "x86_64")))]
use super::{entry::TAG_SHIFT, memory::SLOTS};

/// The slots whose entry seems to have this tag, as bits; an empty slot seems to have tag 0.
///
/// Only a hint: an entry is used as its slot is loaded anew.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline]
pub(super) fn tag_hints(line: &Line, tag: u32) -> u32 {
    let hints: u32;
    // The tag and the link flag are the upper 20 bits of an entry, so the upper halves suffice:
    // eight of them fill two vectors. Every x86-64 processor has these instructions.
    // SAFETY: reads the 64 bytes of `line`, which are aligned, and writes registers only. Another
    // thread may store into the line meanwhile: to the language a block of assembly is opaque, and
    // the processor reads each aligned half of an entry whole. It also keeps loads in order, and
    // the compiler moves none across the block, so that a slot without hint is as good as one
    // loaded as an atomic before the marker is loaded again.
    unsafe {
        std::arch::asm!(
            "movaps {low}, xmmword ptr [{line}]",
            "shufps {low}, xmmword ptr [{line} + 16], 0xdd",
            "movaps {high}, xmmword ptr [{line} + 32]",
            "shufps {high}, xmmword ptr [{line} + 48], 0xdd",
            "movd {wanted}, {tag:e}",
            "pshufd {wanted}, {wanted}, 0",
            "psrld {low}, 12",
            "psrld {high}, 12",
            "pcmpeqd {low}, {wanted}",
            "pcmpeqd {high}, {wanted}",
            "packssdw {low}, {high}",
            "packsswb {low}, {low}",
            "pmovmskb {hints:e}, {low}",
            line = in(reg) std::ptr::from_ref(line),
            tag = in(reg) tag,
            low = out(xmm_reg) _,
            high = out(xmm_reg) _,
            wanted = out(xmm_reg) _,
            hints = lateout(reg) hints,
            options(nostack, preserves_flags),
        );
    }
    hints & 0xff
}

/// The slots whose entry seems to have this tag, as bits; an empty slot seems to have tag 0.
///
/// Only a hint: an entry is used as its slot is loaded anew.
#[cfg(any(miri, loom, not(target_arch = "x86_64")))]
pub(super) fn tag_hints(line: &Line, tag: u32) -> u32 {
    portable_tag_hints(line, tag)
}

/// [`tag_hints`] on any processor.
#[cfg(any(test, miri, loom, not(target_arch = "x86_64")))]
#[inline]
fn portable_tag_hints(line: &Line, tag: u32) -> u32 {
    (0..SLOTS).fold(0, |hints, slot| {
        let entry = line.slots()[slot].load(crate::sync::Ordering::Relaxed);
        hints | u32::from(entry >> TAG_SHIFT == u64::from(tag)) << slot
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::entry::Entry;

    #[test]
    fn hints_are_the_slots_with_the_tag() {
        let tags = [0, 1, 5, 0x7_ffff, 0x4_0000, 5, 0x3_ffff, 2];
        let line = Line::default();
        for (slot, &tag) in tags.iter().enumerate() {
            line.set(slot, Entry::new(tag, 8 << slot).with_verified());
        }
        for wanted in tags.into_iter().chain([3, 0x10]) {
            let expected =
                tags.iter().enumerate().fold(0, |bits, (slot, &tag)| bits | u32::from(tag == wanted) << slot);
            assert_eq!(tag_hints(&line, wanted), expected);
            assert_eq!(portable_tag_hints(&line, wanted), expected);
        }
        line.set(7, Entry::link(0));
        line.set(6, Entry::EMPTY);
        assert_eq!(tag_hints(&line, 0), 0b100_0001);
        assert_eq!(portable_tag_hints(&line, 0), 0b100_0001);
    }
}
