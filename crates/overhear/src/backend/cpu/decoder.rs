//! The text decoder: `whisper/model.py::TextDecoder`, one call for any number of tokens of any rows.

use overhear_kernels::{AttentionShape, Kernels, Packing, PostOp, Rows};

use super::cache::{CrossCache, SelfCache, Slot};
use super::layers::Compute;
use super::packed::PackedScratch;
use super::weights::{CrossAttention, Decoder, SelfAttention, Weight};
use crate::ModelDimensions;
use crate::backend::{Batch, BatchRow, Capacity};

/// Scratch memory of the decoder, for up to `capacity` tokens a call.
pub(super) struct DecoderScratch {
    /// `[capacity, n_state]`, the residual stream.
    pub(super) x: Vec<f32>,
    /// `[capacity, n_state]`.
    pub(super) h: Vec<f32>,
    /// `[capacity, n_state]`: the query of cross-attention, or the states to project.
    pub(super) q: Vec<f32>,
    /// `[capacity, 4 * n_state]`: query, key and value, or the perceptron's middle.
    pub(super) wide: Vec<f32>,
    /// `[n, n_vocab]`: the logits last asked for.
    logits: Vec<f32>,
    pub(super) packed: PackedScratch,
}

impl DecoderScratch {
    pub(super) fn new(
        dims: &ModelDimensions,
        capacity: &Capacity,
        packing: Option<Packing>,
    ) -> Self {
        let n_state = dims.n_text_state;
        // Alignment runs all positions of a row at once.
        let n_logits = capacity.logits;
        let capacity = capacity.tokens.max(dims.n_text_ctx);
        Self {
            x: vec![0.0; capacity * n_state],
            h: vec![0.0; capacity * n_state],
            q: vec![0.0; capacity * n_state],
            wide: vec![0.0; capacity * 4 * n_state],
            logits: vec![0.0; n_logits * dims.n_vocab],
            packed: PackedScratch::new(packing, capacity, n_state),
        }
    }
}

/// One decoder call.
pub(super) struct Step<'a> {
    pub(super) compute: Compute<'a>,
    pub(super) dims: &'a ModelDimensions,
    pub(super) decoder: &'a Decoder,
    pub(super) batch: &'a Batch,
}

