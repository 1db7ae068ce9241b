//! Prefill kernel of attention in f32: many queries, vector lanes along the queries.
//!
//! A block of queries is transposed once; then scores, maxima, sums and outputs are all vertical operations, one
//! element of a key or a value is broadcast at a time, and no sum runs across lanes. A task has a few blocks of
//! queries of one head, which share copies of a block of keys and values.

use super::heads::Call;
use super::shape::{AttentionShape, MAX_HEAD_DIM};
use super::softmax::update_softmax;
use crate::arch::Arch;
use crate::parallel::{Pool, scratch};
use crate::simd::{Element, MAX_LANES, Simd, Vectorized, widen};

/// Most vectors of queries in a block. 32 registers hold 8 x 3 accumulators, 3 vectors of queries and a broadcast; 16
/// registers hold 4 x 2 to 6 x 2.
const MAX_VECTORS: usize = 3;
/// Keys of a block: 64 keys and values of 64 elements (32 KiB) and their scores (12 KiB with AVX-512) are reused from
/// L1 and L2.
const BLOCK_KEYS: usize = 64;
/// Blocks of queries of a task, which share copies of keys and values.
const TASK_BLOCKS: usize = 8;
/// Stride of copied keys and values, in elements: the longest head and a cache line, as rows a large power of two
/// apart would compete for a few sets of the cache.
const ROW_STRIDE: usize = MAX_HEAD_DIM + 16;

/// Partitions the call into tasks of a few blocks of queries of one head, and runs them.
pub(super) fn prefill<E: Element>(arch: Arch, pool: &Pool, call: &Call<'_, E>) {
    let AttentionShape {
        n_head, n_query, ..
    } = call.shape;
    let shape = &call.shape;
    let lanes = arch.lanes();
    let n_vectors = if lanes == 8 { 2 } else { MAX_VECTORS };
    let block = if shape.block == 0 {
        n_vectors * lanes
    } else {
        shape.block.min(n_vectors * lanes)
    };
    let n_blocks = n_query.div_ceil(block);
    // Blocks of even size. Heads outermost, so that concurrent threads share a head's keys and values.
    let block = n_query.div_ceil(n_blocks);
    let n_blocks = n_query.div_ceil(block);
    // A few tasks per thread.
    let of_task = (n_head * n_blocks / (4 * pool.n_threads())).clamp(1, TASK_BLOCKS);
    let n_tasks = n_blocks.div_ceil(of_task);
    pool.run(n_head * n_tasks, &|task| {
        let (head, first) = (task / n_tasks, task % n_tasks * of_task * block);
        let n_query = (of_task * block).min(n_query - first);
        scratch::with(Prefill::<E>::scratch(shape.head_dim, lanes), |scratch| {
            let task = Prefill {
                call,
                head,
                first,
                n_query,
                block,
                scratch,
            };
            arch.run(task, || unreachable!("the scalar set has no vectors"));
        });
    });
}

/// Task: one head of a few blocks of queries, over all keys.
struct Prefill<'a, E> {
    call: &'a Call<'a, E>,
    head: usize,
    /// First query.
    first: usize,
    n_query: usize,
    /// Queries of a block.
    block: usize,
    scratch: &'a mut [f32],
}

impl<E> Prefill<'_, E> {
    /// Elements of scratch memory: a block of keys, of values and of scores `[BLOCK_KEYS, queries]`; and for each
    /// block of queries, the queries and the output, `[head_dim, queries]` each.
    fn scratch(head_dim: usize, lanes: usize) -> usize {
        let width = MAX_VECTORS * lanes;
        2 * BLOCK_KEYS * ROW_STRIDE + BLOCK_KEYS * width + TASK_BLOCKS * 2 * head_dim * width
    }
}

impl<E: Element> Vectorized for Prefill<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.block.div_ceil(S::LANES) {
            1 => self.stream::<S, 1>(s),
            2 => self.stream::<S, 2>(s),
            _ => self.stream::<S, 3>(s),
        }
    }
}

