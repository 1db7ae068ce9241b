//! Attention in bfloat16 over packed keys and values: encoder, and cross-attention of any number of queries.
//!
//! Both products of a head are packed ones like any other: keys are outputs of the first, the head's elements outputs
//! of the second, so keys are packed in panels of 32 with words along the head, values in panels of 32 elements with
//! words along the keys. A task takes a strip of up to a block of queries of one head. Their scores are computed for all
//! keys at once, or with tiles for 64, so that they stay in the first-level cache, and become weights at once: relative
//! to a power of two at the largest of the first scores (the online softmax of Milakov and Gimelshein). Only if a later
//! score is far above are the weights before scaled down, which being by a power of two changes no bit of the result.
//! Scores, maxima and sums are f32, the weights are rounded to bfloat16; those of all keys (94 KiB) and the head's keys
//! and values stay in the second-level cache.

use crate::activations::PackedRows;
use crate::dot::{DotTask, MAX_ROWS, Operands, Unit};
use crate::packed::{PANEL, place};
use crate::product::write_bf16;
use crate::simd::{Set, Simd, Vectorized};
use crate::split::Split;
use crate::words::{Words, halves, halves_of};
use crate::{Activations, Pool, scratch};

/// How far above the first keys' a score may be, as a power of two, before weights are scaled down. They can be up to
/// 2^31, and bfloat16 and f32 are as exact there as below 1.
const FAR: f32 = 16.0;

/// Keys and values of all heads, packed.
#[derive(Clone, Debug, Default)]
pub struct KeysValues {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Of the panels, see [`crate::packed`]; 0 before anything is packed.
    step: usize,
    /// Per head, panels of keys of `head_dim / 2` words.
    keys: Words,
    /// Per head, panels of elements with as many pairs of keys as the panels of keys hold.
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
            let n_words = self.head_dim / 2;
            let panel = &keys[key / PANEL * PANEL * n_words..];
            for (i, to) in to.chunks_exact_mut(2).enumerate() {
                let word = panel[place(self.step, n_words, i, key % PANEL)];
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
    pub(crate) fn pack(&mut self, set: Set, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        self.step = set.blocking().step;
        let step = self.step;
        let (n_head, head_dim, n_key) = (self.n_head, self.head_dim, self.n_key);
        let (of_keys, of_values) = (self.keys_words(), self.values_words());
        let keys = Split::new(self.keys.as_mut_slice());
        let values = Split::new(self.values.as_mut_slice());
        // Keys outermost: rows are read as they lie.
        pool.run(n_key.div_ceil(PANEL), &|panel| {
            let first = panel * PANEL;
            set.run_any(PackKeys {
                k,
                v,
                keys,
                values,
                step,
                n_head,
                head_dim,
                first,
                n: PANEL.min(n_key - first),
                of_keys,
                of_values,
            });
        });
    }
}

/// A panel of keys and their values, of all heads, to be packed.
struct PackKeys<'a> {
    k: PackedRows<'a>,
    v: PackedRows<'a>,
    keys: Split<'a, u32>,
    values: Split<'a, u32>,
    step: usize,
    n_head: usize,
    head_dim: usize,
    /// Keys from the first on.
    first: usize,
    n: usize,
    /// Words from head to head.
    of_keys: usize,
    of_values: usize,
}

impl Vectorized for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for head in 0..self.n_head {
            self.pack_keys(head);
            self.pack_values(head);
        }
    }
}

