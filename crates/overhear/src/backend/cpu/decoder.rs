//! The text decoder: `whisper/model.py::TextDecoder`, one call for any number of tokens of any rows.

use overhear_kernels::{PostOp, Rows, Sequence};

use super::cross_kv::{CrossAttentionScratch, CrossKv, CrossKvCache, cross_attention};
use super::layers::{LayerNorm, Linear, Mlp, SelfAttention};
use super::self_kv::SelfKvCache;
use super::weight::Weight;
use crate::ModelDimensions;
use crate::backend::{Batch, Capacity};
use crate::host::Host;

/// Weights of the decoder.
pub(super) struct Decoder<W> {
    /// `[n_vocab, n_state]`.
    pub(super) token_embedding: W,
    /// `[n_vocab, n_state]`: the output projection, if it is not the embedding.
    pub(super) output: Option<W>,
    /// `[n_text_ctx, n_state]`.
    pub(super) positional_embedding: Vec<f32>,
    pub(super) blocks: Vec<DecoderBlock<W>>,
    pub(super) ln: LayerNorm,
}

pub(super) struct DecoderBlock<W> {
    pub(super) attn: SelfAttention<W>,
    pub(super) cross_attn: CrossAttention<W>,
    pub(super) mlp: Mlp<W>,
}

/// Cross-attention with its layer norm; [`super::encoder::Encoder`] has the projections of key and value.
pub(super) struct CrossAttention<W> {
    pub(super) norm: LayerNorm,
    pub(super) query: Linear<W>,
    pub(super) out: Linear<W>,
}

/// Buffers of a decoder call of up to `n` tokens.
pub(super) struct DecoderWorkspace<W: Weight> {
    /// `[n, n_state]`: the residual stream.
    x: Vec<f32>,
    /// Input rows of the next product.
    input: W::Input,
    /// `[n, 3 * n_state]`: query, key and value of self-attention.
    qkv: Vec<f32>,
    /// `[n, n_state]`: query of cross-attention, or the states that logits are computed of.
    q: Vec<f32>,
    /// `[n, n_state]`: output of attention.
    attended: Vec<f32>,
    /// `[n, 4 * n_state]`: the perceptron's middle.
    wide: W::Activations,
    cross: CrossAttentionScratch,
    /// `[n_logits, n_vocab]`.
    logits: Vec<f32>,
}

impl<W: Weight> DecoderWorkspace<W> {
    pub(super) fn new(dims: &ModelDimensions, capacity: &Capacity, format: W::Format) -> Self {
        let n_state = dims.n_text_state;
        // Alignment runs all positions of a row at once.
        let n = capacity.tokens.max(dims.n_text_ctx);
        Self {
            x: vec![0.0; n * n_state],
            input: W::input_buffer(format, n, n_state),
            qkv: vec![0.0; n * 3 * n_state],
            q: vec![0.0; n * n_state],
            attended: vec![0.0; n * n_state],
            wide: W::activations(n, 4 * n_state),
            cross: CrossAttentionScratch::new(n, n_state),
            logits: vec![0.0; capacity.logits * dims.n_vocab],
        }
    }
}

/// One decoder call.
pub(super) struct Step<'a, W> {
    pub(super) host: &'a Host,
    pub(super) dims: &'a ModelDimensions,
    pub(super) decoder: &'a Decoder<W>,
    pub(super) batch: &'a Batch,
}

