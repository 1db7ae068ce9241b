//! Register blocks: products of a few rows and panels whose accumulators stay in vector registers through all of K.

use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{Blocking, Epilogue, MicroKernel, Operands, RegisterKernel};
use crate::simd::Simd;

/// MR of register kernels: most rows of a block.
pub(crate) const MR: usize = 12;
/// Blocking of register kernels. K is not cut. A panel group, a block of rows and their outputs fit any L2.
pub(crate) const BLOCKING: Blocking = Blocking {
    panel_width: NR,
    mr: MR,
    kc_l1: usize::MAX,
    kc: usize::MAX,
    nc_bytes: 384 << 10,
    mc: usize::MAX,
    ld_acc: MR * NR + LANES,
};

/// Prefetch distance in B for skinny calls, in K groups: what memory delivers during its latency.
const PREFETCH_GROUPS: usize = 1024;

/// Common part of the [`MicroKernel`] implementations with these register blocks.
macro_rules! register_blocks {
    () => {
        const BLOCKING: $crate::gemm::microkernel::Blocking =
            $crate::gemm::microkernels::registers::BLOCKING;

        #[inline(always)]
        unsafe fn multiply<F: $crate::gemm::microkernel::Epilogue<Self>>(
            self,
            n: usize,
            n_panels: usize,
            prefetch: bool,
            operands: &$crate::gemm::microkernel::Operands,
            to: *mut f32,
            epilogue: &F,
        ) {
            // SAFETY: the caller's.
            unsafe {
                $crate::gemm::microkernels::registers::multiply(
                    self, n, n_panels, prefetch, operands, to, epilogue,
                )
            }
        }
    };
}
pub(super) use register_blocks;

/// Panels of a block of `n` rows: as many as keep its accumulators in registers.
#[inline(always)]
fn panels_per_block<K: RegisterKernel>(n: usize) -> usize {
    match K::MR / n {
        0..=1 => 1,
        2..=3 => 2,
        _ => 4,
    }
}

/// Implementation of [`MicroKernel::multiply`].
///
/// # Safety
/// As [`MicroKernel::multiply`].
#[inline(always)]
pub(super) unsafe fn multiply<K: RegisterKernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    prefetch: bool,
    operands: &Operands,
    to: *mut f32,
    epilogue: &impl Epilogue<K>,
) {
    let mut panel = 0;
    while panel < n_panels {
        let block_panels = match panels_per_block::<K>(n).min(n_panels - panel) {
            // Three panels are two blocks.
            3 => 2,
            block_panels => block_panels,
        };
        let operands = Operands {
            w: operands.w.wrapping_add(panel * operands.w_stride),
            compensation: operands.compensation.wrapping_add(panel * NR),
            ..*operands
        };
        // SAFETY: the caller's, for each block.
        unsafe {
            block(
                kernel,
                n,
                block_panels,
                prefetch,
                &operands,
                to.add(panel * K::BLOCKING.ld_acc),
            )
        };
        panel += block_panels;
    }
    // SAFETY: the accumulators have been written.
    unsafe { run_epilogue(kernel, n, n_panels, to, epilogue) };
}

/// Calls the epilogue row by row, so that outputs are written in memory order.
///
/// # Safety
/// The accumulators must have been written.
#[inline(always)]
pub(super) unsafe fn run_epilogue<K: MicroKernel, F: Epilogue<K>>(
    kernel: K,
    n: usize,
    n_panels: usize,
    to: *const f32,
    epilogue: &F,
) {
    if F::KEEPS_ACC {
        return;
    }
    for row in 0..n {
        for panel in 0..n_panels {
            let outs = panel * NR..(panel + 1) * NR;
            let acc = to.wrapping_add(panel * K::BLOCKING.ld_acc + row * NR);
            // SAFETY: the caller's.
            unsafe { epilogue.store_c(kernel, row..row + 1, outs, acc) };
        }
    }
}

