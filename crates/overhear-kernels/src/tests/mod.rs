//! Every kernel of every set against the scalar one, and the promises that no oracle can check: a row's result does
//! not depend on its neighbours, nor any result on the threads.

mod attention_bf16;
mod attention_f16;
mod attention_int8;
mod exp2;
mod gemm_f32_int8;
mod gemm_packed;
mod math;

use half::{bf16, f16};
use proptest::prelude::*;

use crate::{
    AttentionShape, Dtype, Isa, Kernels, Matrix, MatrixData, Maxima, Pool, PostOp, Rows, Storage,
    StoredMatrix, reference,
};

/// Sizes about every set's lanes (4, 8, 16), the register block and the chunk of K.
const AWKWARD: &[usize] = if cfg!(miri) {
    &[0, 1, 3, 4, 5, 17]
} else {
    &[
        0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 384, 769, 1000,
    ]
};

/// What a kernel may differ from an oracle that sums in f64, per unit of `sum |x w|`: 256 steps in a row, each within half an
/// epsilon (6e-8), then up to 20 chunks: 1.7e-5 at worst. Roundings have random signs, so the real error is about the root of
/// it; 1e-6 leaves a factor of 3 and catches any wrong term.
const SUM_ERROR: f32 = 1e-6;
/// Layer normalisation divides two such sums: values are of order 1, times gamma.
const NORM_ERROR: f32 = 3e-6;
/// Attention is a mean of values of order 1, whose weights carry the error of a score (`SUM_ERROR` times scores of
/// order 10) and of the exponential (2e-7).
const ATTENTION_ERROR: f32 = 1e-5;
/// The log of a sum of at most 1e5 terms: half an ulp of a result of order 10, and the exponential's 2e-7.
const LOG_ERROR: f32 = 2e-6;

/// The sets of this machine other than the oracle, and the plain stand-ins.
pub(crate) fn sets() -> Vec<Kernels> {
    let found = Isa::ALL
        .iter()
        .filter(|&&isa| isa != Isa::Scalar && !cfg!(miri))
        .filter_map(|&isa| Kernels::new(isa));
    found
        .chain([Kernels::emulated(), Kernels::emulated_amx()])
        .collect()
}

/// Those, and the scalar set: what is written over units has no code of its own for it.
fn all_sets() -> Vec<Kernels> {
    let scalar = Kernels::new(Isa::Scalar);
    sets().into_iter().chain(scalar).collect()
}

/// Pseudo-random numbers about normal, of order 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        let mut uniform = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (uniform() + uniform() + uniform()) * 2.0
    }
    fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
    fn matrix(&mut self, n_rows: usize, n_cols: usize, dtype: Dtype) -> Matrix {
        let values = self.vec(n_rows * n_cols);
        let data = match dtype {
            Dtype::F32 => MatrixData::F32(values),
            Dtype::F16 => MatrixData::F16(values.into_iter().map(f16::from_f32).collect()),
            Dtype::Bf16 => MatrixData::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        };
        Matrix::new(n_rows, n_cols, data)
    }
}

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
/// What matrices are, and what they are kept as.
const STORAGES: [(Dtype, Storage); 4] = [
    (Dtype::F32, Storage::Float(Dtype::F32)),
    (Dtype::F16, Storage::Float(Dtype::F16)),
    (Dtype::Bf16, Storage::Float(Dtype::Bf16)),
    (Dtype::F32, Storage::Int8),
];
const POST_OPS: [PostOp; 3] = [PostOp::Store, PostOp::Gelu, PostOp::Add];

