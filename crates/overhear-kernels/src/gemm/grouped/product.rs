//! Products with group-quantised weights: partition into tasks, epilogue.

use super::activations::{GroupedActivations, GroupedRows};
use super::kernel::{GroupedKernel, GroupedTask, MAX_ROWS, multiply};
use super::weights::GroupedMatrix;
use crate::gemm::layout::NR;
use crate::gemm::post_op::{PostOp, store_row};
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};

/// Least bytes of B per task: about a microsecond of memory traffic.
const TASK_BYTES: usize = 32 << 10;

impl Kernels {
    /// `y = post_op(x * w^T + bias)` with group-quantised weights.
    ///
    /// `x`: `[n, w.n_in()]`, quantised for `w`; `w`: `[n_out, n_in]`; `bias`: `[n_out]`; `y`: `[n,
    /// n_out]`, contiguous. A row's result depends neither on the other rows nor on the number of threads, and, but for
    /// GELU, not on the instruction set. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes or formats do not fit.
    pub fn linear_grouped(
        &self,
        pool: &Pool,
        y: &mut [f32],
        x: &GroupedActivations,
        w: &GroupedMatrix,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        let (n_out, (n_rows, n_cols)) = (w.n_out(), x.shape());
        assert_eq!(x.format(), w.format(), "rows for weights of another format");
        assert_eq!(
            x.is_sorted(),
            !w.order().is_empty(),
            "rows for another matrix"
        );
        assert_eq!(n_cols, w.n_in(), "rows that are not {} long", w.n_in());
        assert_eq!(y.len(), n_rows * n_out, "y is not {n_rows} rows of {n_out}");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_out),
            "the bias is not {n_out} long"
        );
        let n_panels = n_out.div_ceil(NR);
        // Eight tasks per thread even out threads of unequal speed.
        let even = n_panels.div_ceil(8 * pool.n_threads());
        let panels = even.max(TASK_BYTES.div_ceil(w.panel_bytes().max(1)));
        let (y, x) = (Disjoint::new(y), x.rows());
        pool.run(n_panels.div_ceil(panels), &|task| {
            self.arch.run_grouped(Task {
                y,
                x,
                n_rows,
                w,
                bias,
                post_op,
                panels: (task * panels, n_panels.min((task + 1) * panels)),
            });
        });
    }
}

/// All rows by a range of panels.
struct Task<'a> {
    /// `[n_rows, n_out]`.
    y: Disjoint<'a>,
    x: GroupedRows<'a>,
    n_rows: usize,
    w: &'a GroupedMatrix,
    bias: Option<&'a [f32]>,
    post_op: PostOp,
    /// First panel and end of the range.
    panels: (usize, usize),
}

impl GroupedTask for Task<'_> {
    #[inline(always)]
    fn run<K: GroupedKernel>(self, kernel: K) {
        let Self { y, x, w, bias, .. } = self;
        let n_out = w.n_out();
        let mut sums = [0.0f32; MAX_ROWS * NR];
        for panel in self.panels.0..self.panels.1 {
            let (from, n) = (panel * NR, NR.min(n_out - panel * NR));
            let bias = bias.map(|bias| &bias[from..][..n]);
            let blocks = &w.blocks()[panel * w.panel_bytes()..][..w.panel_bytes()];
            for first in (0..self.n_rows).step_by(K::ROWS) {
                let n_rows = K::ROWS.min(self.n_rows - first);
                let (blocks, x) = (blocks.as_ptr(), x.skip(first));
                // SAFETY: a panel has a block per group, `x` at least `n_rows` rows, `sums` room for `MAX_ROWS`.
                unsafe { multiply(kernel, n_rows, w.format(), blocks, x, sums.as_mut_ptr()) };
                for (i, sums) in sums.chunks_exact(NR).take(n_rows).enumerate() {
                    // SAFETY: the tasks' outputs are disjoint.
                    let y = unsafe { y.take((first + i) * n_out + from, n) };
                    store_row(kernel.simd(), y, &sums[..n], None, bias, self.post_op);
                }
            }
        }
    }
}
