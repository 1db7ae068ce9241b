//! Attention to keys and values in bytes, [`crate::byte_keys_values`], which takes as long as reading them: half of what
//! bfloat16 takes.
//!
//! Both products of a head are those of bytes like any other. So that nothing but keys and values is as coarse as a byte,
//! what multiplies them has 16 bits: a query, and its weights, are two rows of bytes each, of the high and of the low ones,
//! whose sums are put together. Sums are exact, and the same on every machine.

use super::kv::ByteKeysValues;
use super::kv::int8::PER_WORD;
use super::product::multiply;
use super::shape::MAX_HEAD_DIM;
use crate::arch::Arch;
use crate::gemm::aligned::{bytes_mut, words_of};
use crate::gemm::layout::{PANEL, SLACK_ROWS};
use crate::gemm::microkernel::{DotTask, MAX_ROWS, Operands, Unit};
use crate::kernels::Kernels;
use crate::math::exp2_short;
use crate::math::quantize::{MAGIC, max_magnitude, step_and_inverse};
use crate::parallel::{Pool, Split, scratch};
use crate::simd::Simd;

/// The largest magnitude of a query's elements, and the largest weight, as 16 bits: the high byte is 127. The error of an
/// exponential is too small to make it more.
const STEPS: f32 = 127.0 * 256.0;
/// Panels of keys whose sums are made before they become scores: they stay in the first-level cache.
const PANELS: usize = 8;

impl Kernels {
    /// [`Kernels::attention`] of all queries to all keys, which are bytes; queries and weights have 16 bits.
    ///
    /// `q`, `out`: `[n_query, n_head * head_dim]`. A query's result does not depend on the others or on the number of
    /// threads. Allocates nothing once threads are warm.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn attention_int8(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: &[f32],
        keys_values: &ByteKeysValues,
    ) {
        let width = keys_values.n_head() * keys_values.head_dim();
        assert!(keys_values.n_key() > 0, "no keys");
        assert!(
            q.len() == out.len() && width > 0 && q.len().is_multiple_of(width),
            "q or out is not rows of {width}"
        );
        if !out.is_empty() {
            byte_attention(self.arch, pool, out, q, keys_values);
        }
    }
}

/// See [`crate::Kernels::attention_int8`]; shapes have been checked.
pub(crate) fn byte_attention(
    arch: Arch,
    pool: &Pool,
    out: &mut [f32],
    q: &[f32],
    keys_values: &ByteKeysValues,
) {
    assert!(keys_values.are_for(arch), "packed for another arch");
    let (n_head, head_dim) = (keys_values.n_head(), keys_values.head_dim());
    let (padded, head_words) = (keys_values.padded(), keys_values.head_words());
    let n_query = q.len() / (n_head * head_dim);
    let blocking = arch.blocking();
    let n_tasks = n_query.div_ceil(blocking.rows / 2);
    let of_task = n_query.div_ceil(n_tasks);
    let out = Split::new(out);
    // Heads outermost: threads at work share a head's keys and values.
    pool.run(n_head * n_tasks, &|task| {
        let first = task % n_tasks * of_task;
        let n = of_task.min(n_query.saturating_sub(first));
        let rows = 2 * n + SLACK_ROWS;
        let n_panels = PANELS.max(head_dim.div_ceil(PANEL));
        let sizes = [
            rows * head_words,
            rows * padded / PER_WORD,
            n * padded,
            n_panels * blocking.place,
        ];
        scratch::with(sizes.iter().sum(), |scratch| {
            let (queries, scratch) = scratch.split_at_mut(sizes[0]);
            let (weights, scratch) = scratch.split_at_mut(sizes[1]);
            let (scores, sums) = scratch.split_at_mut(sizes[2]);
            arch.run_int8(Block {
                keys_values,
                q,
                out,
                head: task / n_tasks,
                first,
                n,
                queries: words_of(queries),
                weights: words_of(weights),
                scores,
                sums,
            });
        });
    });
}