impl PackKeys<'_> {
    #[inline(always)]
    fn pack_keys(&self, head: usize) {
        let n_words = self.head_dim / 2;
        let at = head * self.of_keys + self.first * n_words;
        // SAFETY: no other task has this panel.
        let to = unsafe { self.keys.take(at, PANEL * n_words) };
        for key in 0..self.n {
            let row = (self.first + key) * self.k.stride + head * n_words;
            let to = &mut to[place(self.step, n_words, 0, key)..];
            for (to, from) in to
                .chunks_mut(self.step)
                .zip(&self.k.words[row..][..n_words])
            {
                to[0] = *from;
            }
        }
    }

    #[inline(always)]
    fn pack_values(&self, head: usize) {
        let of_panel = self.of_values / self.head_dim.next_multiple_of(PANEL);
        for element in (0..self.head_dim).step_by(self.step) {
            let n = self.step.min(self.head_dim - element);
            let at = head * self.of_values + element * of_panel + self.first / 2 * self.step;
            // SAFETY: no other task has these keys.
            let to = unsafe { self.values.take(at, PANEL / 2 * self.step) };
            for (pair, to) in to
                .chunks_mut(self.step)
                .enumerate()
                .take(self.n.div_ceil(2))
            {
                let row = |key: usize| {
                    let row = &self.v.words[(self.first + key) * self.v.stride..];
                    &halves(row)[head * self.head_dim + element..][..n]
                };
                let (even, odd) = (row(2 * pair), row(self.n.min(2 * pair + 2) - 1));
                let has_odd = u32::from(2 * pair + 1 < self.n);
                for ((to, even), odd) in to.iter_mut().zip(even).zip(odd) {
                    *to = u32::from(*even) | (u32::from(*odd) * has_odd) << 16;
                }
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
    assert_eq!(
        keys_values.step,
        set.blocking().step,
        "packed for another set"
    );
    assert!(keys_values.n_key > 0, "attention to nothing");
    let (out, out_stride) = out.bf16_mut();
    let out = Split::new(&mut out[first_out * out_stride..]);
    let blocking = set.blocking();
    let n_strips = n_query.div_ceil(blocking.rows);
    let rows = n_query.div_ceil(n_strips.max(1));
    let part = blocking.keys.min(keys_values.padded());
    let n_parts = keys_values.padded().div_ceil(part);
    // Heads outermost: threads at work share a head's keys and values.
    pool.run(n_head * n_strips, &|task| {
        let (head, first) = (task / n_strips, task % n_strips * rows);
        let n = rows.min(n_query.saturating_sub(first));
        let room = set.block_room(n);
        let n_scores = n_parts.min(2) * part / PANEL * blocking.place;
        let n_sums = head_dim.div_ceil(PANEL) * blocking.place;
        scratch::with(
            n_scores + n_sums + room * keys_values.padded() / 2,
            |scratch| {
                let (scores, scratch) = scratch.split_at_mut(n_scores);
                let (sums, weights) = scratch.split_at_mut(n_sums);
                set.run_bf16(Strip {
                    keys_values,
                    q,
                    out,
                    out_stride,
                    head,
                    first,
                    n,
                    part,
                    scores,
                    weights,
                    sums,
                });
            },
        );
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
    /// Keys that are taken at a time; whole panels.
    part: usize,
    /// [`Blocking::place`](crate::dot::Blocking) for every panel of two parts, in turns: `[n, 32]`.
    scores: &'a mut [f32],
    /// `[room, padded]` bfloat16: `room` is `n` and what a block takes beyond.
    weights: &'a mut [f32],
    /// [`Blocking::place`](crate::dot::Blocking) for every panel of elements: `[n, 32]`.
    sums: &'a mut [f32],
}

/// The softmax of all queries, so far.
struct Softmax<V> {
    /// Takes scores to powers of two.
    scale: f32,
    /// Weights are relative to 2 to this.
    powers: [f32; MAX_ROWS],
    /// Scores above are too far above that.
    limits: [f32; MAX_ROWS],
    /// Of the weights, in lanes.
    sums: [V; MAX_ROWS],
}

impl DotTask for Strip<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        let KeysValues {
            head_dim, n_key, ..
        } = *self.keys_values;
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let mut softmax = Softmax {
            scale: std::f32::consts::LOG2_E / (head_dim as f32).sqrt(),
            powers: [f32::NEG_INFINITY; MAX_ROWS],
            limits: [f32::NEG_INFINITY; MAX_ROWS],
            sums: [s.splat(0.0); MAX_ROWS],
        };
        self.multiply_keys(unit, 0);
        for first in (0..n_key).step_by(self.part) {
            self.soften(unit, &mut softmax, first);
            if first + self.part < n_key {
                self.multiply_keys(unit, first + self.part);
            }
        }
        self.multiply_values(unit);
        for i in 0..self.n {
            let from = (self.first + i) * self.out_stride + self.head * head_dim;
            // SAFETY: no other task has this head of this query.
            let out = unsafe { self.out.take(from, head_dim) };
            let scale = s.splat(1.0 / s.sum(softmax.sums[i]));
            for (out, sums) in out
                .chunks_mut(PANEL)
                .zip(self.sums.chunks(U::BLOCKING.place))
            {
                let sums = &sums[i * PANEL..][..PANEL];
                for (out, sums) in out.chunks_mut(lanes).zip(sums.chunks(lanes)) {
                    write_bf16(unit, out, s.mul(s.read(sums), scale));
                }
            }
        }
    }
}

impl Strip<'_> {
    /// Where the scores of the part from key `first` on are, and of how many keys.
    #[inline(always)]
    fn part<U: Unit>(&self, first: usize) -> (usize, usize) {
        let n_keys = self.part.min(self.keys_values.n_key - first);
        (
            first / self.part % 2 * (self.part / PANEL * U::BLOCKING.place),
            n_keys,
        )
    }

    /// Scores of all queries and the keys of a part, not yet scaled.
    #[inline(always)]
    fn multiply_keys<U: Unit>(&mut self, unit: U, first: usize) {
        let kv = self.keys_values;
        let (at, n_keys) = self.part::<U>(first);
        let n_words = kv.head_dim / 2;
        let keys = &kv.keys.as_slice()[self.head * kv.keys_words()..][..kv.keys_words()];
        let operands = Operands {
            x: self.q.words[self.first * self.q.stride + self.head * n_words..].as_ptr(),
            x_stride: self.q.stride,
            w: keys[first * n_words..].as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: std::ptr::null(),
            carry: false,
        };
        let scores = &mut self.scores[at..];
        multiply(unit, self.n, n_keys.div_ceil(PANEL), operands, scores);
    }

    /// The sums of values by their weights.
    #[inline(always)]
    fn multiply_values<U: Unit>(&mut self, unit: U) {
        let kv = self.keys_values;
        let n_words = kv.padded() / 2;
        let values = &kv.values.as_slice()[self.head * kv.values_words()..][..kv.values_words()];
        // What a block of rows takes at a time stays in the first-level cache.
        for word in (0..n_words).step_by(U::BLOCKING.block_words) {
            let operands = Operands {
                x: self.weights.as_ptr().cast::<u32>().wrapping_add(word),
                x_stride: n_words,
                w: values[word * U::BLOCKING.step..].as_ptr(),
                w_stride: n_words * PANEL,
                n_words: U::BLOCKING.block_words.min(n_words - word),
                starts: std::ptr::null(),
                carry: word > 0,
            };
            multiply(
                unit,
                self.n,
                kv.head_dim.div_ceil(PANEL),
                operands,
                self.sums,
            );
        }
    }

    /// The weights of the keys of a part.
    #[inline(always)]
    fn soften<U: Unit>(
        &mut self,
        unit: U,
        softmax: &mut Softmax<<U::Simd as Simd>::V>,
        first: usize,
    ) {
        let s = unit.simd();
        let (n, padded, scale) = (self.n, self.keys_values.padded(), softmax.scale);
        let (at, n_keys) = self.part::<U>(first);
        let n_panels = n_keys.div_ceil(PANEL);
        let last = (n_panels - 1) * U::BLOCKING.place;
        let scores = &mut self.scores[at..][..last + n * PANEL];
        if n_keys % PANEL > 0 {
            for scores in scores[last..].chunks_exact_mut(PANEL) {
                scores[n_keys % PANEL..].fill(f32::NEG_INFINITY);
            }
        }
        let weights = halves_of(self.weights);
        assert!(weights.len() >= (n - 1) * padded + first + n_panels * PANEL);
        for i in 0..n {
            // SAFETY: within the slices, whose checks row by row would take as long as the arithmetic.
            let (scores, to) = unsafe {
                (
                    scores.as_ptr().add(i * PANEL),
                    weights.as_mut_ptr().add(i * padded + first),
                )
            };
            // SAFETY: the row's scores.
            let max = unsafe { largest(s, scores, n_panels, U::BLOCKING.place) };
            if s.has_above(max, softmax.limits[i]) {
                let power = (s.max_lane(max) * scale).ceil();
                if first > 0 {
                    let down = power - softmax.powers[i];
                    lower(&mut weights[i * padded..][..first], down as u16);
                    softmax.sums[i] = s.mul(softmax.sums[i], s.splat((-down).max(-126.0).exp2()));
                }
                (softmax.powers[i], softmax.limits[i]) = (power, (power + FAR) / scale);
            }
            let terms = (scale, -softmax.powers[i]);
            // SAFETY: the row's scores and weights.
            softmax.sums[i] = unsafe {
                unit.weigh(
                    scores,
                    U::BLOCKING.place,
                    n_panels,
                    terms,
                    to,
                    softmax.sums[i],
                )
            };
        }
    }
}

/// Takes `power` from the exponents of bfloat16; what would be below the smallest normal number is zero.
#[cold]
fn lower(weights: &mut [u16], power: u16) {
    for weight in weights {
        *weight = match (*weight >> 7).checked_sub(power) {
            Some(1..) => *weight - (power << 7),
            _ => 0,
        };
    }
}

/// The largest score of a row of `n_panels`, `place` apart, in the lanes.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, scores: *const f32, n_panels: usize, place: usize) -> S::V {
    let mut max = [s.splat(f32::NEG_INFINITY); 2];
    for panel in 0..n_panels {
        for i in 0..PANEL / S::LANES {
            // SAFETY: the caller's.
            let scores = unsafe { s.load(scores.add(panel * place + i * S::LANES)) };
            max[i % 2] = s.max(scores, max[i % 2]);
        }
    }
    s.max(max[0], max[1])
}

/// All panels of a product of `n` rows, [`Blocking::place`](crate::dot::Blocking) apart in `sums`.
#[inline(always)]
fn multiply<U: Unit>(unit: U, n: usize, n_panels: usize, operands: Operands, sums: &mut [f32]) {
    assert!(n <= MAX_ROWS && sums.len() >= n_panels * U::BLOCKING.place);
    // A unit of few registers takes some rows at a time, one without instructions each alone.
    for row in (0..n).step_by(U::ROWS) {
        let n = U::ROWS.min(n - row);
        let operands = Operands {
            x: operands.x.wrapping_add(row * operands.x_stride),
            ..operands
        };
        let to = sums[row * PANEL..].as_mut_ptr();
        // SAFETY: rows, panels and sums are as many as are multiplied.
        unsafe { unit.multiply(n, n_panels, n < U::ROWS, &operands, to, &()) };
    }
}
