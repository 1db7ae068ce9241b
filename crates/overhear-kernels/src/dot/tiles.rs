//! Blocks of tiles: products of 16 rows by 16 outputs by 16 words of K at a time, as AMX has them.
//!
//! Packed rows and panels are tiles as they lie: 16 words of 16 rows, and 16 words of K of half a panel, one row of
//! which is a cache line. A block is 2 x 2 tiles of sums: 32 rows of one panel, or 16 rows of two. Rows are read in
//! sixteens, those beyond the last for nothing, so a buffer of rows ends with [`SLACK_ROWS`] more than it has.

use super::{Blocking, LANES, Operands, Unit};
use crate::packed::PANEL;

/// Rows of a tile; as a tile of K, words.
pub(crate) const TILE: usize = 16;
/// Rows of the largest block.
pub(super) const ROWS: usize = 2 * TILE;
/// See [`Blocking`]: 80 KiB of a panel and as much of a block of rows, ten panels and the sums of 384 rows by them
/// leave a quarter of a second-level cache of 2 MiB, which every machine with tiles has.
pub(super) const BLOCKING: Blocking = Blocking {
    rows: ROWS,
    k_words: 640,
    group_bytes: 800 << 10,
    waiting_rows: 384,
};
/// Rows that may be read beyond the last.
pub(crate) const SLACK_ROWS: usize = TILE - 1;

/// 2 x 2 tiles of sums, or 2 of one panel, and what is added to them.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// 1 or 2 tiles of rows.
    pub(super) n_row_tiles: usize,
    /// 1 or 2 panels; 1 if there are 2 tiles of rows.
    pub(super) n_panels: usize,
    /// Row 0, from its first word, and words from row to row.
    pub(super) x: *const u32,
    pub(super) x_stride: usize,
    /// The first panel, and words from panel to panel.
    pub(super) w: *const u32,
    pub(super) w_stride: usize,
    /// Steps of K.
    pub(super) n_steps: usize,
    /// Words of a step: 16, or fewer at the end of K.
    pub(super) step_words: usize,
    /// What the sums start from, zero if null, and elements from row to row. (Rows that are all the same, a stride of 0,
    /// take as long to load as eight steps.)
    pub(super) from: *const i32,
    pub(super) from_stride: usize,
    /// Where they go.
    pub(super) to: *mut i32,
    pub(super) to_stride: usize,
}

/// A unit that multiplies tiles.
pub(super) trait TileUnit: Unit {
    /// Adds the products of `n_steps` steps.
    ///
    /// # Safety
    /// All that `tiles` names must be readable and writable, 16 rows for every tile of rows.
    unsafe fn multiply(self, tiles: &Tiles);
}

/// Panels that a block of `n` rows takes.
#[inline(always)]
pub(super) fn panels_of(n: usize) -> usize {
    if n > TILE { 1 } else { 2 }
}

/// See [`Unit::block`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn block<U: TileUnit>(
    unit: U,
    n: usize,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
) {
    let n_row_tiles = n.div_ceil(TILE);
    assert!(n_row_tiles * n_panels <= 2, "{n} rows, {n_panels} panels");
    if operands.n_words == 0 {
        for row in 0..n {
            // SAFETY: the caller's: so many sums are writable.
            unsafe {
                to.add(row * operands.sums_stride)
                    .write_bytes(0, n_panels * PANEL)
            };
        }
        return;
    }
    let to = to.cast::<i32>();
    let (from, from_stride) = if operands.carry {
        (to.cast_const(), operands.sums_stride)
    } else {
        (std::ptr::null(), 0)
    };
    let whole = Tiles {
        n_row_tiles,
        n_panels,
        x: operands.x,
        x_stride: operands.x_stride,
        w: operands.w,
        w_stride: operands.w_stride,
        n_steps: operands.n_words / TILE,
        step_words: TILE,
        from,
        from_stride,
        to,
        to_stride: operands.sums_stride,
    };
    let mut steps = whole;
    if whole.n_steps > 0 {
        // SAFETY: the caller's: the whole steps, and the rest below, make up all of K.
        unsafe { unit.multiply(&whole) };
        (steps.from, steps.from_stride) = (to, operands.sums_stride);
    }
    let done = whole.n_steps * TILE;
    if operands.n_words > done {
        let rest = Tiles {
            x: operands.x.wrapping_add(done),
            w: operands.w.wrapping_add(done * PANEL),
            n_steps: 1,
            step_words: operands.n_words - done,
            ..steps
        };
        // SAFETY: as above.
        unsafe { unit.multiply(&rest) };
    }
}

const _: () = assert!(PANEL == 2 * TILE && LANES == TILE);
