//! Attention probabilities, which the attention kernels never store: one head of many queries, for callers that need
//! to know where the head attends.

use super::dots::{Operands, block, groups};
use super::shape::MAX_HEAD_DIM;
use super::softmax::exponentials;
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool, scratch};
use crate::reference;
use crate::simd::{Simd, Vectorized};

/// Queries of a task, which share a copy of the keys.
const BLOCK_QUERIES: usize = 16;
/// Keys copied at a time: 16 KiB of heads of 64 elements stay in L1 while the queries pass by.
const BLOCK_KEYS: usize = 64;

impl Kernels {
    /// `softmax(q * k^T / sqrt(head_dim))` of one head.
    ///
    /// `q`, `k`: rows whose first `head_dim` elements are the head. `out`: `[n_query, n_key]`, contiguous, whose
    /// length determines `n_query`. The result does not depend on the number of threads.
    ///
    /// # Panics
    /// If the shapes do not fit, there is no key, or the head has more than 256 elements.
    pub fn attention_probabilities(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: Rows<'_>,
        k: Rows<'_>,
        n_key: usize,
        head_dim: usize,
    ) {
        assert!(
            n_key > 0 && out.len().is_multiple_of(n_key),
            "out is not rows of {n_key} keys"
        );
        assert!(
            (1..=MAX_HEAD_DIM).contains(&head_dim),
            "a head of {head_dim} elements"
        );
        assert_rows("q", q, out.len() / n_key, head_dim);
        assert_rows("k", k, n_key, head_dim);
        match self.arch {
            Arch::Scalar => reference::attention_probabilities(out, q, k, n_key, head_dim),
            arch => attention_probabilities(arch, pool, out, q, k, n_key, head_dim),
        }
    }
}

/// Runs the call on vectors. `arch` is not [`Arch::Scalar`]; shapes have been checked.
pub(crate) fn attention_probabilities(
    arch: Arch,
    pool: &Pool,
    out: &mut [f32],
    q: Rows<'_>,
    k: Rows<'_>,
    n_key: usize,
    head_dim: usize,
) {
    debug_assert!(head_dim <= MAX_HEAD_DIM);
    let n_query = out.len() / n_key;
    let out = Disjoint::new(out);
    pool.run(n_query.div_ceil(BLOCK_QUERIES), &|task| {
        let first = task * BLOCK_QUERIES;
        let n_query = BLOCK_QUERIES.min(n_query - first);
        // SAFETY: no other task has these queries.
        let out = unsafe { out.take(first * n_key, n_query * n_key) };
        scratch::with(BLOCK_KEYS * head_dim, |keys| {
            let block = Block {
                out,
                q: Rows {
                    data: &q.data[first * q.stride..],
                    stride: q.stride,
                },
                k,
                n_key,
                head_dim,
                keys,
            };
            arch.run(block, || unreachable!("the scalar set has no vectors"));
        });
    });
}

/// Task: some queries over all keys.
struct Block<'a> {
    out: &'a mut [f32],
    q: Rows<'a>,
    k: Rows<'a>,
    n_key: usize,
    head_dim: usize,
    keys: &'a mut [f32],
}

impl Vectorized for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n_key, head_dim) = (self.n_key, self.head_dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        for first in (0..n_key).step_by(BLOCK_KEYS) {
            let n_keys = BLOCK_KEYS.min(n_key - first);
            let keys = &mut self.keys[..n_keys * head_dim];
            for (i, key) in keys.chunks_exact_mut(head_dim).enumerate() {
                key.copy_from_slice(&self.k.data[(first + i) * self.k.stride..][..head_dim]);
            }
            for (query, out) in self.out.chunks_exact_mut(n_key).enumerate() {
                let q = &self.q.data[query * self.q.stride..][..head_dim];
                score(s, &mut out[first..first + n_keys], q, keys, scale);
            }
        }
        for out in self.out.chunks_exact_mut(n_key) {
            let max = out
                .iter()
                .fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
            let sum = exponentials(s, out, max);
            out.iter_mut().for_each(|out| *out /= sum);
        }
    }
}

/// `scores[i] = scale * (q . key i)`, eight keys at a time. `keys`: `[scores.len(), q.len()]`, contiguous.
#[inline(always)]
fn score<S: Simd>(s: S, scores: &mut [f32], q: &[f32], keys: &[f32], scale: f32) {
    assert_eq!(keys.len(), scores.len() * q.len());
    let last = scores.len() - 1;
    for (i, scores) in scores.chunks_mut(8).enumerate() {
        // Fewer than eight keys are filled up with the last one.
        let w = groups::<f32, 2>(|j| keys[(8 * i + j).min(last) * q.len()..].as_ptr());
        let operands = Operands {
            x: q.as_ptr(),
            x_stride: 0,
            w,
            len: q.len(),
            prefetch_distance: 0,
        };
        // SAFETY: `q` and each key are `q.len()` elements.
        let [dots] = unsafe { block::<S, f32, 1, 2, false>(s, &operands) };
        let dots = dots.as_flattened();
        scores
            .iter_mut()
            .zip(dots)
            .for_each(|(score, dot)| *score = scale * dot);
    }
}
