//! Matrices of a checkpoint, read some rows at a time.

use overhear_kernels::{Dtype, Matrix, MatrixData};

use super::elements::{Found, Stored, read_elements, read_widened};
use crate::Result;

/// Matrices of one shape, stacked, in their files.
pub(crate) struct Stacked<'a> {
    pub(super) found: Vec<Found<'a>>,
    /// Common dtype of the matrices, if they have one.
    pub(super) dtype: Option<Dtype>,
    /// Number of rows of each matrix.
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
}

impl Stacked<'_> {
    /// Returns the matrices with elements that are widened to f32 as they are read.
    pub(crate) fn in_f32(mut self) -> Self {
        self.found
            .iter_mut()
            .for_each(|found| found.2 = found.2.widened());
        self.dtype = Some(Dtype::F32);
        self
    }

    /// Returns the common dtype of the matrices, if they have one.
    pub(crate) fn dtype(&self) -> Option<Dtype> {
        self.dtype
    }

    /// Returns the number of rows of all matrices, and of columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.found.len() * self.n_rows, self.n_cols)
    }

    /// Returns whether a matrix is stored in blocks of quantised elements.
    pub(crate) fn has_blocks(&self) -> bool {
        let mut stored = self.found.iter().map(|found| found.2);
        stored.any(|stored| matches!(stored, Stored::Blocks(_)))
    }

    /// Reads rows from index `first` on; all matrices must have the same dtype.
    ///
    /// # Panics
    /// If `bytes` exceeds the rows.
    pub(crate) fn read(&self, first: usize, mut bytes: &mut [u8]) -> Result<()> {
        let mut row = first;
        while !bytes.is_empty() {
            let found = self.found[row / self.n_rows];
            let row_bytes = self.n_cols * found.2.kept().size();
            let (at, left) = (row % self.n_rows, self.n_rows - row % self.n_rows);
            let len = bytes.len().min(left * row_bytes);
            let (this, rest) = bytes.split_at_mut(len);
            read_elements(found, at * self.n_cols, this)?;
            (row, bytes) = (row + left, rest);
        }
        Ok(())
    }

    /// Reads all rows, widened to f32.
    pub(crate) fn widened(&self) -> Result<Matrix> {
        let data = MatrixData::F32(read_widened(&self.found)?);
        Ok(Matrix::new(self.shape().0, self.n_cols, data))
    }
}
