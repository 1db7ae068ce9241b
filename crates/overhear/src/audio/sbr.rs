//! Detects HE-AAC with implicit signalling: the header declares AAC-LC at half the rate, which any AAC-LC decoder plays
//! without the upper part of the band.
//!
//! That part (spectral band replication) lies in a fill element, which encoders write as the last element of a raw data
//! block. The block is not parsed; only its end is matched: an element of a consistent length and type, followed by the
//! end mark. A few percent of other frames match by chance; in HE-AAC all do.

/// Number of frames inspected.
const N_FRAMES: u32 = 16;

/// Detector over the first frames of a stream.
#[derive(Default)]
pub(super) struct SbrWatch {
    n_frames: u32,
    n_found: u32,
}

impl SbrWatch {
    /// Inspects a raw data block (ISO 14496-3 section 4.4.2.1), unless enough have been inspected.
    pub(super) fn see(&mut self, block: &[u8]) {
        if self.n_frames < N_FRAMES {
            self.n_frames += 1;
            self.n_found += u32::from(ends_with_sbr(block));
        }
    }

    /// Returns whether most inspected frames have SBR.
    pub(super) fn is_found(&self) -> bool {
        self.n_frames >= N_FRAMES / 2 && 4 * self.n_found > 3 * self.n_frames
    }
}

fn ends_with_sbr(block: &[u8]) -> bool {
    const FIL: u32 = 6;
    const END: u32 = 7;
    const SBR: u32 = 13;
    const SBR_CRC: u32 = 14;
    let Some((last, rest)) = block.split_last() else {
        return false;
    };
    if *last == 0 {
        return false;
    }
    // The end mark is three ones, followed by zeros up to a byte boundary.
    let n_bits = 8 * rest.len() + 8 - last.trailing_zeros() as usize;
    let bits = |at: usize, n: usize| {
        (at..at + n).fold(0, |value, bit| {
            value << 1 | u32::from(block[bit / 8] >> (7 - bit % 8) & 1)
        })
    };
    if n_bits < 3 || bits(n_bits - 3, 3) != END {
        return false;
    }
    let end = n_bits - 3;
    // The length has four bits, or eight more for 14 bytes and up.
    (1..=269).any(|len: usize| {
        let n_header = if len < 15 { 7 } else { 15 };
        let Some(start) = end.checked_sub(8 * len + n_header) else {
            return false;
        };
        let is_len = if len < 15 {
            bits(start + 3, 4) == len as u32
        } else {
            bits(start + 3, 4) == 15 && bits(start + 7, 8) == len as u32 - 14
        };
        bits(start, 3) == FIL && is_len && matches!(bits(start + n_header, 4), SBR | SBR_CRC)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a block of `n` other bits, a fill element of `len` bytes of type `kind`, and the end mark.
    fn block(n: usize, len: usize, kind: u32) -> Vec<u8> {
        let mut bits = "01".repeat(n / 2);
        bits += &match len {
            0..15 => format!("110{len:04b}"),
            _ => format!("1101111{:08b}", len - 14),
        };
        bits += &format!("{kind:04b}");
        bits += &"0".repeat(8 * len - 4);
        bits += "111";
        bits += &"0".repeat(bits.len().next_multiple_of(8) - bits.len());
        let bytes = bits.as_bytes().chunks(8);
        let value = |byte: &[u8]| byte.iter().fold(0, |value, bit| value << 1 | (bit - b'0'));
        bytes.map(value).collect()
    }

    #[test]
    fn replication_is_found_at_the_end_of_a_block_and_other_filling_is_not() {
        for n in [0, 2, 38, 800] {
            for len in [1, 5, 14, 15, 100, 269] {
                assert!(ends_with_sbr(&block(n, len, 13)) && ends_with_sbr(&block(n, len, 14)));
                assert!(!ends_with_sbr(&block(n, len, 0)), "{n} {len}");
            }
        }
        for bytes in [&[][..], &[0], &[0xE0], &[0xFF; 7]] {
            assert!(!ends_with_sbr(bytes));
        }
    }

    #[test]
    fn most_of_the_first_frames_have_to_have_it() {
        let (with, without) = (block(80, 20, 13), block(80, 20, 0));
        let mut watch = SbrWatch::default();
        (0..7).for_each(|_| watch.see(&with));
        assert!(!watch.is_found());
        watch.see(&with);
        assert!(watch.is_found());
        (0..8).for_each(|_| watch.see(&without));
        assert!(!watch.is_found());
    }
}
