//! Keys and values of cross-attention: computed once per window, read by every step.

use bytemuck::zeroed_vec;
use half::f16;
use half::slice::HalfFloatSliceExt;
use overhear_kernels::{
    AttentionShape, Kernels, PackedActivations, PackedKv, Packing, QuantizedKv, Rows, Source,
};

use crate::ModelDimensions;
use crate::backend::BatchRow;
use crate::host::Host;

/// Keys and values of one window in one layer, as they are kept.
pub(super) trait CrossKv: Sized + Send + Sync {
    /// Element type.
    type Format: Copy + Send + Sync;

    /// Zeros.
    fn new(dims: &ModelDimensions, format: Self::Format) -> Self;

    /// Bytes of an element.
    fn element_size(format: Self::Format) -> usize;

    fn view(&self) -> CrossKvView<'_>;
}

/// Keys and values that stored weights make.
pub(super) enum StoredKv {
    /// `[n_audio_ctx, 2 * n_state]`, the key before the value.
    F32(Vec<f32>),
    /// Keys and values, `[n_text_head, n_audio_ctx, head_dim]` each.
    F16(Vec<f16>, Vec<f16>),
}

/// Element type of keys and values that are not packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KvFormat {
    F32,
    F16,
}

impl KvFormat {
    /// Returns the bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 => size_of::<f16>(),
        }
    }
}

/// Keys and values that packed weights make.
pub(super) enum PackedCrossKv {
    Bf16(PackedKv),
    Int8(QuantizedKv),
}

/// Keys and values of any format.
#[derive(Clone, Copy)]
pub(super) enum CrossKvView<'a> {
    /// `[n_audio_ctx, 2 * n_state]`, the key before the value.
    F32(&'a [f32]),
    /// Keys and values, `[n_text_head, n_audio_ctx, head_dim]` each.
    F16(&'a [f16], &'a [f16]),
    Bf16(&'a PackedKv),
    Int8(&'a QuantizedKv),
}

impl CrossKv for StoredKv {
    type Format = KvFormat;

    fn new(dims: &ModelDimensions, format: KvFormat) -> Self {
        let size = dims.n_audio_ctx * dims.n_text_state;
        match format {
            KvFormat::F32 => Self::F32(vec![0.0; 2 * size]),
            KvFormat::F16 => Self::F16(zeroed_vec(size), zeroed_vec(size)),
        }
    }

    fn element_size(format: KvFormat) -> usize {
        format.size()
    }

    fn view(&self) -> CrossKvView<'_> {
        match self {
            Self::F32(kv) => CrossKvView::F32(kv),
            Self::F16(keys, values) => CrossKvView::F16(keys, values),
        }
    }
}

impl CrossKv for PackedCrossKv {
    type Format = Packing;

    fn new(dims: &ModelDimensions, packing: Packing) -> Self {
        let (n_head, n_ctx) = (dims.n_text_head, dims.n_audio_ctx);
        let head_dim = dims.n_text_state / n_head;
        match packing {
            Packing::Bf16 => Self::Bf16(PackedKv::new(n_head, head_dim, n_ctx)),
            Packing::Int8 => Self::Int8(QuantizedKv::new(n_head, head_dim, n_ctx)),
        }
    }

    fn element_size(packing: Packing) -> usize {
        match packing {
            Packing::Bf16 => 2,
            Packing::Int8 => 1,
        }
    }

    fn view(&self) -> CrossKvView<'_> {
        match self {
            Self::Bf16(kv) => CrossKvView::Bf16(kv),
            Self::Int8(kv) => CrossKvView::Int8(kv),
        }
    }
}

/// Keys and values of all windows that a state holds.
pub(super) struct CrossKvCache<K> {
    /// Per layer, per slot.
    layers: Vec<Vec<K>>,
}

impl<K: CrossKv> CrossKvCache<K> {
    pub(super) fn new(dims: &ModelDimensions, n_slots: usize, format: K::Format) -> Self {
        let slots = |_| (0..n_slots).map(|_| K::new(dims, format)).collect();
        Self {
            layers: (0..dims.n_text_layer).map(slots).collect(),
        }
    }

    pub(super) fn view(&self, layer: usize, slot: usize) -> CrossKvView<'_> {
        self.layers[layer][slot].view()
    }

    /// Keys and values of one window, layer by layer.
    pub(super) fn window_mut(&mut self, slot: usize) -> impl Iterator<Item = &mut K> {
        self.layers.iter_mut().map(move |slots| &mut slots[slot])
    }
}

/// Query and output in bf16, for keys and values in bf16.
pub(super) struct CrossAttentionScratch {
    q: PackedActivations,
    out: PackedActivations,
}