/// Some queries of one head.
struct Block<'a> {
    keys_values: &'a ByteKeysValues,
    q: &'a [f32],
    out: Split<'a>,
    head: usize,
    first: usize,
    n: usize,
    /// `[2 * n + SLACK_ROWS, words of a head]`: of each query the high bytes, and the low ones.
    queries: &'a mut [u32],
    /// `[2 * n + SLACK_ROWS, padded / 4]`: of each query's weights likewise.
    weights: &'a mut [u32],
    /// `[n, padded]`.
    scores: &'a mut [f32],
    /// [`Blocking::place`](crate::dot::Blocking) for each of some panels.
    sums: &'a mut [f32],
}

impl DotTask for Block<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        // From scores to powers of two.
        let mut scales = [0.0; MAX_ROWS];
        for (i, scale) in scales.iter_mut().enumerate().take(self.n) {
            *scale = self.split_query(i);
        }
        self.multiply_keys(unit);
        let mut totals = [0; MAX_ROWS];
        for i in 0..self.n {
            totals[i] = self.soften(unit.simd(), i, scales[i]);
        }
        self.multiply_values(unit);
        for i in 0..self.n {
            self.finish(unit, i, totals[i]);
        }
    }
}

impl Block<'_> {
    /// Writes query `i`, by the scales of the keys, in 16 bits; what takes its scores to powers of two.
    #[inline(always)]
    fn split_query(&mut self, i: usize) -> f32 {
        let kv = self.keys_values;
        let (head_dim, n_words) = (kv.head_dim(), kv.head_words());
        let row = (self.first + i) * kv.n_head() + self.head;
        let mut scaled = [0.0; MAX_HEAD_DIM];
        let scaled = &mut scaled[..head_dim];
        let q = self.q[row * head_dim..][..head_dim].iter();
        for ((to, q), scale) in scaled.iter_mut().zip(q).zip(kv.key_scales(self.head)) {
            *to = q * scale;
        }
        let (step, inverse) = step_and_inverse(max_magnitude(scaled), STEPS);
        let rows = &mut self.queries[2 * i * n_words..][..2 * n_words];
        let (high, low) = rows.split_at_mut(n_words);
        let bytes = bytes_mut(high).iter_mut().zip(bytes_mut(low));
        for ((high, low), x) in bytes.zip(scaled) {
            (*high, *low) = split((*x * inverse + MAGIC).to_bits() as i16);
        }
        step * std::f32::consts::LOG2_E / (head_dim as f32).sqrt()
    }

    /// Scores of all queries and keys, not yet scaled; of what pads the keys, negative infinity.
    #[inline(always)]
    fn multiply_keys<U: Unit>(&mut self, unit: U) {
        let kv = self.keys_values;
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let (n_words, padded) = (kv.head_words(), kv.padded());
        let starts = kv.key_starts(self.head);
        for first in (0..padded).step_by(PANELS * PANEL) {
            let n_panels = PANELS.min((padded - first) / PANEL);
            let operands = Operands {
                x: self.queries.as_ptr(),
                x_stride: n_words,
                w: kv.keys(self.head)[first * n_words..].as_ptr(),
                w_stride: n_words * PANEL,
                n_words,
                starts: starts[first..].as_ptr(),
                carry: false,
            };
            multiply(unit, 2 * self.n, n_panels, operands, self.sums);
            for i in 0..self.n {
                let scores = &mut self.scores[i * padded + first..][..n_panels * PANEL];
                for (panel, scores) in scores.chunks_exact_mut(PANEL).enumerate() {
                    let at = panel * U::BLOCKING.place + 2 * i * PANEL;
                    let starts = &starts[first + panel * PANEL..][..PANEL];
                    for j in (0..PANEL).step_by(lanes) {
                        let sums = join(unit, &self.sums[at + j..], &starts[j..]);
                        s.write(&mut scores[j..], sums);
                    }
                }
            }
        }
        for scores in self.scores.chunks_exact_mut(padded) {
            scores[kv.n_key()..].fill(f32::NEG_INFINITY);
        }
    }

    /// Writes the weights of query `i` in 16 bits; their sum.
    #[inline(always)]
    fn soften<S: Simd>(&mut self, s: S, i: usize, scale: f32) -> u32 {
        let padded = self.keys_values.padded();
        let scores = &mut self.scores[i * padded..][..padded];
        let mut max = s.splat(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(S::LANES) {
            max = s.max(s.read(scores), max);
        }
        let (max, scale) = (s.splat(s.max_lane(max)), s.splat(scale));
        for scores in scores.chunks_exact_mut(S::LANES) {
            // The difference first: no rounding makes a weight more than one, which 16 bits could not hold.
            let weights = exp2_short(s, s.mul(s.sub(s.read(scores), max), scale));
            s.write(scores, s.fma(weights, s.splat(STEPS), s.splat(MAGIC)));
        }
        let n_words = padded / PER_WORD;
        let rows = &mut self.weights[2 * i * n_words..][..2 * n_words];
        let (high, low) = rows.split_at_mut(n_words);
        let mut total = 0;
        let bytes = bytes_mut(high).iter_mut().zip(bytes_mut(low));
        for ((high, low), weight) in bytes.zip(scores) {
            let weight = weight.to_bits() as i16;
            (*high, *low) = split(weight);
            total += weight as u32;
        }
        total
    }

    /// The sums of values by the weights.
    #[inline(always)]
    fn multiply_values<U: Unit>(&mut self, unit: U) {
        let kv = self.keys_values;
        let n_words = kv.padded() / PER_WORD;
        let operands = Operands {
            x: self.weights.as_ptr(),
            x_stride: n_words,
            w: kv.values(self.head).as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: kv.value_starts(self.head).as_ptr(),
            carry: false,
        };
        let n_panels = kv.head_dim().div_ceil(PANEL);
        multiply(unit, 2 * self.n, n_panels, operands, self.sums);
    }

    /// Writes the output of query `i`, whose weights add up to `total`.
    #[inline(always)]
    fn finish<U: Unit>(&self, unit: U, i: usize, total: u32) {
        let kv = self.keys_values;
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let head_dim = kv.head_dim();
        let (scales, centres) = kv.value_ranges(self.head);
        let starts = kv.value_starts(self.head);
        let row = (self.first + i) * kv.n_head() + self.head;
        // SAFETY: no other task has this head of this query.
        let out = unsafe { self.out.take(row * head_dim, head_dim) };
        let inverse = s.splat(1.0 / total as f32);
        for (j, out) in (0..head_dim).step_by(lanes).zip(out.chunks_mut(lanes)) {
            let at = j / PANEL * U::BLOCKING.place + 2 * i * PANEL + j % PANEL;
            let sum = s.mul(join(unit, &self.sums[at..], &starts[j..]), inverse);
            let v = s.fma(sum, s.read(&scales[j..]), s.read(&centres[j..]));
            s.write(out, v);
        }
    }
}

/// A vector of sums of a query's two rows, the high bytes' and a panel's row behind them the low ones', put together. They
/// start from `starts`.
#[inline(always)]
fn join<U: Unit>(unit: U, sums: &[f32], starts: &[i32]) -> <U::Simd as Simd>::V {
    let s = unit.simd();
    assert!(starts.len() >= <U::Simd as Simd>::LANES);
    // SAFETY: as many starts are readable, asserted above.
    let [high, low] = unsafe {
        [
            unit.float(s.read(sums), starts.as_ptr()),
            unit.float(s.read(&sums[PANEL..]), starts.as_ptr()),
        ]
    };
    s.fma(high, s.splat(256.0), low)
}

/// The high and the low byte of `x`, `256 * high + low`, both signed, and 128 above as rows of bytes are.
#[inline(always)]
fn split(x: i16) -> (u8, u8) {
    let rest = x.wrapping_sub(i16::from(x as i8));
    ((rest >> 8) as u8 ^ 0x80, x as u8 ^ 0x80)
}
