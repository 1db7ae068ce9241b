//! Products of attention on packed operands: a block of rows by all panels.

use crate::gemm::layout::NR;
use crate::gemm::microkernel::{MAX_MR, MicroKernel, Operands};

/// Multiplies `n` rows by `n_panels` panels; accumulators of panels are
/// [`Blocking::ld_acc`](crate::gemm::microkernel::Blocking) elements apart in `acc`.
#[inline(always)]
pub(crate) fn multiply<K: MicroKernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    operands: Operands,
    acc: &mut [f32],
) {
    assert!(n <= MAX_MR && acc.len() >= n_panels * K::BLOCKING.ld_acc);
    // A microkernel of few registers takes some rows at a time, an emulated one each row alone.
    for row in (0..n).step_by(K::MR) {
        let n = K::MR.min(n - row);
        let operands = Operands {
            x: operands.x.wrapping_add(row * operands.x_stride),
            ..operands
        };
        let to = acc[row * NR..].as_mut_ptr();
        // SAFETY: rows, panels and accumulators are as many as are multiplied.
        unsafe { kernel.multiply(n, n_panels, n < K::MR, &operands, to, &()) };
    }
}
