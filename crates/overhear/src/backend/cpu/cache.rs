//! The keys and values that decoding keeps.

use bytemuck::zeroed_vec;
use half::f16;
use half::slice::HalfFloatSliceExt;
use overhear_kernels::{PackedKv, PostOp, QuantizedKv, Rows};

use super::format::CrossFormat;
use super::layers::Compute;
use super::packed::PackedScratch;
use super::weights::{Decoder, Linear};
use crate::ModelDimensions;

/// Keys and values of self-attention: per layer `[n_rows, n_text_ctx, 2 * n_state]`, the key before the value.
///
/// Each row has one *place* of the `n_rows` in memory. When beams are rearranged, the first row that goes on from
/// another takes its place over, and only rows beyond the first are copied, from where the place that they get
/// differs: beams have most of their tokens in common.
pub(super) struct SelfCache {
    layers: Vec<Vec<f32>>,
    /// The place of each row.
    place: Vec<usize>,
    /// Tokens each place holds.
    n_tokens: Vec<usize>,
    /// `[n_rows, n_text_ctx]`: which call to [`SelfCache::append`] each position of a place comes from. Equal numbers
    /// mean equal contents.
    origin: Vec<u64>,
    n_appended: u64,
    /// The places of [`SelfCache::rearrange`]'s rows, while it works them out.
    next: Vec<Option<usize>>,
    n_ctx: usize,
    n_state: usize,
}

/// Keys and values of cross-attention.
pub(super) struct CrossCache {
    layers: Layers,
    n_ctx: usize,
    n_state: usize,
    head_dim: usize,
}

/// Per layer.
enum Layers {
    /// `[n_slots, n_audio_ctx, 2 * n_state]`, the key before the value.
    F32(Vec<Vec<f32>>),
    /// `[n_slots, 2, n_text_head, n_audio_ctx, head_dim]`, the keys before the values.
    F16(Vec<Vec<f16>>),
    /// Per slot, in bfloat16.
    Packed(Vec<Vec<PackedKv>>),
    /// Per slot.
    Bytes(Vec<Vec<QuantizedKv>>),
}

