//! Matrix transposition in f32.

use super::TASK_ELEMENTS;
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};

impl Kernels {
    /// Writes the transpose of `x`, rows of `n_cols`, to `y`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn transpose(&self, pool: &Pool, y: &mut [f32], x: &[f32], n_cols: usize) {
        assert_eq!(y.len(), x.len(), "x and y differ in length");
        if !x.is_empty() {
            assert!(
                n_cols > 0 && x.len().is_multiple_of(n_cols),
                "x is not rows of {n_cols}"
            );
            transpose(pool, y, x, n_cols);
        }
    }
}

/// Partitions the call into tasks, each of some rows of `y`, and runs them; shapes have been checked.
pub(crate) fn transpose(pool: &Pool, y: &mut [f32], x: &[f32], n_cols: usize) {
    let n_rows = x.len() / n_cols;
    let columns = TASK_ELEMENTS.div_ceil(n_rows);
    let y = Disjoint::new(y);
    pool.run(n_cols.div_ceil(columns), &|task| {
        let first = task * columns;
        let n = columns.min(n_cols - first);
        // SAFETY: the tasks' rows are disjoint.
        let y = unsafe { y.take(first * n_rows, n * n_rows) };
        for (row, x) in x.chunks_exact(n_cols).enumerate() {
            for (y, x) in y[row..].iter_mut().step_by(n_rows).zip(&x[first..][..n]) {
                *y = *x;
            }
        }
    });
}
