//! Attention in f32, and its probabilities, against the oracle.

use proptest::prelude::*;

use super::{ATTENTION_ERROR, Random, sets};
use overhear_kernels::{AttentionShape, Kernels, Pool, Rows, reference};

/// Compares one shape of `attention` on every set with the oracle, with strides beyond the width; results differ
/// little between block sizes.
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

fn rows(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, stride }
}

/// Compares the probabilities of one head on every set with the oracle: probabilities of at most 1, of scores whose
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

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_matches_scalar_on_any_shape(
        n_head in 1usize..4, head_dim in 1usize..70, n_query in 0usize..60, extra in 1usize..150, causal: bool, spare in 0usize..9,
    ) {
        check_attention(n_head, head_dim, n_query, n_query + extra, causal, spare);
    }
}
