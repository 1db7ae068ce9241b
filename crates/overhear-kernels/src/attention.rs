//! Attention on vectors, without an `n_query x n_key` matrix: keys stream past in blocks, and each query keeps the
//! largest score so far, the sum of exponentials and the weighted sum of values, rescaled when the largest grows
//! (the online softmax of Milakov and Gimelshein, the blocking of FlashAttention).
//!
//! Many queries: lanes are *queries*. A block of queries is transposed once; then scores, maxima, sums and the
//! output are all vertical operations, an element of a key or a value is broadcast at a time, and no sum runs across
//! lanes. A task has a few such blocks, which share copies of a block of keys and values. Few queries: lanes along the
//! head, and every query does what it would do alone, so that a row of text gets the same bits whoever shares its pass
//! over the keys.

use half::f16;

use crate::math::exp;
use crate::row_dots::{self, block, groups};
use crate::simd::{Element, MAX_LANES, Set, Simd, Vectorized, widen};
use crate::split::Split;
use crate::{AttentionShape, Pool, Rows, scratch};

/// Up to so many queries have their lanes along the head: a block of queries would leave most lanes idle.
pub(crate) const FEW_QUERIES: usize = 8;
/// Keys of a block with few queries, whose scores are on the stack.
const FEW_KEYS: usize = 256;
/// Keys, or values, that all of a few queries take before the next: 8 KiB of heads of 64 stay in the nearest cache.
const SHARED_KEYS: usize = 32;
/// Bytes of heads of 64 that are to be on their way with few queries: what memory brings in the time that it takes to
/// answer.
const FETCH_BYTES: usize = 6 << 10;
/// The longest head; whisper's have 64.
pub(crate) const MAX_HEAD_DIM: usize = 256;
/// Vectors of queries of a block with 32 registers, which hold 8 x 3 sums, 3 queries and a broadcast. Of 16 registers, 4 x 2
/// .. 6 x 2 do.
const MAX_VECTORS: usize = 3;
/// Keys of a block with many queries: 64 keys and values of 64 elements (32 KiB) and their scores (12 KiB with
/// AVX-512) are reused from the caches nearest to the core.
const BLOCK_KEYS: usize = 64;
/// Blocks of queries of a task, which share copies of keys and values.
const TASK_BLOCKS: usize = 8;
/// Elements from a copied key or value to the next: a cache line more than the longest, as rows that lie a large power of two
/// apart would share a few sets of the cache.
const PLACE: usize = MAX_HEAD_DIM + 16;

/// Rows of heads: head `head` of row `row` begins at `row * stride + head * head_stride`.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) stride: usize,
    pub(crate) head_stride: usize,
}

/// The arguments of one call, checked.
#[derive(Clone, Copy)]
struct Call<'a, E> {
    q: HeadRows<'a, f32>,
    k: HeadRows<'a, E>,
    v: HeadRows<'a, E>,
    out: Split<'a>,
    shape: AttentionShape,
    scale: f32,
}

/// Runs the call on `set`, which is not [`Set::Scalar`]; shapes have been checked.
pub(crate) fn attention<E: Element>(
    set: Set,
    pool: &Pool,
    out: &mut [f32],
    q: Rows<'_>,
    k: HeadRows<'_, E>,
    v: HeadRows<'_, E>,
    shape: &AttentionShape,
) {
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    let call = Call {
        q: HeadRows::side_by_side(q, shape.head_dim),
        k,
        v,
        out: Split::new(out),
        shape: *shape,
        scale,
    };
    let AttentionShape {
        n_head, n_query, ..
    } = *shape;
    if n_query <= FEW_QUERIES {
        pool.run(n_head, &|head| {
            set.run(FewQueries { call: &call, head }, || {
                unreachable!("the scalar set has no vectors")
            });
        });
        return;
    }
    let lanes = set.lanes();
    let n_vectors = if lanes == 8 { 2 } else { MAX_VECTORS };
    let block = if shape.block == 0 {
        n_vectors * lanes
    } else {
        shape.block.min(n_vectors * lanes)
    };
    let n_blocks = n_query.div_ceil(block);
    // Blocks of even size; heads outermost, so that threads at work share a head's keys and values.
    let block = n_query.div_ceil(n_blocks);
    let n_blocks = n_query.div_ceil(block);
    // A few tasks for each thread.
    let of_task = (n_head * n_blocks / (4 * pool.n_threads())).clamp(1, TASK_BLOCKS);
    let n_tasks = n_blocks.div_ceil(of_task);
    pool.run(n_head * n_tasks, &|task| {
        let (head, first) = (task / n_tasks, task % n_tasks * of_task * block);
        let n_query = (of_task * block).min(n_query - first);
        scratch::with(Blocks::<E>::scratch(shape.head_dim, lanes), |scratch| {
            let task = Blocks {
                call: &call,
                head,
                first,
                n_query,
                block,
                scratch,
            };
            set.run(task, || unreachable!("the scalar set has no vectors"));
        });
    });
}

