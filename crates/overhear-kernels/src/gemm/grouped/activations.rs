//! Packed A of products with group-quantised weights: s8 with a scale per group of K.

use super::layout::{GROUP, GroupFormat};
use super::weights::GroupedMatrix;
use crate::elementwise::normalise;
use crate::gemm::aligned::{AlignedBuffer, as_bytes, as_bytes_mut};
use crate::gemm::pack_a::rows_per_task;
use crate::kernels::Kernels;
use crate::math::quantize::{max_abs, quantize, scale_and_inverse};
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool, scratch};
use crate::simd::{Simd, Vectorized};

/// Activations quantised to s8, `[n_rows, n_cols]`, with a scale per row and 32 columns. Rows are padded with zeros to
/// whole groups.
#[derive(Clone, Debug)]
pub struct GroupedActivations {
    format: GroupFormat,
    n_rows: usize,
    n_cols: usize,
    /// Whether columns are sorted as the inputs of a matrix are.
    is_sorted: bool,
    /// `[n_groups, n_rows, 32]` s8: the rows of a block lie at constant distances.
    levels: AlignedBuffer,
    /// `[n_groups, n_rows]`.
    scales: Vec<f32>,
    /// `[n_groups, n_rows]`: the weights' zero point times the sum of the group's levels, negative. Accumulators begin
    /// with it.
    compensations: Vec<i32>,
}

/// View of quantised rows, as the microkernels read them.
#[derive(Clone, Copy)]
pub(crate) struct GroupedRows<'a> {
    pub(crate) n_groups: usize,
    /// Rows from one group to the next.
    stride: usize,
    /// `[n_groups, stride, 32]`.
    levels: &'a [i8],
    /// `[n_groups, stride]`.
    scales: &'a [f32],
    /// `[n_groups, stride]`.
    compensations: &'a [i32],
}

impl GroupedRows<'_> {
    /// The rows from `first` on.
    #[inline(always)]
    pub(crate) fn skip(self, first: usize) -> Self {
        Self {
            n_groups: self.n_groups,
            stride: self.stride,
            levels: &self.levels[first * GROUP..],
            scales: &self.scales[first..],
            compensations: &self.compensations[first..],
        }
    }

    /// Levels, scales and compensations of a group's rows from the first on: `[n_rows, 32]`, `[n_rows]` and `[n_rows]`.
    #[inline(always)]
    pub(crate) fn group(&self, group: usize) -> (*const i8, *const f32, *const i32) {
        let at = group * self.stride;
        (
            self.levels.as_ptr().wrapping_add(at * GROUP),
            self.scales.as_ptr().wrapping_add(at),
            self.compensations.as_ptr().wrapping_add(at),
        )
    }
}

impl GroupedActivations {
    /// Rows for products with weights of `format`; more than `n_rows` rows of `n_cols` will allocate.
    #[must_use]
    pub fn new(format: GroupFormat, n_rows: usize, n_cols: usize) -> Self {
        let mut this = Self {
            format,
            n_rows: 0,
            n_cols: 0,
            is_sorted: false,
            levels: AlignedBuffer::default(),
            scales: Vec::new(),
            compensations: Vec::new(),
        };
        this.reset(n_rows, n_cols);
        this
    }

    fn reset(&mut self, n_rows: usize, n_cols: usize) {
        (self.n_rows, self.n_cols) = (n_rows, n_cols);
        let n_groups = n_rows * n_cols.div_ceil(GROUP);
        self.levels.grow(n_groups * GROUP / 4);
        if self.scales.len() < n_groups {
            self.scales.resize(n_groups, 0.0);
            self.compensations.resize(n_groups, 0);
        }
    }

    /// Format of the weights that the rows are for.
    pub(crate) fn format(&self) -> GroupFormat {
        self.format
    }

    /// Whether columns are sorted as the inputs of a matrix are.
    pub(crate) fn is_sorted(&self) -> bool {
        self.is_sorted
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.n_rows, self.n_cols)
    }

    /// All rows.
    pub(crate) fn rows(&self) -> GroupedRows<'_> {
        let n_groups = self.n_cols.div_ceil(GROUP);
        let levels: &[i8] = bytemuck::cast_slice(as_bytes(self.levels.as_slice()));
        GroupedRows {
            n_groups,
            stride: self.n_rows,
            levels: &levels[..self.n_rows * n_groups * GROUP],
            scales: &self.scales[..self.n_rows * n_groups],
            compensations: &self.compensations[..self.n_rows * n_groups],
        }
    }
}

