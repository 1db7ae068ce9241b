//! Keys and values of self-attention: those of all tokens of a row so far.

use bytemuck::zeroed_vec;
use half::f16;
use half::slice::HalfFloatSliceExt;
use overhear_kernels::KvRows;

use super::cross_kv::KvFormat;
use crate::ModelDimensions;

/// Keys and values of self-attention: per layer `[n_rows, n_text_ctx, 2 * n_state]`, the key before the value. The memory
/// is zeroed by the system, which provides it page by page when a row first grows into it.
///
/// Each row has one *place* of the `n_rows` in memory. When beams are rearranged, the first row that goes on from
/// another takes its place over, and only rows beyond the first are copied, from where the place that they get
/// differs: beams have most of their tokens in common.
pub(super) struct SelfKvCache {
    layers: Vec<Layer>,
    /// The place of each row.
    place: Vec<usize>,
    /// Tokens each place holds.
    n_tokens: Vec<usize>,
    /// `[n_rows, n_text_ctx]`: which call to [`SelfKvCache::append`] each position of a place comes from. Equal numbers
    /// mean equal contents.
    origin: Vec<u64>,
    n_appended: u64,
    /// The places of [`SelfKvCache::rearrange`]'s rows, while it works them out.
    next: Vec<Option<usize>>,
    n_ctx: usize,
    n_state: usize,
}

/// Keys and values of one layer.
enum Layer {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl SelfKvCache {
    pub(super) fn new(dims: &ModelDimensions, n_rows: usize, format: KvFormat) -> Self {
        let (n_ctx, n_state) = (dims.n_text_ctx, dims.n_text_state);
        let size = n_rows * n_ctx * 2 * n_state;
        let layer = |_| match format {
            KvFormat::F32 => Layer::F32(zeroed_vec(size)),
            KvFormat::F16 => Layer::F16(zeroed_vec(size)),
        };
        let layers = (0..dims.n_text_layer).map(layer).collect();
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

    /// Writes keys and values of `row` in `layer` after the tokens that it holds, which [`SelfKvCache::append`] is to count.
    /// `key_values`: of each token, key and value in one slice.
    pub(super) fn write<'a>(
        &mut self,
        layer: usize,
        row: usize,
        key_values: impl Iterator<Item = &'a [f32]>,
    ) {
        let width = 2 * self.n_state;
        let begin = (self.place[row] * self.n_ctx + self.n_tokens(row)) * width;
        match &mut self.layers[layer] {
            Layer::F32(kv) => kv[begin..]
                .chunks_exact_mut(width)
                .zip(key_values)
                .for_each(|(to, from)| to.copy_from_slice(from)),
            Layer::F16(kv) => kv[begin..]
                .chunks_exact_mut(width)
                .zip(key_values)
                .for_each(|(to, from)| to.convert_from_f32_slice(from)),
        }
    }

    /// All positions of `row` in `layer`, `[n_text_ctx, 2, n_state]`.
    pub(super) fn row(&self, layer: usize, row: usize) -> KvRows<'_> {
        let size = self.n_ctx * 2 * self.n_state;
        let range = self.place[row] * size..(self.place[row] + 1) * size;
        match &self.layers[layer] {
            Layer::F32(kv) => KvRows::F32(&kv[range]),
            Layer::F16(kv) => KvRows::F16(&kv[range]),
        }
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
            let source = source.start * width..source.end * width;
            match layer {
                Layer::F32(kv) => kv.copy_within(source, target * width),
                Layer::F16(kv) => kv.copy_within(source, target * width),
            }
        }
        self.origin.copy_within(source, target);
        self.n_tokens[to] = n_tokens;
    }
}
