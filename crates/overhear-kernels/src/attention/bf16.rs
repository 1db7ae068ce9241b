//! Attention in bfloat16 over packed keys and values, by dot products: encoder, and cross-attention of any number of
//! queries. That by tiles is [`crate::flash_tiles`].
//!
//! Both products of a head are packed ones like any other: keys are outputs of the first, the head's elements outputs
//! of the second, so keys are packed in panels of 32 with words along the head, values in panels of 32 elements with
//! words along the keys. A task takes a block of queries of one head, and computes their scores for all keys, the weights
//! of all, relative to a power of two at the largest score, and the sums of values by them. Scores and sums are f32, the
//! weights are rounded to bfloat16; a head's keys and values, and the weights (36 KiB), stay in the second-level cache.

use super::bf16_amx::flash_tiles;
use super::kv::KeysValues;
use super::product::multiply;
use super::queries::Queries;
use crate::arch::Arch;
use crate::gemm::aligned::halves_of;
use crate::gemm::epilogue::write_bf16;
use crate::gemm::layout::PANEL;
use crate::gemm::microkernel::{DotTask, MAX_ROWS, Operands, Unit};
use crate::gemm::pack_a::{Activations, PackedRows, assert_bf16};
use crate::kernels::Kernels;
use crate::parallel::{Pool, Split, scratch};
use crate::simd::Simd;

impl Kernels {
    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head: both products in bfloat16, the softmax in f32.
    ///
    /// `q`: `n_query` bfloat16 rows; `out`: bfloat16 rows of `n_head * head_dim`, as many from the given one on. A
    /// query's result does not depend on the others or on the number of threads. Allocates nothing once threads are
    /// warm.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn flash_attention(
        &self,
        pool: &Pool,
        (out, first_out): (&mut Activations, usize),
        (q, n_query): (PackedRows<'_>, usize),
        keys_values: &KeysValues,
    ) {
        let width = keys_values.n_head() * keys_values.head_dim();
        assert_bf16(q, n_query, width);
        assert!(keys_values.n_key() > 0, "no keys");
        assert!(
            out.n_cols() == width && first_out + n_query <= out.n_rows(),
            "out is not {n_query} rows of {width}"
        );
        if n_query > 0 {
            let out = (out, first_out);
            flash_attention(self.arch, pool, out, (q, n_query), keys_values);
        }
    }
}

/// See [`crate::Kernels::flash_attention`]; shapes have been checked.
pub(crate) fn flash_attention(
    arch: Arch,
    pool: &Pool,
    (out, first_out): (&mut Activations, usize),
    (q, n_query): (PackedRows<'_>, usize),
    keys_values: &KeysValues,
) {
    assert!(keys_values.are_for(arch), "packed for another arch");
    assert!(keys_values.n_key() > 0, "attention to nothing");
    let (out, out_stride) = out.bf16_mut();
    let out = Split::new(&mut out[first_out * out_stride..]);
    let n_tasks = n_query.div_ceil(arch.blocking().rows);
    let rows = n_query.div_ceil(n_tasks.max(1));
    // Heads outermost: threads at work share a head's keys and values.
    pool.run(keys_values.n_head() * n_tasks, &|task| {
        let first = task % n_tasks * rows;
        let queries = Queries {
            keys_values,
            q,
            out,
            out_stride,
            head: task / n_tasks,
            first,
            n: rows.min(n_query.saturating_sub(first)),
        };
        if arch.has_tiles() {
            flash_tiles(arch, queries);
        } else {
            flash_block(arch, queries);
        }
    });
}

/// A task by dot products.
fn flash_block(arch: Arch, queries: Queries<'_>) {
    let (head_dim, padded) = (queries.keys_values.head_dim(), queries.keys_values.padded());
    let place = arch.blocking().place;
    let n_scores = padded / PANEL * place;
    let n_sums = head_dim.div_ceil(PANEL) * place;
    scratch::with(n_scores + n_sums + queries.n * padded / 2, |scratch| {
        let (scores, scratch) = scratch.split_at_mut(n_scores);
        let (sums, weights) = scratch.split_at_mut(n_sums);
        arch.run_bf16(Block {
            queries,
            scores,
            weights,
            sums,
        });
    });
}

/// A task and what it makes on its way.
struct Block<'a> {
    queries: Queries<'a>,
    /// [`Blocking::place`](crate::dot::Blocking) for every panel: `[n, 32]`.
    scores: &'a mut [f32],
    /// `[n, padded]` bfloat16.
    weights: &'a mut [f32],
    /// [`Blocking::place`](crate::dot::Blocking) for every panel of elements: `[n, 32]`.
    sums: &'a mut [f32],
}

