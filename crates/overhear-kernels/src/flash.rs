//! Attention in bfloat16 over packed keys and values: encoder, and cross-attention of any number of queries.
//!
//! Both products of a head are [`block`]s like any other: keys are outputs of the first, the head's elements outputs
//! of the second, so keys are packed in panels of 32 with words along the head, values in panels of 32 elements with
//! words along the keys. A task takes a strip of up to 12 queries of one head: its scores (72 KiB for 1500 keys), their
//! weights and the head's keys and values stay in the second-level cache, so that the softmax sees a whole row at
//! once and nothing is rescaled. Scores, maxima and sums are f32, the weights are rounded to bfloat16.

use crate::activations::PackedRows;
use crate::dot::{DotTask, MAX_ROWS, Operands, Unit};
use crate::math::exp2_short;
use crate::packed::PANEL;
use crate::product::write_bf16;
use crate::simd::{Set, Simd};
use crate::split::Split;
use crate::words::{Words, halves, halves_of};
use crate::{Activations, Pool, scratch};

/// Keys and values of all heads, packed.
#[derive(Clone, Debug, Default)]
pub struct KeysValues {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Per head `[panels of keys, head_dim / 2, 32]`.
    keys: Words,
    /// Per head `[panels of elements, pairs of keys, 32]`; as many keys as the panels of keys hold.
    values: Words,
}

impl KeysValues {
    /// Room for `n_key` keys and values of `n_head` heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    #[must_use]
    pub fn new(n_head: usize, head_dim: usize, n_key: usize) -> Self {
        assert!(head_dim.is_multiple_of(2), "a head of {head_dim} elements");
        let mut this = Self {
            n_head,
            head_dim,
            n_key,
            ..Self::default()
        };
        this.keys = Words::new(n_head * this.keys_words());
        this.values = Words::new(n_head * this.values_words());
        this
    }

    /// Bytes that attention of one query reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        4 * (self.keys.as_slice().len() + self.values.as_slice().len())
    }

    /// Writes the keys of `head`, widened, to `to`: `[n_key, head_dim]`.
    ///
    /// # Panics
    /// If there is no such head, or `to` is not that long.
    pub fn copy_keys(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let keys = &self.keys.as_slice()[head * self.keys_words()..][..self.keys_words()];
        for (key, to) in to.chunks_exact_mut(self.head_dim).enumerate() {
            let panel = &keys[key / PANEL * PANEL * self.head_dim / 2..];
            let words = panel[key % PANEL..].iter().step_by(PANEL);
            for (to, word) in to.chunks_exact_mut(2).zip(words) {
                to[0] = f32::from_bits(word << 16);
                to[1] = f32::from_bits(word & 0xffff_0000);
            }
        }
    }

    pub(crate) fn n_head(&self) -> usize {
        self.n_head
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub(crate) fn n_key(&self) -> usize {
        self.n_key
    }

    /// Keys that the panels hold.
    fn padded(&self) -> usize {
        self.n_key.next_multiple_of(PANEL)
    }

    /// Words of a head's keys.
    fn keys_words(&self) -> usize {
        self.padded() * self.head_dim / 2
    }

    /// Words of a head's values.
    fn values_words(&self) -> usize {
        self.head_dim.next_multiple_of(PANEL) * self.padded() / 2
    }

    /// See [`crate::Kernels::pack_keys_values`]; shapes have been checked.
    pub(crate) fn pack(&mut self, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        let (keys_words, values_words) = (self.keys_words(), self.values_words());
        let (n_head, head_dim, n_key) = (self.n_head, self.head_dim, self.n_key);
        let keys = Split::new(self.keys.as_mut_slice());
        let values = Split::new(self.values.as_mut_slice());
        pool.run(2 * n_head, &|task| {
            let head = task / 2;
            if task % 2 == 0 {
                // SAFETY: the tasks' heads are disjoint.
                let keys = unsafe { keys.take(head * keys_words, keys_words) };
                pack_keys(keys, k, n_key, head * head_dim / 2, head_dim / 2);
            } else {
                // SAFETY: the tasks' heads are disjoint.
                let values = unsafe { values.take(head * values_words, values_words) };
                pack_values(values, v, n_key, head * head_dim, head_dim);
            }
        });
    }
}

