//! Layout of packed operands: micro-panels, K groups, padding.
//!
//! A *K group* is the unit of a VNNI dot product: 32 bits along K, two bf16 or four int8 elements. B is packed in
//! *micro-panels* of [`NR`] = 32 outputs, `[32 / panel_width, k_groups, panel_width]`:
//!
//! - `panel_width` 32 for register kernels, `[k_groups, 32]`: a step of K loads two consecutive vectors, whatever the
//!   number of rows;
//! - `panel_width` 16 for tiles, `[2, k_groups, 16]`: a tile of B is one contiguous kilobyte.
//!
//! Outputs beyond the last are zeros. A is row-major, its rows padded to whole K groups.

use crate::arch::TILE;

/// Outputs of a micro-panel of B: two vectors of 16 accumulators.
pub(crate) const NR: usize = 32;
/// K groups of a vector, on every machine: the packed formats depend on it.
pub(crate) const LANES: usize = 16;
/// Rows of A that may be read beyond the last, as tiles always load 16.
pub(crate) const SLACK_ROWS: usize = TILE - 1;
/// Largest K of int8 operands: the sum of this many products of 255 and 127 fits 32 bits.
pub(crate) const MAX_INT8_COLS: usize = 1 << 16;

/// Element type of packed weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// bf16, rounded to nearest even.
    Bf16,
    /// 8 bits: weights as s8 with a scale per output, activations as u8 with a scale and a zero point per row.
    Int8,
}

impl Packing {
    /// Elements of a K group.
    pub(crate) const fn group_size(self) -> usize {
        match self {
            Packing::Bf16 => 2,
            Packing::Int8 => 4,
        }
    }
}

/// Offset, in K groups, of group `group` of output `out` within a panel of `k_groups`.
#[inline(always)]
pub(crate) fn group_offset(panel_width: usize, k_groups: usize, group: usize, out: usize) -> usize {
    (out / panel_width * k_groups + group) * panel_width + out % panel_width
}

const _: () = assert!(NR == 2 * TILE && LANES == TILE);
