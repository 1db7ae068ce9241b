//! Decode kernel of attention in f32: few queries, vector lanes along the head.
//!
//! A task is one head of all queries. Every query does what it would do alone, so a row of text has the same bits
//! whoever shares its pass over the keys.

use super::dots::{self, block, groups};
use super::heads::{Call, HeadRows};
use super::shape::AttentionShape;
use super::softmax::Running;
use crate::arch::Arch;
use crate::parallel::Pool;
use crate::simd::{Element, Simd, Vectorized};

/// Most queries of the decode kernel. More are better served with lanes along the queries.
pub(super) const MAX_DECODE_QUERIES: usize = 8;
/// Keys of a block, whose scores are on the stack.
const BLOCK_KEYS: usize = 256;
/// Keys, or values, that all queries take before the next ones: 8 KiB of heads of 64 elements stay in L1.
const SHARED_KEYS: usize = 32;
/// Prefetch distance, as bytes of heads of 64 elements: what memory delivers during its latency.
const PREFETCH_BYTES: usize = 6 << 10;

/// Runs the call with one task per head.
pub(super) fn decode<E: Element>(arch: Arch, pool: &Pool, call: &Call<'_, E>) {
    let n_head = call.shape.n_head;
    pool.run(n_head, &|head| decode_head(arch, call, head));
}

/// Runs one head of the call on this thread.
pub(super) fn decode_head<E: Element>(arch: Arch, call: &Call<'_, E>, head: usize) {
    arch.run(Decode { call, head }, || {
        unreachable!("the scalar set has no vectors")
    });
}

/// Task: one head of all queries, over all keys that they see.
struct Decode<'a, E> {
    call: &'a Call<'a, E>,
    head: usize,
}

impl<E: Element> Vectorized for Decode<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { call, head } = self;
        let AttentionShape {
            n_head,
            head_dim,
            n_query,
            n_key,
            ..
        } = call.shape;
        let start = Running {
            max: f32::NEG_INFINITY,
            sum: 0.0,
            rescale: 0.0,
        };
        let mut running = [start; MAX_DECODE_QUERIES];
        let mut scores = [[0.0; BLOCK_KEYS]; MAX_DECODE_QUERIES];
        let out = |query: usize| {
            // SAFETY: no other task has this head, and this one has one query's at a time.
            unsafe { call.out.take((query * n_head + head) * head_dim, head_dim) }
        };
        (0..n_query).for_each(|query| out(query).fill(0.0));
        for first in (0..n_key).step_by(BLOCK_KEYS) {
            // Keys of this block, from `at` on, that a query sees.
            let n_seen = |query, at| {
                let end = call.n_seen(query).min(first + BLOCK_KEYS);
                end.saturating_sub(first + at).min(SHARED_KEYS)
            };
            for at in (0..BLOCK_KEYS).step_by(SHARED_KEYS) {
                // Includes keys that only the last query sees; the other queries leave them out below.
                let n = n_seen(n_query - 1, at);
                if n > 0 {
                    let keys = Heads::new(call.k, first + at, n, head, head_dim);
                    call.score_all(s, &mut scores[..n_query], at, keys, head);
                }
            }
            for query in 0..n_query {
                let n = call.n_seen(query).saturating_sub(first).min(BLOCK_KEYS);
                running[query] = running[query].update(s, &mut scores[query][..n]);
            }
            for at in (0..BLOCK_KEYS).step_by(SHARED_KEYS) {
                for query in 0..n_query {
                    let n = n_seen(query, at);
                    if n > 0 {
                        let rescale = if at == 0 { running[query].rescale } else { 1.0 };
                        let probabilities = &scores[query][at..at + n];
                        let values = Heads::new(call.v, first + at, n, head, head_dim);
                        if query == 0 {
                            add_values::<S, E, true>(s, out(query), rescale, probabilities, values);
                        } else {
                            add_values::<S, E, false>(
                                s,
                                out(query),
                                rescale,
                                probabilities,
                                values,
                            );
                        }
                    }
                }
            }
        }
        for query in 0..n_query {
            let sum = running[query].sum;
            out(query).iter_mut().for_each(|out| *out /= sum);
        }
    }
}

/// One head of consecutive rows of keys or values.
#[derive(Clone, Copy)]
struct Heads<'a, E> {
    /// From the head of the first row to the end of the head of the last row.
    data: &'a [E],
    stride: usize,
    n_rows: usize,
}

impl<'a, E> Heads<'a, E> {
    fn new(
        rows: HeadRows<'a, E>,
        first: usize,
        n_rows: usize,
        head: usize,
        head_dim: usize,
    ) -> Self {
        let start = first * rows.stride + head * rows.head_stride;
        let data = &rows.data[start..][..(n_rows - 1) * rows.stride + head_dim];
        Self {
            data,
            stride: rows.stride,
            n_rows,
        }
    }

    /// Pointer to row `row`, or to the last row if there are fewer.
    #[inline(always)]
    fn row(&self, row: usize) -> *const E {
        self.data
            .as_ptr()
            .wrapping_add(row.min(self.n_rows - 1) * self.stride)
    }

    /// Prefetch distance in elements.
    #[inline(always)]
    fn prefetch_distance(&self) -> usize {
        PREFETCH_BYTES / (64 * size_of::<E>()) * self.stride
    }
}

