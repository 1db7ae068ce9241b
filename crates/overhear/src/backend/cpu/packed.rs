//! Packed weights: bf16 or int8, multiplied by activations packed alike.
//!
//! The residual stream, layer normalisation, sums and softmax stay in f32. Activations between two products are bf16;
//! the input rows of int8 weights are quantised, a scale and a zero point per row.

use overhear_kernels::{
    Dtype, Matrix, Output, PackedActivations, PackedKv, PackedMatrix, PackedRows, Packing, PostOp,
    Rows, Source,
};

use super::cross_kv::PackedCrossKv;
use super::layers::{LayerNorm, Linear};
use super::weight::{EncoderWeight, Weight};
use crate::checkpoint::Stacked;
use crate::host::Host;
use crate::{ModelDimensions, Result};

impl Weight for PackedMatrix {
    type Format = Packing;
    type Activations = PackedActivations;
    type Input = PackedActivations;
    type Rows<'a> = PackedRows<'a>;

    fn convert(host: &Host, matrix: &Matrix, packing: Packing) -> Self {
        host.kernels.pack_weights(&host.pool, matrix, packing)
    }

    fn read(host: &Host, rows: &Stacked<'_>, dtype: Dtype, packing: Packing) -> Result<Self> {
        let read = |first: usize, to: &mut [u8]| rows.read(first, to);
        host.kernels
            .pack_weights_from(&host.pool, rows.shape(), dtype, packing, read)
    }

    fn copy_row(&self, row: usize, to: &mut [f32]) {
        self.copy_row(row, to);
    }

    fn input_buffer(packing: Packing, n_rows: usize, n_state: usize) -> PackedActivations {
        PackedActivations::new(packing, n_rows, 4 * n_state)
    }

    fn activations(n_rows: usize, n_cols: usize) -> PackedActivations {
        PackedActivations::new(Packing::Bf16, n_rows, n_cols)
    }

    fn normalize<'a>(
        &self,
        host: &Host,
        buffer: &'a mut PackedActivations,
        x: &[f32],
        norm: &LayerNorm,
    ) -> PackedRows<'a> {
        let n_state = norm.gamma.len();
        pack(host, buffer, x, n_state, Some((&norm.gamma, &norm.beta)))
    }

    fn input<'a>(
        &self,
        host: &Host,
        buffer: &'a mut PackedActivations,
        x: &'a [f32],
        n_in: usize,
    ) -> PackedRows<'a> {
        pack(host, buffer, x, n_in, None)
    }

    fn input_of<'a>(
        &self,
        host: &Host,
        buffer: &'a mut PackedActivations,
        x: &'a PackedActivations,
        shape: (usize, usize),
    ) -> PackedRows<'a> {
        if buffer.packing() == Packing::Bf16 {
            return x.rows();
        }
        host.kernels
            .pack_rows(&host.pool, buffer, Source::Bf16(x), shape, None);
        buffer.rows()
    }

    fn linear(
        &self,
        host: &Host,
        y: &mut [f32],
        x: PackedRows<'_>,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        let (n, y) = (y.len() / self.n_out(), Output::F32(y));
        host.kernels
            .linear_packed(&host.pool, y, x, n, self, bias, post_op);
    }

    fn linear_to_activations(
        &self,
        host: &Host,
        (y, first): (&mut PackedActivations, usize),
        x: PackedRows<'_>,
        n: usize,
        bias: &[f32],
        post_op: PostOp,
    ) {
        y.reset(first + n, self.n_out());
        let (y, bias) = (Output::Bf16(y, first), Some(bias));
        host.kernels
            .linear_packed(&host.pool, y, x, n, self, bias, post_op);
    }
}

impl EncoderWeight for PackedMatrix {
    type SelfKv = PackedKv;
    type CrossKv = PackedCrossKv;

    /// bf16: the overlapping rows of a convolution cannot have a scale each.
    fn convolution_format(_: Packing) -> Packing {
        Packing::Bf16
    }

    fn self_kv(n_head: usize, head_dim: usize, n_ctx: usize) -> PackedKv {
        PackedKv::new(n_head, head_dim, n_ctx)
    }

    fn store(host: &Host, to: &mut PackedActivations, x: &[f32], n_cols: usize) {
        pack(host, to, x, n_cols, None);
    }

    fn taps(x: &PackedActivations, _: usize, n_taps: usize, step: usize) -> PackedRows<'_> {
        x.taps(n_taps, step)
    }

    fn self_attention(
        host: &Host,
        dims: &ModelDimensions,
        out: &mut PackedActivations,
        qkv: &PackedActivations,
        kv: &mut PackedKv,
    ) {
        let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_audio_state);
        let Host { kernels, pool } = host;
        let [q, k, v] = [0, 1, 2].map(|i| qkv.columns(i * n_state, n_state));
        kernels.pack_kv(pool, kv, k, v);
        out.reset(n_ctx, n_state);
        kernels.attention_bf16(pool, (out, 0), (q, n_ctx), kv);
    }

    fn cross_key_value(
        host: &Host,
        dims: &ModelDimensions,
        to: &mut PackedCrossKv,
        layer: &Linear<Self>,
        x: PackedRows<'_>,
        wide: &mut PackedActivations,
    ) {
        let Host { kernels, pool } = host;
        let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_text_state);
        layer.forward_to_activations(host, (wide, 0), x, n_ctx, PostOp::Store);
        let [k, v] = [0, 1].map(|i| wide.columns(i * n_state, n_state));
        match to {
            PackedCrossKv::Bf16(to) => kernels.pack_kv(pool, to, k, v),
            PackedCrossKv::Int8(to) => kernels.quantize_kv(pool, to, k, v),
        }
    }
}

/// Packs all rows of `x`, `[n, n_in]`, or their layer normalisation by `norm` (gamma, beta).
fn pack<'a>(
    host: &Host,
    buffer: &'a mut PackedActivations,
    x: &[f32],
    n_in: usize,
    norm: Option<(&[f32], &[f32])>,
) -> PackedRows<'a> {
    let source = Source::F32(Rows {
        data: x,
        stride: n_in,
    });
    let shape = (x.len() / n_in, n_in);
    host.kernels
        .pack_rows(&host.pool, buffer, source, shape, norm);
    buffer.rows()
}