impl CrossAttentionScratch {
    /// Room for `n` tokens.
    pub(super) fn new(n: usize, n_state: usize) -> Self {
        let buffer = || PackedActivations::new(Packing::Bf16, n, n_state);
        Self {
            q: buffer(),
            out: buffer(),
        }
    }
}

/// `out = attention(q)` of all tokens of `rows`, each row over the window of its slot. `q`, `out`: `[n, n_state]`. Rows
/// that follow each other and share a slot share one pass over its keys and values, most of what a step reads beside
/// the weights.
pub(super) fn cross_attention<K: CrossKv>(
    host: &Host,
    dims: &ModelDimensions,
    out: &mut [f32],
    q: &[f32],
    rows: &[BatchRow],
    (cache, layer): (&CrossKvCache<K>, usize),
    scratch: &mut CrossAttentionScratch,
) {
    let n_state = dims.n_text_state;
    let mut first = 0;
    for rows in rows.chunk_by(|a, b| a.slot == b.slot) {
        let n: usize = rows.iter().map(|row| row.n_tokens).sum();
        let lines = first * n_state..(first + n) * n_state;
        let (out, q) = (&mut out[lines.clone()], &q[lines]);
        match cache.view(layer, rows[0].slot) {
            CrossKvView::F32(kv) => {
                let [k, v] = [kv, &kv[n_state..]].map(|data| Rows {
                    data,
                    stride: 2 * n_state,
                });
                independently(dims, out, q, rows, |out, q, shape| {
                    host.kernels.attention(&host.pool, out, q, k, v, shape);
                });
            }
            CrossKvView::F16(k, v) => independently(dims, out, q, rows, |out, q, shape| {
                host.kernels.attention_f16(&host.pool, out, q, k, v, shape);
            }),
            CrossKvView::Bf16(kv) => {
                let CrossAttentionScratch { q: packed, out: to } = scratch;
                let source = Source::F32(Rows {
                    data: q,
                    stride: n_state,
                });
                host.kernels
                    .pack_rows(&host.pool, packed, source, (n, n_state), None);
                to.reset(n, n_state);
                host.kernels
                    .attention_bf16(&host.pool, (to, 0), (packed.rows(), n), kv);
                to.copy_widened(out);
            }
            CrossKvView::Int8(kv) => host.kernels.attention_int8(&host.pool, out, q, kv),
        }
        first += n;
    }
}

/// Calls `attend(out, q, shape)` for parts of `rows` between whose queries the kernels of f32 and f16 make no
/// difference: a row of several tokens, or as many rows of one token as the decode kernel takes.
fn independently(
    dims: &ModelDimensions,
    out: &mut [f32],
    q: &[f32],
    rows: &[BatchRow],
    mut attend: impl FnMut(&mut [f32], Rows<'_>, &AttentionShape),
) {
    let (n_state, n_head) = (dims.n_text_state, dims.n_text_head);
    let mut first = 0;
    let groups = rows.chunk_by(|a, b| a.n_tokens == 1 && b.n_tokens == 1);
    for rows in groups.flat_map(|rows| rows.chunks(Kernels::MAX_DECODE_QUERIES)) {
        let n: usize = rows.iter().map(|row| row.n_tokens).sum();
        let lines = first * n_state..(first + n) * n_state;
        let q = Rows {
            data: &q[lines.clone()],
            stride: n_state,
        };
        let shape = AttentionShape {
            n_head,
            head_dim: n_state / n_head,
            n_query: n,
            n_key: dims.n_audio_ctx,
            causal: false,
            block: 0,
        };
        attend(&mut out[lines], q, &shape);
        first += n;
    }
}

impl<'a> CrossKvView<'a> {
    /// Returns the keys of one head in f32, from its first element; converted in `buffer`, `[n_audio_ctx, head_dim]`, if
    /// they are kept otherwise.
    pub(super) fn head_keys(
        self,
        dims: &ModelDimensions,
        head: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Rows<'a> {
        let n_state = dims.n_text_state;
        let head_dim = n_state / dims.n_text_head;
        let len = dims.n_audio_ctx * head_dim;
        buffer.resize(len, 0.0);
        match self {
            CrossKvView::F32(kv) => {
                return Rows {
                    data: &kv[head * head_dim..],
                    stride: 2 * n_state,
                };
            }
            CrossKvView::F16(keys, _) => keys[head * len..][..len].convert_to_f32_slice(buffer),
            CrossKvView::Bf16(kv) => kv.copy_keys(head, buffer),
            CrossKvView::Int8(kv) => kv.copy_keys(head, buffer),
        }
        Rows {
            data: buffer,
            stride: head_dim,
        }
    }
}
