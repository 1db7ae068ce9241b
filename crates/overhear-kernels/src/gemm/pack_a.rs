//! Packed A: activations in bf16, or in int8 with a scale and a zero point per row, row-major.
//!
//! Activations are packed once per product, with layer normalisation on the way, or a product writes them as bf16.

use super::aligned::{AlignedBuffer, as_bytes_mut, as_u16, as_u16_mut};
use super::layout::{Packing, SLACK_ROWS};
use crate::arch::Arch;
use crate::elementwise::normalise;
use crate::kernels::Kernels;
use crate::math::quantize::{QuantParams, quantize};
use crate::math::round_bf16;
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool, scratch};
use crate::simd::{Simd, Vectorized};

/// Most elements that the calling thread packs alone: about a microsecond of work, which is what waiting for another
/// thread costs.
const SERIAL_ELEMENTS: usize = 8 << 10;
/// Elements of a task.
const TASK_ELEMENTS: usize = 16 << 10;

/// Packed activations, `[n_rows, n_cols]`. Rows are padded to whole K groups. The padding within the last group is
/// zero; the stride padding between rows is unspecified.
#[derive(Clone, Debug)]
pub struct PackedActivations {
    packing: Packing,
    n_rows: usize,
    n_cols: usize,
    groups: AlignedBuffer,
    /// Quantisation parameters of the rows; int8 only.
    quant_params: Vec<QuantParams>,
}

/// Input of [`Kernels::pack_rows`].
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// f32 rows.
    F32(Rows<'a>),
    /// bf16 rows, all of them.
    Bf16(&'a PackedActivations),
}

/// View of packed rows, as a product reads them. bf16 rows may overlap, as those of a convolution do.
#[derive(Clone, Copy, Debug)]
pub struct PackedRows<'a> {
    pub(crate) packing: Packing,
    pub(crate) n_cols: usize,
    /// K groups from the first row on, including what lies behind the last row.
    pub(crate) groups: &'a [u32],
    /// K groups up to the end of the last row.
    len: usize,
    /// Row stride in K groups.
    pub(crate) stride: usize,
    pub(crate) quant_params: &'a [QuantParams],
}

impl PackedRows<'_> {
    /// Whether there are `n_rows` rows, and readable memory for [`SLACK_ROWS`] more, which tiles load.
    pub(crate) fn has(&self, n_rows: usize) -> bool {
        let k_groups = self.n_cols.div_ceil(self.packing.group_size());
        n_rows == 0
            || (n_rows - 1) * self.stride + k_groups <= self.len
                && (n_rows - 1 + SLACK_ROWS) * self.stride + k_groups <= self.groups.len()
    }

    /// The rows from `first` on.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn skip(self, first: usize) -> Self {
        Self {
            groups: &self.groups[first * self.stride..],
            len: self.len - first * self.stride,
            quant_params: &self.quant_params[first.min(self.quant_params.len())..],
            ..self
        }
    }
}

impl PackedActivations {
    /// Zeros, `[n_rows, n_cols]`; larger shapes will allocate.
    #[must_use]
    pub fn new(packing: Packing, n_rows: usize, n_cols: usize) -> Self {
        let mut this = Self {
            packing,
            n_rows: 0,
            n_cols: 0,
            groups: AlignedBuffer::default(),
            quant_params: Vec::new(),
        };
        this.reset(n_rows, n_cols);
        this
    }

    /// Sets the shape to `[n_rows, n_cols]`. The contents are then unspecified, zeros if the value is new.
    pub fn reset(&mut self, n_rows: usize, n_cols: usize) {
        (self.n_rows, self.n_cols) = (n_rows, n_cols);
        // The row stride of a convolution is up to two rows.
        self.groups.grow((n_rows + 2 * SLACK_ROWS) * self.stride());
        if self.packing == Packing::Int8 && self.quant_params.len() < n_rows {
            self.quant_params.resize(n_rows, QuantParams::default());
        }
    }

    /// Element type.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// K groups of a row.
    fn k_groups(&self) -> usize {
        self.n_cols.div_ceil(self.packing.group_size())
    }