impl<'a> HeadRows<'a, f32> {
    /// Rows whose heads lie one behind the other.
    pub(crate) fn side_by_side(rows: Rows<'a>, head_dim: usize) -> Self {
        Self {
            data: rows.data,
            stride: rows.stride,
            head_stride: head_dim,
        }
    }
}

impl<'a> HeadRows<'a, f16> {
    /// Heads that lie one behind the other, each `[n_key, head_dim]`.
    pub(crate) fn head_by_head(data: &'a [f16], n_key: usize, head_dim: usize) -> Self {
        Self {
            data,
            stride: head_dim,
            head_stride: n_key * head_dim,
        }
    }
}

impl<E> Call<'_, E> {
    /// Keys that query `query` sees.
    #[inline(always)]
    fn n_seen(&self, query: usize) -> usize {
        let AttentionShape {
            n_query,
            n_key,
            causal,
            ..
        } = self.shape;
        if causal {
            n_key - n_query + query + 1
        } else {
            n_key
        }
    }

    /// Head `head` of row `row`.
    #[inline(always)]
    fn head<'a, T>(&self, rows: &HeadRows<'a, T>, row: usize, head: usize) -> &'a [T] {
        &rows.data[row * rows.stride + head * rows.head_stride..][..self.shape.head_dim]
    }
}

/// One head of all queries, few, over all keys that they see.
struct FewQueries<'a, E> {
    call: &'a Call<'a, E>,
    head: usize,
}

/// What a query keeps from one block of keys to the next.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
    /// What the output so far is to be multiplied by.
    rescale: f32,
}

