//! Layout of group-quantised weights.
//!
//! A panel of 32 outputs is a sequence of blocks, one per group of K. A block holds, each part a whole number of cache
//! lines:
//!
//! 1. scales: 32 f16;
//! 2. high bits, 5 bits only: `[2 halves, 16 outputs]` u32, bit `8 * b + g` being that of element `4 * g + b`;
//! 3. low bits: `[2 halves, 4, 16 outputs, 4]` bytes. Byte `[h, j, out, b]` has element `8 * j + b` of output `16 * h +
//!    out` in its low four bits and element `8 * j + 4 + b` in its high ones.
//!
//! So a vector of 16 u32 lanes holds two K groups of 16 outputs, as u8 x s8 dot products want them, and unpacking takes
//! a mask and a shift.

use half::f16;

use crate::gemm::layout::NR;

/// Elements of K that share a scale.
pub(crate) const GROUP: usize = 32;
/// Bytes of a block's scales.
pub(crate) const SCALE_BYTES: usize = NR * size_of::<f16>();
/// Bytes of the high bits of half a panel.
pub(crate) const HIGH_BYTES: usize = NR / 2 * size_of::<u32>();
/// Bytes of the low bits of half a panel.
pub(crate) const LOW_BYTES: usize = NR / 2 * GROUP / 2;

/// Format of group-quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFormat {
    /// 4 bits and a scale per 32 elements, ggml's q4_0: 4.5 bits per weight.
    Q4,
    /// 5 bits and a scale per 32 elements, ggml's q5_0: 5.5 bits per weight.
    Q5,
}

impl GroupFormat {
    /// Number that stands for zero: half of the levels.
    #[must_use]
    pub const fn zero_point(self) -> i32 {
        match self {
            GroupFormat::Q4 => 8,
            GroupFormat::Q5 => 16,
        }
    }

    /// The format of 5 bits if `high`, else that of 4.
    #[inline(always)]
    pub(crate) const fn of(high: bool) -> Self {
        match high {
            true => GroupFormat::Q5,
            false => GroupFormat::Q4,
        }
    }

    /// Offset of the low bits in a block.
    pub(crate) const fn low_offset(self) -> usize {
        match self {
            GroupFormat::Q4 => SCALE_BYTES,
            GroupFormat::Q5 => SCALE_BYTES + 2 * HIGH_BYTES,
        }
    }

    /// Bytes of a block: 576 or 704.
    pub(crate) const fn block_bytes(self) -> usize {
        self.low_offset() + 2 * LOW_BYTES
    }

    /// Writes the scale of output `out` to a block.
    pub(super) fn set_scale(self, block: &mut [u8], out: usize, scale: f16) {
        block[2 * out..][..2].copy_from_slice(&scale.to_le_bytes());
    }

    /// Scale of output `out`.
    pub(crate) fn scale(self, block: &[u8], out: usize) -> f16 {
        f16::from_le_bytes([block[2 * out], block[2 * out + 1]])
    }

    /// Writes element `k` of output `out` to a block of zeros.
    #[inline(always)]
    pub(super) fn set_level(self, block: &mut [u8], out: usize, k: usize, level: u8) {
        let (at, shift) = self.low_at(out, k);
        block[at] |= (level & 15) << shift;
        if self == GroupFormat::Q5 {
            let (at, bit) = self.high_at(out, k);
            block[at] |= (level >> 4) << bit;
        }
    }

    /// Element `k` of output `out`, between 0 and twice the zero point.
    #[inline(always)]
    pub(crate) fn level(self, block: &[u8], out: usize, k: usize) -> u8 {
        let (at, shift) = self.low_at(out, k);
        let low = block[at] >> shift & 15;
        match self {
            GroupFormat::Q4 => low,
            GroupFormat::Q5 => {
                let (at, bit) = self.high_at(out, k);
                low | (block[at] >> bit & 1) << 4
            }
        }
    }

    /// Byte and shift of an element's low bits.
    #[inline(always)]
    fn low_at(self, out: usize, k: usize) -> (usize, usize) {
        let (half, lane) = (out / (NR / 2), out % (NR / 2));
        let at = self.low_offset() + half * LOW_BYTES + k / 8 * 64 + lane * 4 + k % 4;
        (at, k / 4 % 2 * 4)
    }

    /// Byte and bit of an element's high bit.
    #[inline(always)]
    fn high_at(self, out: usize, k: usize) -> (usize, usize) {
        (SCALE_BYTES + 4 * out + k % 4, k / 4)
    }
}

const _: () = assert!(NR == 32 && GROUP == 32);
const _: () = assert!(GroupFormat::Q4.block_bytes() == 576 && GroupFormat::Q5.block_bytes() == 704);