impl<E: Element> Prefill<'_, E> {
    /// Runs the task with `N` vectors of queries per block.
    #[inline(always)]
    fn stream<S: Simd, const N: usize>(self, s: S) {
        let Self {
            call,
            head,
            first,
            n_query,
            block,
            scratch,
        } = self;
        let head_dim = call.shape.head_dim;
        let width = N * S::LANES;
        let (keys, scratch) = scratch.split_at_mut(BLOCK_KEYS * ROW_STRIDE);
        let (values, scratch) = scratch.split_at_mut(BLOCK_KEYS * ROW_STRIDE);
        let (scores, scratch) = scratch.split_at_mut(BLOCK_KEYS * width);
        let n_blocks = n_query.div_ceil(block);
        let blocks = &mut scratch[..n_blocks * 2 * head_dim * width];
        // First query and number of queries of each block.
        let queries_of = |i: usize| (first + i * block, block.min(n_query - i * block));
        for (i, state) in blocks.chunks_exact_mut(2 * head_dim * width).enumerate() {
            let (queries, output) = state.split_at_mut(head_dim * width);
            let (first, n_query) = queries_of(i);
            for lane in 0..width {
                // Lanes beyond the last query repeat it; their results are dropped.
                let row = |lane: usize| first + lane.min(n_query - 1);
                prefetch_head(s, call.head(&call.q, row(lane + 16), head));
                let q = call.head(&call.q, row(lane), head);
                q.iter()
                    .enumerate()
                    .for_each(|(d, q)| queries[d * width + lane] = q * call.scale);
            }
            output.fill(0.0);
        }
        let mut max = [[s.splat(f32::NEG_INFINITY); N]; TASK_BLOCKS];
        let mut sum = [[s.splat(0.0); N]; TASK_BLOCKS];
        let mut rescale = [0.0; MAX_VECTORS * MAX_LANES];
        let n_seen = call.n_seen(first + n_query - 1);
        for first_key in (0..n_seen).step_by(BLOCK_KEYS) {
            let n_keys = BLOCK_KEYS.min(n_seen - first_key);
            for (i, (key, value)) in keys
                .chunks_exact_mut(ROW_STRIDE)
                .zip(values.chunks_exact_mut(ROW_STRIDE))
                .enumerate()
                .take(n_keys)
            {
                let row = first_key + i;
                widen(s, &mut key[..head_dim], call.head(&call.k, row, head));
                widen(s, &mut value[..head_dim], call.head(&call.v, row, head));
            }
            for (i, state) in blocks.chunks_exact_mut(2 * head_dim * width).enumerate() {
                let (queries, output) = state.split_at_mut(head_dim * width);
                let (first, n_query) = queries_of(i);
                let n_keys = call
                    .n_seen(first + n_query - 1)
                    .saturating_sub(first_key)
                    .min(n_keys);
                let scores = &mut scores[..n_keys * width];
                multiply::<S, N, true>(s, scores, keys, queries, None);
                if call.shape.causal {
                    for (i, scores) in scores.chunks_exact_mut(width).enumerate() {
                        let n_blind = (0..n_query)
                            .take_while(|lane| call.n_seen(first + lane) <= first_key + i)
                            .count();
                        scores[..n_blind].fill(f32::NEG_INFINITY);
                    }
                }
                let by = update_softmax::<S, N>(s, scores, &mut max[i], &mut sum[i]);
                for n in 0..N {
                    s.write(&mut rescale[n * S::LANES..], by[n]);
                }
                multiply::<S, N, false>(s, output, values, scores, Some(&rescale));
            }
        }
        for (i, state) in blocks.chunks_exact(2 * head_dim * width).enumerate() {
            let output = &state[head_dim * width..];
            let (first, n_query) = queries_of(i);
            let mut lanes = [[0.0; MAX_LANES]; MAX_VECTORS];
            for n in 0..N {
                s.write(&mut lanes[n], s.div(s.splat(1.0), sum[i][n]));
            }
            for lane in 0..n_query {
                let row = (first + lane) * call.shape.n_head + head;
                // SAFETY: no other task has this head of this query.
                let out = unsafe { call.out.take(row * head_dim, head_dim) };
                let scale = lanes[lane / S::LANES][lane % S::LANES];
                out.iter_mut()
                    .enumerate()
                    .for_each(|(d, out)| *out = output[d * width + lane] * scale);
            }
        }
    }
}

