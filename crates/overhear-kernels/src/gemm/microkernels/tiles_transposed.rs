//! Products by tiles the other way around: many tiles of rows and one panel, for attention.

use super::tiles::{pair, store_last};
use crate::arch::TILE;
use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::tile_kernel::{Place, Square, Steps, TileUnit};

/// Rows in tiles, and a panel that they are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct TileOperands {
    /// The first tile of rows, words from one to the next, and in each from the tile of a step to that of the next.
    pub(crate) x: *const u32,
    pub(crate) x_tile: usize,
    pub(crate) x_step: usize,
    pub(crate) n_tiles: usize,
    /// The panel, and words to its second half.
    pub(crate) w: *const u32,
    pub(crate) w_half: usize,
    pub(crate) n_steps: usize,
    /// Whether sums start from what is there instead of zero.
    pub(crate) carry: bool,
}

/// Writes the sums, `[16 * n_tiles, 32]`, to `to`; if `OF_ROWS`, of the first half of the panel alone, and what is behind
/// an odd number of tiles is written too.
///
/// # Safety
/// There must be steps, and the operands be readable and the sums writable.
#[inline(always)]
pub(crate) unsafe fn multiply_tiles<U: TileUnit, const OF_ROWS: bool>(
    unit: U,
    operands: &TileOperands,
    to: *mut f32,
) {
    let TileOperands {
        x,
        x_tile,
        x_step,
        n_tiles,
        w,
        w_half,
        n_steps,
        carry,
    } = *operands;
    let mut sums = U::Sums::default();
    let place = |tile: usize| to.cast::<i32>().wrapping_add(tile * TILE * PANEL);
    // Squares of two tiles and both halves of the panel; what they leave, in pairs.
    let in_squares = if OF_ROWS { 0 } else { n_tiles / 2 * 2 };
    let mut last = None;
    for tile in (0..in_squares).step_by(2) {
        let x = x.wrapping_add(tile * x_tile);
        let square = Square {
            x,
            x_stride: TILE,
            x_below: x.wrapping_add(x_tile),
            w,
            w_beside: w.wrapping_add(w_half),
        };
        let from = carry.then_some(place(tile).cast_const());
        // SAFETY: the caller's.
        unsafe {
            unit.begin_square::<true>(&mut sums, &square, from, last);
            for step in 1..n_steps {
                unit.add_square::<true>(&mut sums, &square.skip(step, x_step));
            }
        }
        last = Some(place(tile));
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { unit.store_square(&mut sums, last) };
    }
    let of_pair = if OF_ROWS { 2 } else { 1 };
    let n_pairs = (n_tiles - in_squares).div_ceil(of_pair);
    let mut last = None;
    for i in 0..n_pairs {
        let tile = in_squares + i * of_pair;
        let x = x.wrapping_add(tile * x_tile);
        let (second, beside) = match OF_ROWS {
            false => (w.wrapping_add(w_half), LANES),
            true if tile + 1 < n_tiles => (x.wrapping_add(x_tile), TILE * PANEL),
            true => (x, TILE * PANEL),
        };
        let steps = Steps {
            x,
            x_stride: TILE,
            x_step,
            w,
            second,
            n: n_steps,
        };
        let first = place(tile);
        let place = Place {
            first,
            second: first.wrapping_add(beside),
        };
        // SAFETY: the caller's.
        unsafe {
            if i % 2 == 0 {
                pair::<U, OF_ROWS, 0, 1>(unit, &mut sums, &steps, carry, place, last);
            } else {
                pair::<U, OF_ROWS, 1, 0>(unit, &mut sums, &steps, carry, place, last);
            }
        }
        last = Some(place);
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { store_last(unit, &mut sums, n_pairs, last) };
    }
}
