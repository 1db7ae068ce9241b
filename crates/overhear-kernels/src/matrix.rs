//! Matrices as callers have them: weights of the checkpoint, row-major in their own dtype; strided rows of
//! activations.

use std::convert::Infallible;

use bytemuck::cast_slice;
use half::{bf16, f16};

/// Element type of a checkpoint's matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Name in messages: `f32`, `f16`, `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// Elements of a [`Matrix`], row-major.
#[derive(Clone, Debug)]
pub enum MatrixData {
    /// IEEE single precision.
    F32(Vec<f32>),
    /// IEEE half precision.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

/// Weight matrix `[n_rows, n_cols]`: one row per output, one column per input, as PyTorch stores it.
#[derive(Clone, Debug)]
pub struct Matrix {
    n_rows: usize,
    n_cols: usize,
    data: MatrixData,
}

impl Matrix {
    /// Wraps row-major elements.
    ///
    /// # Panics
    /// If the number of elements is not `n_rows * n_cols`.
    #[must_use]
    pub fn new(n_rows: usize, n_cols: usize, data: MatrixData) -> Self {
        let len = match &data {
            MatrixData::F32(v) => v.len(),
            MatrixData::F16(v) => v.len(),
            MatrixData::Bf16(v) => v.len(),
        };
        assert_eq!(
            len,
            n_rows * n_cols,
            "matrix [{n_rows}, {n_cols}] of {len} elements"
        );
        Self {
            n_rows,
            n_cols,
            data,
        }
    }

    /// Outputs.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Inputs.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &MatrixData {
        &self.data
    }

    /// Bytes of the elements.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.data {
            MatrixData::F32(data) => cast_slice(data),
            MatrixData::F16(data) => cast_slice(data),
            MatrixData::Bf16(data) => cast_slice(data),
        }
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match &self.data {
            MatrixData::F32(_) => Dtype::F32,
            MatrixData::F16(_) => Dtype::F16,
            MatrixData::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Writes row `row`, widened to f32, to `out` (`[n_cols]`): the embedding lookup.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `n_cols` long.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_cols);
        let range = row * self.n_cols..(row + 1) * self.n_cols;
        match &self.data {
            MatrixData::F32(v) => out.copy_from_slice(&v[range]),
            MatrixData::F16(v) => out
                .iter_mut()
                .zip(&v[range])
                .for_each(|(o, w)| *o = w.to_f32()),
            MatrixData::Bf16(v) => out
                .iter_mut()
                .zip(&v[range])
                .for_each(|(o, w)| *o = w.to_f32()),
        }
    }
}

/// Rows of activations inside a larger buffer: row `i` starts at `i * stride`.
///
/// Rows may overlap (`stride` below the row length): that makes a convolution one matrix product over a time-major
/// buffer, without im2col.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Buffer, from the first element of row 0 on.
    pub data: &'a [f32],
    /// Row stride in elements.
    pub stride: usize,
}

/// Writes the bytes of consecutive rows of `w` from row `first` on, as many as fit `to`.
pub(crate) fn copy_rows(w: &Matrix, first: usize, to: &mut [u8]) -> Result<(), Infallible> {
    let bytes = &w.bytes()[first * w.n_cols() * w.dtype().size()..];
    to.copy_from_slice(&bytes[..to.len()]);
    Ok(())
}

/// Asserts that `n_rows` rows of `len` elements lie within the buffer.
pub(crate) fn assert_rows(name: &str, rows: Rows<'_>, n_rows: usize, len: usize) {
    let end = if n_rows == 0 {
        Some(0)
    } else {
        (n_rows - 1)
            .checked_mul(rows.stride)
            .and_then(|at| at.checked_add(len))
    };
    assert!(
        end.is_some_and(|end| end <= rows.data.len()),
        "{name}: {n_rows} rows of {len}, {} apart, in {} elements",
        rows.stride,
        rows.data.len()
    );
}
