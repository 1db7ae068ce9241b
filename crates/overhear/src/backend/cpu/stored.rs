//! Stored weights: in the checkpoint's dtype, in f16 or in bytes, multiplied by f32 activations.

use overhear_kernels::{AttentionShape, Dtype, Matrix, PostOp, Rows, Storage, StoredMatrix};

use super::cross_kv::StoredKv;
use super::layers::{LayerNorm, Linear};
use super::weight::{EncoderWeight, Weight};
use crate::checkpoint::Stacked;
use crate::host::Host;
use crate::{ModelDimensions, Result};

/// Element type of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredFormat {
    /// That of the checkpoint.
    Exact,
    F16,
    Int8,
}

impl StoredFormat {
    fn storage(self, dtype: Dtype) -> Storage {
        match self {
            StoredFormat::Exact => Storage::Float(dtype),
            StoredFormat::F16 => Storage::Float(Dtype::F16),
            StoredFormat::Int8 => Storage::Int8,
        }
    }
}

/// All rows of `x`, `[n, n_cols]`.
fn rows(x: &[f32], n_cols: usize) -> Rows<'_> {
    Rows {
        data: x,
        stride: n_cols,
    }
}

impl Weight for StoredMatrix {
    type Format = StoredFormat;
    type Activations = Vec<f32>;
    type Input = Vec<f32>;
    type Rows<'a> = Rows<'a>;

    fn convert(host: &Host, matrix: &Matrix, format: StoredFormat) -> Self {
        let storage = format.storage(matrix.dtype());
        host.kernels.store_weights(&host.pool, matrix, storage)
    }

    fn read(host: &Host, rows: &Stacked<'_>, dtype: Dtype, format: StoredFormat) -> Result<Self> {
        let (shape, storage) = (rows.shape(), format.storage(dtype));
        let read = |first: usize, to: &mut [u8]| rows.read(first, to);
        host.kernels
            .store_weights_from(&host.pool, shape, dtype, storage, read)
    }

    fn copy_row(&self, row: usize, to: &mut [f32]) {
        self.copy_row(row, to);
    }

    fn input_buffer(_: StoredFormat, n_rows: usize, n_state: usize) -> Vec<f32> {
        vec![0.0; n_rows * n_state]
    }

    fn activations(n_rows: usize, n_cols: usize) -> Vec<f32> {
        vec![0.0; n_rows * n_cols]
    }

    fn normalize<'a>(
        &self,
        host: &Host,
        buffer: &'a mut Vec<f32>,
        x: &[f32],
        norm: &LayerNorm,
    ) -> Rows<'a> {
        let buffer = &mut buffer[..x.len()];
        host.kernels
            .layer_norm(&host.pool, buffer, x, &norm.gamma, &norm.beta);
        rows(buffer, norm.gamma.len())
    }

    fn input<'a>(&self, _: &Host, _: &'a mut Vec<f32>, x: &'a [f32], n_in: usize) -> Rows<'a> {
        rows(x, n_in)
    }

    fn input_of<'a>(
        &self,
        _: &Host,
        _: &'a mut Vec<f32>,
        x: &'a Vec<f32>,
        (_, n_in): (usize, usize),
    ) -> Rows<'a> {
        rows(x, n_in)
    }

    fn linear(
        &self,
        host: &Host,
        y: &mut [f32],
        x: Rows<'_>,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        host.kernels.linear(&host.pool, y, x, self, bias, post_op);
    }

    fn linear_to_activations(
        &self,
        host: &Host,
        (y, first): (&mut Vec<f32>, usize),
        x: Rows<'_>,
        n: usize,
        bias: &[f32],
        post_op: PostOp,
    ) {
        let y = &mut y[first * self.n_out()..][..n * self.n_out()];
        self.linear(host, y, x, Some(bias), post_op);
    }
}

impl EncoderWeight for StoredMatrix {
    /// Keys and values are read from the activations.
    type SelfKv = ();
    type CrossKv = StoredKv;

    fn convolution_format(format: StoredFormat) -> StoredFormat {
        format
    }

    fn self_kv(_: usize, _: usize, _: usize) {}

    fn store(_: &Host, to: &mut Vec<f32>, x: &[f32], _: usize) {
        to.copy_from_slice(x);
    }

    fn taps(x: &Vec<f32>, n_cols: usize, _: usize, step: usize) -> Rows<'_> {
        rows(x, step * n_cols)
    }

    fn self_attention(
        host: &Host,
        dims: &ModelDimensions,
        out: &mut Vec<f32>,
        qkv: &Vec<f32>,
        (): &mut (),
    ) {
        let (n_ctx, n_state, n_head) = (dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head);
        let shape = AttentionShape {
            n_head,
            head_dim: n_state / n_head,
            n_query: n_ctx,
            n_key: n_ctx,
            causal: false,
            block: 0,
        };
        let qkv = &qkv[..n_ctx * 3 * n_state];
        let [q, k, v] = [0, 1, 2].map(|i| rows(&qkv[i * n_state..], 3 * n_state));
        host.kernels.attention(&host.pool, out, q, k, v, &shape);
    }

    fn cross_key_value(
        host: &Host,
        dims: &ModelDimensions,
        to: &mut StoredKv,
        layer: &Linear<Self>,
        x: Rows<'_>,
        wide: &mut Vec<f32>,
    ) {
        match to {
            StoredKv::F32(kv) => layer.forward(host, kv, x, PostOp::Store),
            StoredKv::F16(keys, values) => {
                let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_text_state);
                let head_dim = n_state / dims.n_text_head;
                let kv = &mut wide[..n_ctx * 2 * n_state];
                layer.forward(host, kv, x, PostOp::Store);
                for (i, to) in [keys, values].into_iter().enumerate() {
                    let from = rows(&kv[i * n_state..], 2 * n_state);
                    host.kernels
                        .convert_heads_f16(&host.pool, to, from, n_ctx, head_dim);
                }
            }
        }
    }
}
