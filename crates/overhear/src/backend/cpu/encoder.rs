//! The audio encoder: `whisper/model.py::AudioEncoder`.
//!
//! Buffers are time-major, so that a convolution is a matrix product whose rows overlap: row `t` is the three
//! consecutive frames around it. The frame of zeros at either end is the padding.

use overhear_kernels::{
    AttentionShape, Output, PackedActivations, PackedKv, Packing, PostOp, Rows, Source,
};

use super::layers::Compute;
use super::packed::PackedScratch;
use super::weights::{Encoder, SelfAttention, Weight};
use crate::backend::GoesOn;
use crate::mel::MelWindow;
use crate::{Error, ModelDimensions, Result};

/// What the encoder writes to on its way.
pub(super) struct EncoderScratch {
    /// `[n_frames + 2, n_mels]`, the spectrogram between two frames of padding.
    mel: Vec<f32>,
    /// `[n_frames + 2, n_state]`, the first convolution's output, likewise.
    conv: Vec<f32>,
    /// `[n_ctx, n_state]`, the residual stream.
    x: Vec<f32>,
    /// `[n_ctx, n_state]`.
    h: Vec<f32>,
    /// `[n_ctx, 4 * n_state]`: query, key and value, or the perceptron's middle.
    wide: Vec<f32>,
    packed: PackedScratch,
    /// If the weights are packed, the spectrogram and the first convolution's output as bfloat16.
    packed_stem: [PackedActivations; 2],
    /// If the weights are packed, the keys and values of the layer at work.
    keys_values: PackedKv,
}

