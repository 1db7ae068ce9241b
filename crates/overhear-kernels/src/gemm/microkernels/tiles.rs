//! GEMM on tiles: loops over a [`TileKernel`], which multiplies 16 rows by 16 outputs by 16 K groups at a time.
//!
//! Packed A and half panels of B are tiles as they lie in memory: 16 K groups of 16 rows, and 16 K groups of 16
//! outputs. Blocks of more than 16 rows use 2x2 accumulator tiles (32 rows by both halves of a panel), so each
//! operand tile is loaded once for two products. Storing an accumulator right after its last product would stall on
//! it, and everything behind it, so a 2x2 block is stored during the first step of the next block, each tile just
//! before its first product, when three more products have been issued. Blocks of up to 16 rows use two 1x2 pairs
//! alternately. A is read in multiples of 16 rows, therefore packed A ends with
//! [`SLACK_ROWS`](crate::gemm::layout::SLACK_ROWS) extra rows.
//!
//! Attention multiplies many tiles of A by one panel: [`super::tiles_transposed`].

use crate::arch::TILE;
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{Blocking, Epilogue, Operands};
use crate::gemm::tile_kernel::{AccPair, PairSteps, Step2x2, TileKernel};

/// MR of tile kernels: most rows of a block.
pub(crate) const MR: usize = 2 * TILE;
/// Blocking of tile kernels. 32 KiB of a block of rows (`kc_l1`) stay in L1 while panels are loaded past it. 80 KiB
/// of a panel (`kc`), as much of a block of rows, ten panels (`nc_bytes`) and the accumulators of 384 rows (`mc`) by
/// ten panels leave a quarter of an L2 of 2 MiB, which every machine with AMX has.
pub(crate) const BLOCKING: Blocking = Blocking {
    panel_width: LANES,
    mr: MR,
    kc_l1: 256,
    kc: 640,
    nc_bytes: 800 << 10,
    mc: 384,
    ld_acc: MR * NR + LANES,
};

/// Implementation of [`MicroKernel::multiply`](crate::gemm::microkernel::MicroKernel::multiply).
///
/// # Safety
/// As [`MicroKernel::multiply`](crate::gemm::microkernel::MicroKernel::multiply).
#[inline(always)]
pub(super) unsafe fn multiply<K: TileKernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
    epilogue: &impl Epilogue<K>,
) {
    // SAFETY: the caller's.
    unsafe {
        if operands.k_groups == 0 {
            for panel in 0..n_panels {
                to.add(panel * K::BLOCKING.ld_acc).write_bytes(0, n * NR);
            }
            for panel in 0..n_panels {
                let outs = panel * NR..(panel + 1) * NR;
                epilogue.store_c(kernel, 0..n, outs, to.add(panel * K::BLOCKING.ld_acc));
            }
        } else if n > TILE {
            row_block::<K, true>(kernel, n, n_panels, operands, to, epilogue);
        } else {
            row_block::<K, false>(kernel, n, n_panels, operands, to, epilogue);
        }
    }
}

/// Multiplies up to 32 rows (`IS_2X2`) or 16: first the whole steps of K, then the rest of one.
///
/// # Safety
/// As [`multiply`], for some K groups.
#[inline(always)]
unsafe fn row_block<K: TileKernel, const IS_2X2: bool>(
    kernel: K,
    n: usize,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
    epilogue: &impl Epilogue<K>,
) {
    let (n_steps, rest) = (operands.k_groups / TILE, operands.k_groups % TILE);
    let shape = (n, n_panels);
    let mut acc = K::Acc::default();
    // SAFETY: the caller's: the whole steps, and the rest of one, make up all of K.
    unsafe {
        if n_steps > 0 && rest == 0 {
            k_steps::<K, _, IS_2X2>(kernel, &mut acc, shape, n_steps, operands, to, epilogue);
        } else if n_steps > 0 {
            k_steps::<K, _, IS_2X2>(kernel, &mut acc, shape, n_steps, operands, to, &());
        }
        if rest > 0 {
            let operands = Operands {
                x: operands.x.wrapping_add(n_steps * TILE),
                w: operands.w.wrapping_add(n_steps * TILE * LANES),
                accumulate: operands.accumulate || n_steps > 0,
                ..*operands
            };
            kernel.set_k_groups(&mut acc, rest);
            k_steps::<K, _, IS_2X2>(kernel, &mut acc, shape, 1, &operands, to, epilogue);
            kernel.set_k_groups(&mut acc, TILE);
        }
    }
}

/// Multiplies `n_steps > 0` steps of K. Accumulators that need not be kept all go to one place, which stays in L1,
/// and pass through the epilogue while the next block is computed.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn k_steps<K: TileKernel, F: Epilogue<K>, const IS_2X2: bool>(
    kernel: K,
    acc: &mut K::Acc,
    shape: (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    epilogue: &F,
) {
    // SAFETY: the caller's.
    unsafe {
        if IS_2X2 {
            loop_2x2(kernel, acc, shape, n_steps, operands, to, epilogue);
        } else {
            loop_1x2(kernel, acc, shape, n_steps, operands, to, epilogue);
        }
    }
}