/// The keys and values of one slot.
#[derive(Clone, Copy)]
pub(super) enum Slot<'a> {
    /// `[n_audio_ctx, 2 * n_state]`, the key before the value.
    F32(&'a [f32]),
    /// The keys and the values, `[n_text_head, n_audio_ctx, head_dim]` each.
    F16(&'a [f16], &'a [f16]),
    Packed(&'a PackedKv),
    Bytes(&'a QuantizedKv),
}

impl<'a> Slot<'a> {
    /// The packed keys and values.
    ///
    /// # Panics
    /// If they are not packed: all slots are of one kind.
    pub(super) fn packed(self) -> &'a PackedKv {
        match self {
            Slot::Packed(keys_values) => keys_values,
            _ => unreachable!("all slots are of one kind"),
        }
    }
}

impl SelfCache {
    pub(super) fn new(dims: &ModelDimensions, n_rows: usize) -> Self {
        let (n_ctx, n_state) = (dims.n_text_ctx, dims.n_text_state);
        let layers = (0..dims.n_text_layer)
            .map(|_| vec![0.0; n_rows * n_ctx * 2 * n_state])
            .collect();
        Self {
            layers,
            place: (0..n_rows).collect(),
            n_tokens: vec![0; n_rows],
            origin: vec![0; n_rows * n_ctx],
            n_appended: 0,
            next: Vec::with_capacity(n_rows),
            n_ctx,
            n_state,
        }
    }

    /// Tokens that `row` holds.
    pub(super) fn n_tokens(&self, row: usize) -> usize {
        self.n_tokens[self.place[row]]
    }

    /// All positions of `row` in `layer`, `[n_text_ctx, 2 * n_state]`.
    pub(super) fn row_mut(&mut self, layer: usize, row: usize) -> &mut [f32] {
        let size = self.n_ctx * 2 * self.n_state;
        &mut self.layers[layer][self.place[row] * size..][..size]
    }

    /// Counts `n_tokens` more that every layer of `row` has been given.
    pub(super) fn append(&mut self, row: usize, n_tokens: usize) {
        let place = self.place[row];
        let begin = self.n_tokens[place];
        self.n_tokens[place] += n_tokens;
        self.n_appended += 1;
        self.origin[place * self.n_ctx + begin..][..n_tokens].fill(self.n_appended);
    }

    /// Forgets what `row` holds beyond its first `n_tokens` tokens.
    pub(super) fn truncate(&mut self, row: usize, n_tokens: usize) {
        let held = &mut self.n_tokens[self.place[row]];
        *held = n_tokens.min(*held);
    }

    /// Row `i` goes on from what row `source[i]` holds.
    pub(super) fn rearrange(&mut self, source: &[usize]) {
        self.next.clear();
        for (i, &from) in source.iter().enumerate() {
            let is_first = !source[..i].contains(&from);
            self.next.push(is_first.then_some(self.place[from]));
        }
        for (i, &from) in source.iter().enumerate() {
            if self.next[i].is_none() {
                let from = self.place[from];
                // The place with the longest head in common, of those that no row goes on from.
                let to = self.place[..source.len()]
                    .iter()
                    .copied()
                    .filter(|place| !self.next.contains(&Some(*place)))
                    .max_by_key(|&place| self.n_shared(from, place))
                    .expect("as many places as rows");
                self.copy(from, to);
                self.next[i] = Some(to);
            }
        }
        for (place, next) in self.place.iter_mut().zip(&self.next) {
            *place = next.expect("every row was given a place");
        }
    }

    /// Tokens from the first that places `a` and `b` have in common.
    fn n_shared(&self, a: usize, b: usize) -> usize {
        let origins = |place: usize| &self.origin[place * self.n_ctx..][..self.n_tokens[place]];
        let pairs = origins(a).iter().zip(origins(b));
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Makes place `to` hold what place `from` holds.
    fn copy(&mut self, from: usize, to: usize) {
        let (n_shared, n_tokens) = (self.n_shared(from, to), self.n_tokens[from]);
        let positions = |place: usize| place * self.n_ctx + n_shared..place * self.n_ctx + n_tokens;
        let (source, target) = (positions(from), positions(to).start);
        let width = 2 * self.n_state;
        for layer in &mut self.layers {
            layer.copy_within(source.start * width..source.end * width, target * width);
        }
        self.origin.copy_within(source, target);
        self.n_tokens[to] = n_tokens;
    }
}

impl CrossCache {
    pub(super) fn new(dims: &ModelDimensions, n_slots: usize, format: CrossFormat) -> Self {
        let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_text_state);
        let (n_layer, size) = (dims.n_text_layer, n_slots * n_ctx * 2 * n_state);
        let head_dim = n_state / dims.n_text_head;
        let layers = match format {
            CrossFormat::F32 => Layers::F32((0..n_layer).map(|_| vec![0.0; size]).collect()),
            CrossFormat::F16 => Layers::F16((0..n_layer).map(|_| zeroed_vec(size)).collect()),
            CrossFormat::Bf16 => {
                let slot = PackedKv::new(dims.n_text_head, head_dim, n_ctx);
                Layers::Packed(vec![vec![slot; n_slots]; n_layer])
            }
            CrossFormat::Int8 => {
                let slot = QuantizedKv::new(dims.n_text_head, head_dim, n_ctx);
                Layers::Bytes(vec![vec![slot; n_slots]; n_layer])
            }
        };
        Self {
            layers,
            n_ctx,
            n_state,
            head_dim,
        }
    }

    /// The elements of one slot of a layer.
    fn range(&self, slot: usize) -> std::ops::Range<usize> {
        let size = self.n_ctx * 2 * self.n_state;
        slot * size..(slot + 1) * size
    }

    /// The keys and values of one slot in one layer.
    pub(super) fn slot(&self, layer: usize, slot: usize) -> Slot<'_> {
        match &self.layers {
            Layers::F32(layers) => Slot::F32(&layers[layer][self.range(slot)]),
            Layers::F16(layers) => {
                let (keys, values) =
                    layers[layer][self.range(slot)].split_at(self.n_ctx * self.n_state);
                Slot::F16(keys, values)
            }
            Layers::Packed(layers) => Slot::Packed(&layers[layer][slot]),
            Layers::Bytes(layers) => Slot::Bytes(&layers[layer][slot]),
        }
    }

    /// The keys of one head of `head_dim` elements in f32, from the start of the first; in `unpacked`
    /// (`[n_audio_ctx, head_dim]`) if they are kept otherwise.
    pub(super) fn head_keys<'a>(
        &'a self,
        layer: usize,
        slot: usize,
        (head, head_dim): (usize, usize),
        unpacked: &'a mut Vec<f32>,
    ) -> Rows<'a> {
        let len = self.n_ctx * head_dim;
        match self.slot(layer, slot) {
            Slot::F32(rows) => {
                return Rows {
                    data: &rows[head * head_dim..],
                    stride: 2 * self.n_state,
                };
            }
            Slot::F16(keys, _) => {
                unpacked.resize(len, 0.0);
                keys[head * len..][..len].convert_to_f32_slice(unpacked);
            }
            Slot::Packed(keys_values) => {
                unpacked.resize(len, 0.0);
                keys_values.copy_keys(head, unpacked);
            }
            Slot::Bytes(keys_values) => {
                unpacked.resize(len, 0.0);
                keys_values.copy_keys(head, unpacked);
            }
        }
        Rows {
            data: unpacked,
            stride: head_dim,
        }
    }

    /// Computes the keys and values of every layer from `audio_features`, `[n_audio_ctx, n_audio_state]`.
    pub(super) fn fill(
        &mut self,
        c: Compute<'_>,
        decoder: &Decoder,
        slot: usize,
        audio_features: &[f32],
        (wide, packed): (&mut [f32], &mut PackedScratch),
    ) {
        let range = self.range(slot);
        let layers = decoder
            .blocks
            .iter()
            .map(|block| &block.cross_attn.key_value);
        let x = Rows {
            data: audio_features,
            stride: audio_features.len() / self.n_ctx,
        };
        match &mut self.layers {
            Layers::F32(kept) => {
                for (layer, kept) in layers.zip(kept) {
                    c.linear(&mut kept[range.clone()], x, layer, PostOp::Store);
                }
            }
            Layers::F16(kept) => {
                let (wide, half) = (&mut wide[..range.len()], range.len() / 2);
                for (layer, kept) in layers.zip(kept) {
                    c.linear(wide, x, layer, PostOp::Store);
                    for (i, kept) in kept[range.clone()].chunks_exact_mut(half).enumerate() {
                        let from = Rows {
                            data: &wide[i * self.n_state..],
                            stride: 2 * self.n_state,
                        };
                        c.kernels
                            .convert_heads_f16(c.pool, kept, from, self.n_ctx, self.head_dim);
                    }
                }
            }
            Layers::Packed(kept) => {
                let layers = layers.map(Linear::packed);
                packed.keys_values(c, audio_features, layers, |layer, k, v| {
                    c.kernels.pack_kv(c.pool, &mut kept[layer][slot], k, v);
                });
            }
            Layers::Bytes(kept) => {
                let layers = layers.map(Linear::packed);
                packed.keys_values(c, audio_features, layers, |layer, k, v| {
                    c.kernels.quantize_kv(c.pool, &mut kept[layer][slot], k, v);
                });
            }
        }
    }
}
