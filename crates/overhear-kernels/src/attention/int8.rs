//! Attention over [`QuantizedKv`]: keys and values in int8, half the memory traffic of bf16.
//!
//! Both products are int8 GEMMs. So that only keys and values have 8-bit accuracy, queries and softmax numerators
//! have 16 bits: each is two rows of bytes, the high and the low ones, whose accumulators are combined. Products of a
//! few rows are memory-bound, so the second row is free. Accumulators are exact, and results are the same on every
//! machine.

use super::kv::QuantizedKv;
use super::kv::int8::GROUP_SIZE;
use super::product::multiply;
use super::shape::MAX_HEAD_DIM;
use crate::arch::Arch;
use crate::gemm::aligned::{as_bytes_mut, f32_as_u32_mut};
use crate::gemm::layout::{NR, SLACK_ROWS};
use crate::gemm::microkernel::{GemmTask, MAX_MR, MicroKernel, Operands};
use crate::kernels::Kernels;
use crate::math::exp2;
use crate::math::quantize::{ROUND_MAGIC, max_abs, scale_and_inverse};
use crate::parallel::{Disjoint, Pool, scratch};
use crate::simd::Simd;

/// Quantisation steps of 16-bit queries and numerators: their largest magnitude, whose high byte is 127. The error of
/// the exponential is too small to exceed it.
const STEPS: f32 = 127.0 * 256.0;
/// Panels of keys whose accumulators are computed before they become scores: they stay in L1.
const PANELS: usize = 8;

impl Kernels {
    /// [`Kernels::attention`] of all queries over all keys, with keys and values in int8, queries and softmax
    /// numerators in 16 bits.
    ///
    /// `q`, `out`: `[n_query, n_head * head_dim]`. A query's result does not depend on the others or on the number of
    /// threads. Allocates nothing once the threads' scratch memory is large enough.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn attention_int8(&self, pool: &Pool, out: &mut [f32], q: &[f32], kv: &QuantizedKv) {
        let width = kv.n_head() * kv.head_dim();
        assert!(kv.n_key() > 0, "no keys");
        assert!(
            q.len() == out.len() && width > 0 && q.len().is_multiple_of(width),
            "q or out is not rows of {width}"
        );
        if !out.is_empty() {
            attend(self.arch, pool, out, q, kv);
        }
    }
}

/// Partitions the call into tasks and runs them; shapes have been checked.
pub(crate) fn attend(arch: Arch, pool: &Pool, out: &mut [f32], q: &[f32], kv: &QuantizedKv) {
    assert!(kv.is_packed_for(arch), "packed for another set");
    let (n_head, head_dim) = (kv.n_head(), kv.head_dim());
    let (padded, head_groups) = (kv.padded(), kv.head_groups());
    let n_query = q.len() / (n_head * head_dim);
    let blocking = arch.blocking();
    let n_tasks = n_query.div_ceil(blocking.mr / 2);
    let of_task = n_query.div_ceil(n_tasks);
    let out = Disjoint::new(out);
    // Heads outermost: concurrent threads share a head's keys and values.
    pool.run(n_head * n_tasks, &|task| {
        let first = task % n_tasks * of_task;
        let n = of_task.min(n_query.saturating_sub(first));
        let rows = 2 * n + SLACK_ROWS;
        let n_panels = PANELS.max(head_dim.div_ceil(NR));
        let sizes = [
            rows * head_groups,
            rows * padded / GROUP_SIZE,
            n * padded,
            n_panels * blocking.ld_acc,
        ];
        scratch::with(sizes.iter().sum(), |scratch| {
            let (queries, scratch) = scratch.split_at_mut(sizes[0]);
            let (probabilities, scratch) = scratch.split_at_mut(sizes[1]);
            let (scores, acc) = scratch.split_at_mut(sizes[2]);
            arch.run_int8(Block {
                kv,
                q,
                out,
                head: task / n_tasks,
                first,
                n,
                queries: f32_as_u32_mut(queries),
                probabilities: f32_as_u32_mut(probabilities),
                scores,
                acc,
            });
        });
    });
}

