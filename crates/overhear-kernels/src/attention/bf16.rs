//! Attention in bf16 over [`PackedKv`], for the encoder and for cross-attention of any number of queries.
//!
//! Blocked attention, not flash attention: a task materialises the scores of a block of queries of one head for *all*
//! keys, then the softmax, then the product with the values. Both products are packed GEMMs with B in panels: for
//! QK^T outputs are keys and K groups run along the head, for PV outputs are the head's elements and K groups run
//! along the keys. Scores and accumulators are f32; softmax numerators, relative to a power of two at the largest
//! score, are rounded to bf16. A head's keys and values and the numerators (36 KiB) stay in L2.
//!
//! This file has the entry and the register kernels' task. With tiles the task is [`super::bf16_amx`].

use super::bf16_amx::attention_tiles;
use super::kv::PackedKv;
use super::product::multiply;
use super::queries::QueryBlock;
use crate::arch::Arch;
use crate::gemm::aligned::f32_as_u16_mut;
use crate::gemm::epilogue::write_bf16;
use crate::gemm::layout::NR;
use crate::gemm::microkernel::{GemmTask, MAX_MR, MicroKernel, Operands};
use crate::gemm::pack_a::{PackedActivations, PackedRows, assert_bf16};
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool, scratch};
use crate::simd::Simd;

impl Kernels {
    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head: both products in bf16, the softmax in f32.
    ///
    /// `q`: `n_query` bf16 rows. `out`: bf16 rows of `n_head * head_dim`, of which `n_query` from the given index on
    /// are written. A query's result does not depend on the others or on the number of threads. Allocates nothing
    /// once the threads' scratch memory is large enough.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn attention_bf16(
        &self,
        pool: &Pool,
        (out, first_out): (&mut PackedActivations, usize),
        (q, n_query): (PackedRows<'_>, usize),
        kv: &PackedKv,
    ) {
        let width = kv.n_head() * kv.head_dim();
        assert_bf16(q, n_query, width);
        assert!(kv.n_key() > 0, "no keys");
        assert!(
            out.n_cols() == width && first_out + n_query <= out.n_rows(),
            "out is not {n_query} rows of {width}"
        );
        if n_query > 0 {
            let out = (out, first_out);
            attention_bf16(self.arch, pool, out, (q, n_query), kv);
        }
    }
}

/// Partitions the call into tasks and runs them; shapes have been checked.
pub(crate) fn attention_bf16(
    arch: Arch,
    pool: &Pool,
    (out, first_out): (&mut PackedActivations, usize),
    (q, n_query): (PackedRows<'_>, usize),
    kv: &PackedKv,
) {
    assert!(kv.is_packed_for(arch), "packed for another set");
    assert!(kv.n_key() > 0, "attention to nothing");
    let (out, out_stride) = out.bf16_mut();
    let out = Disjoint::new(&mut out[first_out * out_stride..]);
    let n_tasks = n_query.div_ceil(arch.blocking().mr);
    let rows = n_query.div_ceil(n_tasks.max(1));
    // Heads outermost: concurrent threads share a head's keys and values.
    pool.run(kv.n_head() * n_tasks, &|task| {
        let first = task % n_tasks * rows;
        let queries = QueryBlock {
            kv,
            q,
            out,
            out_stride,
            head: task / n_tasks,
            first,
            n: rows.min(n_query.saturating_sub(first)),
        };
        if arch.has_tiles() {
            attention_tiles(arch, queries);
        } else {
            attention_registers(arch, queries);
        }
    });
}

/// Runs one task on register kernels.
fn attention_registers(arch: Arch, queries: QueryBlock<'_>) {
    let (head_dim, padded) = (queries.kv.head_dim(), queries.kv.padded());
    let ld_acc = arch.blocking().ld_acc;
    let n_scores = padded / NR * ld_acc;
    let n_sums = head_dim.div_ceil(NR) * ld_acc;
    scratch::with(n_scores + n_sums + queries.n * padded / 2, |scratch| {
        let (scores, scratch) = scratch.split_at_mut(n_scores);
        let (acc, probabilities) = scratch.split_at_mut(n_sums);
        arch.run_bf16(RegisterTask {
            queries,
            scores,
            probabilities,
            acc,
        });
    });
}

/// Task on register kernels, with its scratch memory.
struct RegisterTask<'a> {
    queries: QueryBlock<'a>,
    /// Scores, `[n, 32]` per panel of keys, panels [`Blocking::ld_acc`](crate::gemm::microkernel::Blocking) elements
    /// apart.
    scores: &'a mut [f32],
    /// Softmax numerators, `[n, padded]` bf16.
    probabilities: &'a mut [f32],
    /// Accumulators of PV, `[n, 32]` per panel of elements, panels
    /// [`Blocking::ld_acc`](crate::gemm::microkernel::Blocking) elements apart.
    acc: &'a mut [f32],
}

