//! Where the text of a window is heard: one pass over text that is already known, for the probability of each token
//! and the cross-attention weights of some heads (`whisper/timing.py::find_alignment`, its first half).
//!
//! The window's cross-attention keys are those that decoding used: nothing is encoded again. One head's weights are
//! held at a time, however many heads there are.

use overhear_kernels::Rows;

use super::cross_kv::{CrossKv, CrossKvCache};
use super::decoder::{DecoderWorkspace, Step};
use super::self_kv::SelfKvCache;
use super::weight::Weight;
use crate::TokenId;
use crate::backend::{AlignmentRequest, OnHead};

/// Tokens projected to logits at a time: enough to use a weight often, little enough to store (13 MB).
const LOGIT_ROWS: usize = 64;

/// Buffers of alignment; empty until the first call.
#[derive(Default)]
pub(super) struct AlignmentScratch {
    /// `[n_tokens, n_keys]`: the attention weights of one head.
    weights: Vec<f32>,
    /// `[n_audio_ctx, head_dim]`: the keys of one head, where the cache has them in another type than f32.
    keys: Vec<f32>,
    /// `[LOGIT_ROWS, n_vocab]`.
    logits: Vec<f32>,
}

impl AlignmentScratch {
    /// Runs the pass of `step`, whose batch is the request's tokens on one empty row.
    pub(super) fn run<W: Weight, K: CrossKv>(
        &mut self,
        step: &Step<'_, W>,
        request: &AlignmentRequest<'_>,
        self_kv: &mut SelfKvCache,
        cross_kv: &CrossKvCache<K>,
        workspace: &mut DecoderWorkspace<W>,
        on_head: OnHead<'_>,
    ) -> Vec<f32> {
        self.weights
            .resize(request.tokens.len() * request.n_keys, 0.0);
        let on_cross_query = &mut |layer: usize, q: &[f32]| {
            for &(_, head) in request.heads.iter().filter(|(l, _)| *l == layer) {
                self.attention_weights(step, request, cross_kv, (layer, head), q);
                on_head(&mut self.weights);
            }
        };
        let (states, input) = step.forward(self_kv, cross_kv, workspace, on_cross_query);
        self.probabilities(step, request, states, input)
    }

    /// The attention weights of one head, softmaxed over the keys that hold audio.
    fn attention_weights<W: Weight, K: CrossKv>(
        &mut self,
        step: &Step<'_, W>,
        request: &AlignmentRequest<'_>,
        cross_kv: &CrossKvCache<K>,
        (layer, head): (usize, usize),
        q: &[f32],
    ) {
        let n_state = step.dims.n_text_state;
        let head_dim = n_state / step.dims.n_text_head;
        let q = Rows {
            data: &q[head * head_dim..],
            stride: n_state,
        };
        let kv = cross_kv.view(layer, request.slot);
        let k = kv.head_keys(step.dims, head, &mut self.keys);
        step.host.kernels.attention_probabilities(
            &step.host.pool,
            &mut self.weights,
            q,
            k,
            request.n_keys,
            head_dim,
        );
    }

    /// The probability of each text token among the text tokens, given those before it. `states`: `[n_tokens, n_state]`.
    fn probabilities<W: Weight>(
        &mut self,
        step: &Step<'_, W>,
        request: &AlignmentRequest<'_>,
        states: &[f32],
        input: &mut W::Input,
    ) -> Vec<f32> {
        let (n_state, n_vocab) = (step.dims.n_text_state, step.dims.n_vocab);
        let (kernels, text) = (&step.host.kernels, request.text.clone());
        // The logits after a token are those of the next.
        let predicting = (text.start - 1) * n_state..(text.end - 1) * n_state;
        self.logits.resize(LOGIT_ROWS * n_vocab, 0.0);
        let mut probabilities = Vec::with_capacity(text.len());
        let chunks = states[predicting].chunks(LOGIT_ROWS * n_state);
        for (states, tokens) in chunks.zip(request.tokens[text].chunks(LOGIT_ROWS)) {
            let logits = &mut self.logits[..tokens.len() * n_vocab];
            step.project(logits, states, input);
            let probability = |(logits, &token): (&[f32], &TokenId)| {
                let of_text = &logits[..request.eot as usize];
                let (logit, log_sum) = (logits[token as usize], kernels.log_sum_exp(of_text));
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
