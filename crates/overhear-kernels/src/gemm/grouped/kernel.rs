//! Trait of the microkernels of products with group-quantised weights.

use super::activations::GroupedRows;
use super::layout::GroupFormat;
use crate::simd::Simd;

/// Most rows of any microkernel's block.
pub(crate) const MAX_ROWS: usize = 8;

/// Task of a product, compiled for every microkernel.
pub(crate) trait GroupedTask {
    /// Runs the task; `#[inline(always)]` in every implementation.
    fn run<K: GroupedKernel>(self, kernel: K);
}

/// Microkernel: a block of rows by a panel.
///
/// # Safety
/// A value of the implementing type proves that the machine has its instructions.
pub(crate) unsafe trait GroupedKernel: Copy {
    /// Vectors beside the microkernel.
    type Simd: Simd;

    /// Most rows of a block, up to [`MAX_ROWS`].
    const ROWS: usize;

    /// Vectors beside the microkernel.
    fn simd(self) -> Self::Simd;

    /// Compiles `task` for the microkernel's instructions and runs it.
    fn vectorize_grouped<T: GroupedTask>(self, task: T);

    /// Products of `R` rows with a panel of weights of 4 bits, or of 5 if `HIGH`, see [`multiply`].
    ///
    /// For every group in sequence, `sum = fma(dot, scale of w * scale of x, sum)`, `dot` being the exact dot product
    /// of `q - zero_point` and the row's levels.
    ///
    /// # Safety
    /// `blocks` must be readable for a block per group, `x` must have `R` rows, and `sums` be writable for `[R, 32]`.
    unsafe fn multiply<const HIGH: bool, const R: usize>(
        self,
        blocks: *const u8,
        x: GroupedRows<'_>,
        sums: *mut f32,
    );
}

/// Products of the first `n_rows` rows of `x`, at most `K::ROWS`, with the panel at `blocks`, to `sums`, `[n_rows, 32]`.
///
/// # Safety
/// As [`GroupedKernel::multiply`], for `n_rows`.
#[inline(always)]
pub(super) unsafe fn multiply<K: GroupedKernel>(
    kernel: K,
    n_rows: usize,
    format: GroupFormat,
    blocks: *const u8,
    x: GroupedRows<'_>,
    sums: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        match format {
            GroupFormat::Q4 => multiply_rows::<K, false>(kernel, n_rows, blocks, x, sums),
            GroupFormat::Q5 => multiply_rows::<K, true>(kernel, n_rows, blocks, x, sums),
        }
    }
}

/// [`multiply`] of weights of 4 bits, or of 5 if `HIGH`.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn multiply_rows<K: GroupedKernel, const HIGH: bool>(
    kernel: K,
    n_rows: usize,
    blocks: *const u8,
    x: GroupedRows<'_>,
    sums: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        match n_rows {
            1 => kernel.multiply::<HIGH, 1>(blocks, x, sums),
            2 => kernel.multiply::<HIGH, 2>(blocks, x, sums),
            3 => kernel.multiply::<HIGH, 3>(blocks, x, sums),
            4 => kernel.multiply::<HIGH, 4>(blocks, x, sums),
            5 if K::ROWS >= 8 => kernel.multiply::<HIGH, 5>(blocks, x, sums),
            6 if K::ROWS >= 8 => kernel.multiply::<HIGH, 6>(blocks, x, sums),
            7 if K::ROWS >= 8 => kernel.multiply::<HIGH, 7>(blocks, x, sums),
            8 if K::ROWS >= 8 => kernel.multiply::<HIGH, 8>(blocks, x, sums),
            n => unreachable!("{n} rows of at most {}", K::ROWS),
        }
    }
}
