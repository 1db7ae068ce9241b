//! The products of attention on packed operands.

use crate::gemm::layout::NR;
use crate::gemm::microkernel::{MAX_MR, MicroKernel, Operands};

/// All panels of a product of `n` rows, [`Blocking::ld_acc`](crate::dot::Blocking) apart in `acc`.
#[inline(always)]
pub(crate) fn multiply<K: MicroKernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    operands: Operands,
    acc: &mut [f32],
) {
    assert!(n <= MAX_MR && acc.len() >= n_panels * K::BLOCKING.ld_acc);
    // A unit of few registers takes some rows at a time, one without instructions each alone.
    for row in (0..n).step_by(K::ROWS) {
        let n = K::ROWS.min(n - row);
        let operands = Operands {
            x: operands.x.wrapping_add(row * operands.x_stride),
            ..operands
        };
        let to = acc[row * NR..].as_mut_ptr();
        // SAFETY: rows, panels and sums are as many as are multiplied.
        unsafe { kernel.multiply(n, n_panels, n < K::ROWS, &operands, to, &()) };
    }
}
