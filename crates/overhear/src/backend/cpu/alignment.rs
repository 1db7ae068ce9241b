//! Where the text of a window is heard: one pass over text that is already known, for the probability of each token
//! and the cross-attention weights of some heads (`whisper/timing.py::find_alignment`, its first half).
//!
//! The window's cross-attention keys are those that decoding used: nothing is encoded again. One head's weights are
//! held at a time, however many heads there are.

use overhear_kernels::{PostOp, Rows};

use super::cache::{CrossCache, SelfCache};
use super::decoder::{DecoderScratch, Step};
use super::packed::PackedScratch;
use crate::TokenId;
use crate::backend::{AlignmentRequest, OnHead};

/// Tokens projected to logits at a time: enough to use a weight often, little enough to store (13 MB).
const LOGIT_ROWS: usize = 64;

/// What alignment writes to on its way; empty until it is first asked for.
#[derive(Default)]
pub(super) struct AlignmentScratch {
    /// `[n_tokens, n_keys]`: the weights of one head.
    weights: Vec<f32>,
    /// `[n_audio_ctx, head_dim]`: the keys of one head, where the cache has them otherwise than in f32.
    keys: Vec<f32>,
    /// `[LOGIT_ROWS, n_vocab]`.
    logits: Vec<f32>,
}

impl AlignmentScratch {
    /// Runs the pass of `step`, whose batch is the request's tokens on one empty row.
    pub(super) fn run(
        &mut self,
        step: &Step<'_>,
        request: &AlignmentRequest<'_>,
        self_cache: &mut SelfCache,
        cross_cache: &CrossCache,
        scratch: &mut DecoderScratch,
        on_head: OnHead<'_>,
    ) -> Vec<f32> {
        let size = request.tokens.len() * step.dims.n_text_state;
        let DecoderScratch {
            x,
            h,
            q,
            wide,
            packed,
            ..
        } = scratch;
        let (x, h, q) = (&mut x[..size], &mut h[..size], &mut q[..size]);
        self.weights
            .resize(request.tokens.len() * request.n_keys, 0.0);

        step.embed(self_cache, x);
        for (layer, block) in step.decoder.blocks.iter().enumerate() {
            let cross = &block.cross_attn;
            step.self_attention(&block.attn, layer, self_cache, x, (h, wide, packed));
            if request.heads.iter().any(|(l, _)| *l == layer) {
                let query = cross.query.parts();
                step.compute.norm_linear(
                    q,
                    x,
                    Some(&cross.norm),
                    query,
                    PostOp::Store,
                    (h, packed),
                );
            }
            for &(_, head) in request.heads.iter().filter(|(l, _)| *l == layer) {
                self.head(step, request, cross_cache, layer, head, q);
                on_head(&mut self.weights);
            }
            step.cross_attention(cross, layer, cross_cache, x, (h, q, packed));
            step.compute.mlp(&block.mlp, x, h, wide, packed);
        }
        self.probabilities(step, request, x, (h, packed))
    }

    /// The weights of one head, softmaxed over the keys that hold audio.
    fn head(
        &mut self,
        step: &Step<'_>,
        request: &AlignmentRequest<'_>,
        cross_cache: &CrossCache,
        layer: usize,
        head: usize,
        q: &[f32],
    ) {
        let n_state = step.dims.n_text_state;
        let head_dim = n_state / step.dims.n_text_head;
        let q = Rows {
            data: &q[head * head_dim..],
            stride: n_state,
        };
        let k = cross_cache.head_keys(layer, request.slot, (head, head_dim), &mut self.keys);
        step.compute.kernels.attention_probabilities(
            step.compute.pool,
            &mut self.weights,
            q,
            k,
            request.n_keys,
            head_dim,
        );
    }

    /// The probability of each text token among the text tokens, given those before it.
    fn probabilities(
        &mut self,
        step: &Step<'_>,
        request: &AlignmentRequest<'_>,
        x: &[f32],
        (h, packed): (&mut [f32], &mut PackedScratch),
    ) -> Vec<f32> {
        let (n_state, n_vocab) = (step.dims.n_text_state, step.dims.n_vocab);
        let (c, text) = (step.compute, request.text.clone());
        // The logits after a token are those of the next.
        let predicting = (text.start - 1) * n_state..(text.end - 1) * n_state;
        self.logits.resize(LOGIT_ROWS * n_vocab, 0.0);
        let mut probabilities = Vec::with_capacity(text.len());
        let chunks = x[predicting].chunks(LOGIT_ROWS * n_state);
        for (x, tokens) in chunks.zip(request.tokens[text].chunks(LOGIT_ROWS)) {
            let logits = &mut self.logits[..tokens.len() * n_vocab];
            c.norm_linear(
                logits,
                x,
                Some(&step.decoder.ln),
                (step.decoder.projection(), None),
                PostOp::Store,
                (&mut h[..x.len()], packed),
            );
            let probability = |(logits, &token): (&[f32], &TokenId)| {
                let of_text = &logits[..request.eot as usize];
                let (logit, log_sum) = (logits[token as usize], c.kernels.log_sum_exp(of_text));
                match token < request.eot {
                    true => (logit - log_sum).exp(),
                    // A word that a fine-tune added, itself among the text tokens.
                    false => 1.0 / (1.0 + (log_sum - logit).exp()),
                }
            };
            probabilities.extend(logits.chunks_exact(n_vocab).zip(tokens).map(probability));
        }
        probabilities
    }
}
