//! Tile products the other way around, for attention: many tiles of A by one panel of B.

use super::tiles::{pair, store_last};
use crate::arch::TILE;
use crate::gemm::layout::{LANES, NR};
use crate::gemm::tile_kernel::{AccPair, PairSteps, Step2x2, TileKernel};

/// Tiles of A, and a panel of B.
#[derive(Clone, Copy)]
pub(crate) struct TileOperands {
    /// A: the first tile; `x_tile` K groups from tile to tile, `x_step` from step to step.
    pub(crate) x: *const u32,
    pub(crate) x_tile: usize,
    pub(crate) x_step: usize,
    pub(crate) n_tiles: usize,
    /// B: the panel; `w_half` K groups to its second half.
    pub(crate) w: *const u32,
    pub(crate) w_half: usize,
    pub(crate) n_steps: usize,
    /// Whether to accumulate onto the existing contents (beta = 1) instead of starting from zero.
    pub(crate) accumulate: bool,
}

/// Computes the accumulators `[16 * n_tiles, 32]`. If `IS_2X1`, only those of the first half of the panel; then the
/// place behind an odd number of tiles is written too.
///
/// # Safety
/// `n_steps` must not be 0, the operands must be readable and the accumulators writable.
#[inline(always)]
pub(crate) unsafe fn multiply_tiles<K: TileKernel, const IS_2X1: bool>(
    kernel: K,
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
        accumulate,
    } = *operands;
    let mut acc = K::Acc::default();
    let acc_at = |tile: usize| to.cast::<i32>().wrapping_add(tile * TILE * NR);
    // 2x2 blocks first; remaining tiles in pairs.
    let n_2x2_tiles = if IS_2X1 { 0 } else { n_tiles / 2 * 2 };
    let mut last = None;
    for tile in (0..n_2x2_tiles).step_by(2) {
        let x = x.wrapping_add(tile * x_tile);
        let step_2x2 = Step2x2 {
            x,
            x_stride: TILE,
            x_lower: x.wrapping_add(x_tile),
            w,
            w_right: w.wrapping_add(w_half),
        };
        let from = accumulate.then_some(acc_at(tile).cast_const());
        // SAFETY: the caller's.
        unsafe {
            kernel.begin_2x2::<true>(&mut acc, &step_2x2, from, last);
            for step in 1..n_steps {
                kernel.accumulate_2x2::<true>(&mut acc, &step_2x2.skip(step, x_step));
            }
        }
        last = Some(acc_at(tile));
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { kernel.store_2x2(&mut acc, last) };
    }
    let pair_tiles = if IS_2X1 { 2 } else { 1 };
    let n_pairs = (n_tiles - n_2x2_tiles).div_ceil(pair_tiles);
    let mut last = None;
    for i in 0..n_pairs {
        let tile = n_2x2_tiles + i * pair_tiles;
        let x = x.wrapping_add(tile * x_tile);
        let (second, to_second) = match IS_2X1 {
            false => (w.wrapping_add(w_half), LANES),
            true if tile + 1 < n_tiles => (x.wrapping_add(x_tile), TILE * NR),
            true => (x, TILE * NR),
        };
        let steps = PairSteps {
            x,
            x_stride: TILE,
            x_step,
            w,
            second,
            n: n_steps,
        };
        let first = acc_at(tile);
        let pair_acc = AccPair {
            first,
            second: first.wrapping_add(to_second),
        };
        // SAFETY: the caller's.
        unsafe {
            if i % 2 == 0 {
                pair::<K, IS_2X1, 0, 1>(kernel, &mut acc, &steps, accumulate, pair_acc, last);
            } else {
                pair::<K, IS_2X1, 1, 0>(kernel, &mut acc, &steps, accumulate, pair_acc, last);
            }
        }
        last = Some(pair_acc);
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { store_last(kernel, &mut acc, n_pairs, last) };
    }
}