/// 2x2 blocks, one per panel. The epilogue of a block runs when the next one has issued a few steps.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn loop_2x2<K: TileKernel, F: Epilogue<K>>(
    kernel: K,
    acc: &mut K::Acc,
    (n, n_panels): (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    epilogue: &F,
) {
    let keeps_acc = F::KEEPS_ACC || operands.accumulate;
    let ld_acc = if keeps_acc { K::BLOCKING.ld_acc } else { 0 };
    let acc_at = |panel: usize| to.cast::<i32>().wrapping_add(panel * ld_acc);
    let first_steps = n_steps.min(3);
    for panel in 0..n_panels {
        let w = operands.w.wrapping_add(panel * operands.w_stride);
        let step_2x2 = Step2x2 {
            x: operands.x,
            x_stride: operands.x_stride,
            x_lower: operands.x.wrapping_add(TILE * operands.x_stride),
            w,
            w_right: w.wrapping_add(operands.w_stride / 2),
        };
        let from = operands.accumulate.then_some(acc_at(panel).cast_const());
        let last = (panel > 0).then(|| acc_at(panel - 1));
        // SAFETY: the caller's; the previous block is stored with the first step.
        unsafe {
            kernel.begin_2x2::<false>(acc, &step_2x2, from, last);
            for step in 1..first_steps {
                kernel.accumulate_2x2::<false>(acc, &step_2x2.skip(step, TILE));
            }
            if panel > 0 {
                run_epilogue(kernel, n, panel - 1, acc_at(panel - 1), epilogue);
            }
            for step in first_steps..n_steps {
                kernel.accumulate_2x2::<false>(acc, &step_2x2.skip(step, TILE));
            }
        }
    }
    if n_panels > 0 {
        // SAFETY: as above.
        unsafe {
            kernel.store_2x2(acc, acc_at(n_panels - 1));
            run_epilogue(kernel, n, n_panels - 1, acc_at(n_panels - 1), epilogue);
        }
    }
}

/// 1x2 pairs of up to 16 rows by a panel, alternately. The epilogue of a pair runs one pair later: tiles work on a
/// pair for longer than it takes to issue its steps.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn loop_1x2<K: TileKernel, F: Epilogue<K>>(
    kernel: K,
    acc: &mut K::Acc,
    (n, n_panels): (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    epilogue: &F,
) {
    let keeps_acc = F::KEEPS_ACC || operands.accumulate;
    let ld_acc = if keeps_acc { K::BLOCKING.ld_acc } else { 0 };
    let mut last = None;
    for panel in 0..n_panels {
        let w = operands.w.wrapping_add(panel * operands.w_stride);
        let steps = PairSteps {
            x: operands.x,
            x_stride: operands.x_stride,
            x_step: TILE,
            w,
            second: w.wrapping_add(operands.w_stride / 2),
            n: n_steps,
        };
        let first = to.cast::<i32>().wrapping_add(panel * ld_acc);
        let pair_acc = AccPair {
            first,
            second: first.wrapping_add(LANES),
        };
        let accumulate = operands.accumulate;
        // SAFETY: the caller's.
        unsafe {
            if panel % 2 == 0 {
                pair::<K, false, 0, 1>(kernel, acc, &steps, accumulate, pair_acc, last);
            } else {
                pair::<K, false, 1, 0>(kernel, acc, &steps, accumulate, pair_acc, last);
            }
        }
        if let Some(last) = last {
            // SAFETY: stored just now.
            unsafe { run_epilogue(kernel, n, panel - 1, last.first, epilogue) };
        }
        last = Some(pair_acc);
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe {
            store_last(kernel, acc, n_panels, last);
            run_epilogue(kernel, n, n_panels - 1, last.first, epilogue);
        }
    }
}

/// Stores the last of `n_pairs` alternating pairs.
///
/// # Safety
/// The place must be writable.
#[inline(always)]
pub(super) unsafe fn store_last<K: TileKernel>(
    kernel: K,
    acc: &mut K::Acc,
    n_pairs: usize,
    last: AccPair,
) {
    // SAFETY: the caller's.
    unsafe {
        if n_pairs % 2 == 1 {
            kernel.store_pair::<0>(acc, last);
        } else {
            kernel.store_pair::<1>(acc, last);
        }
    }
}

/// Calls the epilogue with the accumulators of `n` rows by a panel, at `acc`. A function and not a closure, which
/// might not be inlined.
///
/// # Safety
/// The accumulators must have been stored.
#[inline(always)]
unsafe fn run_epilogue<K: TileKernel, F: Epilogue<K>>(
    kernel: K,
    n: usize,
    panel: usize,
    acc: *mut i32,
    epilogue: &F,
) {
    let outs = panel * NR..(panel + 1) * NR;
    // SAFETY: the caller's.
    unsafe { epilogue.store_c(kernel, 0..n, outs, acc.cast_const().cast()) };
}

/// Multiplies the steps of pair `OWN` and stores pair `OTHER` meanwhile.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
pub(super) unsafe fn pair<
    K: TileKernel,
    const IS_2X1: bool,
    const OWN: usize,
    const OTHER: usize,
>(
    kernel: K,
    acc: &mut K::Acc,
    steps: &PairSteps,
    accumulate: bool,
    pair_acc: AccPair,
    last: Option<AccPair>,
) {
    // SAFETY: the caller's.
    unsafe {
        kernel.begin_pair::<OWN>(acc, accumulate.then_some(pair_acc));
        kernel.accumulate_pair::<OWN, IS_2X1>(acc, &PairSteps { n: 1, ..*steps });
        match last {
            Some(last) if steps.n > 1 => {
                kernel.accumulate_and_store_pair::<OWN, IS_2X1>(
                    acc,
                    &steps.skip::<IS_2X1>(1),
                    last,
                );
                if steps.n > 2 {
                    kernel.accumulate_pair::<OWN, IS_2X1>(acc, &steps.skip::<IS_2X1>(2));
                }
            }
            Some(last) => kernel.store_pair::<OTHER>(acc, last),
            None if steps.n > 1 => {
                kernel.accumulate_pair::<OWN, IS_2X1>(acc, &steps.skip::<IS_2X1>(1))
            }
            None => {}
        }
    }
}
