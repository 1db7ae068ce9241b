//! The audio encoder: `whisper/model.py::AudioEncoder`, and the projection of its output to cross-attention's keys and
//! values.
//!
//! Buffers are time-major, so that a convolution is a matrix product with overlapping rows: row `t` is the three
//! consecutive frames around frame `t`. A frame of zeros at either end is the padding.

use overhear_kernels::PostOp;

use super::layers::{LayerNorm, Linear, Mlp, SelfAttention};
use super::weight::EncoderWeight;
use crate::backend::GoesOn;
use crate::host::Host;
use crate::mel::MelWindow;
use crate::{Error, ModelDimensions, Result};

/// Weights of the encoder.
pub(super) struct Encoder<W> {
    /// `[n_state, 3 * n_mels]`.
    pub(super) conv1: Linear<W>,
    /// `[n_state, 3 * n_state]`.
    pub(super) conv2: Linear<W>,
    /// `[n_audio_ctx, n_state]`.
    pub(super) positional_embedding: Vec<f32>,
    pub(super) blocks: Vec<EncoderBlock<W>>,
    pub(super) ln_post: LayerNorm,
}

/// Weights of cross-attention's keys and values, which are computed once per window from the encoder's output: per layer of
/// the decoder `[2 * n_text_state, n_audio_state]`.
pub(super) struct CrossKeyValue<W>(pub(super) Vec<Linear<W>>);

pub(super) struct EncoderBlock<W> {
    pub(super) attn: SelfAttention<W>,
    pub(super) mlp: Mlp<W>,
}

/// Buffers of an encoder call.
pub(super) struct EncoderWorkspace<W: EncoderWeight> {
    /// `[2 * n_ctx + 2, n_mels]`: the spectrogram between two frames of padding.
    mel: Vec<f32>,
    /// The same as activations.
    frames: W::Activations,
    /// `[2 * n_ctx + 1, n_state]`: output of the first convolution after a frame of padding. The second one, of stride 2,
    /// does not read the padding at the end.
    conv: W::Activations,
    /// `[n_ctx, n_state]`: the residual stream.
    x: Vec<f32>,
    /// Input rows of the next product.
    input: W::Input,
    /// `[n_ctx, up to 4 * n_state]`: query, key and value; the perceptron's middle; or cross-attention's key and value.
    wide: W::Activations,
    /// `[n_ctx, n_state]`: output of self-attention.
    attended: W::Activations,
    kv: W::SelfKv,
}

impl<W: EncoderWeight> EncoderWorkspace<W> {
    pub(super) fn new(dims: &ModelDimensions, format: W::Format) -> Self {
        let (n_ctx, n_state, n_head) = (dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head);
        let n_wide = (4 * n_state).max(2 * dims.n_text_state);
        Self {
            mel: vec![0.0; (2 * n_ctx + 2) * dims.n_mels],
            frames: W::activations(2 * n_ctx + 2, dims.n_mels),
            conv: W::activations(2 * n_ctx + 1, n_state),
            x: vec![0.0; n_ctx * n_state],
            input: W::input_buffer(format, n_ctx, n_state),
            wide: W::activations(n_ctx, n_wide),
            attended: W::activations(n_ctx, n_state),
            kv: W::self_kv(n_head, n_state / n_head, n_ctx),
        }
    }
}

impl<W: EncoderWeight> Encoder<W> {
    /// Runs the encoder over `mel`, `[2 * n_ctx, n_mels]`, and writes its output to `features`, `[n_ctx, n_state]`.
    ///
    /// # Errors
    /// [`Error::Canceled`] if `goes_on`, asked before each block, ends the work.
    pub(super) fn forward(
        &self,
        host: &Host,
        dims: &ModelDimensions,
        mel: &MelWindow,
        features: &mut [f32],
        workspace: &mut EncoderWorkspace<W>,
        goes_on: GoesOn<'_>,
    ) -> Result<()> {
        let (n_ctx, n_state, n_mels) = (dims.n_audio_ctx, dims.n_audio_state, dims.n_mels);
        assert_eq!(mel.data.len(), 2 * n_ctx * n_mels, "shape of a window");
        let EncoderWorkspace {
            mel: padded,
            frames,
            conv,
            x,
            input,
            wide,
            attended,
            kv,
        } = workspace;

        padded[n_mels..(2 * n_ctx + 1) * n_mels].copy_from_slice(&mel.data);
        W::store(host, frames, padded, n_mels);
        let rows = W::taps(frames, n_mels, 3, 1); // [2 * n_ctx, 3 * n_mels]
        self.conv1
            .forward_to_activations(host, (conv, 1), rows, 2 * n_ctx, PostOp::Gelu);
        let rows = W::taps(conv, n_state, 3, 2); // [n_ctx, 3 * n_state]
        self.conv2.forward(host, x, rows, PostOp::Gelu);
        host.kernels.add(&host.pool, x, &self.positional_embedding);

        for EncoderBlock { attn, mlp } in &self.blocks {
            if goes_on().is_break() {
                return Err(Error::Canceled);
            }
            let weight = &attn.query_key_value.weight;
            let rows = weight.normalize(host, input, x, &attn.norm);
            attn.query_key_value.forward_to_activations(
                host,
                (wide, 0),
                rows,
                n_ctx,
                PostOp::Store,
            ); // [n_ctx, 3 * n_state]
            W::self_attention(host, dims, attended, wide, kv);
            let weight = &attn.out.weight;
            let rows = weight.input_of(host, input, attended, (n_ctx, n_state));
            attn.out.forward(host, x, rows, PostOp::Add);
            mlp.forward(host, x, input, wide);
        }
        let LayerNorm { gamma, beta } = &self.ln_post;
        host.kernels
            .layer_norm(&host.pool, features, x, gamma, beta);
        Ok(())
    }
}

impl<W: EncoderWeight> CrossKeyValue<W> {
    /// Projects encoder output `features`, `[n_ctx, n_state]`, to the keys and values of every layer of the decoder.
    pub(super) fn project<'a>(
        &self,
        host: &Host,
        dims: &ModelDimensions,
        features: &[f32],
        kv: impl Iterator<Item = &'a mut W::CrossKv>,
        workspace: &mut EncoderWorkspace<W>,
    ) where
        W: 'a,
    {
        let EncoderWorkspace { input, wide, .. } = workspace;
        // All layers take their input rows alike.
        let Some(first) = self.0.first() else {
            return;
        };
        let rows = first
            .weight
            .input(host, input, features, dims.n_audio_state);
        for (layer, kv) in self.0.iter().zip(kv) {
            W::cross_key_value(host, dims, kv, layer, rows, wide);
        }
    }
}