/// Task: some queries of one head, with its scratch memory.
struct Block<'a> {
    kv: &'a QuantizedKv,
    q: &'a [f32],
    out: Disjoint<'a>,
    head: usize,
    first: usize,
    n: usize,
    /// Quantised queries, `[2 * n + SLACK_ROWS, k_groups of a head]`: of each query the high bytes, then the low
    /// bytes.
    queries: &'a mut [u32],
    /// Quantised softmax numerators, `[2 * n + SLACK_ROWS, padded / 4]`: of each query the high bytes, then the low
    /// bytes.
    probabilities: &'a mut [u32],
    /// Scores, `[n, padded]`.
    scores: &'a mut [f32],
    /// Accumulators, [`Blocking::ld_acc`](crate::gemm::microkernel::Blocking) elements per panel.
    acc: &'a mut [f32],
}

impl GemmTask for Block<'_> {
    #[inline(always)]
    fn run<K: MicroKernel>(mut self, kernel: K) {
        // Factors from scores to exponents of two.
        let mut scales = [0.0; MAX_MR];
        for (i, scale) in scales.iter_mut().enumerate().take(self.n) {
            *scale = self.split_query(i);
        }
        self.multiply_keys(kernel);
        let mut prob_sums = [0; MAX_MR];
        for i in 0..self.n {
            prob_sums[i] = self.softmax(kernel.simd(), i, scales[i]);
        }
        self.multiply_values(kernel);
        for i in 0..self.n {
            self.write_output(kernel, i, prob_sums[i]);
        }
    }
}

