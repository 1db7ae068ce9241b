//! Weight matrices in the kernels' layouts, and the activations that each layout is multiplied with.
//!
//! Whatever differs by layout is a method of [`Weight`] or [`EncoderWeight`], so that encoder, decoder and alignment
//! are written once.

use overhear_kernels::{Dtype, Matrix, PostOp};

use super::cross_kv::CrossKv;
use super::layers::{LayerNorm, Linear};
use crate::checkpoint::Stacked;
use crate::host::Host;
use crate::{ModelDimensions, Result};

/// Weight matrix `[n_out, n_in]` of a linear layer.
pub(super) trait Weight: Sized + Send + Sync {
    /// Element type of the weights.
    type Format: Copy + Send + Sync;
    /// Activation rows between two products: f32 beside stored and grouped weights, bf16 beside packed ones.
    type Activations: Send;
    /// Buffer for input rows of the next product.
    type Input: Send;
    /// Input rows of a product, in the element type that it multiplies.
    type Rows<'a>: Copy;

    /// Converts a matrix to `format`.
    fn convert(host: &Host, matrix: &Matrix, format: Self::Format) -> Self;

    /// Converts the rows of a checkpoint, all of `dtype`, to `format` while they are read.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if they cannot be read.
    fn read(host: &Host, rows: &Stacked<'_>, dtype: Dtype, format: Self::Format) -> Result<Self>;

    /// Writes row `row`, `[n_in]`, to `to`.
    fn copy_row(&self, row: usize, to: &mut [f32]);

    /// Buffer for input rows, `[n_rows, up to 4 * n_state]`.
    fn input_buffer(format: Self::Format, n_rows: usize, n_state: usize) -> Self::Input;

    /// Buffer for activations, `[n_rows, n_cols]`.
    fn activations(n_rows: usize, n_cols: usize) -> Self::Activations;

    /// Returns `norm(x)` as input rows of this matrix. `x`: `[n, n_state]`.
    fn normalize<'a>(
        &self,
        host: &Host,
        buffer: &'a mut Self::Input,
        x: &[f32],
        norm: &LayerNorm,
    ) -> Self::Rows<'a>;

    /// Returns `x`, `[n, n_in]`, as input rows of this matrix; in `buffer` if they have another element type.
    fn input<'a>(
        &self,
        host: &Host,
        buffer: &'a mut Self::Input,
        x: &'a [f32],
        n_in: usize,
    ) -> Self::Rows<'a>;

    /// Returns activations of `shape`, `[n, n_in]`, as input rows of this matrix; in `buffer` if they
    /// have another element type.
    fn input_of<'a>(
        &self,
        host: &Host,
        buffer: &'a mut Self::Input,
        x: &'a Self::Activations,
        shape: (usize, usize),
    ) -> Self::Rows<'a>;

    /// `y = post_op(x * weight^T + bias)`. `x`: `[n, n_in]`; `bias`: `[n_out]`; `y`: `[n, n_out]`, which gives `n`.
    fn linear(
        &self,
        host: &Host,
        y: &mut [f32],
        x: Self::Rows<'_>,
        bias: Option<&[f32]>,
        post_op: PostOp,
    );

    /// As [`Weight::linear`], to rows `first..first + n` of activations `[first + n, n_out]`; the rows before them stay.
    fn linear_to_activations(
        &self,
        host: &Host,
        y: (&mut Self::Activations, usize),
        x: Self::Rows<'_>,
        n: usize,
        bias: &[f32],
        post_op: PostOp,
    );
}

/// Operations of the encoder, and of cross-attention's keys and values, which the encoder's output is projected to.
pub(super) trait EncoderWeight: Weight {
    /// Keys and values of self-attention as its kernel reads them, where it does not read them from the activations.
    type SelfKv: Send;
    /// Keys and values of cross-attention of one window in one layer.
    type CrossKv: CrossKv;

    /// Element type of a convolution's weights, in a network of `format`.
    fn convolution_format(format: Self::Format) -> Self::Format;

    /// Room for the keys and values of `n_head` heads.
    fn self_kv(n_head: usize, head_dim: usize, n_ctx: usize) -> Self::SelfKv;

    /// Copies the first `n` rows of `x`, `[n, n_cols]`, to activations.
    fn store(host: &Host, to: &mut Self::Activations, x: &[f32], n_cols: usize);

    /// Input rows of a convolution over activations `[n, n_cols]`: each is `n_taps` consecutive rows, `step` rows after
    /// the one before.
    fn taps(x: &Self::Activations, n_cols: usize, n_taps: usize, step: usize) -> Self::Rows<'_>;

    /// Self-attention of all positions over all: `qkv` `[n_ctx, 3 * n_state]`, `out` `[n_ctx, n_state]`.
    fn self_attention(
        host: &Host,
        dims: &ModelDimensions,
        out: &mut Self::Activations,
        qkv: &Self::Activations,
        kv: &mut Self::SelfKv,
    );

    /// Projects encoder output `x`, `[n_ctx, n_audio_state]`, to the keys and values of cross-attention. `wide`: scratch,
    /// `[n_ctx, 2 * n_text_state]`.
    fn cross_key_value(
        host: &Host,
        dims: &ModelDimensions,
        to: &mut Self::CrossKv,
        layer: &Linear<Self>,
        x: Self::Rows<'_>,
        wide: &mut Self::Activations,
    );
}