/// Computes the accumulators of `n <= MR` rows and `n_panels <= panels_per_block(n)` panels, not 3.
///
/// # Safety
/// The operands must be readable and the accumulators writable for as many rows and panels.
#[inline(always)]
unsafe fn block<K: RegisterKernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    prefetch: bool,
    operands: &Operands,
    to: *mut f32,
) {
    // SAFETY: the caller's, for each.
    unsafe {
        match (n, n_panels) {
            (1, 4) if prefetch => micro_kernel::<K, 1, 4, true>(kernel, operands, to),
            (1, 4) => micro_kernel::<K, 1, 4, false>(kernel, operands, to),
            (1, 2) => micro_kernel::<K, 1, 2, true>(kernel, operands, to),
            (1, _) => micro_kernel::<K, 1, 1, true>(kernel, operands, to),
            (2, 4) if K::MR >= 2 => micro_kernel::<K, 2, 4, true>(kernel, operands, to),
            (2, 2) if K::MR >= 2 => micro_kernel::<K, 2, 2, true>(kernel, operands, to),
            (2, _) if K::MR >= 2 => micro_kernel::<K, 2, 1, true>(kernel, operands, to),
            (3, 4) if K::MR >= 3 => micro_kernel::<K, 3, 4, true>(kernel, operands, to),
            (3, 2) if K::MR >= 3 => micro_kernel::<K, 3, 2, true>(kernel, operands, to),
            (3, _) if K::MR >= 3 => micro_kernel::<K, 3, 1, true>(kernel, operands, to),
            (4, 2) if K::MR >= 4 => micro_kernel::<K, 4, 2, true>(kernel, operands, to),
            (4, _) if K::MR >= 4 => micro_kernel::<K, 4, 1, true>(kernel, operands, to),
            (5, 2) if K::MR >= 5 => micro_kernel::<K, 5, 2, true>(kernel, operands, to),
            (5, _) if K::MR >= 5 => micro_kernel::<K, 5, 1, true>(kernel, operands, to),
            (6, 2) if K::MR >= 6 => micro_kernel::<K, 6, 2, true>(kernel, operands, to),
            (6, _) if K::MR >= 6 => micro_kernel::<K, 6, 1, true>(kernel, operands, to),
            (7, _) if K::MR >= 7 => micro_kernel::<K, 7, 1, true>(kernel, operands, to),
            (8, _) if K::MR >= 8 => micro_kernel::<K, 8, 1, true>(kernel, operands, to),
            (9, _) if K::MR >= 9 => micro_kernel::<K, 9, 1, true>(kernel, operands, to),
            (10, _) if K::MR >= 10 => micro_kernel::<K, 10, 1, true>(kernel, operands, to),
            (11, _) if K::MR >= 11 => micro_kernel::<K, 11, 1, true>(kernel, operands, to),
            (12, _) if K::MR >= 12 && prefetch => {
                micro_kernel::<K, 12, 1, true>(kernel, operands, to)
            }
            (12, _) if K::MR >= 12 => micro_kernel::<K, 12, 1, false>(kernel, operands, to),
            _ => unreachable!("a register block of {n} rows and {n_panels} panels"),
        }
    }
}

/// Register block of `M` rows and `G` panels, a function of its own so that its loop has all registers.
///
/// # Safety
/// As [`block`], for `M` rows and `G` panels.
#[inline(always)]
unsafe fn micro_kernel<K: RegisterKernel, const M: usize, const G: usize, const PREFETCH: bool>(
    kernel: K,
    operands: &Operands,
    to: *mut f32,
) {
    let Operands {
        x,
        x_stride,
        w,
        w_stride,
        k_groups,
        compensation,
        ..
    } = *operands;
    // SAFETY: the caller's: `M` rows of `k_groups`, `G` panels of `k_groups` times 32, as many compensations and
    // accumulators.
    unsafe {
        let mut acc = [[[kernel.init_acc(compensation); 2]; G]; M];
        if K::IS_INT8 {
            for g in 0..G {
                for half in 0..2 {
                    let start = kernel.init_acc(compensation.wrapping_add(g * NR + half * LANES));
                    for m in 0..M {
                        acc[m][g][half] = start;
                    }
                }
            }
        }
        if K::WIDENS_A {
            // Rows of 16 K groups at a time, which stay in L1.
            let mut wide = [[0; 2 * LANES]; M];
            for first in (0..k_groups).step_by(LANES) {
                let n = LANES.min(k_groups - first);
                for (m, to) in wide.iter_mut().enumerate() {
                    kernel.widen_a(x.add(m * x_stride + first), n, to);
                }
                for group in 0..n {
                    let x = wide.as_ptr().cast::<u32>().add(group);
                    let w = w.add((first + group) * NR);
                    accumulate::<K, M, G, PREFETCH>(
                        kernel,
                        &mut acc,
                        (x, 2 * LANES),
                        (w, w_stride),
                    );
                }
            }
        } else {
            for group in 0..k_groups {
                let (x, w) = (x.add(group), w.add(group * NR));
                accumulate::<K, M, G, PREFETCH>(kernel, &mut acc, (x, x_stride), (w, w_stride));
            }
        }
        for m in 0..M {
            for g in 0..G {
                for half in 0..2 {
                    kernel.store_f32(
                        to.add(g * K::BLOCKING.ld_acc + m * NR + half * LANES),
                        acc[m][g][half],
                    );
                }
            }
        }
    }
}

/// Adds the products of one K group of `M` rows, `x_stride` apart, and of `G` panels, `w_stride` apart.
///
/// # Safety
/// The K group must be readable in all of them.
#[inline(always)]
unsafe fn accumulate<K: RegisterKernel, const M: usize, const G: usize, const PREFETCH: bool>(
    kernel: K,
    acc: &mut [[[K::Acc; 2]; G]; M],
    (x, x_stride): (*const u32, usize),
    (w, w_stride): (*const u32, usize),
) {
    let s = kernel.simd();
    for g in 0..G {
        // SAFETY: the caller's.
        unsafe {
            let w = w.add(g * w_stride);
            let panel = [kernel.load_b(w), kernel.load_b(w.add(LANES))];
            if PREFETCH {
                s.prefetch(w.wrapping_add(PREFETCH_GROUPS));
                s.prefetch(w.wrapping_add(PREFETCH_GROUPS + LANES));
            }
            for m in 0..M {
                let x = kernel.broadcast_a(x.add(m * x_stride));
                for half in 0..2 {
                    acc[m][g][half] = kernel.dot(acc[m][g][half], x, panel[half]);
                }
            }
        }
    }
}