/// One head's keys: `n_words` of every row from word `first`.
fn pack_keys(to: &mut [u32], k: PackedRows<'_>, n_key: usize, first: usize, n_words: usize) {
    for (panel, to) in to.chunks_exact_mut(n_words * PANEL).enumerate() {
        for key in 0..PANEL.min(n_key - panel * PANEL) {
            let from = &k.words[(panel * PANEL + key) * k.stride + first..][..n_words];
            for (to, from) in to.chunks_exact_mut(PANEL).zip(from) {
                to[key] = *from;
            }
        }
    }
}

/// One head's values: `n` elements of every row from element `first`.
fn pack_values(to: &mut [u32], v: PackedRows<'_>, n_key: usize, first: usize, n: usize) {
    let n_pairs = n_key.next_multiple_of(PANEL) / 2;
    let row = |key: usize| &halves(&v.words[key * v.stride..])[first..][..n];
    for pair in 0..n_key.div_ceil(2) {
        let even = row(2 * pair);
        let odd = row(n_key.min(2 * pair + 2) - 1);
        let has_odd = u32::from(2 * pair + 1 < n_key);
        for (panel, (even, odd)) in even.chunks(PANEL).zip(odd.chunks(PANEL)).enumerate() {
            let to = &mut to[(panel * n_pairs + pair) * PANEL..][..even.len()];
            for ((to, even), odd) in to.iter_mut().zip(even).zip(odd) {
                *to = u32::from(*even) | (u32::from(*odd) * has_odd) << 16;
            }
        }
    }
}

/// See [`crate::Kernels::flash_attention`]; shapes have been checked.
pub(crate) fn flash_attention(
    set: Set,
    pool: &Pool,
    (out, first_out): (&mut Activations, usize),
    (q, n_query): (PackedRows<'_>, usize),
    keys_values: &KeysValues,
) {
    let KeysValues {
        n_head, head_dim, ..
    } = *keys_values;
    let (out, out_stride) = out.bf16_mut();
    let out = Split::new(&mut out[first_out * out_stride..]);
    let n_strips = n_query.div_ceil(set.blocking().rows);
    let rows = n_query.div_ceil(n_strips.max(1));
    // Heads outermost: threads at work share a head's keys and values.
    pool.run(n_head * n_strips, &|task| {
        let (head, first) = (task / n_strips, task % n_strips * rows);
        let n = rows.min(n_query.saturating_sub(first));
        let padded = keys_values.padded();
        let width = head_dim.next_multiple_of(PANEL);
        let room = set.block_room(n);
        scratch::with(room * (padded + padded / 2 + width), |scratch| {
            let (scores, scratch) = scratch.split_at_mut(room * padded);
            let (weights, sums) = scratch.split_at_mut(room * padded / 2);
            set.run_bf16(Strip {
                keys_values,
                q,
                out,
                out_stride,
                head,
                first,
                n,
                scores,
                weights,
                sums,
            });
        });
    });
}

/// Some queries of one head.
struct Strip<'a> {
    keys_values: &'a KeysValues,
    q: PackedRows<'a>,
    out: Split<'a, u16>,
    /// Elements from row to row.
    out_stride: usize,
    head: usize,
    first: usize,
    n: usize,
    /// `[room, padded]`: `room` is `n` and what a block takes beyond.
    scores: &'a mut [f32],
    /// `[room, padded]` bfloat16.
    weights: &'a mut [f32],
    /// `[room, width]`.
    sums: &'a mut [f32],
}

impl DotTask for Strip<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        let KeysValues {
            head_dim, n_key, ..
        } = *self.keys_values;
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let padded = self.keys_values.padded();
        let width = head_dim.next_multiple_of(PANEL);
        self.multiply_keys(unit);
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let mut inverse = [0.0; MAX_ROWS];
        let weights = halves_of(self.weights);
        let rows = self.scores.chunks_exact_mut(padded).take(self.n);
        for (i, (scores, weights)) in rows.zip(weights.chunks_exact_mut(padded)).enumerate() {
            scores[n_key..].fill(f32::NEG_INFINITY);
            inverse[i] = 1.0 / soften(unit, scores, weights, scale);
        }
        self.multiply_values(unit);
        for i in 0..self.n {
            let from = (self.first + i) * self.out_stride + self.head * head_dim;
            // SAFETY: no other task has this head of this query.
            let out = unsafe { self.out.take(from, head_dim) };
            let scale = s.splat(inverse[i]);
            let sums = &self.sums[i * width..][..width];
            for (out, sums) in out.chunks_mut(lanes).zip(sums.chunks(lanes)) {
                write_bf16(unit, out, s.mul(s.read(sums), scale));
            }
        }
    }
}