impl Block<'_> {
    /// Quantises query `i`, times the scales of the keys, to 16 bits. Returns the factor from its scores to exponents
    /// of two.
    #[inline(always)]
    fn split_query(&mut self, i: usize) -> f32 {
        let kv = self.kv;
        let (head_dim, k_groups) = (kv.head_dim(), kv.head_groups());
        let row = (self.first + i) * kv.n_head() + self.head;
        let mut scaled = [0.0; MAX_HEAD_DIM];
        let scaled = &mut scaled[..head_dim];
        let q = self.q[row * head_dim..][..head_dim].iter();
        for ((to, q), scale) in scaled.iter_mut().zip(q).zip(kv.key_scales(self.head)) {
            *to = q * scale;
        }
        let (step, inverse) = scale_and_inverse(max_abs(scaled), STEPS);
        let rows = &mut self.queries[2 * i * k_groups..][..2 * k_groups];
        let (high, low) = rows.split_at_mut(k_groups);
        let bytes = as_bytes_mut(high).iter_mut().zip(as_bytes_mut(low));
        for ((high, low), x) in bytes.zip(scaled) {
            (*high, *low) = split((*x * inverse + ROUND_MAGIC).to_bits() as i16);
        }
        step * std::f32::consts::LOG2_E / (head_dim as f32).sqrt()
    }

    /// QK^T: scores of all queries and keys, not yet scaled. Keys that are padding get negative infinity.
    #[inline(always)]
    fn multiply_keys<K: MicroKernel>(&mut self, kernel: K) {
        let kv = self.kv;
        let (s, lanes) = (kernel.simd(), <K::Simd as Simd>::LANES);
        let (k_groups, padded) = (kv.head_groups(), kv.padded());
        let compensation = kv.key_compensation(self.head);
        for first in (0..padded).step_by(PANELS * NR) {
            let n_panels = PANELS.min((padded - first) / NR);
            let operands = Operands {
                x: self.queries.as_ptr(),
                x_stride: k_groups,
                w: kv.keys(self.head)[first * k_groups..].as_ptr(),
                w_stride: k_groups * NR,
                k_groups,
                compensation: compensation[first..].as_ptr(),
                accumulate: false,
            };
            multiply(kernel, 2 * self.n, n_panels, operands, self.acc);
            for i in 0..self.n {
                let scores = &mut self.scores[i * padded + first..][..n_panels * NR];
                for (panel, scores) in scores.chunks_exact_mut(NR).enumerate() {
                    let at = panel * K::BLOCKING.ld_acc + 2 * i * NR;
                    let compensation = &compensation[first + panel * NR..][..NR];
                    for j in (0..NR).step_by(lanes) {
                        let acc = join(kernel, &self.acc[at + j..], &compensation[j..]);
                        s.write(&mut scores[j..], acc);
                    }
                }
            }
        }
        for scores in self.scores.chunks_exact_mut(padded) {
            scores[kv.n_key()..].fill(f32::NEG_INFINITY);
        }
    }

    /// Softmax numerators of query `i`, in 16 bits. Returns their sum.
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, s: S, i: usize, scale: f32) -> u32 {
        let padded = self.kv.padded();
        let scores = &mut self.scores[i * padded..][..padded];
        let mut max = s.splat(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(S::LANES) {
            max = s.max(s.read(scores), max);
        }
        let (max, scale) = (s.splat(s.max_lane(max)), s.splat(scale));
        for scores in scores.chunks_exact_mut(S::LANES) {
            // The difference is computed first, so that no rounding makes a numerator more than one, which would not
            // fit 16 bits.
            let probabilities = exp2(s, s.mul(s.sub(s.read(scores), max), scale));
            s.write(
                scores,
                s.fma(probabilities, s.splat(STEPS), s.splat(ROUND_MAGIC)),
            );
        }
        let k_groups = padded / GROUP_SIZE;
        let rows = &mut self.probabilities[2 * i * k_groups..][..2 * k_groups];
        let (high, low) = rows.split_at_mut(k_groups);
        let mut prob_sum = 0;
        let bytes = as_bytes_mut(high).iter_mut().zip(as_bytes_mut(low));
        for ((high, low), weight) in bytes.zip(scores) {
            let weight = weight.to_bits() as i16;
            (*high, *low) = split(weight);
            prob_sum += weight as u32;
        }
        prob_sum
    }

    /// PV: the sums of values weighted by the numerators.
    #[inline(always)]
    fn multiply_values<K: MicroKernel>(&mut self, kernel: K) {
        let kv = self.kv;
        let k_groups = kv.padded() / GROUP_SIZE;
        let operands = Operands {
            x: self.probabilities.as_ptr(),
            x_stride: k_groups,
            w: kv.values(self.head).as_ptr(),
            w_stride: k_groups * NR,
            k_groups,
            compensation: kv.value_compensation(self.head).as_ptr(),
            accumulate: false,
        };
        let n_panels = kv.head_dim().div_ceil(NR);
        multiply(kernel, 2 * self.n, n_panels, operands, self.acc);
    }

    /// Writes the output of query `i`, whose numerators sum to `prob_sum`.
    #[inline(always)]
    fn write_output<K: MicroKernel>(&self, kernel: K, i: usize, prob_sum: u32) {
        let kv = self.kv;
        let (s, lanes) = (kernel.simd(), <K::Simd as Simd>::LANES);
        let head_dim = kv.head_dim();
        let (scales, offsets) = kv.value_scales_and_offsets(self.head);
        let compensation = kv.value_compensation(self.head);
        let row = (self.first + i) * kv.n_head() + self.head;
        // SAFETY: no other task has this head of this query.
        let out = unsafe { self.out.take(row * head_dim, head_dim) };
        let inverse = s.splat(1.0 / prob_sum as f32);
        for (j, out) in (0..head_dim).step_by(lanes).zip(out.chunks_mut(lanes)) {
            let at = j / NR * K::BLOCKING.ld_acc + 2 * i * NR + j % NR;
            let sum = s.mul(join(kernel, &self.acc[at..], &compensation[j..]), inverse);
            let v = s.fma(sum, s.read(&scales[j..]), s.read(&offsets[j..]));
            s.write(out, v);
        }
    }
}

/// Combines the accumulators of a query's two rows: the high bytes' at the start of `acc`, the low bytes' one panel
/// row further. `compensation` is what both start from.
#[inline(always)]
fn join<K: MicroKernel>(kernel: K, acc: &[f32], compensation: &[i32]) -> <K::Simd as Simd>::V {
    let s = kernel.simd();
    assert!(compensation.len() >= <K::Simd as Simd>::LANES);
    // SAFETY: as many values of the compensation are readable, asserted above.
    let [high, low] = unsafe {
        [
            kernel.acc_to_f32(s.read(acc), compensation.as_ptr()),
            kernel.acc_to_f32(s.read(&acc[NR..]), compensation.as_ptr()),
        ]
    };
    s.fma(high, s.splat(256.0), low)
}

/// Splits `x = 256 * high + low` into high and low byte, both signed, and stores them as u8 with offset 128.
#[inline(always)]
fn split(x: i16) -> (u8, u8) {
    let rest = x.wrapping_sub(i16::from(x as i8));
    ((rest >> 8) as u8 ^ 0x80, x as u8 ^ 0x80)
}