impl<E: Element> Call<'_, E> {
    /// Scores of `keys` for all queries, stored from `at` on: as many queries at a time as a register block has rows.
    #[inline(always)]
    fn score_all<S: Simd>(
        &self,
        s: S,
        scores: &mut [[f32; BLOCK_KEYS]],
        at: usize,
        keys: Heads<'_, E>,
        head: usize,
    ) {
        for (i, scores) in scores.chunks_mut(S::ROWS).enumerate() {
            let q = self.head(&self.q, i * S::ROWS, head);
            // Keys are prefetched once.
            match (scores.len(), i) {
                (1, 0) => self.score::<S, 1, 2, true>(s, scores, at, q, keys),
                (1, _) => self.score::<S, 1, 2, false>(s, scores, at, q, keys),
                (2, 0) => self.score::<S, 2, 1, true>(s, scores, at, q, keys),
                (2, _) => self.score::<S, 2, 1, false>(s, scores, at, q, keys),
                (3, 0) => self.score::<S, 3, 1, true>(s, scores, at, q, keys),
                (3, _) => self.score::<S, 3, 1, false>(s, scores, at, q, keys),
                (4, _) if S::ROWS > 3 => self.score::<S, 4, 1, true>(s, scores, at, q, keys),
                (5, _) if S::ROWS > 3 => self.score::<S, 5, 1, true>(s, scores, at, q, keys),
                (6, _) if S::ROWS > 3 => self.score::<S, 6, 1, true>(s, scores, at, q, keys),
                (n, _) => unreachable!("a register block of {n} queries"),
            }
        }
    }

    /// `scores[m][at + i] = scale * (query m . key i)`, `4 * G` keys at a time. `q`: the head of the first query.
    #[inline(always)]
    fn score<S: Simd, const M: usize, const G: usize, const PREFETCH: bool>(
        &self,
        s: S,
        scores: &mut [[f32; BLOCK_KEYS]],
        at: usize,
        q: &[f32],
        keys: Heads<'_, E>,
    ) {
        for first in (0..keys.n_rows).step_by(4 * G) {
            let w = groups::<E, G>(|j| keys.row(first + j));
            let operands = dots::Operands {
                x: q.as_ptr(),
                x_stride: self.q.stride,
                w,
                len: q.len(),
                prefetch_distance: keys.prefetch_distance(),
            };
            // SAFETY: each of `M` queries, in rows of `q` that the caller has checked, and each key are `q.len()`
            // elements, the head's.
            let dots = unsafe { block::<S, E, M, G, PREFETCH>(s, &operands) };
            let n = (4 * G).min(keys.n_rows - first);
            for (scores, dots) in scores.iter_mut().zip(&dots) {
                let scores = &mut scores[at + first..][..n];
                let dots = dots.as_flattened().iter();
                scores
                    .iter_mut()
                    .zip(dots)
                    .for_each(|(score, dot)| *score = self.scale * dot);
            }
        }
    }
}

/// `out = out * rescale + sum of probabilities[i] * value i`, with as many vectors of the head at a time as keep the
/// arithmetic units busy. With `PREFETCH`, values are prefetched.
#[inline(always)]
fn add_values<S: Simd, E: Element, const PREFETCH: bool>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    probabilities: &[f32],
    values: Heads<'_, E>,
) {
    let mut d = 0;
    while d < out.len() {
        let left = out.len() - d;
        let out = &mut out[d..];
        // SAFETY: every value is as long as the head, of which `left` elements follow `d`.
        d += unsafe {
            match left / S::LANES {
                8.. => add_value_vectors::<S, E, 8, PREFETCH>(
                    s,
                    out,
                    rescale,
                    probabilities,
                    values,
                    d,
                ),
                4.. => add_value_vectors::<S, E, 4, PREFETCH>(
                    s,
                    out,
                    rescale,
                    probabilities,
                    values,
                    d,
                ),
                1.. => add_value_vectors::<S, E, 1, PREFETCH>(
                    s,
                    out,
                    rescale,
                    probabilities,
                    values,
                    d,
                ),
                0 => add_value_tail(s, out, rescale, probabilities, values, d),
            }
        };
    }
}

/// `N` vectors of [`add_values`], from element `d` of the head on. Returns their number of elements. Even and odd
/// rows have accumulators of their own.
///
/// # Safety
/// Values must have `N * LANES` elements from `d` on.
#[inline(always)]
unsafe fn add_value_vectors<S: Simd, E: Element, const N: usize, const PREFETCH: bool>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    probabilities: &[f32],
    values: Heads<'_, E>,
    d: usize,
) -> usize {
    let mut acc = [[s.splat(0.0); N]; 2];
    for n in 0..N {
        acc[0][n] = s.mul(s.read(&out[n * S::LANES..]), s.splat(rescale));
    }
    for (pair, probabilities) in probabilities.chunks(2).enumerate() {
        for chain in 0..probabilities.len() {
            let probability = s.splat(probabilities[chain]);
            let value = values.row(2 * pair + chain).wrapping_add(d);
            for n in 0..N {
                let at = value.wrapping_add(n * S::LANES);
                if PREFETCH {
                    s.prefetch(at.wrapping_add(values.prefetch_distance()));
                }
                // SAFETY: the caller's.
                acc[chain][n] = s.fma(probability, unsafe { E::load(s, at) }, acc[chain][n]);
            }
        }
    }
    for n in 0..N {
        s.write(&mut out[n * S::LANES..], s.add(acc[0][n], acc[1][n]));
    }
    N * S::LANES
}

/// End of the head in [`add_values`], shorter than a vector. Returns its number of elements.
///
/// # Safety
/// Values must have `out.len()` elements from `d` on.
#[inline(always)]
unsafe fn add_value_tail<S: Simd, E: Element>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    probabilities: &[f32],
    values: Heads<'_, E>,
    d: usize,
) -> usize {
    let mut acc = s.mul(s.read(out), s.splat(rescale));
    for i in 0..probabilities.len() {
        // SAFETY: the caller's.
        let value = unsafe { E::load_first(s, values.row(i).wrapping_add(d), out.len()) };
        acc = s.fma(s.splat(probabilities[i]), value, acc);
    }
    s.write(out, acc);
    out.len()
}