impl GemmTask for RegisterTask<'_> {
    #[inline(always)]
    fn run<K: MicroKernel>(mut self, kernel: K) {
        let (s, lanes) = (kernel.simd(), <K::Simd as Simd>::LANES);
        let QueryBlock { kv, n, .. } = self.queries;
        self.multiply_keys(kernel);
        // Sums of the numerators, in lanes.
        let mut prob_sums = [s.splat(0.0); MAX_MR];
        for (i, prob_sum) in prob_sums.iter_mut().enumerate().take(n) {
            *prob_sum = self.softmax(kernel, i);
        }
        self.multiply_values(kernel);
        for i in 0..n {
            // SAFETY: no other task has this head of this query.
            let out = unsafe { self.queries.output(i, 0, kv.head_dim()) };
            let scale = s.splat(1.0 / s.sum(prob_sums[i]));
            for (out, acc) in out.chunks_mut(NR).zip(self.acc.chunks(K::BLOCKING.ld_acc)) {
                let acc = &acc[i * NR..][..NR];
                for (out, acc) in out.chunks_mut(lanes).zip(acc.chunks(lanes)) {
                    write_bf16(kernel, out, s.mul(s.read(acc), scale));
                }
            }
        }
    }
}

impl RegisterTask<'_> {
    /// QK^T: scores of all queries and keys, not yet scaled. Keys that pad the last panel get negative infinity.
    #[inline(always)]
    fn multiply_keys<K: MicroKernel>(&mut self, kernel: K) {
        let QueryBlock {
            kv,
            q,
            head,
            first,
            n,
            ..
        } = self.queries;
        let k_groups = kv.head_dim() / 2;
        let n_panels = kv.padded() / NR;
        let operands = Operands {
            x: q.groups[first * q.stride + head * k_groups..].as_ptr(),
            x_stride: q.stride,
            w: kv.keys(head).as_ptr(),
            w_stride: k_groups * NR,
            k_groups,
            compensation: std::ptr::null(),
            accumulate: false,
        };
        multiply(kernel, n, n_panels, operands, self.scores);
        let in_last = kv.n_key() - (n_panels - 1) * NR;
        let last = &mut self.scores[(n_panels - 1) * K::BLOCKING.ld_acc..];
        for scores in last.chunks_exact_mut(NR).take(n) {
            scores[in_last..].fill(f32::NEG_INFINITY);
        }
    }

    /// Softmax numerators of query `i`. Returns their sum, in lanes.
    #[inline(always)]
    fn softmax<K: MicroKernel>(&mut self, kernel: K, i: usize) -> <K::Simd as Simd>::V {
        let s = kernel.simd();
        let padded = self.queries.kv.padded();
        let (n_panels, ld_acc) = (padded / NR, K::BLOCKING.ld_acc);
        let scale = self.queries.scale();
        let last = (n_panels - 1) * ld_acc + i * NR;
        let scores = self.scores[i * NR..last + NR].as_ptr();
        let to = f32_as_u16_mut(self.probabilities)[i * padded..][..padded].as_mut_ptr();
        // SAFETY: the row's scores and numerators, as many as were sliced.
        unsafe {
            let max_score = s.max_lane(max_score(s, scores, n_panels, ld_acc));
            let terms = (scale, -(max_score * scale).ceil());
            kernel.exp2_panels(scores, ld_acc, n_panels, terms, to, s.splat(0.0))
        }
    }

    /// PV: the sums of values weighted by the numerators.
    #[inline(always)]
    fn multiply_values<K: MicroKernel>(&mut self, kernel: K) {
        let QueryBlock { kv, head, n, .. } = self.queries;
        let k_groups = kv.padded() / 2;
        let operands = Operands {
            x: self.probabilities.as_ptr().cast::<u32>(),
            x_stride: k_groups,
            w: kv.values(head).as_ptr(),
            w_stride: k_groups * NR,
            k_groups,
            compensation: std::ptr::null(),
            accumulate: false,
        };
        let n_panels = kv.head_dim().div_ceil(NR);
        multiply(kernel, n, n_panels, operands, self.acc);
    }
}

/// Largest score of a row of `n_panels`, `ld_acc` elements apart, in lanes.
///
/// # Safety
/// `n_panels * 32` scores must be readable.
#[inline(always)]
unsafe fn max_score<S: Simd>(s: S, scores: *const f32, n_panels: usize, ld_acc: usize) -> S::V {
    let mut max = [s.splat(f32::NEG_INFINITY); 2];
    for panel in 0..n_panels {
        for i in 0..NR / S::LANES {
            // SAFETY: the caller's.
            let scores = unsafe { s.load(scores.add(panel * ld_acc + i * S::LANES)) };
            max[i % 2] = s.max(scores, max[i % 2]);
        }
    }
    s.max(max[0], max[1])
}
