//! What an adapter adds to a weight: the product of two narrow matrices (`peft/tuners/lora/layer.py::Linear.get_delta_weight`).

use super::elements::{Stored, read_widened};
use super::tensor_file::{Tensor, TensorFile};
use crate::excerpt::excerpt;
use crate::{Error, Result};

/// What is added to a matrix `[n_rows, n_cols]`, or to a tensor of that many elements: `scaling * b * a`.
#[derive(Debug)]
pub(super) struct Delta {
    n_rows: usize,
    n_cols: usize,
    rank: usize,
    scaling: f32,
    /// `[n_rows, rank]`.
    b: Vec<f32>,
    /// `[rank, n_cols]`.
    a: Vec<f32>,
}

impl Delta {
    /// Returns whether it has the shape of `tensor`, with one column for all but the first dimension.
    pub(super) fn fits(&self, tensor: &Tensor) -> bool {
        tensor.shape.first() == Some(&(self.n_rows as u64))
            && tensor.n_elements() == (self.n_rows * self.n_cols) as u64
    }

    /// Adds to the elements from index `first` on.
    pub(super) fn add(&self, first: usize, mut elements: &mut [f32]) {
        let mut sums = vec![0.0_f32; self.n_cols];
        let mut at = first;
        while !elements.is_empty() {
            let (row, col) = (at / self.n_cols, at % self.n_cols);
            let len = elements.len().min(self.n_cols - col);
            let (this, rest) = elements.split_at_mut(len);
            let sums = &mut sums[..len];
            sums.fill(0.0);
            for (i, &factor) in self.b[row * self.rank..][..self.rank].iter().enumerate() {
                let a = &self.a[i * self.n_cols + col..][..len];
                sums.iter_mut()
                    .zip(a)
                    .for_each(|(sum, a)| *sum += factor * a);
            }
            for (element, sum) in this.iter_mut().zip(&*sums) {
                *element += sum * self.scaling;
            }
            (at, elements) = (at + len, rest);
        }
    }

    /// Reads `a`, `[rank, n_in]` or of a convolution `[rank, n_in, n_tap]`, and `b`, `[n_out, rank]` or `[n_out, rank, 1]`. Those
    /// of an embedding are `[rank, n_rows]` and `[n_state, rank]`, and the product is transposed.
    pub(super) fn read(
        file: &TensorFile,
        a: &Tensor,
        b: &Tensor,
        rank: u64,
        scaling: f32,
    ) -> Result<Self> {
        let bad = |tensor: &Tensor, reason: String| Error::Model {
            path: file.path().to_owned(),
            reason: format!("tensor {} {reason}", excerpt(&tensor.name)),
        };
        let elements = |tensor: &Tensor| -> Result<Vec<f32>> {
            let stored = Stored::of(tensor).ok_or_else(|| {
                bad(
                    tensor,
                    format!("is {}, not F16, BF16, F32 or F64", excerpt(&tensor.dtype)),
                )
            })?;
            read_widened(&[(file, tensor, stored)])
        };
        if a.shape.len() < 2 || a.shape[0] != rank {
            return Err(bad(a, format!("is {:?}, not of rank {rank}", a.shape)));
        }
        let is_column = b
            .shape
            .get(2..)
            .is_some_and(|rest| rest.iter().all(|&n| n == 1));
        if !is_column || b.shape[1] != rank {
            return Err(bad(b, format!("is {:?}, not of rank {rank}", b.shape)));
        }
        let (n_in, n_out, rank) = (
            (a.n_elements() / rank) as usize,
            b.shape[0] as usize,
            rank as usize,
        );
        let (own_a, own_b) = (elements(a)?, elements(b)?);
        let is_embedding = a.name.ends_with("lora_embedding_A");
        let (n_rows, n_cols, b, a) = match is_embedding {
            false => (n_out, n_in, own_b, own_a),
            true => (
                n_in,
                n_out,
                transposed(&own_a, rank, n_in),
                transposed(&own_b, n_out, rank),
            ),
        };
        Ok(Self {
            n_rows,
            n_cols,
            rank,
            scaling,
            b,
            a,
        })
    }
}

/// Transposes `[n_rows, n_cols]`.
fn transposed(elements: &[f32], n_rows: usize, n_cols: usize) -> Vec<f32> {
    let column = |col| (0..n_rows).map(move |row| elements[row * n_cols + col]);
    (0..n_cols).flat_map(column).collect()
}