impl<W: Weight> Step<'_, W> {
    /// Appends the tokens of the batch to the cache and returns the logits asked for, `[n, n_vocab]`.
    pub(super) fn decode<'w, K: CrossKv>(
        &self,
        self_kv: &mut SelfKvCache,
        cross_kv: &CrossKvCache<K>,
        workspace: &'w mut DecoderWorkspace<W>,
    ) -> &'w mut [f32] {
        let n_state = self.dims.n_text_state;
        let (n, logits_at) = (self.batch.tokens.len(), &self.batch.logits_at);
        assert!(
            logits_at.is_sorted_by(|a, b| a < b) && logits_at.last().is_none_or(|&last| last < n),
            "logits of tokens {logits_at:?} of {n}"
        );
        self.forward(self_kv, cross_kv, workspace, &mut |_, _| {});
        for row in &self.batch.rows {
            self_kv.append(row.row, row.n_tokens);
        }
        let DecoderWorkspace {
            x,
            input,
            q: states,
            logits,
            ..
        } = workspace;
        let states = &mut states[..logits_at.len() * n_state];
        for (state, at) in states.chunks_exact_mut(n_state).zip(logits_at) {
            state.copy_from_slice(&x[at * n_state..][..n_state]);
        }
        let logits = &mut logits[..logits_at.len() * self.dims.n_vocab];
        self.project(logits, states, input);
        logits
    }

    /// Runs all blocks over the tokens of the batch and returns their states, `[n, n_state]`, before the last layer norm,
    /// and the workspace's input buffer. Keys and values are written to `self_kv`, which does not count them yet.
    /// `on_cross_query` is called with each layer and its queries of cross-attention, `[n, n_state]`.
    pub(super) fn forward<'w, K: CrossKv>(
        &self,
        self_kv: &mut SelfKvCache,
        cross_kv: &CrossKvCache<K>,
        workspace: &'w mut DecoderWorkspace<W>,
        on_cross_query: &mut dyn FnMut(usize, &[f32]),
    ) -> (&'w [f32], &'w mut W::Input) {
        let (host, n_state) = (self.host, self.dims.n_text_state);
        let n = self.batch.tokens.len();
        let DecoderWorkspace {
            x,
            input,
            qkv,
            q,
            attended,
            wide,
            cross,
            ..
        } = workspace;
        let [x, q, attended] = [x, q, attended].map(|buffer| &mut buffer[..n * n_state]);
        let qkv = &mut qkv[..n * 3 * n_state];

        self.embed(self_kv, x);
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            let DecoderBlock {
                attn,
                cross_attn,
                mlp,
            } = block;
            let weight = &attn.query_key_value.weight;
            let rows = weight.normalize(host, input, x, &attn.norm);
            attn.query_key_value.forward(host, qkv, rows, PostOp::Store);
            self.self_attention(attended, qkv, layer, self_kv);
            let rows = attn.out.weight.input(host, input, attended, n_state);
            attn.out.forward(host, x, rows, PostOp::Add);

            let weight = &cross_attn.query.weight;
            let rows = weight.normalize(host, input, x, &cross_attn.norm);
            cross_attn.query.forward(host, q, rows, PostOp::Store);
            on_cross_query(layer, q);
            let (rows, kv) = (&self.batch.rows, (cross_kv, layer));
            cross_attention(host, self.dims, attended, q, rows, kv, cross);
            let rows = cross_attn.out.weight.input(host, input, attended, n_state);
            cross_attn.out.forward(host, x, rows, PostOp::Add);

            mlp.forward(host, x, input, wide);
        }
        (x, input)
    }

    /// `x = token_embedding + positional_embedding`.
    fn embed(&self, self_kv: &SelfKvCache, x: &mut [f32]) {
        let n_state = self.dims.n_text_state;
        let mut inputs = self.batch.tokens.iter().zip(x.chunks_exact_mut(n_state));
        for row in &self.batch.rows {
            let begin = self_kv.n_tokens(row.row);
            let end = begin + row.n_tokens;
            let positions = &self.decoder.positional_embedding[begin * n_state..end * n_state];
            for (position, (token, x)) in positions.chunks_exact(n_state).zip(&mut inputs) {
                self.decoder.token_embedding.copy_row(*token as usize, x);
                x.iter_mut().zip(position).for_each(|(x, p)| *x += p);
            }
        }
    }

    /// Appends the keys and values of `qkv`, `[n, 3 * n_state]`, to the cache; `out`, `[n, n_state]`: attention of each
    /// row over its own tokens, causal.
    fn self_attention(
        &self,
        out: &mut [f32],
        qkv: &[f32],
        layer: usize,
        self_kv: &mut SelfKvCache,
    ) {
        let (n_state, n_head) = (self.dims.n_text_state, self.dims.n_text_head);
        let rows = &self.batch.rows;
        for row in rows {
            let qkv = qkv[row.first * 3 * n_state..].chunks_exact(3 * n_state);
            let key_values = qkv.take(row.n_tokens).map(|qkv| &qkv[n_state..]);
            self_kv.write(layer, row.row, key_values);
        }
        let self_kv = &*self_kv;
        let sequence = |i: usize| Sequence {
            first_query: rows[i].first,
            n_query: rows[i].n_tokens,
            n_key: self_kv.n_tokens(rows[i].row) + rows[i].n_tokens,
            kv: self_kv.row(layer, rows[i].row),
        };
        let q = Rows {
            data: qkv,
            stride: 3 * n_state,
        };
        let heads = (n_head, n_state / n_head);
        let (kernels, pool) = (&self.host.kernels, &self.host.pool);
        kernels.causal_attention(pool, out, q, heads, rows.len(), &sequence);
    }

    /// Logits of `states`, `[n, n_state]`: last layer norm, then the product with the embedding. `input`: an input
    /// buffer.
    pub(super) fn project(&self, logits: &mut [f32], states: &[f32], input: &mut W::Input) {
        let Decoder {
            token_embedding,
            output,
            ln,
            ..
        } = self.decoder;
        let weight = output.as_ref().unwrap_or(token_embedding);
        let rows = weight.normalize(self.host, input, states, ln);
        weight.linear(self.host, logits, rows, None, PostOp::Store);
    }
}