impl Strip<'_> {
    /// Scores of all queries and keys, not yet scaled.
    #[inline(always)]
    fn multiply_keys<U: Unit>(&mut self, unit: U) {
        let kv = self.keys_values;
        let n_words = kv.head_dim / 2;
        let keys = &kv.keys.as_slice()[self.head * kv.keys_words()..][..kv.keys_words()];
        let operands = Operands {
            x: self.q.words[self.first * self.q.stride + self.head * n_words..].as_ptr(),
            x_stride: self.q.stride,
            w: keys.as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: std::ptr::null(),
            carry: false,
            sums_stride: kv.padded(),
        };
        multiply(unit, self.n, kv.padded() / PANEL, operands, self.scores);
    }

    /// The sums of values by their weights.
    #[inline(always)]
    fn multiply_values<U: Unit>(&mut self, unit: U) {
        let kv = self.keys_values;
        let (n_words, width) = (kv.padded() / 2, kv.head_dim.next_multiple_of(PANEL));
        let values = &kv.values.as_slice()[self.head * kv.values_words()..][..kv.values_words()];
        let operands = Operands {
            x: self.weights.as_ptr().cast(),
            x_stride: n_words,
            w: values.as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: std::ptr::null(),
            carry: false,
            sums_stride: width,
        };
        multiply(unit, self.n, width / PANEL, operands, self.sums);
    }
}

/// All panels of a product of `n` rows, `[n, n_panels * 32]`, into `sums`.
#[inline(always)]
fn multiply<U: Unit>(unit: U, n: usize, n_panels: usize, operands: Operands, sums: &mut [f32]) {
    assert!(sums.len() >= n * operands.sums_stride && operands.sums_stride == n_panels * PANEL);
    let mut row = 0;
    while row < n {
        let n = U::ROWS.min(n - row);
        let mut panel = 0;
        while panel < n_panels {
            let at = U::panels_of(n).min(n_panels - panel);
            let at = if at == 3 { 2 } else { at };
            let operands = Operands {
                x: operands.x.wrapping_add(row * operands.x_stride),
                w: operands.w.wrapping_add(panel * operands.w_stride),
                ..operands
            };
            let to = sums[row * operands.sums_stride + panel * PANEL..].as_mut_ptr();
            // SAFETY: rows, panels and sums are as many as the block takes.
            unsafe { unit.block(n, at, n < U::ROWS, &operands, to) };
            panel += at;
        }
        row += n;
    }
}

/// `weights = 2^(scale * (scores - max))`, rounded; their sum before that.
#[inline(always)]
fn soften<U: Unit>(unit: U, scores: &[f32], weights: &mut [u16], scale: f32) -> f32 {
    /// Vectors at a time, so that maxima and sums do not wait for one another.
    const N: usize = 2;
    let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
    let mut max = [s.splat(f32::NEG_INFINITY); N];
    for scores in scores.chunks_exact(N * lanes) {
        for n in 0..N {
            max[n] = s.max(s.read(&scores[n * lanes..][..lanes]), max[n]);
        }
    }
    let max = s.max_lane(s.max(max[0], max[1]));
    let (scale, offset) = (s.splat(scale), s.splat(-max * scale));
    let mut sums = [s.splat(0.0); N];
    for (scores, weights) in scores
        .chunks_exact(N * lanes)
        .zip(weights.chunks_exact_mut(N * lanes))
    {
        for n in 0..N {
            let score = s.read(&scores[n * lanes..][..lanes]);
            let v = exp2_short(s, s.fma(score, scale, offset));
            sums[n] = s.add(sums[n], v);
            write_bf16(unit, &mut weights[n * lanes..][..lanes], v);
        }
    }
    s.sum(s.add(sums[0], sums[1]))
}
