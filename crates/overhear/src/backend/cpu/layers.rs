//! Layers that encoder and decoder have in common: `whisper/model.py::{Linear, LayerNorm, ResidualAttentionBlock}`.

use overhear_kernels::PostOp;

use super::weight::Weight;
use crate::host::Host;

/// Linear layer `y = x * weight^T + bias`.
pub(super) struct Linear<W> {
    /// `[n_out, n_in]`.
    pub(super) weight: W,
    /// `[n_out]`.
    pub(super) bias: Vec<f32>,
}

impl<W: Weight> Linear<W> {
    /// `y = post_op(layer(x))` in f32. `x`: `[n, n_in]`; `y`: `[n, n_out]`, which gives `n`.
    pub(super) fn forward(&self, host: &Host, y: &mut [f32], x: W::Rows<'_>, post_op: PostOp) {
        self.weight.linear(host, y, x, Some(&self.bias), post_op);
    }

    /// As [`Linear::forward`], to rows `first..first + n` of activations; the rows before them stay.
    pub(super) fn forward_to_activations(
        &self,
        host: &Host,
        y: (&mut W::Activations, usize),
        x: W::Rows<'_>,
        n: usize,
        post_op: PostOp,
    ) {
        self.weight
            .linear_to_activations(host, y, x, n, &self.bias, post_op);
    }
}

/// Layer normalisation over `n_state` elements.
pub(super) struct LayerNorm {
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
}

/// Self-attention with its layer norm: query, key and value in one product.
pub(super) struct SelfAttention<W> {
    pub(super) norm: LayerNorm,
    /// `[3 * n_state, n_state]`; the bias of the key, which has none in Whisper, is zeros.
    pub(super) query_key_value: Linear<W>,
    pub(super) out: Linear<W>,
}

/// Two-layer perceptron with its layer norm.
pub(super) struct Mlp<W> {
    pub(super) norm: LayerNorm,
    /// `[4 * n_state, n_state]`.
    pub(super) up: Linear<W>,
    /// `[n_state, 4 * n_state]`.
    pub(super) down: Linear<W>,
}

impl<W: Weight> Mlp<W> {
    /// `x += down(gelu(up(norm(x))))`. `x`: `[n, n_state]`; `input`: an input buffer; `wide`: `[n, 4 * n_state]`.
    pub(super) fn forward(
        &self,
        host: &Host,
        x: &mut [f32],
        input: &mut W::Input,
        wide: &mut W::Activations,
    ) {
        let n_state = self.norm.gamma.len();
        let n = x.len() / n_state;
        let rows = self.up.weight.normalize(host, input, x, &self.norm);
        self.up
            .forward_to_activations(host, (wide, 0), rows, n, PostOp::Gelu);
        let weight = &self.down.weight;
        let rows = weight.input_of(host, input, wide, (n, 4 * n_state));
        self.down.forward(host, x, rows, PostOp::Add);
    }
}