impl Step<'_> {
    /// Appends the tokens of the batch to the cache and returns the logits asked for, `[n, n_vocab]`.
    pub(super) fn run<'s>(
        &self,
        self_cache: &mut SelfCache,
        cross_cache: &CrossCache,
        s: &'s mut DecoderScratch,
    ) -> &'s mut [f32] {
        let n_state = self.dims.n_text_state;
        let n = self.batch.tokens.len();
        let logits_at = &self.batch.logits_at;
        assert!(
            logits_at.is_sorted_by(|a, b| a < b) && logits_at.last().is_none_or(|&last| last < n),
            "logits of tokens {logits_at:?} of {n}"
        );
        let (x, h, q) = (
            &mut s.x[..n * n_state],
            &mut s.h[..n * n_state],
            &mut s.q[..n * n_state],
        );

        self.embed(self_cache, x);
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            let (wide, packed) = (&mut s.wide, &mut s.packed);
            self.self_attention(&block.attn, layer, self_cache, x, (h, wide, packed));
            self.cross_attention(&block.cross_attn, layer, cross_cache, x, (h, q, packed));
            self.compute.mlp(&block.mlp, x, h, wide, packed);
        }
        for row in &self.batch.rows {
            self_cache.append(row.row, row.n_tokens);
        }
        self.project(x, h, q, &mut s.logits, &mut s.packed)
    }

    /// `x = token_embedding + positional_embedding`.
    pub(super) fn embed(&self, cache: &SelfCache, x: &mut [f32]) {
        let n_state = self.dims.n_text_state;
        let mut inputs = self.batch.tokens.iter().zip(x.chunks_exact_mut(n_state));
        for row in &self.batch.rows {
            let begin = cache.n_tokens(row.row);
            let end = begin + row.n_tokens;
            let positions = &self.decoder.positional_embedding[begin * n_state..end * n_state];
            for (position, (token, x)) in positions.chunks_exact(n_state).zip(&mut inputs) {
                self.decoder.token_embedding.copy_row(*token as usize, x);
                x.iter_mut().zip(position).for_each(|(x, p)| *x += p);
            }
        }
    }

    pub(super) fn self_attention(
        &self,
        attn: &SelfAttention,
        layer: usize,
        cache: &mut SelfCache,
        x: &mut [f32],
        (h, wide, packed): (&mut [f32], &mut [f32], &mut PackedScratch),
    ) {
        let (c, n_state) = (self.compute, self.dims.n_text_state);
        let qkv = &mut wide[..3 * x.len()]; // [n, 3 * n_state]
        c.norm_linear(
            qkv,
            x,
            Some(&attn.norm),
            attn.query_key_value.parts(),
            PostOp::Store,
            (h, packed),
        );
        let mut first = 0; // the line of x that holds the row's first token
        for row in &self.batch.rows {
            let n = row.n_tokens;
            let begin = cache.n_tokens(row.row);
            let keys_values = cache.row_mut(layer, row.row); // [n_text_ctx, 2 * n_state]
            for i in 0..n {
                let key_value = &qkv[(first + i) * 3 * n_state + n_state..][..2 * n_state];
                keys_values[(begin + i) * 2 * n_state..][..2 * n_state].copy_from_slice(key_value);
            }
            let q = Rows {
                data: &qkv[first * 3 * n_state..],
                stride: 3 * n_state,
            };
            self.attend(
                &mut h[first * n_state..][..n * n_state],
                q,
                Slot::F32(keys_values),
                begin + n,
                true,
            );
            first += n;
        }
        let out = attn.out.parts();
        c.norm_linear(x, h, None, out, PostOp::Add, (&mut [], packed));
    }

    pub(super) fn cross_attention(
        &self,
        attn: &CrossAttention,
        layer: usize,
        cache: &CrossCache,
        x: &mut [f32],
        (h, q, packed): (&mut [f32], &mut [f32], &mut PackedScratch),
    ) {
        let (c, n_state) = (self.compute, self.dims.n_text_state);
        if let Slot::Packed(_) = cache.slot(layer, 0) {
            let groups = self.batch.rows.chunk_by(same_slot).map(|rows| {
                let n = rows.iter().map(|row| row.n_tokens).sum();
                (n, cache.slot(layer, rows[0].slot).packed())
            });
            if let Weight::Packed(_) = attn.out.weight {
                let (query, out) = (attn.query.packed(), attn.out.packed());
                return packed.cross_attention(c, x, &attn.norm, query, out, groups);
            }
            let (query, out) = (attn.query.parts(), attn.out.parts());
            c.norm_linear(q, x, Some(&attn.norm), query, PostOp::Store, (h, packed));
            packed.attention(c, h, q, n_state, groups);
            return c.norm_linear(x, h, None, out, PostOp::Add, (&mut [], packed));
        }
        let query = attn.query.parts();
        c.norm_linear(q, x, Some(&attn.norm), query, PostOp::Store, (h, packed));
        let is_bytes = matches!(cache.slot(layer, 0), Slot::Bytes(_));
        let together = if is_bytes { same_slot } else { shares_keys };
        // In f32 and f16 only few queries do not depend on each other.
        let most = match is_bytes {
            true => usize::MAX,
            false => Kernels::MAX_DECODE_QUERIES,
        };
        let mut first = 0;
        let groups = self.batch.rows.chunk_by(together);
        for rows in groups.flat_map(|rows| rows.chunks(most)) {
            let n: usize = rows.iter().map(|row| row.n_tokens).sum();
            let lines = first * n_state..(first + n) * n_state;
            let (out, q) = (&mut h[lines.clone()], &q[lines]);
            match cache.slot(layer, rows[0].slot) {
                Slot::Bytes(keys_values) => c.kernels.attention_int8(c.pool, out, q, keys_values),
                keys_values => {
                    let q = Rows {
                        data: q,
                        stride: n_state,
                    };
                    self.attend(out, q, keys_values, self.dims.n_audio_ctx, false);
                }
            }
            first += n;
        }
        let out = attn.out.parts();
        c.norm_linear(x, h, None, out, PostOp::Add, (&mut [], packed));
    }

    /// `out`: `[n_query, n_state]`; of `keys_values` the first `n_key` are seen.
    ///
    /// # Panics
    /// If they are packed or bytes.
    fn attend(
        &self,
        out: &mut [f32],
        q: Rows<'_>,
        keys_values: Slot<'_>,
        n_key: usize,
        causal: bool,
    ) {
        let (n_state, n_head) = (self.dims.n_text_state, self.dims.n_text_head);
        let n_query = out.len() / n_state;
        let shape = AttentionShape {
            n_head,
            head_dim: n_state / n_head,
            n_query,
            n_key,
            causal,
            block: 0,
        };
        let Compute { kernels, pool } = self.compute;
        match keys_values {
            Slot::F32(rows) => {
                let stride = 2 * n_state;
                let [key, value] = [rows, &rows[n_state..]].map(|data| Rows { data, stride });
                kernels.attention(pool, out, q, key, value, &shape);
            }
            Slot::F16(keys, values) => {
                kernels.attention_f16(pool, out, q, keys, values, &shape);
            }
            Slot::Packed(_) | Slot::Bytes(_) => unreachable!("these have attentions of their own"),
        }
    }

    /// The logits of the tokens asked for: last layer norm, then the product with the embedding.
    fn project<'s>(
        &self,
        x: &[f32],
        h: &mut [f32],
        gathered: &mut [f32],
        logits: &'s mut [f32],
        packed: &mut PackedScratch,
    ) -> &'s mut [f32] {
        let n_state = self.dims.n_text_state;
        let n = self.batch.logits_at.len();
        for (i, at) in self.batch.logits_at.iter().enumerate() {
            gathered[i * n_state..][..n_state].copy_from_slice(&x[at * n_state..][..n_state]);
        }
        let h = &mut h[..n * n_state];
        let logits = &mut logits[..n * self.dims.n_vocab];
        let projection = (self.decoder.projection(), None);
        self.compute.norm_linear(
            logits,
            &gathered[..n * n_state],
            Some(&self.decoder.ln),
            projection,
            PostOp::Store,
            (h, packed),
        );
        logits
    }
}

/// Whether two rows are of the same audio, whose keys and values are then read once for both: most of what a step reads
/// beside the weights.
fn same_slot(a: &BatchRow, b: &BatchRow) -> bool {
    a.slot == b.slot
}

/// The same where queries do not depend on each other only as long as they are few: a token each.
fn shares_keys(a: &BatchRow, b: &BatchRow) -> bool {
    same_slot(a, b) && a.n_tokens == 1 && b.n_tokens == 1
}