impl<E: Element> Vectorized for FewQueries<'_, E> {
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
        let mut running = [start; FEW_QUERIES];
        let mut scores = [[0.0; FEW_KEYS]; FEW_QUERIES];
        let out = |query: usize| {
            // SAFETY: no other task has this head, and this one has one query's at a time.
            unsafe { call.out.take((query * n_head + head) * head_dim, head_dim) }
        };
        (0..n_query).for_each(|query| out(query).fill(0.0));
        for first in (0..n_key).step_by(FEW_KEYS) {
            // Keys of this block from `at` on that a query sees.
            let n_seen = |query, at| {
                let end = call.n_seen(query).min(first + FEW_KEYS);
                end.saturating_sub(first + at).min(SHARED_KEYS)
            };
            for at in (0..FEW_KEYS).step_by(SHARED_KEYS) {
                // Also what the last query sees and others do not: they leave it out below.
                let n = n_seen(n_query - 1, at);
                if n > 0 {
                    let keys = Heads::new(call.k, first + at, n, head, head_dim);
                    call.score_few(s, &mut scores[..n_query], at, keys, head);
                }
            }
            for query in 0..n_query {
                let n = call.n_seen(query).saturating_sub(first).min(FEW_KEYS);
                running[query] = running[query].take(s, &mut scores[query][..n]);
            }
            for at in (0..FEW_KEYS).step_by(SHARED_KEYS) {
                for query in 0..n_query {
                    let n = n_seen(query, at);
                    if n > 0 {
                        let rescale = if at == 0 { running[query].rescale } else { 1.0 };
                        let weights = &scores[query][at..at + n];
                        let values = Heads::new(call.v, first + at, n, head, head_dim);
                        if query == 0 {
                            add_weighted::<S, E, true>(s, out(query), rescale, weights, values);
                        } else {
                            add_weighted::<S, E, false>(s, out(query), rescale, weights, values);
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

impl Running {
    /// Takes a block of scores in, replacing them by their weights.
    #[inline(always)]
    fn take<S: Simd>(self, s: S, scores: &mut [f32]) -> Self {
        if scores.is_empty() {
            return self;
        }
        let max = scores
            .iter()
            .fold(self.max, |max, &x| if x > max { x } else { max });
        let rescale = (self.max - max).exp();
        Self {
            max,
            sum: self.sum * rescale + exponentials(s, scores, max),
            rescale,
        }
    }
}

/// One head of some rows of keys or values.
#[derive(Clone, Copy)]
struct Heads<'a, E> {
    /// From the head of the first row to the end of the head of the last.
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

    /// Row `row`, or the last if there are fewer.
    #[inline(always)]
    fn row(&self, row: usize) -> *const E {
        self.data
            .as_ptr()
            .wrapping_add(row.min(self.n_rows - 1) * self.stride)
    }

    /// From an element to the one to be fetched with it.
    #[inline(always)]
    fn ahead(&self) -> usize {
        FETCH_BYTES / (64 * size_of::<E>()) * self.stride
    }
}

impl<E: Element> Call<'_, E> {
    /// Scores of `keys` for all queries, few, from `at` on in each query's: as many queries at a time as a register
    /// block has rows.
    #[inline(always)]
    fn score_few<S: Simd>(
        &self,
        s: S,
        scores: &mut [[f32; FEW_KEYS]],
        at: usize,
        keys: Heads<'_, E>,
        head: usize,
    ) {
        for (i, scores) in scores.chunks_mut(S::ROWS).enumerate() {
            let q = self.head(&self.q, i * S::ROWS, head);
            // Keys are fetched once.
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
    fn score<S: Simd, const M: usize, const G: usize, const FETCH: bool>(
        &self,
        s: S,
        scores: &mut [[f32; FEW_KEYS]],
        at: usize,
        q: &[f32],
        keys: Heads<'_, E>,
    ) {
        for first in (0..keys.n_rows).step_by(4 * G) {
            let w = groups::<E, G>(|j| keys.row(first + j));
            let operands = row_dots::Operands {
                x: q.as_ptr(),
                x_stride: self.q.stride,
                w,
                len: q.len(),
                ahead: keys.ahead(),
            };
            // SAFETY: each of `M` queries, in rows of `q` that the caller has checked, and each key are `q.len()`
            // elements, the head's.
            let dots = unsafe { block::<S, E, M, G, FETCH>(s, &operands) };
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

/// Replaces each score by `exp(score - max)`; their sum.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(s: S, scores: &mut [f32], max: f32) -> f32 {
    let mut sums = s.splat(0.0);
    let mut tail = 0.0;
    for scores in scores.chunks_mut(S::LANES) {
        let weights = exp(s, s.sub(s.read(scores), s.splat(max)));
        s.write(scores, weights);
        if scores.len() == S::LANES {
            sums = s.add(sums, weights);
        } else {
            tail = scores.iter().sum();
        }
    }
    s.sum(sums) + tail
}

/// `out = out * rescale + sum of weights[i] * value i`, as many vectors of the head at a time as keep the arithmetic
/// units busy. With `FETCH`, what lies ahead is fetched meanwhile.
#[inline(always)]
fn add_weighted<S: Simd, E: Element, const FETCH: bool>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    weights: &[f32],
    values: Heads<'_, E>,
) {
    let mut d = 0;
    while d < out.len() {
        let left = out.len() - d;
        let out = &mut out[d..];
        // SAFETY: every value is as long as the head, of which `left` elements follow `d`.
        d += unsafe {
            match left / S::LANES {
                8.. => add_weighted_part::<S, E, 8, FETCH>(s, out, rescale, weights, values, d),
                4.. => add_weighted_part::<S, E, 4, FETCH>(s, out, rescale, weights, values, d),
                1.. => add_weighted_part::<S, E, 1, FETCH>(s, out, rescale, weights, values, d),
                0 => add_weighted_tail(s, out, rescale, weights, values, d),
            }
        };
    }
}

/// `N` vectors of [`add_weighted`], from element `d` of the head; how many elements that is. Even and odd rows have
/// sums of their own.
///
/// # Safety
/// Values must have as many elements from `d`.
#[inline(always)]
unsafe fn add_weighted_part<S: Simd, E: Element, const N: usize, const FETCH: bool>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    weights: &[f32],
    values: Heads<'_, E>,
    d: usize,
) -> usize {
    let mut acc = [[s.splat(0.0); N]; 2];
    for n in 0..N {
        acc[0][n] = s.mul(s.read(&out[n * S::LANES..]), s.splat(rescale));
    }
    for (pair, weights) in weights.chunks(2).enumerate() {
        for chain in 0..weights.len() {
            let weight = s.splat(weights[chain]);
            let value = values.row(2 * pair + chain).wrapping_add(d);
            for n in 0..N {
                let at = value.wrapping_add(n * S::LANES);
                if FETCH {
                    s.prefetch(at.wrapping_add(values.ahead()));
                }
                // SAFETY: the caller's.
                acc[chain][n] = s.fma(weight, unsafe { E::load(s, at) }, acc[chain][n]);
            }
        }
    }
    for n in 0..N {
        s.write(&mut out[n * S::LANES..], s.add(acc[0][n], acc[1][n]));
    }
    N * S::LANES
}

/// The end of the head, shorter than a vector; as [`add_weighted_part`].
///
/// # Safety
/// Values must have `out.len()` elements from `d`.
#[inline(always)]
unsafe fn add_weighted_tail<S: Simd, E: Element>(
    s: S,
    out: &mut [f32],
    rescale: f32,
    weights: &[f32],
    values: Heads<'_, E>,
    d: usize,
) -> usize {
    let mut acc = s.mul(s.read(out), s.splat(rescale));
    for i in 0..weights.len() {
        // SAFETY: the caller's.
        let value = unsafe { E::load_first(s, values.row(i).wrapping_add(d), out.len()) };
        acc = s.fma(s.splat(weights[i]), value, acc);
    }
    s.write(out, acc);
    out.len()
}

/// One head of a few blocks of queries, over all keys.
struct Blocks<'a, E> {
    call: &'a Call<'a, E>,
    head: usize,
    /// The first query.
    first: usize,
    n_query: usize,
    /// Queries of a block.
    block: usize,
    scratch: &'a mut [f32],
}

impl<E> Blocks<'_, E> {
    /// Elements of working memory: a block of keys, of values and of scores `[BLOCK_KEYS, queries]`; and for each block of
    /// queries these and its output, `[head_dim, queries]`.
    fn scratch(head_dim: usize, lanes: usize) -> usize {
        let width = MAX_VECTORS * lanes;
        2 * BLOCK_KEYS * PLACE + BLOCK_KEYS * width + TASK_BLOCKS * 2 * head_dim * width
    }
}

impl<E: Element> Vectorized for Blocks<'_, E> {
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

impl<E: Element> Blocks<'_, E> {
    /// The whole work with `N` vectors of queries.
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
        let (keys, scratch) = scratch.split_at_mut(BLOCK_KEYS * PLACE);
        let (values, scratch) = scratch.split_at_mut(BLOCK_KEYS * PLACE);
        let (scores, scratch) = scratch.split_at_mut(BLOCK_KEYS * width);
        let n_blocks = n_query.div_ceil(block);
        let blocks = &mut scratch[..n_blocks * 2 * head_dim * width];
        // The first query of each, and how many.
        let queries_of = |i: usize| (first + i * block, block.min(n_query - i * block));
        for (i, state) in blocks.chunks_exact_mut(2 * head_dim * width).enumerate() {
            let (queries, output) = state.split_at_mut(head_dim * width);
            let (first, n_query) = queries_of(i);
            for lane in 0..width {
                // Lanes beyond the last query repeat it, and are dropped in the end.
                let row = |lane: usize| first + lane.min(n_query - 1);
                fetch(s, call.head(&call.q, row(lane + 16), head));
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
                .chunks_exact_mut(PLACE)
                .zip(values.chunks_exact_mut(PLACE))
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
                let by = soften::<S, N>(s, scores, &mut max[i], &mut sum[i]);
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

/// Asks for a head.
#[inline(always)]
fn fetch<S: Simd, E>(s: S, head: &[E]) {
    for line in head.chunks(64 / size_of::<E>()) {
        s.prefetch(line.as_ptr());
    }
}

/// Takes a block of scores `[n_keys, queries]` into the running maxima and sums, replacing them by their weights; by
/// what the output so far is to be multiplied.
#[inline(always)]
fn soften<S: Simd, const N: usize>(
    s: S,
    scores: &mut [f32],
    max: &mut [S::V; N],
    sum: &mut [S::V; N],
) -> [S::V; N] {
    let old_max = *max;
    for scores in scores.chunks_exact(N * S::LANES) {
        for n in 0..N {
            max[n] = s.max(s.read(&scores[n * S::LANES..]), max[n]);
        }
    }
    let mut rescale = [s.splat(1.0); N];
    for n in 0..N {
        rescale[n] = exp(s, s.sub(old_max[n], max[n]));
        sum[n] = s.mul(sum[n], rescale[n]);
    }
    for scores in scores.chunks_exact_mut(N * S::LANES) {
        for n in 0..N {
            let scores = &mut scores[n * S::LANES..];
            let weights = exp(s, s.sub(s.read(scores), max[n]));
            sum[n] = s.add(sum[n], weights);
            s.write(scores, weights);
        }
    }
    rescale
}

/// `c = a * b`, or `c = c * rescale + a * b`, with lanes along the columns: `b` and `c` are rows of `N * LANES`, `rescale` is
/// one. Of `a`, rows [`PLACE`] apart are rows, or if not `BY_ROWS`, columns.
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
    assert!(a.len() >= n_places * PLACE && len <= PLACE);
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
            a: a[if BY_ROWS { row * PLACE } else { row }..].as_ptr(),
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

/// What [`Multiply`] takes.
struct Operands {
    c: *mut f32,
    a: *const f32,
    b: *const f32,
    depth: usize,
    rescale: Option<*const f32>,
}

/// `M` rows of [`multiply`], a function of its own so that its loop has the registers to itself. Its operands are as they
/// should be: only [`multiply`] makes one.
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
        let (row_stride, stride) = if BY_ROWS { (PLACE, 1) } else { (1, PLACE) };
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
