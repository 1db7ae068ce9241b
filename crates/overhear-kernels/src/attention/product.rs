//! The products of attention on packed operands.

use crate::gemm::layout::PANEL;
use crate::gemm::microkernel::{MAX_ROWS, Operands, Unit};

/// All panels of a product of `n` rows, [`Blocking::place`](crate::dot::Blocking) apart in `sums`.
#[inline(always)]
pub(crate) fn multiply<U: Unit>(
    unit: U,
    n: usize,
    n_panels: usize,
    operands: Operands,
    sums: &mut [f32],
) {
    assert!(n <= MAX_ROWS && sums.len() >= n_panels * U::BLOCKING.place);
    // A unit of few registers takes some rows at a time, one without instructions each alone.
    for row in (0..n).step_by(U::ROWS) {
        let n = U::ROWS.min(n - row);
        let operands = Operands {
            x: operands.x.wrapping_add(row * operands.x_stride),
            ..operands
        };
        let to = sums[row * PANEL..].as_mut_ptr();
        // SAFETY: rows, panels and sums are as many as are multiplied.
        unsafe { unit.multiply(n, n_panels, n < U::ROWS, &operands, to, &()) };
    }
}
