//! Group-quantised weights of 4 or 5 bits, of a decoder: a step waits for the weights that it reads.
//!
//! The input rows of a product are quantised to 8 bits in the same groups; all other activations stay in f32.

use overhear_kernels::{
    Dtype, GroupFormat, GroupedActivations, GroupedMatrix, Matrix, PostOp, Rows,
};

use super::layers::LayerNorm;
use super::weight::Weight;
use crate::Result;
use crate::checkpoint::Stacked;
use crate::host::Host;

impl Weight for GroupedMatrix {
    type Format = GroupFormat;
    type Activations = Vec<f32>;
    type Input = GroupedActivations;
    type Rows<'a> = &'a GroupedActivations;

    fn convert(host: &Host, matrix: &Matrix, format: GroupFormat) -> Self {
        host.kernels.quantize_weights(&host.pool, matrix, format)
    }

    fn read(host: &Host, rows: &Stacked<'_>, dtype: Dtype, format: GroupFormat) -> Result<Self> {
        let read = |first: usize, to: &mut [u8]| rows.read(first, to);
        let from_blocks = rows.has_blocks();
        host.kernels.quantize_weights_from(
            &host.pool,
            rows.shape(),
            dtype,
            format,
            from_blocks,
            read,
        )
    }

    fn copy_row(&self, row: usize, to: &mut [f32]) {
        self.copy_row(row, to);
    }

    fn input_buffer(format: GroupFormat, n_rows: usize, n_state: usize) -> GroupedActivations {
        GroupedActivations::new(format, n_rows, 4 * n_state)
    }

    fn activations(n_rows: usize, n_cols: usize) -> Vec<f32> {
        vec![0.0; n_rows * n_cols]
    }

    fn normalize<'a>(
        &self,
        host: &Host,
        buffer: &'a mut GroupedActivations,
        x: &[f32],
        norm: &LayerNorm,
    ) -> &'a GroupedActivations {
        quantize(host, buffer, self, x, Some((&norm.gamma, &norm.beta)))
    }

    fn input<'a>(
        &self,
        host: &Host,
        buffer: &'a mut GroupedActivations,
        x: &'a [f32],
        n_in: usize,
    ) -> &'a GroupedActivations {
        debug_assert_eq!(n_in, self.n_in());
        quantize(host, buffer, self, x, None)
    }

    fn input_of<'a>(
        &self,
        host: &Host,
        buffer: &'a mut GroupedActivations,
        x: &'a Vec<f32>,
        (n, n_in): (usize, usize),
    ) -> &'a GroupedActivations {
        quantize(host, buffer, self, &x[..n * n_in], None)
    }

    fn linear(
        &self,
        host: &Host,
        y: &mut [f32],
        x: &GroupedActivations,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        host.kernels
            .linear_grouped(&host.pool, y, x, self, bias, post_op);
    }

    fn linear_to_activations(
        &self,
        host: &Host,
        (y, first): (&mut Vec<f32>, usize),
        x: &GroupedActivations,
        n: usize,
        bias: &[f32],
        post_op: PostOp,
    ) {
        let y = &mut y[first * self.n_out()..][..n * self.n_out()];
        self.linear(host, y, x, Some(bias), post_op);
    }
}

/// Quantises all rows of `x`, `[n, w.n_in()]`, or their layer normalisation by `norm` (gamma, beta), for the product with
/// `w`.
fn quantize<'a>(
    host: &Host,
    buffer: &'a mut GroupedActivations,
    w: &GroupedMatrix,
    x: &[f32],
    norm: Option<(&[f32], &[f32])>,
) -> &'a GroupedActivations {
    let rows = Rows {
        data: x,
        stride: w.n_in(),
    };
    let n_rows = x.len() / w.n_in();
    host.kernels
        .quantize_rows(&host.pool, buffer, w, rows, n_rows, norm);
    buffer
}