/// Prefetches a head.
#[inline(always)]
fn prefetch_head<S: Simd, E>(s: S, head: &[E]) {
    for line in head.chunks(64 / size_of::<E>()) {
        s.prefetch(line.as_ptr());
    }
}

/// `c = a * b`, or `c = c * rescale + a * b`, lanes along the columns: `b` and `c` have rows of `N * LANES`,
/// `rescale` is one such row. `a` has memory rows [`ROW_STRIDE`] apart, which are its rows (`BY_ROWS`) or else its
/// columns.
#[inline(always)]
fn multiply<S: Simd, const N: usize, const BY_ROWS: bool>(
    s: S,
    c: &mut [f32],
    a: &[f32],
    b: &[f32],
    rescale: Option<&[f32]>,
) {
    let width = N * S::LANES;
    let (n_rows, depth) = (c.len() / width, b.len() / width);
    let (n_places, len) = if BY_ROWS {
        (n_rows, depth)
    } else {
        (depth, n_rows)
    };
    assert!(a.len() >= n_places * ROW_STRIDE && len <= ROW_STRIDE);
    assert!(rescale.is_none_or(|rescale| rescale.len() >= width));
    let step = if S::ROWS >= 6 { 8 } else { 6 };
    let mut row = 0;
    while row < n_rows {
        let n = match n_rows - row {
            left if left >= step => step,
            4.. => 4,
            _ => 1,
        };
        let operands = Operands {
            c: c[row * width..][..n * width].as_mut_ptr(),
            a: a[if BY_ROWS { row * ROW_STRIDE } else { row }..].as_ptr(),
            b: b.as_ptr(),
            depth,
            rescale: rescale.map(<[f32]>::as_ptr),
        };
        match n {
            8 => s.vectorize(Multiply::<N, 8, BY_ROWS>(operands)),
            6 => s.vectorize(Multiply::<N, 6, BY_ROWS>(operands)),
            4 => s.vectorize(Multiply::<N, 4, BY_ROWS>(operands)),
            _ => s.vectorize(Multiply::<N, 1, BY_ROWS>(operands)),
        }
        row += n;
    }
}

/// Operands of [`Multiply`].
struct Operands {
    c: *mut f32,
    a: *const f32,
    b: *const f32,
    depth: usize,
    rescale: Option<*const f32>,
}

/// `M` rows of [`multiply`], a function of its own so that its loop has all registers. Invariant: the operands are
/// valid; only [`multiply`] makes one.
struct Multiply<const N: usize, const M: usize, const BY_ROWS: bool>(Operands);

impl<const N: usize, const M: usize, const BY_ROWS: bool> Vectorized for Multiply<N, M, BY_ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Operands {
            c,
            mut a,
            mut b,
            depth,
            rescale,
        } = self.0;
        let (row_stride, stride) = if BY_ROWS {
            (ROW_STRIDE, 1)
        } else {
            (1, ROW_STRIDE)
        };
        // SAFETY: `a` has `M` rows of `depth`, `b` is `depth` rows, `c` is `M`, and `rescale` one, by the invariant.
        unsafe {
            let mut acc = [[s.splat(0.0); N]; M];
            if let Some(rescale) = rescale {
                for m in 0..M {
                    for n in 0..N {
                        let old = s.load(c.add((m * N + n) * S::LANES));
                        acc[m][n] = s.mul(old, s.load(rescale.add(n * S::LANES)));
                    }
                }
            }
            let mut b_row = [s.splat(0.0); N];
            for _ in 0..depth {
                for n in 0..N {
                    b_row[n] = s.load(b.wrapping_add(n * S::LANES));
                }
                for m in 0..M {
                    let a = s.splat(*a.wrapping_add(m * row_stride));
                    for n in 0..N {
                        acc[m][n] = s.fma(a, b_row[n], acc[m][n]);
                    }
                }
                a = a.wrapping_add(stride);
                b = b.wrapping_add(N * S::LANES);
            }
            for m in 0..M {
                for n in 0..N {
                    s.store(c.add((m * N + n) * S::LANES), acc[m][n]);
                }
            }
        }
    }
}
