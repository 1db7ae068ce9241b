//! GEMM in f32 against the oracle.

use half::{bf16, f16};
use proptest::prelude::*;

use super::{AWKWARD, DTYPES, POST_OPS, Random, STORAGES, SUM_ERROR, all_sets, sets};
use overhear_kernels::{
    Dtype, Kernels, Matrix, MatrixData, Pool, PostOp, Rows, Storage, StoredMatrix, reference,
};

/// Compares one shape of `linear` on every set with the oracle.
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
                // Each storage type and post-op meets each size, but not each pair of sizes.
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

/// The sums of a row do not depend on the instruction set either: their order is the same.
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

/// All bits of `linear` with `threads` threads.
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

/// Rows alone, in groups and all together, with one thread and with several, must have the same bits.
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
}