    /// Row stride in K groups. Long rows get a cache line of padding where they would lie multiples of a quarter page
    /// apart: sixteen of them, loaded as a tile, would compete for the same L1 sets.
    fn stride(&self) -> usize {
        const PAGE: usize = 1024;
        const LINE: usize = 16;
        match self.k_groups() {
            n if n >= PAGE && n.is_multiple_of(PAGE / 4) => n + LINE,
            n => n,
        }
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> PackedRows<'_> {
        PackedRows {
            packing: self.packing,
            n_cols: self.n_cols,
            groups: self.groups.as_slice(),
            len: self.n_rows * self.stride(),
            stride: self.stride(),
            quant_params: &self.quant_params,
        }
    }

    /// Columns `first..first + n_cols` of all bf16 rows.
    ///
    /// # Panics
    /// If the first column does not begin a K group.
    #[must_use]
    pub fn columns(&self, first: usize, n_cols: usize) -> PackedRows<'_> {
        assert!(self.packing == Packing::Bf16 && first.is_multiple_of(2));
        assert!(first + n_cols <= self.n_cols);
        let rows = self.rows();
        PackedRows {
            n_cols,
            groups: &rows.groups[(first / 2).min(rows.len)..],
            len: rows.len - (first / 2).min(rows.len),
            ..rows
        }
    }

    /// Rows of `n_taps` consecutive bf16 rows each, `step` rows apart: the A of a convolution, without im2col.
    ///
    /// # Panics
    /// If there is padding between rows.
    #[must_use]
    pub fn taps(&self, n_taps: usize, step: usize) -> PackedRows<'_> {
        assert!(self.packing == Packing::Bf16 && 2 * self.stride() == self.n_cols);
        let rows = self.rows();
        PackedRows {
            n_cols: n_taps * self.n_cols,
            stride: step * rows.stride,
            ..rows
        }
    }

    /// All rows as writable bf16 elements, and the row stride in elements.
    ///
    /// # Panics
    /// If rows are not whole K groups.
    pub(crate) fn bf16_mut(&mut self) -> (&mut [u16], usize) {
        assert!(self.packing == Packing::Bf16 && self.n_cols.is_multiple_of(2));
        let stride = 2 * self.stride();
        let len = self.n_rows * stride;
        (&mut as_u16_mut(self.groups.as_mut_slice())[..len], stride)
    }

    /// Writes all bf16 rows as f32 to `to`, `[n_rows, n_cols]`.
    ///
    /// # Panics
    /// If the rows are int8, or `to` has another size.
    pub fn copy_widened(&self, to: &mut [f32]) {
        assert!(self.packing == Packing::Bf16 && to.len() == self.n_rows * self.n_cols);
        let rows = as_u16(self.groups.as_slice()).chunks_exact(2 * self.stride().max(1));
        for (to, row) in to.chunks_exact_mut(self.n_cols.max(1)).zip(rows) {
            for (to, half) in to.iter_mut().zip(row) {
                *to = f32::from_bits(u32::from(*half) << 16);
            }
        }
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.n_rows, self.n_cols)
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Packs `[n_rows, n_cols]` of `from`, after layer normalisation by `norm` (gamma, beta) if given.
    pub(crate) fn pack(
        &mut self,
        arch: Arch,
        pool: &Pool,
        from: Source<'_>,
        (n_rows, n_cols): (usize, usize),
        norm: Option<(&[f32], &[f32])>,
    ) {
        self.reset(n_rows, n_cols);
        let (packing, stride) = (self.packing, self.stride());
        let groups = Disjoint::new(self.groups.as_mut_slice());
        let quant_params = Disjoint::new(&mut self.quant_params);
        let rows = rows_per_task(n_rows, n_cols);
        pool.run(n_rows.div_ceil(rows), &|task| {
            let first = task * rows;
            let n = rows.min(n_rows - first);
            // SAFETY: the tasks' rows are disjoint.
            let (groups, quant_params) = unsafe {
                let n_params = if packing == Packing::Int8 { n } else { 0 };
                (
                    groups.take(first * stride, n * stride),
                    quant_params.take(first.min(quant_params.len()), n_params),
                )
            };
            scratch::with(2 * n_cols, |row| {
                let task = PackRows {
                    packing,
                    from,
                    first,
                    n_cols,
                    stride,
                    norm,
                    groups,
                    quant_params,
                    row,
                };
                arch.run_any(task);
            });
        });
    }
}