impl DotTask for Block<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let Queries { keys_values, n, .. } = self.queries;
        self.multiply_keys(unit);
        // Of the weights, in lanes.
        let mut totals = [s.splat(0.0); MAX_ROWS];
        for (i, total) in totals.iter_mut().enumerate().take(n) {
            *total = self.soften(unit, i);
        }
        self.multiply_values(unit);
        for i in 0..n {
            // SAFETY: no other task has this head of this query.
            let out = unsafe { self.queries.output(i, 0, keys_values.head_dim()) };
            let scale = s.splat(1.0 / s.sum(totals[i]));
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

impl Block<'_> {
    /// Scores of all queries and keys, not yet scaled; of what pads the last panel, negative infinity.
    #[inline(always)]
    fn multiply_keys<U: Unit>(&mut self, unit: U) {
        let Queries {
            keys_values: kv,
            q,
            head,
            first,
            n,
            ..
        } = self.queries;
        let n_words = kv.head_dim() / 2;
        let n_panels = kv.padded() / PANEL;
        let operands = Operands {
            x: q.words[first * q.stride + head * n_words..].as_ptr(),
            x_stride: q.stride,
            w: kv.keys(head).as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: std::ptr::null(),
            carry: false,
        };
        multiply(unit, n, n_panels, operands, self.scores);
        let in_last = kv.n_key() - (n_panels - 1) * PANEL;
        let last = &mut self.scores[(n_panels - 1) * U::BLOCKING.place..];
        for scores in last.chunks_exact_mut(PANEL).take(n) {
            scores[in_last..].fill(f32::NEG_INFINITY);
        }
    }

    /// The weights of query `i`; their sum, in lanes.
    #[inline(always)]
    fn soften<U: Unit>(&mut self, unit: U, i: usize) -> <U::Simd as Simd>::V {
        let s = unit.simd();
        let padded = self.queries.keys_values.padded();
        let (n_panels, place) = (padded / PANEL, U::BLOCKING.place);
        let scale = self.queries.scale();
        let last = (n_panels - 1) * place + i * PANEL;
        let scores = self.scores[i * PANEL..last + PANEL].as_ptr();
        let to = halves_of(self.weights)[i * padded..][..padded].as_mut_ptr();
        // SAFETY: the row's scores and weights, as many as were sliced.
        unsafe {
            let largest = s.max_lane(largest(s, scores, n_panels, place));
            let terms = (scale, -(largest * scale).ceil());
            unit.weigh(scores, place, n_panels, terms, to, s.splat(0.0))
        }
    }

    /// The sums of values by their weights.
    #[inline(always)]
    fn multiply_values<U: Unit>(&mut self, unit: U) {
        let Queries {
            keys_values: kv,
            head,
            n,
            ..
        } = self.queries;
        let n_words = kv.padded() / 2;
        let operands = Operands {
            x: self.weights.as_ptr().cast::<u32>(),
            x_stride: n_words,
            w: kv.values(head).as_ptr(),
            w_stride: n_words * PANEL,
            n_words,
            starts: std::ptr::null(),
            carry: false,
        };
        let n_panels = kv.head_dim().div_ceil(PANEL);
        multiply(unit, n, n_panels, operands, self.sums);
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
