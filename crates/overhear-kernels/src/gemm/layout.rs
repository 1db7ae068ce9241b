//! The layout of packed operands.

use crate::arch::TILE;

/// Outputs of a panel: two vectors of 16 sums.
pub(crate) const NR: usize = 32;
/// Lanes of a vector of words, on every machine: the packed format depends on it.
pub(crate) const LANES: usize = 16;
/// Rows that may be read beyond the last.
pub(crate) const SLACK_ROWS: usize = TILE - 1;
/// The longest K of bytes: the sum of so many products of 255 and 127 fits 32 bits.
pub(crate) const MAX_INT8_COLS: usize = 1 << 16;

/// What weights and activations are packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// Bytes: weights with a scale per output, activations with a scale per row.
    Int8,
}

impl Packing {
    /// Elements of a word.
    pub(crate) const fn group_size(self) -> usize {
        match self {
            Packing::Bf16 => 2,
            Packing::Int8 => 4,
        }
    }
}

/// Where a panel of `k_groups` words of K has word `group` of output `out`.
#[inline(always)]
pub(crate) fn group_offset(panel_width: usize, k_groups: usize, group: usize, out: usize) -> usize {
    (out / panel_width * k_groups + group) * panel_width + out % panel_width
}

const _: () = assert!(NR == 2 * TILE && LANES == TILE);