/// Rows of a task that packs `[n_rows, n_cols]`: all if they are few.
pub(super) fn rows_per_task(n_rows: usize, n_cols: usize) -> usize {
    match n_rows * n_cols {
        n if n <= SERIAL_ELEMENTS => n_rows.max(1),
        _ => TASK_ELEMENTS.div_ceil(n_cols),
    }
}

/// Task that packs a range of rows.
struct PackRows<'a> {
    packing: Packing,
    from: Source<'a>,
    first: usize,
    n_cols: usize,
    stride: usize,
    norm: Option<(&'a [f32], &'a [f32])>,
    groups: &'a mut [u32],
    quant_params: &'a mut [QuantParams],
    /// Scratch for two rows in f32.
    row: &'a mut [f32],
}

impl Vectorized for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (widened, normal) = self.row.split_at_mut(self.n_cols);
        for (i, groups) in self.groups.chunks_exact_mut(self.stride.max(1)).enumerate() {
            let row = self.first + i;
            let mut x: &[f32] = match self.from {
                Source::F32(rows) => &rows.data[row * rows.stride..][..self.n_cols],
                Source::Bf16(from) => {
                    let from = &as_u16(from.rows().groups)[row * 2 * from.stride()..];
                    for (to, from) in widened.iter_mut().zip(from) {
                        *to = f32::from_bits(u32::from(*from) << 16);
                    }
                    widened
                }
            };
            if let Some((gamma, beta)) = self.norm {
                normalise(s, normal, x, gamma, beta);
                x = normal;
            }
            match self.packing {
                Packing::Bf16 => {
                    let to = as_u16_mut(groups);
                    to.iter_mut()
                        .zip(x)
                        .for_each(|(to, x)| *to = round_bf16(*x));
                    to[x.len()..].fill(0);
                }
                Packing::Int8 => {
                    let (params, inverse) = QuantParams::of_row(x);
                    self.quant_params[i] = params;
                    let to = as_bytes_mut(groups);
                    // Offset of the u8 representation, 128, less the zero point.
                    let above = 128 - params.zero_point as i32;
                    to.iter_mut().zip(x).for_each(|(to, x)| {
                        *to = quantize(*x, inverse).wrapping_add(above as u8);
                    });
                    to[x.len()..].fill(0);
                }
            }
        }
    }
}

/// Asserts that `rows` are at least `n_rows` bf16 rows of `n_cols`.
pub(crate) fn assert_bf16(rows: PackedRows<'_>, n_rows: usize, n_cols: usize) {
    assert_eq!(rows.packing, Packing::Bf16, "rows that are not bfloat16");
    assert_eq!(rows.n_cols, n_cols, "rows that are not {n_cols} long");
    assert!(rows.has(n_rows), "fewer than {n_rows} rows");
}

impl Kernels {
    /// Packs the first `n_rows` rows of `from`, `[n_rows, n_cols]`, for [`Kernels::linear_packed`]; with `norm`
    /// (gamma and beta, `[n_cols]` each), their layer normalisation. Allocates only if `to` is too small.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_rows(
        &self,
        pool: &Pool,
        to: &mut PackedActivations,
        from: Source<'_>,
        (n_rows, n_cols): (usize, usize),
        norm: Option<(&[f32], &[f32])>,
    ) {
        match from {
            Source::F32(rows) => assert_rows("from", rows, n_rows, n_cols),
            Source::Bf16(rows) => assert!(
                rows.packing() == Packing::Bf16
                    && rows.n_rows() >= n_rows
                    && rows.n_cols() == n_cols,
                "not {n_rows} bfloat16 rows of {n_cols}"
            ),
        }
        assert!(
            norm.is_none_or(|(gamma, beta)| gamma.len() == n_cols && beta.len() == n_cols),
            "gamma or beta is not {n_cols} long"
        );
        to.pack(self.arch, pool, from, (n_rows, n_cols), norm);
    }
}