impl EncoderScratch {
    pub(super) fn new(dims: &ModelDimensions, packing: Option<Packing>) -> Self {
        let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_audio_state);
        let stored = |n| vec![0.0; if packing.is_none() { n } else { 0 }];
        let n_frames = if packing.is_some() { 2 * n_ctx + 2 } else { 0 };
        let stem = |n_cols| PackedActivations::new(Packing::Bf16, n_frames, n_cols);
        Self {
            mel: vec![0.0; (2 * n_ctx + 2) * dims.n_mels],
            conv: stored((2 * n_ctx + 2) * n_state),
            x: vec![0.0; n_ctx * n_state],
            h: vec![0.0; n_ctx * n_state],
            wide: stored(n_ctx * 4 * n_state),
            packed: PackedScratch::new(packing, n_ctx, n_state),
            packed_stem: [stem(dims.n_mels), stem(n_state)],
            keys_values: match packing {
                Some(_) => PackedKv::new(dims.n_audio_head, n_state / dims.n_audio_head, n_ctx),
                None => PackedKv::default(),
            },
        }
    }

    /// Scratch memory for products of the encoder's output: `[n_ctx, 4 * n_state]` if the weights are stored, and what
    /// packed layers write to.
    pub(super) fn scratch(&mut self) -> (&mut [f32], &mut PackedScratch) {
        (&mut self.wide, &mut self.packed)
    }

    /// Runs the encoder over `mel`, `[2 * n_ctx, n_mels]`, and writes its output to `features`, `[n_ctx, n_state]`.
    ///
    /// # Errors
    /// [`Error::Canceled`] if `goes_on`, asked before each block, ends the work.
    pub(super) fn encode(
        &mut self,
        c: Compute<'_>,
        dims: &ModelDimensions,
        encoder: &Encoder,
        mel: &MelWindow,
        features: &mut [f32],
        goes_on: GoesOn<'_>,
    ) -> Result<()> {
        let (n_ctx, n_mels) = (dims.n_audio_ctx, dims.n_mels);
        assert_eq!(mel.data.len(), 2 * n_ctx * n_mels, "shape of a window");
        self.mel[n_mels..(2 * n_ctx + 1) * n_mels].copy_from_slice(&mel.data);
        self.stem(c, dims, encoder);
        c.kernels
            .add(c.pool, &mut self.x, &encoder.positional_embedding);

        for block in &encoder.blocks {
            if goes_on().is_break() {
                return Err(Error::Canceled);
            }
            self.self_attention(c, dims, &block.attn);
            let (h, wide) = (&mut self.h, &mut self.wide);
            c.mlp(&block.mlp, &mut self.x, h, wide, &mut self.packed);
        }
        c.layer_norm(features, &self.x, &encoder.ln_post);
        Ok(())
    }

    /// The two convolutions: `x` of the spectrogram.
    fn stem(&mut self, c: Compute<'_>, dims: &ModelDimensions, encoder: &Encoder) {
        let (n_ctx, n_state, n_mels) = (dims.n_audio_ctx, dims.n_audio_state, dims.n_mels);
        if let Weight::Packed(_) = encoder.conv1.weight {
            return self.packed_stem(c, dims, encoder);
        }
        let frames = &mut self.conv[n_state..(2 * n_ctx + 1) * n_state]; // [2 * n_ctx, n_state]
        c.linear(
            frames,
            Rows {
                data: &self.mel,
                stride: n_mels,
            },
            &encoder.conv1,
            PostOp::Gelu,
        );
        let pairs = Rows {
            data: &self.conv,
            stride: 2 * n_state,
        };
        c.linear(&mut self.x, pairs, &encoder.conv2, PostOp::Gelu);
    }

    /// The same in bfloat16.
    fn packed_stem(&mut self, c: Compute<'_>, dims: &ModelDimensions, encoder: &Encoder) {
        let (n_ctx, n_mels) = (dims.n_audio_ctx, dims.n_mels);
        let [mel, conv] = &mut self.packed_stem;
        let source = Source::F32(Rows {
            data: &self.mel,
            stride: n_mels,
        });
        let shape = mel.shape();
        c.kernels.pack_rows(c.pool, mel, source, shape, None);
        let (weight, bias) = encoder.conv1.packed();
        let (frames, gelu) = (Output::Bf16(conv, 1), PostOp::Gelu);
        let rows = mel.taps(3, 1);
        c.kernels
            .linear_packed(c.pool, frames, rows, 2 * n_ctx, weight, Some(bias), gelu);
        let (weight, bias) = encoder.conv2.packed();
        let (x, rows) = (Output::F32(&mut self.x), conv.taps(3, 2));
        c.kernels
            .linear_packed(c.pool, x, rows, n_ctx, weight, Some(bias), gelu);
    }

    fn self_attention(&mut self, c: Compute<'_>, dims: &ModelDimensions, attn: &SelfAttention) {
        if let Weight::Packed(_) = attn.out.weight {
            let (qkv, out) = (attn.query_key_value.packed(), attn.out.packed());
            let (x, keys_values) = (&mut self.x, &mut self.keys_values);
            return self
                .packed
                .self_attention(c, x, &attn.norm, qkv, out, keys_values);
        }
        let (n_ctx, n_state, n_head) = (dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head);
        let head_dim = n_state / n_head;
        let shape = AttentionShape {
            n_head,
            head_dim,
            n_query: n_ctx,
            n_key: n_ctx,
            causal: false,
            block: 0,
        };
        let qkv = &mut self.wide[..n_ctx * 3 * n_state]; // [n_ctx, 3 * n_state]
        c.layer_norm(&mut self.h, &self.x, &attn.norm);
        c.linear(
            qkv,
            Rows {
                data: &self.h,
                stride: n_state,
            },
            &attn.query_key_value,
            PostOp::Store,
        );
        let part = |i: usize| Rows {
            data: &qkv[i * n_state..],
            stride: 3 * n_state,
        };
        c.kernels
            .attention(c.pool, &mut self.h, part(0), part(1), part(2), &shape);
        c.linear(
            &mut self.x,
            Rows {
                data: &self.h,
                stride: n_state,
            },
            &attn.out,
            PostOp::Add,
        );
    }
}