/// Task that quantises a range of rows.
struct QuantizeRows<'a> {
    zero_point: i32,
    from: Rows<'a>,
    /// First row and end of the range.
    rows: (usize, usize),
    shape: (usize, usize),
    norm: Option<(&'a [f32], &'a [f32])>,
    /// Columns in the order of their groups; empty if it is their own.
    order: &'a [u32],
    levels: Disjoint<'a, i8>,
    scales: Disjoint<'a>,
    compensations: Disjoint<'a, i32>,
    /// Scratch for a normalised row and a sorted one, `[2, n_cols]`.
    scratch: &'a mut [f32],
}

impl Vectorized for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n_rows, n_cols) = self.shape;
        let (normal, sorted) = self.scratch.split_at_mut(n_cols);
        for row in self.rows.0..self.rows.1 {
            let mut x = &self.from.data[row * self.from.stride..][..n_cols];
            if let Some((gamma, beta)) = self.norm {
                normalise(s, normal, x, gamma, beta);
                x = normal;
            }
            if !self.order.is_empty() {
                let gathered = self.order.iter().map(|&column| x[column as usize]);
                sorted.iter_mut().zip(gathered).for_each(|(to, x)| *to = x);
                x = sorted;
            }
            for (group, x) in x.chunks(GROUP).enumerate() {
                let at = group * n_rows + row;
                // SAFETY: the tasks' rows are disjoint.
                let (levels, scale, compensation) = unsafe {
                    (
                        self.levels.take(at * GROUP, GROUP),
                        &mut self.scales.take(at, 1)[0],
                        &mut self.compensations.take(at, 1)[0],
                    )
                };
                let inverse;
                (*scale, inverse) = scale_and_inverse(max_abs(x), 127.0);
                for (level, x) in levels.iter_mut().zip(x) {
                    *level = quantize(*x, inverse) as i8;
                }
                levels[x.len()..].fill(0);
                let sum: i32 = levels.iter().map(|&level| i32::from(level)).sum();
                *compensation = -self.zero_point * sum;
            }
        }
    }
}

impl Kernels {
    /// Quantises the first `n_rows` rows of `from`, `[n_rows, w.n_in()]`, for the product with `w`
    /// ([`Kernels::linear_grouped`]); with `norm` (gamma and beta, `[n_in]` each), their layer normalisation. Allocates only if `to` is too small. A group with
    /// an element that is not finite has outputs that are not.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn quantize_rows(
        &self,
        pool: &Pool,
        to: &mut GroupedActivations,
        w: &GroupedMatrix,
        from: Rows<'_>,
        n_rows: usize,
        norm: Option<(&[f32], &[f32])>,
    ) {
        let n_cols = w.n_in();
        assert_eq!(to.format, w.format(), "rows for weights of another format");
        assert_rows("from", from, n_rows, n_cols);
        assert!(
            norm.is_none_or(|(gamma, beta)| gamma.len() == n_cols && beta.len() == n_cols),
            "gamma or beta is not {n_cols} long"
        );
        to.reset(n_rows, n_cols);
        to.is_sorted = !w.order().is_empty();
        let zero_point = to.format.zero_point();
        let levels = as_bytes_mut(to.levels.as_mut_slice());
        let levels = Disjoint::new(bytemuck::cast_slice_mut::<u8, i8>(levels));
        let scales = Disjoint::new(&mut to.scales);
        let compensations = Disjoint::new(&mut to.compensations);
        let rows = rows_per_task(n_rows, n_cols);
        pool.run(n_rows.div_ceil(rows), &|task| {
            scratch::with(2 * n_cols, |scratch| {
                self.arch.run_any(QuantizeRows {
                    zero_point,
                    from,
                    rows: (task * rows, n_rows.min((task + 1) * rows)),
                    shape: (n_rows, n_cols),
                    norm,
                    order: w.order(),
                    levels,
                    scales,
                    compensations,
                    scratch,
                });
            });
        });
    }
}
