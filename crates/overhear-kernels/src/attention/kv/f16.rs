//! Keys and values in f16, head by head, for [`attention_f16`](crate::Kernels::attention_f16).

use half::f16;

use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::math::convert_f16;
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool};
use crate::reference;
use crate::simd::{Simd, Vectorized};

/// Elements of a task: a few microseconds of work.
const TASK_ELEMENTS: usize = 16 << 10;

impl Kernels {
    /// Rounds the first `n_row` rows of `from` to f16, to nearest even, head by head, for [`Kernels::attention_f16`].
    /// Values beyond the range of f16 saturate: an infinite operand would make sums infinite or NaN.
    ///
    /// `to`: `[n_head, n_row, head_dim]`, whose length determines `n_head`. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn convert_heads_f16(
        &self,
        pool: &Pool,
        to: &mut [f16],
        from: Rows<'_>,
        n_row: usize,
        head_dim: usize,
    ) {
        let size = n_row * head_dim;
        assert!(
            size > 0 && to.len().is_multiple_of(size),
            "to is not heads of {n_row} rows of {head_dim}"
        );
        assert_rows("from", from, n_row, to.len() / n_row);
        match self.arch {
            Arch::Scalar => reference::convert_heads_f16(to, from, n_row, head_dim),
            arch => convert_heads_f16(arch, pool, to, from, n_row, head_dim),
        }
    }
}

/// Runs the call on vectors. `arch` is not [`Arch::Scalar`]; shapes have been checked.
pub(crate) fn convert_heads_f16(
    arch: Arch,
    pool: &Pool,
    to: &mut [f16],
    from: Rows<'_>,
    n_row: usize,
    head_dim: usize,
) {
    let width = to.len() / n_row;
    let to = Disjoint::new(to);
    let rows = TASK_ELEMENTS.div_ceil(width.max(1));
    pool.run(n_row.div_ceil(rows), &|task| {
        let heads = NarrowHeads {
            to,
            from,
            rows: task * rows..n_row.min((task + 1) * rows),
            n_row,
            head_dim,
        };
        arch.run(heads, || unreachable!("the scalar set has no vectors"));
    });
}

/// Task: converts a range of rows.
struct NarrowHeads<'a> {
    /// Destination, `[n_head, n_row, head_dim]`.
    to: Disjoint<'a, f16>,
    from: Rows<'a>,
    rows: std::ops::Range<usize>,
    n_row: usize,
    head_dim: usize,
}

impl Vectorized for NarrowHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n_row, head_dim) = (self.n_row, self.head_dim);
        for row in self.rows {
            let from = &self.from.data[row * self.from.stride..][..self.to.len() / n_row];
            for (head, from) in from.chunks_exact(head_dim).enumerate() {
                // SAFETY: no other task has this row, and this one has one head of it at a time.
                let to = unsafe { self.to.take((head * n_row + row) * head_dim, head_dim) };
                convert_f16(s, to, from);
            }
        }
    }
}