/// One shape of `linear` on every set, against the oracle.
fn check_linear(
    n: usize,
    n_out: usize,
    n_in: usize,
    stride: usize,
    (dtype, storage): (Dtype, Storage),
    post_op: PostOp,
    with_bias: bool,
) {
    let mut random = Random((n * 31 + n_out * 7 + n_in) as u64);
    let x = random.vec(n.saturating_sub(1) * stride + n_in);
    let x = Rows { data: &x, stride };
    let w = random.matrix(n_out, n_in, dtype);
    let bias = random.vec(n_out);
    let bias = with_bias.then_some(&bias[..]);
    let before = random.vec(n * n_out);
    let mut want = before.clone();
    let pool = Pool::new(2);
    let stored = Kernels::detect().store_weights(&pool, &w, storage);
    reference::linear(&mut want, x, &stored, bias, post_op);
    let mut weights = vec![0.0; n_in];
    for kernels in sets() {
        let mut y = before.clone();
        kernels.linear(&pool, &mut y, x, &stored, bias, post_op);
        for (i, (&y, &want)) in y.iter().zip(&want).enumerate() {
            w.copy_row(i % n_out, &mut weights);
            let x = &x.data[i / n_out * stride..][..n_in];
            let magnitude: f32 = x.iter().zip(&weights).map(|(x, w)| (x * w).abs()).sum();
            let bound = SUM_ERROR * (magnitude + 1.0);
            assert!(
                (y - want).abs() <= bound,
                "{}: [{n}, {n_out}, {n_in}] / {stride} {storage:?} {post_op:?} {i}: {y}, not {want} within {bound}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn linear_matches_scalar_on_awkward_sizes() {
    for (i, &n_in) in AWKWARD.iter().enumerate() {
        for (j, &n_out) in [0, 1, 3, 4, 5, 31, 33, 100].iter().enumerate() {
            for (l, &n) in [0, 1, 2, 5, 6, 7, 24, 25, 31].iter().enumerate() {
                // Each dtype and epilogue meets each size, but not each pair of sizes.
                let (storage, post_op) = (STORAGES[(i + j + l) % 4], POST_OPS[(i + l) % 3]);
                check_linear(
                    n,
                    n_out,
                    n_in,
                    n_in + l % 2 * 3,
                    storage,
                    post_op,
                    (i + j) % 2 == 0,
                );
            }
        }
    }
}

#[test]
fn linear_matches_scalar_on_several_tiles_and_chunks() {
    if cfg!(miri) {
        return;
    }
    for storage in STORAGES {
        check_linear(200, 103, 5120, 5120, storage, PostOp::Store, true);
        check_linear(389, 200, 1281, 1281, storage, PostOp::Gelu, true);
        check_linear(1, 5000, 384, 384, storage, PostOp::Add, false);
    }
}

#[test]
fn linear_reads_overlapping_rows_as_a_convolution_does() {
    for (n, n_in, stride) in [
        (1, 240, 80),
        (3, 240, 80),
        (40, 240, 160),
        (20, 3 * 31, 31),
        (30, 5, 0),
    ] {
        check_linear(n, 33, n_in, stride, STORAGES[1], PostOp::Gelu, true);
    }
}

#[test]
fn stored_weights_are_those_of_the_matrix() {
    for (n_out, n_in) in [
        (0, 3),
        (1, 0),
        (1, 1),
        (31, 63),
        (32, 64),
        (33, 65),
        (70, 200),
    ] {
        for dtype in DTYPES {
            let w = Random(9).matrix(n_out, n_in, dtype);
            let (mut found, mut want) = (vec![0.0; n_in], vec![0.0; n_in]);
            for kernels in all_sets() {
                let storage = Storage::Float(dtype);
                let stored = kernels.store_weights(&Pool::new(2), &w, storage);
                assert_eq!(
                    (stored.n_out(), stored.n_in(), stored.storage()),
                    (n_out, n_in, storage)
                );
                for out in 0..n_out {
                    stored.copy_row(out, &mut found);
                    w.copy_row(out, &mut want);
                    assert_eq!(found, want, "{}: output {out}", kernels.isa());
                }
            }
        }
    }
}

/// The sums of a row do not depend on the instruction set either: there is one order of them.
#[test]
fn linear_is_the_same_bits_on_every_set() {
    let (n_out, n_in) = if cfg!(miri) { (33, 9) } else { (103, 1283) };
    let mut random = Random(3);
    for ((dtype, storage), n) in STORAGES.into_iter().zip([1, 7, 61, 5]) {
        let x = random.vec(n * n_in);
        let w = random.matrix(n_out, n_in, dtype);
        let w = Kernels::detect().store_weights(&Pool::new(1), &w, storage);
        let x = Rows {
            data: &x,
            stride: n_in,
        };
        let bits = |kernels: Kernels| {
            let mut y = vec![0.0; n * n_out];
            kernels.linear(&Pool::new(2), &mut y, x, &w, None, PostOp::Store);
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for kernels in sets() {
            assert_eq!(
                bits(kernels),
                bits(Kernels::emulated()),
                "{}",
                kernels.isa()
            );
        }
    }
}

/// `linear` on every set with `threads` threads; all bits of the output.
fn linear_bits(
    kernels: Kernels,
    threads: usize,
    x: Rows<'_>,
    n: usize,
    w: &StoredMatrix,
    bias: &[f32],
) -> Vec<u32> {
    let mut y = vec![0.0; n * w.n_out()];
    kernels.linear(&Pool::new(threads), &mut y, x, w, Some(bias), PostOp::Gelu);
    y.iter().map(|y| y.to_bits()).collect()
}

/// Rows alone, in groups and all together, with one thread and with several, give the same bits.
fn check_independence(n: usize, n_out: usize, n_in: usize, (dtype, storage): (Dtype, Storage)) {
    let mut random = Random(n_in as u64);
    let x = random.vec(n * n_in);
    let w = random.matrix(n_out, n_in, dtype);
    let w = Kernels::detect().store_weights(&Pool::new(1), &w, storage);
    let bias = random.vec(n_out);
    let rows = |first: usize| Rows {
        data: &x[first * n_in..],
        stride: n_in,
    };
    for kernels in sets() {
        let all = linear_bits(kernels, 1, rows(0), n, &w, &bias);
        for threads in [2, 3, 8] {
            assert_eq!(
                all,
                linear_bits(kernels, threads, rows(0), n, &w, &bias),
                "{threads} threads"
            );
        }
        for group in [1, 2, 5, 7, 24, 25] {
            for first in (0..n).step_by(group) {
                let n = group.min(n - first);
                let some = linear_bits(kernels, 2, rows(first), n, &w, &bias);
                let expected = &all[first * n_out..][..n * n_out];
                assert_eq!(
                    expected,
                    some,
                    "{}: {n} rows from {first} of [{n_out}, {n_in}]",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn a_row_of_linear_is_the_same_bits_alone_and_among_others_and_on_any_threads() {
    if cfg!(miri) {
        check_independence(26, 9, 5, STORAGES[1]);
        return;
    }
    for storage in STORAGES {
        check_independence(61, 70, 384, storage);
        check_independence(27, 129, 1283, storage);
        check_independence(210, 33, 300, storage);
    }
}

/// One shape of `attention` on every set, against the oracle, with strides beyond the width; sets agree over blocks.
fn check_attention(
    n_head: usize,
    head_dim: usize,
    n_query: usize,
    n_key: usize,
    causal: bool,
    spare: usize,
) {
    let mut random = Random((n_query * 131 + n_key) as u64);
    let width = n_head * head_dim;
    let stride = width + spare;
    // Scores of order 10 make a sharp softmax, whose maximum moves as the keys go by.
    let q: Vec<f32> = random
        .vec(n_query * stride + width)
        .iter()
        .map(|x| 3.0 * x)
        .collect();
    let (k, v) = (
        random.vec(n_key * stride + width),
        random.vec(n_key * stride + width),
    );
    let rows = |data| Rows { data, stride };
    let shape = AttentionShape {
        n_head,
        head_dim,
        n_query,
        n_key,
        causal,
        block: 0,
    };
    let mut want = vec![f32::NAN; n_query * width];
    reference::attention(&mut want, rows(&q), rows(&k), rows(&v), &shape);
    for kernels in sets() {
        let run = |threads, block| {
            let mut out = vec![f32::NAN; n_query * width];
            let shape = AttentionShape { block, ..shape };
            kernels.attention(
                &Pool::new(threads),
                &mut out,
                rows(&q),
                rows(&k),
                rows(&v),
                &shape,
            );
            out
        };
        let automatic = run(1, 0);
        for (i, (out, want)) in automatic.iter().zip(&want).enumerate() {
            let close = (out - want).abs() <= ATTENTION_ERROR;
            assert!(
                close,
                "{} {shape:?} at {i}: {out}, not {want}",
                kernels.isa()
            );
        }
        assert_eq!(automatic, run(3, 0), "threads");
        for block in [1, 5, 16, 64] {
            let blocked = run(2, block);
            let moved = automatic
                .iter()
                .zip(&blocked)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(
                moved <= ATTENTION_ERROR,
                "{}: block {block} moved {shape:?} by {moved}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn attention_matches_scalar_on_awkward_sizes() {
    let sizes: &[(usize, usize)] = if cfg!(miri) {
        &[(1, 3), (5, 5), (13, 70)]
    } else {
        &[
            (0, 1),
            (1, 1),
            (1, 2),
            (1, 5),
            (1, 255),
            (1, 257),
            (1, 1500),
            (4, 4),
            (5, 5),
            (7, 40),
            (16, 16),
            (17, 64),
        ]
    };
    for &(n_query, n_key) in sizes
        .iter()
        .chain(&[(49, 65), (30, 129), (97, 97)][..if cfg!(miri) { 0 } else { 3 }])
    {
        for (n_head, head_dim) in [(1, 64), (3, 20), (2, 1), (1, 67), (2, 33)] {
            for causal in [false, true] {
                check_attention(n_head, head_dim, n_query, n_key, causal, n_key % 3);
            }
        }
    }
}

#[test]
fn attention_matches_scalar_on_the_encoders_shape() {
    if !cfg!(miri) {
        check_attention(1, 64, 300, 1500, false, 0);
    }
}

fn rows(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, stride }
}

#[test]
fn few_queries_of_attention_are_the_same_bits_alone_and_together() {
    let (n_head, head_dim) = (2, 20);
    let width = n_head * head_dim;
    for (n_query, n_key) in [(2, 31), (5, 300), (Kernels::MAX_DECODE_QUERIES, 700)] {
        let mut random = Random(n_key as u64);
        let q = random.vec(n_query * width);
        let (k, v) = (random.vec(n_key * width), random.vec(n_key * width));
        for kernels in sets() {
            let run = |q: &[f32]| {
                let n_query = q.len() / width;
                let shape = AttentionShape {
                    n_head,
                    head_dim,
                    n_query,
                    n_key,
                    causal: false,
                    block: 0,
                };
                let mut out = vec![0.0; q.len()];
                let pool = Pool::new(2);
                kernels.attention(
                    &pool,
                    &mut out,
                    rows(q, width),
                    rows(&k, width),
                    rows(&v, width),
                    &shape,
                );
                out
            };
            let together = run(&q);
            for (query, together) in together.chunks(width).enumerate() {
                let alone = run(&q[query * width..][..width]);
                assert_eq!(alone, together, "{}: query {query}", kernels.isa());
            }
        }
    }
}

#[test]
fn attention_takes_scores_that_would_overflow_without_the_maximum() {
    let (n_query, n_key, head_dim) = (Kernels::MAX_DECODE_QUERIES + 1, 70, 64);
    let q = vec![30.0; n_query * head_dim];
    let k: Vec<f32> = (0..n_key * head_dim)
        .map(|i| (i / head_dim) as f32 - 35.0)
        .collect();
    let v: Vec<f32> = (0..n_key * head_dim)
        .map(|i| (i / head_dim) as f32)
        .collect();
    let rows = |data| Rows {
        data,
        stride: head_dim,
    };
    for kernels in sets() {
        for n_query in [1, n_query] {
            let shape = AttentionShape {
                n_head: 1,
                head_dim,
                n_query,
                n_key,
                causal: false,
                block: 0,
            };
            let mut out = vec![0.0; n_query * head_dim];
            kernels.attention(
                &Pool::new(1),
                &mut out,
                rows(&q),
                rows(&k),
                rows(&v),
                &shape,
            );
            assert!(
                out.iter().all(|&out| out == 69.0),
                "{}: the last key outweighs all",
                kernels.isa()
            );
        }
    }
}

/// `layer_norm` on every set against the oracle, about a mean that would swamp a one-pass variance.
/// Weights of one head among `n_head`, on every set, against the oracle: weights of at most 1 behind scores whose
/// error is `ATTENTION_ERROR`.
fn check_attention_weights(head_dim: usize, n_query: usize, n_key: usize, spare: usize) {
    let mut random = Random((head_dim * 31 + n_query * 7 + n_key) as u64);
    let (q_stride, k_stride) = (head_dim + spare, 2 * head_dim + spare);
    let q = random.vec(n_query * q_stride);
    let k = random.vec(n_key * k_stride);
    let (q, k) = (
        Rows {
            data: &q,
            stride: q_stride,
        },
        Rows {
            data: &k,
            stride: k_stride,
        },
    );
    let mut want = vec![0.0; n_query * n_key];
    reference::attention_probabilities(&mut want, q, k, n_key, head_dim);
    let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
    for kernels in sets() {
        let [one, three] = [1, 3].map(|n_threads| {
            let mut y = vec![f32::NAN; n_query * n_key];
            kernels.attention_probabilities(&Pool::new(n_threads), &mut y, q, k, n_key, head_dim);
            y
        });
        assert_eq!(bits(&one), bits(&three), "{}: threads", kernels.isa());
        for (i, (&y, &want)) in one.iter().zip(&want).enumerate() {
            assert!(
                (y - want).abs() <= ATTENTION_ERROR * want.max(1e-3),
                "{}: [{n_query}, {n_key}] / {head_dim} {i}: {y}, not {want}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn attention_weights_match_scalar_on_awkward_sizes() {
    for (n_query, n_key) in [(0, 1), (1, 1), (1, 5), (3, 64), (17, 65), (33, 130)] {
        for head_dim in [1, 5, 33, 64] {
            check_attention_weights(head_dim, n_query, n_key, n_key % 3);
        }
    }
    if !cfg!(miri) {
        check_attention_weights(64, 40, 1500, 0);
    }
}

fn check_layer_norm(n: usize, n_state: usize, mean: f32) {
    let mut random = Random(n_state as u64);
    let x: Vec<f32> = random.vec(n * n_state).iter().map(|x| x + mean).collect();
    let (gamma, beta) = (random.vec(n_state), random.vec(n_state));
    let mut want = vec![0.0; x.len()];
    reference::layer_norm(&mut want, &x, &gamma, &beta);
    for kernels in sets() {
        let run = |threads| {
            let mut y = vec![f32::NAN; x.len()];
            kernels.layer_norm(&Pool::new(threads), &mut y, &x, &gamma, &beta);
            y
        };
        let y = run(1);
        // An offset costs the bits that it takes: its half epsilon is an error of `x` itself.
        let bound = NORM_ERROR * (1.0 + mean.abs());
        for (i, (y, want)) in y.iter().zip(&want).enumerate() {
            assert!(
                (y - want).abs() <= bound,
                "{}: {n} x {n_state} at {i}: {y}, not {want}",
                kernels.isa()
            );
        }
        assert_eq!(y, run(3), "threads");
    }
}

#[test]
fn a_transpose_and_a_sum_are_those_of_every_element() {
    let kernels = Kernels::detect();
    let mut random = Random(5);
    for (n_rows, n_cols) in [(1, 1), (3, 7), (80, 3000), (128, 1001), (40_000, 3)] {
        let x = random.vec(n_rows * n_cols);
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let mut turned = vec![f32::NAN; x.len()];
            kernels.transpose(&pool, &mut turned, &x, n_cols);
            let mut sums = x.clone();
            kernels.add(&pool, &mut sums, &turned);
            for (i, x) in x.iter().enumerate() {
                let (row, column) = (i / n_cols, i % n_cols);
                assert_eq!(turned[column * n_rows + row], *x);
                assert_eq!(sums[i], x + turned[i]);
            }
        }
    }
}

#[test]
fn layer_norm_matches_scalar_on_awkward_sizes() {
    for &n_state in AWKWARD.iter().filter(|&&n| n > 1) {
        for n in [0, 1, 3] {
            check_layer_norm(n, n_state, 0.0);
            check_layer_norm(n, n_state, 50.0);
        }
    }
    if !cfg!(miri) {
        check_layer_norm(1500, 384, 1.0);
        check_layer_norm(100, 1280, 1.0);
    }
}

#[test]
fn log_sum_exp_matches_scalar_on_awkward_sizes() {
    for &len in AWKWARD.iter().chain(&[51865][..usize::from(!cfg!(miri))]) {
        let mut x = Random(len as u64).vec(len);
        for offset in [0.0, 300.0, -300.0] {
            x.iter_mut().for_each(|x| *x += offset);
            let want = reference::log_sum_exp(&x);
            for kernels in sets() {
                let got = kernels.log_sum_exp(&x);
                let below = kernels.log_sum_exp_below(&x, &maxima(&kernels, &x));
                assert_eq!(got.to_bits(), below.to_bits(), "{}", kernels.isa());
                let close = got == want || (got - want).abs() <= LOG_ERROR * want.abs().max(1.0);
                assert!(
                    close,
                    "{}: {len} about {offset}: {got}, not {want}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn log_sum_exp_takes_suppressed_logits() {
    for kernels in sets() {
        let mut x = vec![f32::NEG_INFINITY; 37];
        assert_eq!(kernels.log_sum_exp(&x), f32::NEG_INFINITY);
        x[31] = 2.5;
        assert_eq!(kernels.log_sum_exp(&x), 2.5);
        assert_eq!(kernels.log_sum_exp_below(&x, &maxima(&kernels, &x)), 2.5);
        x[3] = f32::NAN;
        assert!(kernels.log_sum_exp(&x).is_nan());
        let below = kernels.log_sum_exp_below(&x, &maxima(&kernels, &x));
        assert!(below.is_nan());
    }
}

fn maxima(kernels: &Kernels, x: &[f32]) -> Maxima {
    let mut maxima = Maxima::default();
    kernels.find_maxima(x, &mut maxima);
    maxima
}

#[test]
fn maxima_are_the_largest_that_are_not_nan() {
    for len in [0, 1, 63, 64, 65, 255, 256, 257, 700] {
        let mut x = Random(len as u64).vec(len);
        x.iter_mut().step_by(5).for_each(|x| *x = f32::NAN);
        x.iter_mut().take(300).for_each(|x| *x = x.min(-7.0));
        for kernels in sets().into_iter().chain(Kernels::new(Isa::Scalar)) {
            let maxima = maxima(&kernels, &x);
            for end in 0..=len {
                let largest = x[..end].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(maxima.largest_before(&x, end), largest, "{end} of {len}");
                if end == len {
                    assert_eq!(maxima.largest(), largest, "{}: {len}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn argmax_is_the_first_of_equals_and_never_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for kernels in sets() {
        let argmax = |x: &[f32]| maxima(&kernels, x).argmax(x);
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[nan; 40]), None);
        assert_eq!(argmax(&[nan, -inf, -inf]), Some(1));
        assert_eq!(argmax(&[0.0, -0.0, 0.0]), Some(0));
        assert_eq!(argmax(&[-0.0, 0.0]), Some(0));
        for len in [1, 15, 16, 17, 255, 256, 257, 700] {
            for at in (0..len).step_by(if cfg!(miri) { 97 } else { 1 }) {
                let mut x: Vec<f32> = (0..len).map(|i| -((i % 7) as f32) - 1.0).collect();
                x[at] = 3.0;
                x[len - 1] = 3.0;
                x[at / 2] = if at / 2 == at { 3.0 } else { nan };
                assert_eq!(
                    argmax(&x),
                    reference::argmax(&x),
                    "{}: {at} of {len}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn top_k_is_the_head_of_a_stable_sort_and_never_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let mut random = Random(7);
    for len in [0, 1, 5, 255, 256, 257, 700] {
        let mut x = random.vec(len);
        // Equals in one block and across blocks, and what is never chosen.
        for i in 0..len {
            match i % 11 {
                0 => x[i] = -inf,
                3 => x[i] = nan,
                5 | 8 => x[i] = (x[i] * 3.0).round(),
                _ => {}
            }
        }
        let mut sorted: Vec<(usize, f32)> = x.iter().copied().enumerate().collect();
        sorted.retain(|(_, x)| *x > -inf);
        sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
        for kernels in sets() {
            for k in [0, 1, 2, 6, 40, 1000] {
                let mut largest = vec![(9, 9.0)];
                maxima(&kernels, &x).top_k(&x, k, &mut largest);
                let expected = &sorted[..k.min(sorted.len())];
                assert_eq!(largest, expected, "{}: {k} of {len}", kernels.isa());
            }
        }
    }
}

#[test]
fn widening_is_exact_for_every_half_and_bfloat16() {
    if cfg!(miri) {
        return;
    }
    // A one-hot `x` reads one weight: sums add nothing to it but zeros.
    for first in (0..1 << 16).step_by(1 << 12) {
        let bits = first..first + (1 << 12);
        let halves = bits
            .clone()
            .map(|b| f16::from_bits(b as u16))
            .filter(|h| h.is_finite())
            .collect::<Vec<_>>();
        let floats = bits
            .map(|b| bf16::from_bits(b as u16))
            .filter(|h| h.is_finite())
            .collect::<Vec<_>>();
        let matrices = [
            Matrix::new(halves.len(), 1, MatrixData::F16(halves)),
            Matrix::new(floats.len(), 1, MatrixData::Bf16(floats)),
        ];
        for (w, kernels) in matrices
            .iter()
            .flat_map(|w| sets().into_iter().map(move |k| (w, k)))
        {
            let stored = kernels.store_weights(&Pool::new(1), w, Storage::Float(w.dtype()));
            for n in [1, 30] {
                let mut y = vec![0.0; n * w.n_rows()];
                kernels.linear(
                    &Pool::new(1),
                    &mut y,
                    Rows {
                        data: &[1.0],
                        stride: 0,
                    },
                    &stored,
                    None,
                    PostOp::Store,
                );
                let mut want = [0.0];
                for (i, y) in y.iter().enumerate() {
                    w.copy_row(i % w.n_rows(), &mut want);
                    assert_eq!(*y, want[0], "{}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn the_run_says_which_sets_it_covered_and_has_those_it_must() {
    let (covered, missing): (Vec<Isa>, Vec<Isa>) =
        Isa::ALL.iter().partition(|isa| isa.is_available());
    let required = std::env::var("OVERHEAR_REQUIRE_ISA").unwrap_or_default();
    // Straight to the descriptor, as the harness hides what passing tests print.
    use std::io::Write;
    let line = format!(
        "kernel sets covered: {covered:?}; this machine lacks: {missing:?}; required: [{required}]\n"
    );
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error takes a line");
    for name in required
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let isa: Isa = name.parse().expect("OVERHEAR_REQUIRE_ISA names known sets");
        assert!(
            isa.is_available(),
            "OVERHEAR_REQUIRE_ISA asks for {isa}, which this machine lacks"
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let kernels = Kernels::detect();
    let pool = Pool::new(1);
    let w = Matrix::new(4, 3, MatrixData::F32(vec![0.0; 12]));
    let w = kernels.store_weights(&pool, &w, Storage::Float(Dtype::F32));
    let refused = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let linear = |n_y: usize, n_x: usize, stride: usize, n_bias: usize| {
        let (x, bias) = (vec![0.0; n_x], vec![0.0; n_bias]);
        kernels.linear(
            &pool,
            &mut vec![0.0; n_y],
            Rows { data: &x, stride },
            &w,
            Some(&bias),
            PostOp::Store,
        );
    };
    assert!(!refused(&|| linear(8, 6, 3, 4)));
    assert!(refused(&|| linear(7, 6, 3, 4)));
    assert!(refused(&|| linear(8, 5, 3, 4)));
    assert!(refused(&|| linear(8, 6, usize::MAX, 4)));
    assert!(refused(&|| linear(8, 6, 3, 3)));
    let attention = |n_out: usize, n_key: usize, n_data: usize, causal: bool| {
        let data = vec![0.0; n_data];
        let rows = Rows {
            data: &data,
            stride: 8,
        };
        let shape = AttentionShape {
            n_head: 2,
            head_dim: 4,
            n_query: 3,
            n_key,
            causal,
            block: 0,
        };
        kernels.attention(&pool, &mut vec![0.0; n_out], rows, rows, rows, &shape);
    };
    assert!(!refused(&|| attention(24, 3, 24, true)));
    assert!(refused(&|| attention(23, 3, 24, true)));
    assert!(refused(&|| attention(24, 3, 23, true)));
    assert!(refused(&|| attention(24, 2, 24, true)));
    assert!(refused(&|| attention(24, 0, 24, false)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn linear_matches_scalar_on_any_shape(
        n in 0usize..40, n_out in 0usize..80, n_in in 0usize..200, stride in 0usize..210, storage in 0..STORAGES.len(), post_op in 0usize..3,
    ) {
        check_linear(n, n_out, n_in, stride, STORAGES[storage], POST_OPS[post_op], stride % 2 == 0);
    }

    #[test]
    fn rows_are_independent_on_any_shape(n in 1usize..40, n_out in 1usize..40, n_in in 0usize..100, storage in 0..STORAGES.len()) {
        check_independence(n, n_out, n_in, STORAGES[storage]);
    }

    #[test]
    fn attention_matches_scalar_on_any_shape(
        n_head in 1usize..4, head_dim in 1usize..70, n_query in 0usize..60, extra in 1usize..150, causal: bool, spare in 0usize..9,
    ) {
        check_attention(n_head, head_dim, n_query, n_query + extra, causal, spare);
    }
}
